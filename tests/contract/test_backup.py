"""Backups: a copy is whole or not there; putting one back leaves the old or the new, never half."""

import gzip
import itertools
import os
import resource
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import databases
import pytest
from contract.rows import NOW, a_fill, given_asset, given_cycle, given_order, later
from sqlalchemy import make_url, select, text

import dca
from dca.adapters.clock import ManualClock
from dca.adapters.db import backup, dump, migrate, restore, restore_mysql, restore_sqlite
from dca.adapters.db.backup import BackupFolder
from dca.adapters.db.store import SqlStore
from dca.adapters.db.tables import REVISION, metadata
from dca.adapters.db.target import parse
from dca.adapters.rotation import LogFolder
from dca.domain.cycle import CycleStatus
from dca.domain.errors import ConfigError, StoreUnavailable, Unmended
from dca.domain.mode import Mode
from dca.domain.record import Event, Heartbeat, Lease, Message
from dca.ports import Store, Tx
from dca.service.caretakers.housekeeping import Housekeeping, Keep

SOURCE = Path(dca.__file__).parents[1]
NASTY = 'it\'s "quoted" \\ ; -- /* ü € \U0001f600 \n\r\t\0 `x` ${HOME} %s DELIMITER //'
Rows = dict[str, list[tuple[Any, ...]]]
MARKS = {"dca_modes", "dca_events", "dca_leases"}
"""Tables in which restoring itself leaves something."""


@pytest.fixture(autouse=True)
def _programs(request: pytest.FixtureRequest) -> None:
    """MariaDB is copied by its own programs."""
    if "mariadb" in request.node.name and shutil.which("mariadb-dump") is None:
        hint = "mariadb-dump is not installed: apt-get install mariadb-client"
        pytest.fail(hint) if os.environ.get("CI") == "true" else pytest.skip(hint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def filled(store: Store) -> None:
    """Rows of every kind, with values that copying could spoil."""
    order = given_order(store)

    def write(tx: Tx) -> None:
        tx.insert_fill(a_fill(order, qty=Decimal("123456789012345678.123456789012345678")))
        tx.insert_fill(a_fill(order, id="x2", cum_qty=Decimal("0.000000000000000001"), at=later(0.000001)))
        tx.add_event(Event(name="odd", at=NOW, reason=NASTY, data={"text": NASTY, "n": [1, None]}))
        tx.add_message(Message(key="m1", name="odd", text=NASTY, at=NOW))
        tx.beat(Heartbeat(name="streamer", at=NOW, detail={"a": NASTY}))

    store.write(write)


def rows(url: str, *, without: set[str] = frozenset()) -> Rows:  # type: ignore[assignment]
    """Everything that is stored, as the driver reads it."""
    with backup.opened(parse(url)) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
            if table.name not in without
        }


def copied(url: str, folder: Path, at: datetime = NOW) -> Path:
    return folder / BackupFolder(url, folder).make(at).name


def put_back(url: str, file: Path, *, at: datetime = NOW, alive: bool = True) -> restore.Restored:
    restoring = restore.begun(url, file, at, lambda holder: alive)
    if restoring.target.sqlite:
        return restore_sqlite.restore(restoring)
    return restore_mysql.restore(restoring, file.parent)


class TestRoundTrip:
    def test_every_row_is_the_same_before_and_after(self, database_url: str, folder: Path) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
            before = rows(database_url)
            file = copied(database_url, folder)
            spoil(store)
        assert rows(database_url) != before
        done = put_back(database_url, file)
        after = rows(database_url)
        assert {name: after[name] for name in after if name not in MARKS} == {
            name: before[name] for name in before if name not in MARKS
        }
        assert after["dca_events"][:-1] == before["dca_events"]
        assert done.kept is not None and done.applied == []
        with closing(SqlStore(database_url)) as store:
            assert done.install == store.install
            assert "restored from dca-" in store.read(lambda tx: tx.modes())[0].reason
            assert store.read(lambda tx: tx.events(limit=1))[0].name == "database_restored"

    def test_what_was_there_is_kept_and_can_be_put_back_too(self, database_url: str, folder: Path) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
            file = copied(database_url, folder)
            spoil(store)
            spoiled = rows(database_url, without=MARKS)
        kept = put_back(database_url, file, at=later(60)).kept
        assert kept is not None
        if kept.suffix == ".gz":
            put_back(database_url, kept, at=later(120))
            assert rows(database_url, without=MARKS) == spoiled
        else:
            assert rows(f"sqlite:///{kept}", without=MARKS) == spoiled

    def test_a_lost_database_is_put_back(self, database_url: str, folder: Path) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
        before = rows(database_url, without=MARKS)
        file = copied(database_url, folder)
        lose(database_url)
        assert put_back(database_url, file).kept is None
        assert rows(database_url, without=MARKS) == before

    def test_it_can_be_put_into_a_new_installation_that_trades_nothing(
        self, database_url: str, folder: Path
    ) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
            install = store.install
        file = copied(database_url, folder)
        lose(database_url)
        migrate.upgrade(database_url)
        put_back(database_url, file)
        with closing(SqlStore(database_url)) as store:
            assert store.install == install

    def test_the_number_of_a_cycle_is_never_given_again(self, database_url: str, folder: Path) -> None:
        """The venue knows the orders of cycles that were begun after the backup."""
        with closing(SqlStore(database_url)) as store:
            cycle = given_cycle(store)
            file = copied(database_url, folder)
            store.write(lambda tx: tx.update_cycle(replace(cycle, status=CycleStatus.COMPLETE)))
        for _ in range(2):
            put_back(database_url, file)
            with closing(SqlStore(database_url)) as store:
                asset = given_asset(store, f"X{_}/USD")
                new = given_cycle(store, asset)
            assert new.id > cycle.id + restore.SKIPPED_CYCLES - 1

    def test_leases_of_the_past_are_free(self, database_url: str, folder: Path) -> None:
        lease = Lease(name="streamer:a", holder="other/1/1.00", expires_at=later(15), version=0)
        with closing(SqlStore(database_url)) as store:
            store.write(lambda tx: tx.put_lease(lease))
            file = copied(database_url, folder)
            put_back(database_url, file, at=later(16))
            assert store.read(lambda tx: tx.lease("streamer:a")) is None

    def test_a_backup_is_made_while_others_write(self, database_url: str, folder: Path) -> None:
        code = f"""
import sys
from datetime import UTC, datetime
sys.path.insert(0, {str(SOURCE)!r})
from dca.adapters.db.store import SqlStore
from dca.domain.record import Event
store = SqlStore({database_url!r})
print("writing", flush=True)
while True:
    store.write(lambda tx: [tx.add_event(Event(name="pair", at=datetime.now(UTC))) for _ in range(2)])
"""
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            assert writer.stdout is not None and writer.stdout.readline()
            file = copied(database_url, folder)
        finally:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
        put_back(database_url, file, at=datetime.now(UTC))
        pairs = [row for row in rows(database_url)["dca_events"] if "pair" in row]
        assert len(pairs) % 2 == 0, "a transaction is in the copy whole or not at all"


def spoil(store: Store) -> None:
    """The database is not what it was: rows changed, added and gone."""

    def write(tx: Tx) -> None:
        asset = tx.assets()[0]
        tx.update_asset(replace(asset, is_enabled=not asset.is_enabled))
        tx.insert_asset("ETH/USD", asset.rules, is_enabled=False, at=NOW)
        tx.mark_sent("m1", at=NOW)
        tx.beat(Heartbeat(name="streamer", at=later(1), detail={}))

    store.write(write)


def lose(url: str) -> None:
    target = parse(url)
    if target.sqlite:
        for path in target.path.parent.glob(f"{target.path.name}*"):
            path.unlink()
        return
    with backup.opened(target, writing=True) as connection:
        connection.execute(text("SET foreign_key_checks = 0"))
        for name in [*(table.name for table in metadata.sorted_tables), "dca_schema"]:
            connection.execute(text(f"DROP TABLE {name}"))


class TestRefused:
    def test_while_a_streamer_or_a_caretaker_works(self, database_url: str, folder: Path) -> None:
        file = copied(database_url, folder)
        lease = Lease(name="streamer:a", holder="here/1/1.00", expires_at=later(15), version=0)
        with closing(SqlStore(database_url)) as store:
            store.write(lambda tx: tx.put_lease(lease))
        before = rows(database_url)
        with pytest.raises(ConfigError, match=r"streamer:a is run by here/1/1[.]00: stop it first"):
            put_back(database_url, file)
        assert rows(database_url) == before
        put_back(database_url, file, alive=False)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "was not made by"),
            (b"not even compressed", "damaged, or was not made by"),
            (gzip.compress(b"-- somebody else's dump\nDROP TABLE dca_assets;\n", mtime=0), "was not made by"),
            (
                gzip.compress(b"-- dca backup: installation 0a1b2c3d, schema x\nDROP TABLE", mtime=0),
                "is damaged",
            ),
            (gzip.compress(b"SQLite format 3\0" + bytes(100), mtime=0)[:-9], "damaged"),
        ],
    )
    def test_what_is_no_whole_backup(self, sqlite_url: str, folder: Path, content: bytes, words: str) -> None:
        folder.mkdir()
        file = folder / "some.gz"
        file.write_bytes(content)
        before = rows(sqlite_url)
        with pytest.raises(ConfigError, match=words):
            put_back(sqlite_url, file)
        assert rows(sqlite_url) == before

    def test_a_file_that_is_not_there(self, sqlite_url: str, folder: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            put_back(sqlite_url, folder / "none.gz")

    @pytest.mark.parametrize("where", [0.3, 0.6, 0.95])
    def test_a_backup_that_was_damaged_later(self, database_url: str, folder: Path, where: float) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
        file = copied(database_url, folder)
        data = bytearray(file.read_bytes())
        data[int(len(data) * where)] ^= 0xFF
        file.write_bytes(data)
        before = rows(database_url)
        assert not BackupFolder(database_url, folder).is_whole(file.name)
        with pytest.raises(ConfigError, match="damaged"):
            put_back(database_url, file)
        assert rows(database_url) == before

    def test_a_backup_of_a_newer_program(self, database_url: str, folder: Path) -> None:
        set_revision(database_url, "9999_future")
        file = copied(database_url, folder)
        set_revision(database_url, REVISION)
        before = rows(database_url)
        with pytest.raises(ConfigError, match="schema 9999_future, which this program does not know"):
            put_back(database_url, file)
        assert rows(database_url) == before

    def test_a_backup_of_another_installation(self, database_url: str, folder: Path, tmp_path: Path) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
        file = copied(database_url, folder)
        with backup.opened(parse(database_url), writing=True) as connection:
            if parse(database_url).sqlite:
                connection.exec_driver_sql("BEGIN")
            connection.execute(text("UPDATE dca_install SET nonce = 'ffffffff'"))
            connection.commit()
        before = rows(database_url)
        with pytest.raises(ConfigError, match=r"of installation \w+, .* is ffffffff: .*new database"):
            put_back(database_url, file)
        assert rows(database_url) == before

    def test_a_backup_of_the_other_kind(self, sqlite_url: str, mariadb_url: str, folder: Path) -> None:
        with pytest.raises(ConfigError, match="is a backup of SQLite; DATABASE_URL names MySQL or MariaDB"):
            put_back(mariadb_url, copied(sqlite_url, folder))
        with pytest.raises(ConfigError, match="is a backup of MySQL or MariaDB; DATABASE_URL names SQLite"):
            put_back(sqlite_url, copied(mariadb_url, folder))


def set_revision(url: str, revision: str) -> None:
    with backup.opened(parse(url), writing=True) as connection:
        if parse(url).sqlite:
            connection.exec_driver_sql("BEGIN")
        connection.execute(text("UPDATE dca_schema SET version_num = :now"), {"now": revision})
        connection.commit()


class TestOlderSchema:
    def test_a_backup_of_an_older_program_is_brought_to_this_one(self, tmp_path: Path, folder: Path) -> None:
        url = f"sqlite:///{tmp_path / 'old.sqlite3'}"
        migrate.upgrade(url)
        file = copied(url, folder)
        with gzip.open(file) as packed:
            (tmp_path / "older").write_bytes(packed.read())
        with closing(sqlite3.connect(tmp_path / "older")) as old:
            old.executescript(
                "DROP TABLE dca_decisions; ALTER TABLE dca_assets DROP COLUMN paused_reason;"
                "ALTER TABLE dca_assets DROP COLUMN accepted_difference;"
                "INSERT INTO dca_flags VALUES ('halted', 'a person must look', '2026-03-01T12:30:15+00:00');"
                "INSERT INTO dca_flags VALUES ('paused', 'holidays', '2026-03-01 12:30:14.000000+00:00');"
                "UPDATE dca_schema SET version_num = '0001_initial'"
            )
        file.write_bytes(gzip.compress((tmp_path / "older").read_bytes()))
        assert put_back(url, file).applied == ["0002_caretakers", "0003_pipeline"]
        with closing(SqlStore(url)) as store:
            assert store.read(lambda tx: (tx.assets(), tx.flags())) == ([], {})
            modes = {one.source: (one.mode, one.reason) for one in store.read(lambda tx: tx.modes())}
            assert modes["operator"] == (Mode.HALTED, "a person must look")


class TestDamagedDatabase:
    @pytest.mark.parametrize("spoiled", [b"this is no database at all, just text" * 200, b""])
    def test_a_backup_takes_the_place_of_a_file_that_is_no_database(
        self, sqlite_url: str, folder: Path, spoiled: bytes
    ) -> None:
        with closing(SqlStore(sqlite_url)) as store:
            filled(store)
        before = rows(sqlite_url, without=MARKS)
        file, path = copied(sqlite_url, folder), parse(sqlite_url).path
        path.write_bytes(spoiled)
        path.with_name(f"{path.name}-wal").write_bytes(b"left over")
        kept = put_back(sqlite_url, file).kept
        assert rows(sqlite_url, without=MARKS) == before
        assert kept is not None and (spoiled == b"" or kept.read_bytes() == spoiled)

    def test_a_database_that_contradicts_itself_is_not_backed_up(self, sqlite_url: str, folder: Path) -> None:
        with closing(SqlStore(sqlite_url)) as store:
            filled(store)
        path = parse(sqlite_url).path
        data = bytearray(path.read_bytes())
        data[5 * 4096 : 6 * 4096] = b"\xaa" * 4096
        path.write_bytes(data)
        with pytest.raises(Unmended, match=r"cannot be copied|damaged"):
            copied(sqlite_url, folder)
        assert list(folder.iterdir()) == []


def kill_everywhere(
    work: Callable[[], object], steps: list[tuple[Any, str]], check: Callable[[bool], None]
) -> int:
    """`work` was done by processes that died before or after one step each, until one came through.

    The steps are functions, as (module or class, name); `check` is told whether it came through.
    """
    for last in range(500):
        pid = os.fork()
        if pid == 0:
            _die_at(last, steps)
            work()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL)
        check(code == 0)
        if code == 0:
            return last
    raise AssertionError("it never came through")


def _die_at(last: int, steps: list[tuple[Any, str]]) -> None:
    """This process, which is only for that, dies at its step number `last`."""
    numbers = itertools.count()

    def step(*_: object) -> None:
        if next(numbers) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def work(*args: Any, **more: Any) -> Any:
            step()
            result = real(*args, **more)
            step()
            return result

        return work

    for owner, name in [*steps, (Path, "replace"), (Path, "unlink"), (Path, "touch")]:
        setattr(owner, name, killing(getattr(owner, name)))
    restore_sqlite._PAGES = 8
    restore_sqlite.patience = lambda: step  # type: ignore[assignment]


class TestKilled:
    @pytest.mark.parametrize("usable", [True, False])
    def test_a_sqlite_file_is_the_old_or_the_new(self, sqlite_url: str, folder: Path, usable: bool) -> None:
        path = parse(sqlite_url).path
        with closing(SqlStore(sqlite_url)) as store:
            filled(store)
            file = copied(sqlite_url, folder)
            new = rows(sqlite_url, without=MARKS)
            spoil(store)
        old: Any = rows(sqlite_url, without=MARKS)
        if not usable:
            path.write_bytes(b"no database" * 1_000)
            old = path.read_bytes()
        began = path.read_bytes()

        def check(done: bool) -> None:
            broken = path.read_bytes() == old if not usable else False
            found = old if broken else rows(sqlite_url, without=MARKS)
            assert found == new if done else found in (old, new)
            kept = sorted(path.parent.glob("*.before-*"))
            if found == new:
                assert kept and (usable or kept[0].read_bytes() == old), "what was there is lost"
            for left in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                left.unlink(missing_ok=True)
            path.write_bytes(began)

        steps = [(restore_sqlite, "copy_sqlite"), (restore_sqlite, "_skip_cycles")]
        assert kill_everywhere(lambda: put_back(sqlite_url, file), steps, check) > 20

    def test_the_tables_of_mariadb_are_the_old_or_the_new(self, mariadb_url: str, folder: Path) -> None:
        with closing(SqlStore(mariadb_url)) as store:
            filled(store)
            file = copied(mariadb_url, folder)
            new = rows(mariadb_url, without=MARKS)
            spoil(store)
        old = rows(mariadb_url, without=MARKS)
        seen: set[bool] = set()

        def check(done: bool) -> None:
            found = rows(mariadb_url, without=MARKS)
            assert found == new if done else found in (old, new)
            seen.add(found == new)

        names = ["upgrade", "_kept", "_skip_cycles", "delete", "_overwrite"]
        steps = [(dump, "load"), *((restore_mysql, name) for name in names)]
        assert kill_everywhere(lambda: put_back(mariadb_url, file), steps, check) > 30
        assert seen == {True, False}
        scratch = f"{make_url(mariadb_url).database}_restoring"
        with backup.opened(parse(mariadb_url)) as connection:
            assert scratch not in [row[0] for row in connection.execute(text("SHOW DATABASES"))]

    def test_a_backup_that_was_killed_is_not_there_and_leaves_nothing(
        self, sqlite_url: str, folder: Path
    ) -> None:
        with closing(SqlStore(sqlite_url)) as store:
            filled(store)

        def check(done: bool) -> None:
            made = list(folder.glob("dca-*"))
            assert all(backup.whole(path) for path in made)
            assert done <= bool(made)
            for path in made:
                path.unlink()

        steps = [(backup, "copy_sqlite"), (backup, "whole")]
        assert kill_everywhere(lambda: copied(sqlite_url, folder), steps, check) > 5
        assert list(folder.iterdir()) == [], "the last one cleared what the others left"


def on_a_disk_of(size: int, work: Callable[[], object]) -> str:
    """What went wrong when no file may become larger than `size`; empty when nothing did."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            work()
        except (Unmended, StoreUnavailable) as error:
            os.write(theirs, str(error).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as said:
        text = said.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


class TestFullDisk:
    def test_no_half_backup_stays(self, database_url: str, folder: Path) -> None:
        with closing(SqlStore(database_url)) as store:
            filled(store)
            noise = Event(name="noise", at=NOW, reason=secrets.token_hex(200_000))
            store.write(lambda tx: tx.add_event(noise))
        assert "cannot be" in on_a_disk_of(60_000, lambda: copied(database_url, folder))
        assert list(folder.iterdir()) == []
        assert on_a_disk_of(10_000_000, lambda: copied(database_url, folder)) == ""

    def test_a_restore_that_has_no_room_changes_nothing(self, sqlite_url: str, folder: Path) -> None:
        with closing(SqlStore(sqlite_url)) as store:
            filled(store)
        file, before = copied(sqlite_url, folder), rows(sqlite_url)
        size, failed = parse(sqlite_url).path.stat().st_size, 0
        for limit in (60_000, size - 1, size, size + 8_192, 2 * size):
            said = on_a_disk_of(limit, lambda: put_back(sqlite_url, file))
            failed += said != ""
            assert rows(sqlite_url) == before if said else rows(sqlite_url) != before, limit
        assert 2 <= failed <= 4


class TestPrograms:
    def test_without_them_it_is_said_what_to_install(
        self, mariadb_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = copied(mariadb_url, folder)
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(ConfigError, match="apt-get install mariadb-client"):
            copied(mariadb_url, folder)
        with pytest.raises(ConfigError, match="apt-get install mariadb-client"):
            put_back(mariadb_url, file)

    def test_the_password_stands_on_no_command_line_and_any_password_will_do(
        self, mariadb: databases.Mariadb, mariadb_url: str, folder: Path, tmp_path: Path
    ) -> None:
        password = "pa\"ss'w\\o#r;d %$n=\\n[x] ü"
        mariadb.run(f"CREATE USER 'odd'@'127.0.0.1' IDENTIFIED BY '{sql(password)}'")
        mariadb.run("GRANT ALL ON *.* TO 'odd'@'127.0.0.1'")
        try:
            url = make_url(mariadb_url).set(username="odd", password=password)
            commands = spying(tmp_path, os.environ["PATH"])
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
                text_url = url.render_as_string(hide_password=False)
                put_back(text_url, copied(text_url, folder))
            said = commands.read_text()
            assert said.count("mariadb-dump") >= 2 and "--defaults-file=" in said
            assert password not in said and 'pa"ss' not in said
        finally:
            mariadb.run("DROP USER 'odd'@'127.0.0.1'")

    def test_a_user_who_may_not_create_a_database_is_told_what_to_grant(
        self, mariadb: databases.Mariadb, mariadb_url: str, folder: Path
    ) -> None:
        file, name = copied(mariadb_url, folder), make_url(mariadb_url).database
        mariadb.run("CREATE USER 'poor'@'127.0.0.1' IDENTIFIED BY 'poor-password'")
        mariadb.run(f"GRANT ALL ON {name}.* TO 'poor'@'127.0.0.1'")
        try:
            url = make_url(mariadb_url).set(username="poor", password="poor-password")
            with pytest.raises(ConfigError, match=f"GRANT ALL ON `{name}_restoring`"):
                put_back(url.render_as_string(hide_password=False), file)
            copied(url.render_as_string(hide_password=False), folder)
        finally:
            mariadb.run("DROP USER 'poor'@'127.0.0.1'")

    def test_a_server_that_is_gone_is_nobodys_fault(self, mariadb_url: str, folder: Path) -> None:
        url = make_url(mariadb_url).set(port=9).render_as_string(hide_password=False)
        with pytest.raises(StoreUnavailable):
            copied(url, folder)


def sql(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "''")


def spying(folder: Path, path: str) -> Path:
    """Programs in `folder` that write down how they are called, and call the real ones."""
    said = folder / "commands"
    for name in ("mariadb-dump", "mariadb"):
        real = shutil.which(name, path=path)
        script = folder / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $@" >> {said}\ncat /proc/$$/cmdline >> {said}\nexec {real} "$@"\n'
        )
        script.chmod(0o700)
    return said


class TestFolder:
    def test_files_are_for_their_user_alone_and_named_after_installation_and_time(
        self, database_url: str, folder: Path
    ) -> None:
        old = os.umask(0o022)
        try:
            names = [copied(database_url, folder).name for _ in range(2)]
        finally:
            os.umask(old)
        assert names[0].endswith(("-20260301T123015Z.sqlite3.gz", "-20260301T123015Z.sql.gz"))
        assert names[1] == names[0].replace("Z.", "Z-2.")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    def test_backups_of_others_and_strange_files_are_not_seen(self, sqlite_url: str, folder: Path) -> None:
        mine = copied(sqlite_url, folder)
        (folder / "dca-ffffffff-20260301T123015Z.sqlite3.gz").write_bytes(b"")
        (folder / "holiday.gz").write_bytes(b"")
        assert [one.name for one in BackupFolder(sqlite_url, folder).found()] == [mine.name]

    def test_two_at_once_do_not_disturb_each_other(self, sqlite_url: str, folder: Path) -> None:
        with backup._alone(folder) as making:
            making.write_bytes(b"being made")
            with pytest.raises(Unmended, match="another backup is being made"):
                copied(sqlite_url, folder)
            assert making.read_bytes() == b"being made"


class TestHousekeeping:
    """The whole caretaker on real files, a day after the other."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(NOW)

    @pytest.fixture
    def housekeeping(
        self, sqlite_url: str, folder: Path, tmp_path: Path, clock: ManualClock
    ) -> Iterator[Any]:
        with closing(SqlStore(sqlite_url)) as store:
            keep = Keep(log_days=3, events_days=5, backup_days=4)
            yield Housekeeping(
                store, clock, LogFolder(tmp_path / "logs"), BackupFolder(sqlite_url, folder), keep
            )

    def day(self, housekeeping: Any, clock: ManualClock, logs: Path) -> list[str]:
        logs.mkdir(exist_ok=True)
        (logs / "main.log").write_text('{"event": "a"}\n')
        plan = housekeeping.plan(housekeeping.look(), clock.now())
        for repair in plan:
            assert housekeeping.mend(repair) is None
        clock.move(86_400)
        return [repair.kind for repair in plan]

    def test_it_keeps_what_it_should_and_no_more(
        self, housekeeping: Any, clock: ManualClock, tmp_path: Path, folder: Path
    ) -> None:
        logs = tmp_path / "logs"
        assert self.day(housekeeping, clock, logs) == ["rotate", "backup", "prune"]
        for _ in range(9):
            kinds = self.day(housekeeping, clock, logs)
        assert kinds == ["rotate", "compress", "backup", "prune", "delete", "delete"]
        clock.move(-86_400)
        again = [repair.kind for repair in housekeeping.plan(housekeeping.look(), clock.now())]
        assert again == ["compress", "prune"], "once a day is enough"
        assert len(list(folder.iterdir())) == 4 and len(list(logs.glob("*.log*"))) == 3

    def test_the_last_good_backup_stays_however_old_it_is(
        self, housekeeping: Any, clock: ManualClock, tmp_path: Path, folder: Path, monkeypatch: Any
    ) -> None:
        good = folder / housekeeping.backups.make(clock.now()).name
        clock.move(86_400)
        bad = folder / housekeeping.backups.make(clock.now()).name
        bad.write_bytes(bad.read_bytes()[:-20])
        clock.move(100 * 86_400)
        deletes = [
            one.subject for one in housekeeping.plan(housekeeping.look(), clock.now()) if one.kind == "delete"
        ]
        assert deletes == [bad.name] and good.exists()

    def test_a_backup_that_fails_is_told_once_a_day(
        self, housekeeping: Any, clock: ManualClock, folder: Path
    ) -> None:
        folder.write_text("a file in its place")
        for _ in range(2):
            with pytest.raises(Unmended, match="could not be backed up"):
                housekeeping.mend(housekeeping.plan(housekeeping.look(), clock.now())[0])
        (message,) = housekeeping.store.read(lambda tx: tx.messages())
        assert message.name == "backup_failed" and str(folder) in message.text

    def test_old_rows_go(self, housekeeping: Any, clock: ManualClock) -> None:
        def write(tx: Tx) -> None:
            for number in range(1_203):
                tx.add_event(Event(name="old", at=NOW - timedelta(days=6, seconds=number)))
            tx.add_event(Event(name="new", at=NOW))
            tx.beat(Heartbeat(name="gone", at=NOW - timedelta(days=6)))
            tx.beat(Heartbeat(name="here", at=NOW))

        housekeeping.store.write(write)
        prune = next(one for one in housekeeping.plan(housekeeping.look(), NOW) if one.kind == "prune")
        housekeeping.mend(prune)
        assert [event.name for event in housekeeping.store.read(lambda tx: tx.events(limit=9))] == ["new"]
        assert [beat.name for beat in housekeeping.store.read(lambda tx: tx.heartbeats())] == ["here"]
