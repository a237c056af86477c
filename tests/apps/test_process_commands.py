"""`dca start`, `stop`, `restart`, `run` and `maintenance`, as a person types them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from market import RULES, offline, until

from dca.adapters.process import identity_of
from dca.adapters.supervise import LocalSupervisor
from dca.apps import cli
from dca.apps.offline import Offline
from dca.ports import MAINTENANCE
from dca.wiring import MAIN_APP

NOWHERE = "mysql://dca:long-secret@127.0.0.1:9/dca"


def pid(run: Offline) -> int:
    running = LocalSupervisor(run.folder, MAIN_APP, run.clock).running()
    return 0 if running.process is None else running.process.pid


def flag(run: Offline) -> str | None:
    return run.store.read(lambda tx: tx.flag(MAINTENANCE))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Offline]:
    with offline(tmp_path) as started:
        started.add_asset("BTC/USD", RULES)
        yield started
        found = pid(started)
        if found:
            os.kill(found, signal.SIGKILL)


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def dca(run: Offline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process, which is quicker; what it starts is a process of its own."""
    monkeypatch.chdir(run.folder)

    def command(*words: str, **extra: str) -> Ended:
        for name, value in {**run.environment, **extra}.items():
            monkeypatch.setenv(name, value)
        code = cli.main(words)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return command


def test_started_restarted_and_stopped_each_time_it_says_what_it_did(run: Offline, dca: Any) -> None:
    dca("maintenance", "on", "a new disk")
    started = dca("start")
    assert (started.returncode, started.stderr) == (0, ""), started.stderr
    first = pid(run)
    assert started.stdout == f"main_app runs: process {first}\n"
    assert flag(run) is None
    assert os.getsid(first) == first
    again = dca("start")
    assert (again.returncode, again.stdout) == (0, f"main_app is running already: process {first}\n")

    restarted = dca("restart")
    second = pid(run)
    assert restarted.returncode == 0 and second not in (0, first)
    assert f"main_app (process {first}) is stopped: it ended when asked to" in restarted.stdout
    assert f"main_app runs: process {second}" in restarted.stdout

    stopped = dca("stop")
    assert stopped.returncode == 0 and f"(process {second}) is stopped" in stopped.stdout
    assert flag(run) == "stopped by the operator"
    assert not pid(run) and identity_of(second) is None
    left = run.script("watchdog")
    assert left.returncode == 0 and "maintenance: stopped by the operator" in left.stderr
    assert not pid(run)
    assert "main_app is not running" in dca("stop").stdout
    names = [event.name for event in run.store.read(lambda tx: tx.events())]
    assert names[::-1][1:] == ["maintenance_begun", "maintenance_over", "maintenance_begun"]


def test_one_that_cannot_run_is_told_with_its_own_words_and_exit_code(run: Offline, dca: Any) -> None:
    ended = dca("start", APCA_API_SECRET_KEY="not-the-secret")
    assert ended.returncode == 78
    assert "exit code 78" in ended.stderr and "the venue refused" in ended.stderr
    assert "not-the-secret" not in ended.stderr + ended.stdout
    missing = dca("start", APCA_API_SECRET_KEY="")
    assert missing.returncode == 78 and "APCA_API_SECRET_KEY is missing" in missing.stderr
    assert not pid(run)


def test_without_a_database_it_is_still_stopped_and_stays_stopped(run: Offline, dca: Any) -> None:
    assert dca("start").returncode == 0
    stopped = dca("stop", DATABASE_URL=NOWHERE, APCA_API_SECRET_KEY="")
    assert stopped.returncode == 0 and "is stopped" in stopped.stdout
    assert "noted on this machine only" in stopped.stderr and "long-secret" not in stopped.stderr
    assert not pid(run)
    left = run.script("watchdog")
    assert "maintenance: stopped by the operator" in left.stderr, "the database is back, the note still holds"
    assert not pid(run)
    started = dca("start", DATABASE_URL=NOWHERE)
    assert started.returncode == 75 and "exit code 75" in started.stderr
    assert not pid(run)


def test_in_the_foreground_it_is_main_app_itself_and_tells_systemd(run: Offline, dca: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(run.folder / "notify"))
        systemd.settimeout(10)
        told = {"NOTIFY_SOCKET": str(run.folder / "notify"), "WATCHDOG_USEC": "200000"}
        with (run.folder / "main_app.out").open("wb") as out:
            running = subprocess.Popen(
                [sys.executable, "-m", "dca.apps.cli", "run"],
                env={**run.environment, **told},
                cwd=run.folder,
                stdout=out,
                stderr=out,
            )
        assert [systemd.recv(99) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
        assert pid(run) == running.pid
        assert dca("start").stdout == f"main_app is running already: process {running.pid}\n"
        second = run.dca("run")
        assert second.returncode == 75 and f"process {running.pid} is running already" in second.stderr
        until("it trades", lambda: "caught_up" in (run.folder / "main_app.out").read_text())
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 0


def test_maintenance_is_for_everybody_and_ends_when_told(run: Offline, dca: Any) -> None:
    on = dca("maintenance", "on", "a new disk")
    assert (on.returncode, on.stdout) == (0, "the watchdog does nothing: a new disk\n")
    assert flag(run) == "a new disk"
    off = dca("maintenance", "off")
    assert (off.returncode, off.stdout) == (0, "maintenance is over\n")
    assert flag(run) is None
    assert not (run.folder / "MAINTENANCE").exists()
