"""A database that is gone, locked, full or not to be written: no order without its row, no fill lost."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import databases
import mysql.connector
import pytest
from bad_day import FELL, Day, day, passed, until

from dca.adapters.db.store import LOCK_TIMEOUT_S
from dca.apps.world import SCRIPTS, SOURCE

# One world serves several of these, so one worker runs them, in this order.
pytestmark = pytest.mark.xdist_group("test_bad_database")


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
        today.hold(on=True)
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
            report = passed(today, "order_manager")
            release.join()
        assert report.exit_code == 0, report
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
            caretaker = passed(today, "consistency_checker")
            today.fell()
            today.until("somebody was hit", lambda: today.logged("store_retried"))
        today.rose()
        assert caretaker.exit_code in (0, 75), caretaker
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

    def test_is_full(self, disk_day: Day) -> None:
        """For the streamer only, and for its log too: nothing but the journal can hold it back."""
        today = disk_day
        if today.run.streamer is None:
            today.run.start_streamer()
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

    def test_may_not_be_written(self, disk_day: Day) -> None:
        today, run = disk_day, disk_day.run
        if run.streamer is not None:
            run.stop_streamer()
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
    """The database is on a disk of eight megabytes, if one can be mounted; the streamer does not run yet."""
    folder = tmp_path_factory.mktemp("disk")
    disk = folder / "small"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(disk)]
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
    with filler.open("ab", buffering=0) as file:
        for size in (2**16, 2**9):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
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
