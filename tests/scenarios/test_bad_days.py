"""Bad days: each ends in words that say what to do, with nothing doubled and nothing lost."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import databases
import mysql.connector
import pytest
from bad_day import FELL, LEVELS, ROSE, Day, day, until

from dca import wiring
from dca.adapters.db.store import LOCK_TIMEOUT_S
from dca.apps.judge import Books, judge
from dca.apps.reckoning import reckon, settle, venue_log
from dca.apps.world import SCRIPTS, SOURCE
from dca.service.caretakers.runner import Report, run

ANSWERS = (401, 403, 429, 500, "html", "empty", "half", "hang", "reset")
PROVEN = (401, 429)
"""Answers that prove a refusal; a venue that gave them after taking the order would lie."""
LOOKS = ("/v2/positions", "/v2/orders?", "/v2/orders:by_client_order_id")


@pytest.fixture(scope="module")
def venue_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with day(tmp_path_factory.mktemp("venue")) as found:
        found.run.start_streamer()
        yield found


class TestTheVenueAnswers:
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_whatever_was_asked(self, venue_day: Day, answer: int | str) -> None:
        """The base order is taken, but its answer spoiled and its events lost; the safety order never
        arrives, the sell is taken or refused, and every look at orders and positions fails once."""
        today = venue_day
        today.lift()
        cycle = today.cycle()
        for path in LOOKS:
            today.fault(method="GET", path=path, answer=answer, times=1)
        unclear = 504 if answer in PROVEN else answer
        today.fault(method="POST", path="/v2/orders", answer=unclear, reached=True, times=1)
        today.fault(method="POST", path="/v2/orders", answer=answer, times=1)
        sold = answer not in PROVEN
        today.fault(method="POST", path="/v2/orders", answer=answer, reached=sold, after=1, times=1)
        today.fault(stream="trades", drop=3)
        today.whole_cycle()
        struck = [1, 1, 1, 1, 1, 1, 3]
        today.until("every fault has struck", lambda: [row["struck"] for row in today.faults()] == struck)
        attempts = [row["body"]["client_order_id"].split("-", 2)[2] for row in today.posts(cycle)]
        again = [] if sold else ["take_profit-0-2"]
        assert attempts == ["base-0-1", "safety-1-1", "safety-1-2", "take_profit-0-1", *again]
        today.holds()

    def test_nothing_but_that_the_keys_are_wrong(self, venue_day: Day) -> None:
        """Nothing is concluded and little is asked until they are right again; a person is told."""
        today = venue_day
        today.lift()
        today.mark()
        today.bought()
        cycle, sent = today.cycle(), len(today.posts())
        today.fault(method="*", path="/v2", answer=401)
        begun = len(today.run.control("log"))
        today.until("it is said", lambda: any("APCA_API_KEY_ID" in text for text in today.told()), at=FELL)
        today.until("it shows", lambda: today.beat()["venue_error"], at=FELL)
        assert "HTTP 401" in today.beat()["venue_error"]
        asked = [row for row in today.run.control("log")[begun:] if row["kind"] == "request"]
        assert len(asked) < 40
        tries = [datetime.fromisoformat(row["at"]) for row in today.posts()[sent:]]
        pauses = [(after - before).total_seconds() for before, after in pairwise(tries)]
        assert all(pause >= 60 * 2**number for number, pause in enumerate(pauses)), pauses
        assert replace(today.cycle(), version=cycle.version, updated_at=cycle.updated_at) == cycle
        today.lift()
        today.fell()
        today.rose()
        today.holds()

    def test_nothing_at_all_while_an_order_is_in_doubt(self, venue_day: Day) -> None:
        """Not to be found is one thing, not to be answered another: it is not given up."""
        today = venue_day
        today.lift()
        today.bought()
        today.fault(method="POST", path="/v2/orders", answer=504, reached=True, times=1)
        today.fault(method="GET", path="/v2", answer="reset")
        today.fault(stream="trades", drop=None)
        asked = today.until("it is in doubt", lambda: today.last().unclear and today.last(), at=FELL)
        late = asked.created_at + today.run.clock.span(1.5)
        today.until("the grace is over", lambda: today.run.clock.now() > late, at=FELL)
        assert today.struck() > 4
        assert (today.last().key, str(today.last().status)) == (asked.key, "in_flight")
        today.lift()
        today.fell()
        today.rose()
        today.holds()

    def test_that_a_symbol_is_not_traded_any_more(self, venue_day: Day) -> None:
        """Its position waits, others trade on, and a person is told."""
        today = venue_day
        today.lift()
        today.mark()
        today.bought()
        today.run.control("instrument", {"symbol": "BTC/USD", "tradable": False})
        words = "BTC/USD: the venue refused order"
        today.until("it is said", lambda: any(words in text for text in today.told()), at=ROSE)
        assert any("asset BTC/USD is not active" in text for text in today.told())
        today.add("ETH/USD", cooldown_s=10**7)
        today.whole_cycle("ETH/USD")
        assert today.cycle().quantity > 0
        today.run.control("instrument", {"symbol": "BTC/USD", "tradable": True})
        today.rose()
        today.holds()


CARETAKERS = ("order_manager", "consistency_checker")


@pytest.fixture(scope="class")
def doubtful_day(venue_day: Day) -> Iterator[Day]:
    today = venue_day
    today.lift()
    today.bought()
    today.hold(on=True)
    today.fault(method="POST", path="/v2/orders", answer=504, reached=True, times=1)
    today.fault(method="GET", path="/v2", answer=500)
    today.fault(stream="trades", drop=None)
    today.until("an order is in doubt", lambda: today.last().unclear, at=FELL)
    today.run.kill_streamer()
    today.lift()
    yield today
    today.lift()
    today.hold(on=False)
    today.run.start_streamer()
    today.fell()
    today.rose()
    today.holds()


class TestTheVenueAnswersCaretakers:
    """They find a position, and an order of which nobody knows whether the venue has it."""

    def test_what_cannot_be_read_changes_nothing(self, doubtful_day: Day) -> None:
        today, struck = doubtful_day, set()
        before = Books.read(today.run.store)
        for path in (*LOOKS, "/v2/clock"):
            for answer in ANSWERS:
                today.fault(method="GET", path=path, answer=answer)
                today.fault(method="GET", path="/v2/orders:by_client_order_id", answer=500)
                for name in CARETAKERS:
                    met = today.faults()[0]["struck"]
                    report = _pass(today, name, request_timeout_s=0.2)
                    if today.faults()[0]["struck"] > met:
                        struck.add((name, path))
                        assert report.exit_code in (75, 78), (name, path, report)
                    assert Books.read(today.run.store) == before, (name, path, answer)
                today.lift()
        asked = {"order_manager": (LOOKS[1], LOOKS[2], "/v2/clock"), "consistency_checker": LOOKS[:2]}
        assert struck == {(name, path) for name, paths in asked.items() for path in paths}

    def test_an_order_that_cannot_be_canceled_is_not_taken_for_canceled(self, doubtful_day: Day) -> None:
        today = doubtful_day
        _pass(today, "order_manager")
        order = today.last()
        assert str(order.status) == "open"
        for answer in ANSWERS:
            today.fault(method="DELETE", path="/v2/orders/", answer=answer, times=1)
            report = _pass(today, "order_manager", stale_order_s=1.0, request_timeout_s=0.2)
            assert today.struck() == 1 and report.planned, (answer, report)
            assert str(today.last().status) == "open"
            today.lift()
        today.fault(method="DELETE", path="/v2/orders/", answer=504, reached=True)
        today.fault(method="GET", path=LOOKS[2], answer=500)
        _pass(today, "order_manager", stale_order_s=1.0)
        today.lift()
        before = Books.read(today.run.store)
        for answer in ANSWERS:
            today.fault(method="GET", path=LOOKS[2], answer=answer)
            assert _pass(today, "consistency_checker", request_timeout_s=0.2).exit_code == 75
            assert today.struck() > 0 and Books.read(today.run.store) == before
            today.lift()
        _pass(today, "consistency_checker")
        assert str(today.last().status) == "canceled"

    def test_as_cron_runs_them(self, doubtful_day: Day) -> None:
        today = doubtful_day
        try_later = "the venue cannot be read: HTTP 503; nothing was changed, the next pass tries again"
        keys = "the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY"
        for answer, code, words in ((503, 75, try_later), (401, 78, keys)):
            today.fault(method="GET", path="/v2", answer=answer)
            with ThreadPoolExecutor(2) as pool:
                for ended in pool.map(today.run.script, CARETAKERS):
                    assert ended.returncode == code
                    assert words in ended.stderr
            today.lift()


def _pass(today: Day, name: str, **changed: Any) -> Report:
    """One pass of a caretaker, with some settings changed."""
    settings = replace(today.run.settings, **changed)
    caretaker = wiring.CARETAKERS[name](settings, today.run.store, today.run.clock)
    return run(
        caretaker, store=today.run.store, clock=today.run.clock, holder="test", alive=lambda who: False
    )


@pytest.fixture(scope="module")
def server(mariadb: databases.Mariadb) -> Iterator[databases.Mariadb]:
    """A server that may be stopped and killed: nobody else uses it."""
    with databases.mariadb_server() as private:
        yield private


@pytest.fixture(scope="module")
def server_day(server: databases.Mariadb, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder, symbols = tmp_path_factory.mktemp("server"), ("BTC/USD", "ETH/USD")
    url = server.url("bad_days")
    with day(folder, symbols=symbols, speed=20.0, database_url=url, cooldown_s=1) as found:
        found.run.start_streamer()
        yield found


class TestTheDatabase:
    @pytest.mark.parametrize("how", ["killed", "stopped"])
    def test_is_gone_in_the_middle_of_a_fill(
        self, server_day: Day, server: databases.Mariadb, how: str
    ) -> None:
        """For a simulated minute: nobody listens, or nobody answers."""
        today = server_day
        today.mark()
        today.bought("ETH/USD")
        order = today.resting()
        today.fill(order.key, "0.001")
        today.until("a part is booked", lambda: today.cycle().quantity > 0)
        sent, back = len(today.posts()), today.run.clock.now() + timedelta(seconds=60)
        with _gone(server, how):
            today.fill(order.key)
            today.quote(FELL, "ETH/USD")
            if how == "killed":
                caretaker = today.run.script("order_manager")
            while today.run.clock.now() < back:
                today.quote(FELL, "ETH/USD")
            assert len(today.posts()) == sent, "nothing is sent that cannot be journaled"
        today.fell("ETH/USD")
        today.until("the fill is booked", lambda: today.booked(order.key))
        if how == "killed":
            address = f"127.0.0.1:{server.port}"
            assert address in today.logged("update_not_recorded")[0]["error"]
            assert caretaker.returncode == 75
            assert address in caretaker.stderr and "nothing was changed" in caretaker.stderr
        today.hold(on=False)
        today.rose("ETH/USD")
        today.rose()
        today.holds()

    def test_locks_rows_for_longer_than_a_writer_waits(
        self, server_day: Day, server: databases.Mariadb
    ) -> None:
        today = server_day
        today.mark()
        order = today.resting()
        with closing(server.connect("bad_days")) as other:
            other.autocommit = False
            for table in ("dca_cycles", "dca_leases", "dca_heartbeats"):
                other.cursor(buffered=True).execute(f"SELECT * FROM {table} FOR UPDATE")
            today.fill(order.key)
            release = threading.Timer(LOCK_TIMEOUT_S + 0.5, other.rollback)
            release.start()
            ended = today.run.script("order_manager")
            release.join()
        assert ended.returncode == 0, ended.stderr
        today.until("the fill is booked", lambda: today.booked(order.key))
        assert any("1205" in line["error"] for line in today.logged("store_retried"))
        today.hold(on=False)
        today.rose()
        today.holds()

    def test_chooses_the_recorder_as_the_victim_of_a_deadlock(
        self, server_day: Day, server: databases.Mariadb
    ) -> None:
        today = server_day
        today.mark()
        order = today.resting()
        with closing(server.connect("bad_days")) as other:
            execute = other.cursor(buffered=True).execute
            execute("CREATE TABLE IF NOT EXISTS heavy (n INT)")
            other.autocommit = False
            execute("INSERT INTO heavy SELECT seq FROM seq_1_to_1000")
            execute("SELECT * FROM dca_cycles FOR UPDATE")
            today.fill(order.key)
            waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            # Asked for more often, the table would show the same again and again.
            until("the recorder waits", lambda: server.run(waits)[0][0], meanwhile=lambda: time.sleep(0.15))
            execute("SELECT * FROM dca_orders FOR UPDATE")
            today.until("it was the victim", lambda: today.logged("store_retried"))
            other.rollback()
        today.until("the fill is booked", lambda: today.booked(order.key))
        assert any("1213" in line["error"] for line in today.logged("store_retried"))
        today.hold(on=False)
        today.rose()
        today.holds()

    def test_closes_every_connection_now_and_then(self, server_day: Day, server: databases.Mariadb) -> None:
        """By KILL, and because it was idle: the streamer and a caretaker hardly notice."""
        today = server_day
        today.mark()
        with _killing_connections(server):
            today.bought()
            caretaker = today.run.script("consistency_checker")
            today.fell()
        today.rose()
        assert caretaker.returncode in (0, 75), caretaker.stderr
        assert today.logged("store_retried")
        today.holds()


@contextmanager
def _gone(server: databases.Mariadb, how: str) -> Iterator[None]:
    if how == "killed":
        server.kill()
    else:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if how == "killed":
            server.start()
        else:
            os.kill(server.pid, signal.SIGCONT)


@contextmanager
def _killing_connections(server: databases.Mariadb) -> Iterator[None]:
    """Every connection to the day's database is killed five times a second, or ends when it was idle
    for a second."""
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.2):
            for (number,) in server.run(
                "SELECT id FROM information_schema.processlist WHERE db = 'bad_days'"
            ):
                with suppress(mysql.connector.Error):
                    server.run(f"KILL {number}")

    server.run("SET GLOBAL wait_timeout = 1")
    try:
        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(kill)
            try:
                yield
            finally:
                done.set()
                killing.result()
    finally:
        server.run("SET GLOBAL wait_timeout = 28800")


class TestTheDisk:
    """SQLite on a disk that is full, or that may not be written."""

    def test_is_full(self, venue_day: Day) -> None:
        """For the streamer only, and for its log too: nothing but the journal can hold it back."""
        today = venue_day
        today.bought()
        sent = len(today.posts())
        with _no_room(today):
            end = today.run.clock.monotonic() + 1
            while today.run.clock.monotonic() < end:
                today.quote(FELL)
            assert len(today.posts()) == sent, "nothing is sent that cannot be journaled"
        today.fell()
        today.rose()
        today.holds()

    def test_is_full_for_everybody(self, disk_day: Day) -> None:
        today, disk = disk_day, Path(disk_day.run.settings.database_url.removeprefix("sqlite:///")).parent
        if not disk.is_mount():
            pytest.skip("nobody may mount a small disk here")
        today.run.start_streamer()
        order = today.resting()
        today.mark()
        with _filled(disk):
            today.fill(order.key)
            today.until("it is said", lambda: today.logged("update_not_recorded"))
            caretaker = today.run.script("order_manager")
        today.until("the fill is booked", lambda: today.booked(order.key))
        (line, *_) = today.logged("update_not_recorded")
        assert "full; make room on the disk" in line["error"] and str(disk) in line["error"]
        assert caretaker.returncode == 75
        assert "full; make room on the disk" in caretaker.stderr
        today.hold(on=False)
        today.rose()
        today.holds()

    def test_may_not_be_written(self, disk_day: Day) -> None:
        today, run = disk_day, disk_day.run
        if run.streamer is not None:
            run.stop_streamer()
        today.quote()
        sent = len(today.posts())
        file = Path(run.settings.database_url.removeprefix("sqlite:///"))
        run.store.close()
        file.chmod(0o400)
        programs = (SOURCE / "main_app.py", SCRIPTS / "asset_caretaker.py")
        with ThreadPoolExecutor(2) as pool:
            for ended in pool.map(lambda program: _without_powers(today, str(program)), programs):
                assert ended.returncode == 75
                assert f"{file}: " in ended.stderr and "let this user write the file" in ended.stderr
        file.chmod(0o600)
        assert len(today.posts()) == sent
        run.start_streamer()
        today.whole_cycle()
        today.holds()


@pytest.fixture(scope="module")
def disk_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The database is on a disk of one megabyte, if one can be mounted; the streamer does not run yet."""
    folder = tmp_path_factory.mktemp("disk")
    disk = folder / "small"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(disk)]
    subprocess.run(command, capture_output=True, check=False)
    try:
        with day(folder, database_url=f"sqlite:///{disk / 'dca.sqlite3'}") as found:
            yield found
    finally:
        if disk.is_mount():
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def _no_room(today: Day) -> Iterator[None]:
    """No file of the streamer may grow, or be written beyond its first byte."""
    assert today.run.streamer is not None
    pid = today.run.streamer.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """Not a byte is left on the disk."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    try:
        yield
    finally:
        filler.unlink()


def _without_powers(today: Day, *command: str) -> subprocess.CompletedProcess[str]:
    """What became of the program, for which permissions hold even where the tests run as root."""
    drop = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*prefix, sys.executable, *command],
        env=today.run.environment,
        cwd=today.run.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestTheClock:
    def test_is_five_minutes_off(self, tmp_path: Path) -> None:
        """It keeps the bot from trading, with words; where a person allows it, nothing is doubled or
        taken for lost or stale."""
        ahead = datetime.now(UTC) + timedelta(seconds=300)
        own = {"CLOCK_ORIGIN": "", "CLOCK_WALL_ORIGIN": "", "MAX_QUOTE_AGE_S": "60", "STALE_ORDER_S": "60"}
        with day(tmp_path, speed=1.0, start=ahead, **own) as today:
            run = today.run
            run.start_streamer()
            today.until("it says why", lambda: "quote stale: age_s -300" in _explained(today), at=D(1))
            run._base["CLOCK_ORIGIN"] = (ahead - timedelta(seconds=600)).isoformat()
            run.restart_exchange()
            today.until("it says why", lambda: "quote stale: age_s 300" in _explained(today), at=D(1))
            assert today.posts() == []
            doctor = run.dca("doctor", "--no-streams")
            assert doctor.returncode == 1
            assert "clock: 300" in doctor.stdout, doctor.stdout
            run.stop_streamer()
            run.start_streamer(MAX_QUOTE_AGE_S="600")
            today.fault(method="POST", path="/v2/orders", answer=504, reached=True, times=1)
            order = today.resting()
            caretaker = run.script("order_manager", "--json", GRACE_S="60")
            assert json.loads(caretaker.stdout)["planned"] == 0, "it is neither lost nor stale"
            today.hold(on=False)
            today.bought()
            assert [one.key for one in today.orders()] == [order.key]
            today.rose()
            settle(run)
            venue = venue_log(run)
            requests = [replace(one, at=one.at + timedelta(seconds=300)) for one in venue.requests]
            verdict = judge(
                replace(venue, requests=requests), Books.read(run.store), run.broker.instruments()
            )
            assert (verdict.violations, reckon(run)["unexplained"]) == ([], "0.00")

    def test_of_the_street_is_set_back(self, server: databases.Mariadb, tmp_path: Path) -> None:
        """An hour comes twice in New York, where the streamer is; the database server is somewhere else."""
        start = datetime(2023, 11, 5, 5, 57, tzinfo=UTC)
        server.run("SET GLOBAL time_zone = '+10:30'")
        url = server.url("street")
        try:
            with day(tmp_path, speed=60.0, start=start, database_url=url, TZ="America/New_York") as today:
                run = today.run
                run.start_streamer()
                today.bought()
                today.until(
                    "the hour begins again", lambda: run.clock.now() > start.replace(hour=6, minute=0)
                )
                today.fell()
                today.rose()
                today.bought()
                books = Books.read(run.store)
                instants = [start, *(order.created_at for order in books.orders), run.clock.now()]
                assert instants == sorted(instants)
                assert all(start < fill.at < run.clock.now() for fill in books.fills)
                ended, again = books.cycles[0].completed_at, books.orders[-1].created_at
                assert ended is not None and timedelta(seconds=60) <= again - ended < timedelta(seconds=900)
                today.holds()
        finally:
            server.run("SET GLOBAL time_zone = SYSTEM")


def _explained(today: Day, symbol: str = "BTC/USD") -> str:
    """Why the streamer did what it did last, as its heartbeat says."""
    beats = today.run.store.read(lambda tx: tx.heartbeats())
    return next((beat.detail["assets"].get(symbol, "") for beat in beats if beat.name == "streamer"), "")


class TestTwoStreamers:
    def test_at_once_one_of_them_trades(self, tmp_path: Path) -> None:
        """And it steps back when a third one, elsewhere, took its place while it was not heard of."""
        with day(tmp_path) as today:
            homes = [tmp_path / name for name in ("one", "two")]
            racing = [_streamer(today, home) for home in homes]
            today.until("one of them is gone", lambda: any(one.poll() is not None for one in racing))
            (loser,) = (one for one in racing if one.poll() is not None)
            (winner,) = (one for one in racing if one is not loser)
            today.bought()
            _hold_the_lease(today, "elsewhere/1/1.00", until="2100-01-01")
            today.until("the other one steps back", lambda: winner.poll() is not None)
            assert (loser.returncode, winner.returncode) == (75, 75)
            said = "".join((home / "out").read_text() for home in homes)
            assert said.count("another instance took over") == 1
            assert said.count("is run by") + said.count("first") == 1
            assert today.run.script("order_manager").returncode == 0
            _hold_the_lease(today, "elsewhere/1/1.00", until="2020-01-01")
            today.run.start_streamer()
            today.fell()
            today.rose()
            today.holds()


def _streamer(today: Day, home: Path) -> subprocess.Popen[bytes]:
    """One that shares nothing with others but the database and the account."""
    home.mkdir()
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(SOURCE / "main_app.py")],
            env={**today.run.environment, "DCA_RUN_DIR": str(home)},
            stdout=out,
            stderr=out,
            cwd=home,
        )
    today.run._processes.append(process)
    return process


def _hold_the_lease(today: Day, holder: str, *, until: str) -> None:
    with closing(sqlite3.connect(today.run.folder / "dca.sqlite3")) as connection, connection:
        change = "UPDATE dca_leases SET holder = ?, expires_at = ?, version = version + 1"
        connection.execute(change, (holder, f"{until}T00:00:00.000000+00:00"))


CONTROL = "DOGE/USD"
_numbers = count(1)


@pytest.fixture(params=["sqlite", "mariadb"])
def asset_day(
    request: pytest.FixtureRequest, server: databases.Mariadb, tmp_path: Path
) -> Iterator[tuple[Day, "Sql"]]:
    """Five assets, each with a position, and a person at the database's own prompt."""
    name = f"assets_{next(_numbers)}"
    url = server.url(name) if request.param == "mariadb" else f"sqlite:///{tmp_path / name}"
    with day(tmp_path, symbols=tuple(LEVELS), database_url=url, cooldown_s=86400) as today:
        today.quote()
        today.run.start_streamer()
        for symbol in LEVELS:
            today.bought(symbol)
        yield today, Sql(url, server)


@dataclass(frozen=True)
class Sql:
    """Statements as a person types them, with or without foreign keys."""

    url: str
    server: databases.Mariadb | None = None

    def __call__(self, *statements: str, keys: bool = True) -> None:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
                connection.execute(f"PRAGMA foreign_keys = {'ON' if keys else 'OFF'}")
                for statement in statements:
                    connection.execute(statement)
        elif self.server is not None:
            checks = f"SET foreign_key_checks = {int(keys)}"
            self.server.run(checks, *statements, database=self.url.rpartition("/")[2])


class TestAnAsset:
    def test_is_edited_in_the_middle_of_its_cycle(self, asset_day: tuple[Day, Sql]) -> None:
        """Disabled it is sold but not bought, changed it follows its new rules, halted it rests, and
        the others trade on; it cannot be removed."""
        (today, sql), every = asset_day, tuple(LEVELS)
        with pytest.raises((sqlite3.IntegrityError, mysql.connector.IntegrityError)):
            sql("DELETE FROM dca_assets")
        sql(
            "UPDATE dca_assets SET is_enabled = 0 WHERE asset_symbol = 'BTC/USD'",
            "UPDATE dca_assets SET max_safety_orders = 0, take_profit_percent = '4'"
            " WHERE asset_symbol = 'ETH/USD'",
            "UPDATE dca_assets SET halted_reason = 'a person looks' WHERE asset_symbol = 'SOL/USD'",
        )
        today.until("it was seen", lambda: "halted" in _explained(today, "SOL/USD"), at=D(1), on=every)
        resting = {symbol: len(today.orders(symbol)) for symbol in ("BTC/USD", "ETH/USD", "SOL/USD")}
        today.until("the others buy", lambda: today.cycle(CONTROL).safety_orders == 1, at=FELL, on=every)
        assert {symbol: len(today.orders(symbol)) for symbol in resting} == resting
        for symbol in ("BTC/USD", "LTC/USD", CONTROL):
            today.rose(symbol)
        today.quote(ROSE)
        assert today.cycle("ETH/USD").quantity > 0 and today.cycle("SOL/USD").quantity > 0
        today.until(
            "the new rule sells", lambda: len(today.cycles("ETH/USD")) == 2, at=D("1.05"), on=["ETH/USD"]
        )
        assert len(today.orders("SOL/USD")) == resting["SOL/USD"]
        sql("UPDATE dca_assets SET halted_reason = NULL WHERE asset_symbol = 'SOL/USD'")
        today.rose("SOL/USD")
        assert all(one.intent.side == "sell" for one in today.orders("BTC/USD")[1:])
        today.holds()

    def test_has_a_cycle_that_somebody_moved_where_it_cannot_be(self, tmp_path: Path) -> None:
        """It is halted, the streamer lives and the others trade on, until the books are put right."""
        with day(tmp_path, symbols=("BTC/USD", "ETH/USD"), cooldown_s=86400) as today:
            today.run.start_streamer()
            order = today.resting()
            sql = Sql(today.run.settings.database_url)
            sql("UPDATE dca_cycles SET status = 'cooldown' WHERE asset_id = 1")
            today.fill(order.key, "0.001")
            today.until("it is said", lambda: any("cooldown -> buying" in text for text in today.told()))
            today.bought("ETH/USD")
            today.until(
                "it is asked for again", lambda: len(today.logged("order_contradicts", new=False)) > 1
            )
            assert today.run.script("consistency_checker").returncode == 0
            today.fill(order.key)
            today.until("the fill is booked", lambda: today.booked(order.key))
            today.hold(on=False)
            assert today.run.dca("asset", "resume", "BTC/USD").returncode == 0
            today.rose()
            today.holds()

    def test_is_removed_in_the_middle_of_its_cycle(self, asset_day: tuple[Day, Sql]) -> None:
        """One with a buy at work, and one with a sell: what fills then is booked all the same."""
        today, sql = asset_day
        buying = today.resting("BTC/USD", at=FELL)
        selling = today.resting("ETH/USD", at=ROSE)
        sql("CREATE TABLE kept AS SELECT * FROM dca_assets")
        removed = "asset_symbol IN ('BTC/USD', 'ETH/USD', 'SOL/USD')"
        sql(f"DELETE FROM dca_assets WHERE {removed}", keys=False)
        today.hold("BTC/USD", on=False)
        today.hold("ETH/USD", on=False)
        today.quote(FELL, "BTC/USD")
        today.quote(ROSE, "ETH/USD")
        today.until("both are booked", lambda: today.booked(buying.key) and today.booked(selling.key))
        posts = len(today.posts())
        today.quote(FELL, "SOL/USD")
        today.fell(CONTROL)
        today.rose(CONTROL)
        assert {row["body"]["symbol"] for row in today.posts()[posts:]} == {CONTROL}
        today.until("it is said", lambda: len(today.logged("asset_gone", new=False)) == 3)
        planned = today.run.script("consistency_checker", "--dry-run").stdout
        assert planned.count("its asset is gone") == 2, planned
        sql(f"INSERT INTO dca_assets SELECT * FROM kept WHERE {removed}")
        assert today.run.script("asset_caretaker").returncode == 0
        today.rose("BTC/USD")
        today.rose("SOL/USD")
        today.bought("ETH/USD")
        today.holds()
