"""The watchdog and the real streamer: killed, frozen, raced for and refused - one lives, and trades on."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from market import RULES, Market, offline, until

from dca.adapters.process import identity, identity_of
from dca.adapters.supervise import LocalSupervisor
from dca.apps.offline import Offline
from dca.apps.world import SCRIPTS
from dca.service.caretakers.diagnosis import Limits
from dca.service.caretakers.watchdog import Watchdog
from dca.wiring import MAIN_APP

RELIED_ON = {
    "identity",
    "started_at",
    "last_quote_at",
    "trades_down_since",
    "caught_up_at",
    "venue_error",
    "assets",
}
"""What the watchdog reads of a streamer's heartbeat; what is missing there it does not miss."""


def supervisor(run: Offline) -> LocalSupervisor:
    return LocalSupervisor(run.folder, MAIN_APP, run.clock, stop_s=1.0)


def pid(run: Offline) -> int:
    running = supervisor(run).running()
    return 0 if running.process is None else running.process.pid


def reported(run: Offline) -> bool:
    """Whether the streamer that lives has beaten."""
    beats = run.store.read(lambda tx: tx.heartbeats())
    return any(beat.detail.get("identity") == identity_of(pid(run)) for beat in beats)


def starts(run: Offline) -> int:
    return (run.folder / "main_app.out").read_text().count("--- started at")


class Inbox:
    """An address on this machine that takes every message."""

    def __enter__(self) -> "Inbox":
        got: list[str] = []

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(self.rfile.read(int(self.headers["content-length"])).decode())
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.got = got
        self._server = HTTPServer(("127.0.0.1", 0), Taking)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Offline]:
    with offline(tmp_path) as started:
        started.add_asset("BTC/USD", RULES)
        yield started
        found = pid(started)
        if found:
            os.kill(found, signal.SIGKILL)


def unheard_watchdog(run: Offline) -> int:
    """The exit code of a watchdog whose output nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "watchdog.py")],
        env=run.environment,
        cwd=run.folder,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    ) as watchdog:
        os.close(writer)
        return watchdog.wait(30)


def test_killed_in_mid_cycle_it_is_brought_back_and_sells(run: Offline) -> None:
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.bought()
    run.kill_streamer()
    run.streamer = None
    assert unheard_watchdog(run) == 0
    market.fell()
    market.rose()
    market.holds()
    assert len(run.store.read(lambda tx: tx.events(name="watchdog_restart"))) == 1
    for number in (0, 1, 2):
        opened = Path(f"/proc/{pid(run)}/fd/{number}").readlink()
        assert opened in (Path(os.devnull), run.folder / "main_app.out")
    again = run.script("watchdog")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", ""), "all is well"
    assert starts(run) == 1


def watchdog_of(run: Offline, **limits: float) -> Watchdog:
    """A watchdog that is quick to suspect."""
    rest = threading.Event().wait
    quick = Limits(**{"fresh_s": 0.0, "watch_s": 1.0, **limits})
    return Watchdog(run.store, run.broker, run.clock, supervisor(run), rest, limits=quick)


def planned(run: Offline, watchdog: Watchdog) -> list[tuple[str, str]]:
    return [(one.kind, one.reason) for one in watchdog.plan(watchdog.look(), run.clock.now())]


def wants(run: Offline, watchdog: Watchdog, kind: str, reason: str) -> bool:
    return any(kind == one and reason in why for one, why in planned(run, watchdog))


def test_frozen_it_is_killed_and_the_next_one_trades(run: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market(run)
    market.price("20000")
    for name, value in run.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(run.folder)
    supervisor(run).start()
    until("it has reported", lambda: reported(run))
    frozen = pid(run)
    os.kill(frozen, signal.SIGSTOP)
    watchdog = watchdog_of(run, stale_s=3.0)
    until("it is seen", lambda: wants(run, watchdog, "restart", "its heart does not beat"))
    (restart,) = watchdog.plan(watchdog.look(), run.clock.now())
    assert watchdog.mend(restart) is None
    assert pid(run) not in (0, frozen) and identity_of(frozen) is None
    market.bought()


def test_a_mute_stream_and_a_venue_that_is_away_are_told_apart(run: Offline) -> None:
    """The streamer's own heartbeat and the venue's own answers, as they come over the wire."""
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.bought()
    watchdog = watchdog_of(run, silent_s=1.0, slack_s=0.5, watch_s=0.5)
    run.control("faults", {"stream": "quotes", "effect": "mute"})
    _settled(1.5)
    assert planned(run, watchdog) == [], "the market has not moved"
    (beat,) = [one for one in run.store.read(lambda tx: tx.heartbeats()) if one.name == "streamer"]
    assert set(beat.detail) >= RELIED_ON
    market.price("20001")
    until("the mute stream is seen", lambda: wants(run, watchdog, "restart", "no quote reaches it"))
    run.control("faults", {"method": "GET", "path": "/", "effect": "503"})
    until("the venue is missed", lambda: wants(run, watchdog, "tell", "the venue cannot be reached"))


def _settled(seconds: float) -> None:
    """So much silence is what this is about: nothing happens that could be waited for."""
    threading.Event().wait(seconds)


def test_eight_watchdogs_at_once_start_one(run: Offline) -> None:
    (run.folder / "main_app.pid").write_text(f'{os.getpid()}\n{identity()}\n["main_app.py"]\n')
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda _: run.script("watchdog"), range(8)))
    assert {one.returncode for one in ended} <= {0, 75}, [one.stderr for one in ended]
    assert starts(run) == 1
    assert pid(run) not in (0, os.getpid())
    until("it has reported", lambda: reported(run))


def test_what_a_person_must_fix_is_told_in_its_own_words(run: Offline) -> None:
    wrong = {"APCA_API_SECRET_KEY": "not-the-secret"}
    run.script("watchdog", **wrong)
    until("it ended", lambda: not supervisor(run).running().lives)
    until("its end is noted", lambda: supervisor(run).memory().launches[-1].code == 78)
    second = run.script("watchdog", **wrong)
    assert second.returncode == 0 and "the next start is in" in second.stderr
    (message,) = [one for one in run.store.read(lambda tx: tx.messages()) if one.name == "crash_loop"]
    assert "the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY" in message.text
    assert "not-the-secret" not in message.text
    assert starts(run) == 1


def test_without_a_database_a_person_is_told_past_it_once(run: Offline) -> None:
    with Inbox() as inbox:
        away = {
            "DATABASE_URL": "mysql://dca:long-secret@127.0.0.1:9/dca",
            "NOTIFY_URLS": f"json://127.0.0.1:{inbox.port}",
        }
        for _ in range(2):
            ended = run.script("watchdog", **away)
            assert ended.returncode == 75 and "nothing was changed" in ended.stderr
        assert len(inbox.got) == 1
        assert "the database cannot be reached" in inbox.got[0]
        assert "long-secret" not in inbox.got[0]
    assert pid(run) == 0
