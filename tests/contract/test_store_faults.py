"""What the databases do wrong, and what the store makes of it (the D rows of the fault matrix)."""

import logging
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import databases
import pytest
from contract.rows import NOW, RULES, a_fill, an_order, given_asset, given_cycle, given_order, later
from mysql.connector.connection import MySQLConnection
from mysql.connector.errors import OperationalError

from dca.adapters.db import migrate
from dca.adapters.db.driver import Connection
from dca.adapters.db.store import PAUSES_S, SqlStore
from dca.domain.errors import ConfigError, StoreError, StoreUnavailable
from dca.domain.record import Event, Message
from dca.ports import Tx


@contextmanager
def opened(url: str, *, sleep: Callable[[float], None] | None = None, lock_s: int = 1) -> Iterator[SqlStore]:
    """A store that does not really sleep between its tries."""
    store = SqlStore(url, sleep=sleep or (lambda seconds: None), lock_timeout_s=lock_s)
    with closing(store):
        yield store


def connection_id(tx: Tx) -> int:
    return int(scalar(tx, "SELECT CONNECTION_ID()"))


def names(store: SqlStore) -> list[str]:
    return [event.name for event in store.read(lambda tx: tx.events())]


def note(tx: Tx, name: str) -> None:
    tx.add_event(Event(name=name, at=NOW))


class TestLostUnits:
    """A unit that the server threw away is done again from the top, never half of it."""

    def test_after_a_deadlock_the_victim_repeats_everything(self, mariadb_url: str) -> None:
        tries: list[str] = []
        both_hold_one = threading.Barrier(2)

        def unit(store: SqlStore, name: str, first: int, second: int) -> None:
            def work(tx: Tx) -> None:
                tries.append(name)
                note(tx, name)
                touch(tx, first)
                if len(tries) <= 2:
                    both_hold_one.wait(timeout=30)
                touch(tx, second)

            store.write(work)

        with opened(mariadb_url, lock_s=9) as store, ThreadPoolExecutor(2) as pool:
            one, two = given_asset(store).id, given_asset(store, "ETH/USD").id
            for done in [pool.submit(unit, store, "a", one, two), pool.submit(unit, store, "b", two, one)]:
                done.result(timeout=60)
            assert sorted(tries) in (["a", "a", "b"], ["a", "b", "b"])
            assert sorted(names(store)) == ["a", "b"]
            assert [asset.version for asset in store.read(lambda tx: tx.assets())] == [3, 3]

    def test_after_a_lock_timeout_nothing_of_the_first_try_stays(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        """The server undoes the one statement only, and would commit the rest of the unit."""
        with closing(mariadb.connect(mariadb_url.rpartition("/")[2])) as other:
            pauses: list[float] = []

            def release(seconds: float) -> None:
                pauses.append(seconds)
                other.rollback()

            with opened(mariadb_url, sleep=release) as store:
                asset = given_asset(store)
                tries: list[int] = []
                other.autocommit = False
                other.cursor(buffered=True).execute("SELECT * FROM dca_assets FOR UPDATE")

                def work(tx: Tx) -> None:
                    tries.append(1)
                    note(tx, f"try {len(tries)}")
                    tx.update_asset(asset)

                store.write(work)
                assert names(store) == ["try 2"]
                assert pauses == [PAUSES_S[0]]

    def test_a_connection_killed_between_statements_costs_nothing(
        self, mariadb: databases.Mariadb, mariadb_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        tries: list[int] = []

        def work(tx: Tx) -> None:
            tries.append(1)
            note(tx, f"try {len(tries)}")
            if len(tries) == 1:
                mariadb.run(f"KILL {connection_id(tx)}")
            tx.add_message(Message(key="m", name="n", text="t", at=NOW))

        with opened(mariadb_url) as store, caplog.at_level(logging.INFO, "dca"):
            store.write(work)
            assert names(store) == ["try 2"]
            assert len(store.read(lambda tx: tx.messages())) == 1
        assert [record.message for record in caplog.records] == ["store_retried"]

    def test_idle_connections_that_the_server_closed_are_replaced(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        with opened(mariadb_url) as store:
            writer = store.write(connection_id)
            reader = store.read(connection_id)
            mariadb.run(f"KILL {writer}")
            mariadb.run(f"KILL {reader}")
            assert store.read(lambda tx: tx.assets()) == []
            assert given_asset(store)
            assert store.write(connection_id) != writer

    def test_however_many_the_server_closed_one_more_try_is_enough(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        """As many lie in the pool as a unit has tries."""
        pauses: list[float] = []
        all_have_one = threading.Barrier(len(PAUSES_S) + 1)

        def hold(tx: Tx) -> int:
            all_have_one.wait(timeout=30)
            return connection_id(tx)

        with (
            opened(mariadb_url, sleep=pauses.append) as store,
            ThreadPoolExecutor(len(PAUSES_S) + 1) as pool,
        ):
            held = [pool.submit(store.read, hold) for _ in range(len(PAUSES_S) + 1)]
            for one in held:
                mariadb.run(f"KILL {one.result(timeout=30)}")
            assert store.read(connection_id) > 0
            assert pauses == [PAUSES_S[0]]

    def test_a_commit_whose_answer_was_lost_is_not_done_twice(
        self, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commits: list[int] = []
        real = Connection.commit

        def commit(self: Connection) -> None:
            real(self)
            commits.append(1)
            if len(commits) == 1:
                raise OperationalError(errno=2013)

        with opened(mariadb_url) as store:
            order = given_order(store)
            monkeypatch.setattr(Connection, "commit", commit)
            inserted = store.write(lambda tx: tx.insert_fill(a_fill(order)))
            assert len(commits) == 2
            assert not inserted, "the second time finds what the first wrote"
            assert store.read(lambda tx: tx.fills()) == [a_fill(order)]

    def test_a_server_that_stays_away_is_given_up(
        self, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost(self: Connection) -> None:
            raise OperationalError(errno=2055)

        pauses: list[float] = []
        with opened(mariadb_url, sleep=pauses.append) as store:
            monkeypatch.setattr(Connection, "commit", lost)
            with pytest.raises(StoreUnavailable):
                store.write(lambda tx: note(tx, "a"))
            monkeypatch.undo()
            assert pauses == list(PAUSES_S)
            assert names(store) == []

    def test_what_the_unit_itself_raises_is_not_repeated(self, store: SqlStore) -> None:
        tries: list[int] = []

        def work(tx: Tx) -> None:
            tries.append(1)
            note(tx, "a")
            raise KeyError("mine")

        with pytest.raises(KeyError):
            store.write(work)
        assert (len(tries), names(store)) == (1, [])

    def test_a_statement_that_cannot_work_is_not_repeated(self, mariadb_url: str) -> None:
        pauses: list[float] = []
        with opened(mariadb_url, sleep=pauses.append) as store:
            with pytest.raises(StoreError, match="name"):
                store.write(lambda tx: note(tx, "n" * 65))
            assert (pauses, names(store)) == ([], [])


def touch(tx: Tx, asset_id: int) -> None:
    """The row is changed whatever its version: a real update would find itself stale after waiting."""
    tx._connection.run(f"UPDATE dca_assets SET version = version + 1 WHERE id = {asset_id}")


class TestDeadServer:
    def test_acknowledged_rows_survive_a_kill_and_the_store_goes_on(self) -> None:
        with databases.mariadb_server() as server:
            url = server.url("dca")
            migrate.upgrade(url)
            acknowledged: list[str] = []
            killed = threading.Event()

            def write_until_killed(store: SqlStore) -> None:
                while not killed.is_set():
                    name = f"event {len(acknowledged)}"
                    try:
                        store.write(lambda tx, name=name: note(tx, name))
                    except StoreUnavailable:
                        return
                    acknowledged.append(name)

            with opened(url) as store, ThreadPoolExecutor(1) as pool:
                writing = pool.submit(write_until_killed, store)
                while len(acknowledged) < 20 and not writing.done():
                    pass
                server.kill()
                writing.result(timeout=60)
                with pytest.raises(StoreUnavailable):
                    store.write(lambda tx: note(tx, "nobody there"))
                with pytest.raises(StoreUnavailable):
                    store.read(lambda tx: tx.assets())
                server.start()
                present = {event.name for event in store.read(lambda tx: tx.events(limit=10_000))}
                assert set(acknowledged) <= present
                assert len(present) <= len(acknowledged) + 1, "the last one's answer may have been lost"
                store.write(lambda tx: note(tx, "after"))

    def test_a_server_that_hangs_is_given_up_at_once(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        pauses: list[float] = []
        with closing(SqlStore(mariadb_url, sleep=pauses.append, network_timeout_s=1)) as store:
            given_asset(store)
            os.kill(mariadb.pid, signal.SIGSTOP)
            try:
                with pytest.raises(StoreUnavailable):
                    store.read(lambda tx: tx.assets())
            finally:
                os.kill(mariadb.pid, signal.SIGCONT)
            assert pauses == []
            assert len(store.read(lambda tx: tx.assets())) == 1


class TestSqliteLocks:
    def test_a_writer_waits_for_another_process(self, sqlite_url: str) -> None:
        with closing(sqlite3.connect(path_of(sqlite_url), isolation_level=None)) as other:
            pauses: list[float] = []

            def release(seconds: float) -> None:
                pauses.append(seconds)
                if len(pauses) == 2:
                    other.execute("ROLLBACK")

            with opened(sqlite_url, sleep=release, lock_s=0) as store:
                other.execute("BEGIN IMMEDIATE")
                assert store.read(lambda tx: tx.assets()) == [], "readers do not wait"
                assert given_asset(store)
                assert pauses == list(PAUSES_S[:2])

    def test_a_lock_that_is_never_released_is_given_up(self, sqlite_url: str) -> None:
        pauses: list[float] = []
        with (
            opened(sqlite_url, sleep=pauses.append, lock_s=0) as store,
            closing(sqlite3.connect(path_of(sqlite_url), isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                store.write(lambda tx: note(tx, "a"))
            assert pauses == list(PAUSES_S)
            other.execute("ROLLBACK")
            store.write(lambda tx: note(tx, "b"))
            assert names(store) == ["b"]

    def test_a_unit_that_reads_first_can_still_write(self, sqlite_url: str) -> None:
        """A deferred transaction could not: its snapshot is old once somebody else wrote."""
        with opened(sqlite_url) as store, opened(sqlite_url) as other:
            asset = given_asset(store)

            def work(tx: Tx) -> str:
                assert tx.assets()
                with pytest.raises(StoreUnavailable):
                    opened_elsewhere(other)
                tx.update_asset(asset)
                return "written"

            def opened_elsewhere(elsewhere: SqlStore) -> None:
                elsewhere._lock_timeout_s = 0
                elsewhere.write(lambda tx: note(tx, "b"))

            assert store.write(work) == "written"

    def test_a_full_disk_stops_writing_not_reading(self, sqlite_url: str) -> None:
        pauses: list[float] = []
        with opened(sqlite_url, sleep=pauses.append) as store:
            store.write(lambda tx: note(tx, "before"))
            pages = store.write(lambda tx: scalar(tx, "PRAGMA page_count"))
            store.write(lambda tx: scalar(tx, f"PRAGMA max_page_count = {pages + 1}"))

            def work(tx: Tx) -> None:
                note(tx, "half")
                tx.set_flag("big", "x" * 100_000, at=NOW)

            with pytest.raises(StoreUnavailable, match="full"):
                store.write(work)
            assert len(pauses) == len(PAUSES_S)
            assert names(store) == ["before"]
            store.write(lambda tx: scalar(tx, "PRAGMA max_page_count = 100000"))
            store.write(work)
            assert names(store) == ["half", "before"]


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def scalar(tx: Tx, statement: str) -> Any:
    _, rows = tx._connection.run(statement)
    return rows[0][0]


class TestViews:
    def test_a_read_sees_only_what_was_committed(self, store: SqlStore) -> None:
        def work(tx: Tx) -> None:
            note(tx, "not yet")
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(names, store).result(timeout=30) == []

        store.write(work)
        assert names(store) == ["not yet"]

    def test_a_read_has_one_view_for_all_its_statements(self, store: SqlStore) -> None:
        def work(tx: Tx) -> None:
            assert tx.events() == []
            with ThreadPoolExecutor(1) as pool:
                pool.submit(store.write, lambda tx: note(tx, "meanwhile")).result(timeout=30)
            assert tx.events() == []

        store.read(work)
        assert names(store) == ["meanwhile"], "and the next read has a new one"

    def test_a_write_sees_what_others_committed_meanwhile(self, mariadb_url: str) -> None:
        with opened(mariadb_url) as store:

            def work(tx: Tx) -> list[Event]:
                tx.events()
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(store.write, lambda tx: note(tx, "meanwhile")).result(timeout=30)
                return tx.events()

            assert [event.name for event in store.write(work)] == ["meanwhile"]


HOSTILE = {
    "time_zone": "'+05:00'",
    "sql_mode": "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'",
    "autocommit": "1",
    "character_set_server": "latin1",
    "tx_isolation": "'SERIALIZABLE'",
    "innodb_lock_wait_timeout": "50",
}


@pytest.fixture
def hostile_server(mariadb: databases.Mariadb) -> Iterator[databases.Mariadb]:
    """A server whose defaults are wrong for us in every way we know of."""
    before = {name: mariadb.run(f"SELECT @@GLOBAL.{name}")[0][0] for name in HOSTILE}
    mariadb.run(*(f"SET GLOBAL {name} = {value}" for name, value in HOSTILE.items()))
    yield mariadb
    mariadb.run(*(f"SET GLOBAL {name} = {value!r}" for name, value in before.items()))


class TestSessions:
    def test_the_session_is_ours_whatever_the_server_says(
        self, hostile_server: databases.Mariadb, mariadb_url: str
    ) -> None:
        columns = "@@time_zone, @@sql_mode, @@tx_isolation, @@autocommit, @@collation_connection"

        def session(tx: Tx) -> list[Any]:
            return list(tx._connection.run(f"SELECT {columns}, @@tx_read_only")[1][0])

        with opened(mariadb_url, lock_s=7) as store:
            zone, mode, isolation, autocommit, collation, read_only = store.write(session)
            assert (zone, isolation, autocommit, collation) == ("+00:00", "READ-COMMITTED", 0, "utf8mb4_bin")
            assert "STRICT_ALL_TABLES" in mode and "BACKSLASH" not in mode and not read_only
            *_, isolation, autocommit, _, read_only = store.read(session)
            assert (isolation, autocommit, read_only) == ("REPEATABLE-READ", 0, 1)
            assert store.write(lambda tx: scalar(tx, "SELECT @@innodb_lock_wait_timeout")) == 7

    def test_nothing_changes_on_the_way_through_it(
        self, hostile_server: databases.Mariadb, mariadb_url: str
    ) -> None:
        with opened(mariadb_url) as store:
            asset = given_asset(store)
            text = "\\' \" ` \N{SNOWMAN}\U0001f4b0 DELIMITER // it's %s ; \x00\x1a\r\n"
            changed = replace(asset, halted_reason=text, updated_at=later(0.000001))
            written = store.write(lambda tx: tx.update_asset(changed))
            assert store.read(lambda tx: tx.assets()) == [written]
        name = mariadb_url.rpartition("/")[2]
        rows = hostile_server.run("SELECT CAST(updated_at AS CHAR) FROM dca_assets", database=name)
        assert rows == [("2026-03-01 12:30:15.123457",)]

    def test_a_text_that_is_too_long_is_refused_not_cut(
        self, hostile_server: databases.Mariadb, mariadb_url: str
    ) -> None:
        with opened(mariadb_url) as store:
            with pytest.raises(StoreError):
                store.write(lambda tx: tx.insert_asset("B" * 40, RULES, is_enabled=True, at=NOW))
            assert store.read(lambda tx: tx.assets()) == []

    def test_sqlite_flushes_every_commit(self, sqlite_url: str) -> None:
        with opened(sqlite_url) as store:
            settings = ("journal_mode", "synchronous", "foreign_keys", "query_only")
            for unit, query_only in ((store.write, 0), (store.read, 1)):
                found = unit(lambda tx: [scalar(tx, f"PRAGMA {name}") for name in settings])
                assert found == ["wal", 2, 1, query_only]

    def test_an_update_counts_the_rows_it_found(self, store: SqlStore) -> None:
        statement = "UPDATE dca_install SET nonce = nonce"
        assert store.write(lambda tx: tx._connection.run(statement)[0].rowcount) == 1


class TestDurability:
    @pytest.fixture
    def flush(self, mariadb: databases.Mariadb) -> Iterator[Callable[[int], None]]:
        def set_to(value: int) -> None:
            mariadb.run(f"SET GLOBAL innodb_flush_log_at_trx_commit = {value}")

        yield set_to
        set_to(1)

    def test_a_server_that_forgets_commits_is_refused(
        self, mariadb_url: str, flush: Callable[[int], None]
    ) -> None:
        flush(0)
        with pytest.raises(ConfigError, match="innodb_flush_log_at_trx_commit"):
            SqlStore(mariadb_url)

    def test_a_server_that_forgets_them_in_a_power_cut_is_warned_of(
        self, mariadb_url: str, flush: Callable[[int], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        flush(2)
        with opened(mariadb_url) as store:
            store.write(lambda tx: note(tx, "a"))
        assert [record.message for record in caplog.records] == ["store_durability"]


class TestAdmission:
    def test_a_file_that_is_not_there_is_not_created(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="dca db upgrade"):
            SqlStore(f"sqlite:///{tmp_path}/none.sqlite3")
        assert list(tmp_path.iterdir()) == []

    def test_a_database_without_tables_is_refused(self, tmp_path: Path, mariadb: databases.Mariadb) -> None:
        (tmp_path / "empty.sqlite3").touch()
        mariadb.run("CREATE OR REPLACE DATABASE dca_empty")
        for url in (f"sqlite:///{tmp_path}/empty.sqlite3", mariadb.url("dca_empty")):
            with pytest.raises(ConfigError, match="dca db upgrade"):
                SqlStore(url)

    def test_another_revision_is_refused(self, database_url: str) -> None:
        with opened(database_url) as store:
            store.write(lambda tx: scalar_free(tx, "UPDATE dca_schema SET version_num = '9999_later'"))
        with pytest.raises(ConfigError, match=r"9999_later.*dca db upgrade"):
            SqlStore(database_url)

    def test_an_upgrade_that_did_not_finish_is_refused(self, database_url: str) -> None:
        with opened(database_url) as store:
            store.write(lambda tx: scalar_free(tx, "DELETE FROM dca_schema"))
        with pytest.raises(ConfigError, match="dca db upgrade"):
            SqlStore(database_url)

    def test_another_database_under_the_same_name_is_refused(
        self, sqlite_template: databases.SqliteTemplate, tmp_path: Path
    ) -> None:
        url, stranger = sqlite_template.database(tmp_path), sqlite_template.database(tmp_path)
        with opened(url) as store:
            store.close()
            shutil.copyfile(path_of(stranger), path_of(url))
            for side in ("-wal", "-shm"):
                Path(f"{path_of(url)}{side}").unlink(missing_ok=True)
            with pytest.raises(ConfigError, match="another database"):
                store.read(lambda tx: tx.assets())

    def test_a_file_that_vanished_is_unavailable_and_not_made_anew(self, sqlite_url: str) -> None:
        with opened(sqlite_url) as store:
            store.close()
            path_of(sqlite_url).unlink()
            with pytest.raises(StoreUnavailable):
                store.read(lambda tx: tx.assets())
            assert not path_of(sqlite_url).exists()

    def test_a_database_that_vanished_is_unavailable(
        self, mariadb: databases.Mariadb, mariadb_template: databases.MariadbTemplate
    ) -> None:
        with mariadb_template.database() as url, opened(url) as store:
            store.close()
            mariadb.run("DROP TABLE dca_schema", database=url.rpartition("/")[2])
            with pytest.raises(StoreUnavailable):
                store.read(lambda tx: tx.assets())


def scalar_free(tx: Tx, statement: str) -> None:
    tx._connection.run(statement)


SECRET = "s3cr3t-canary"


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "nonsense",
            f"postgresql://me:{SECRET}@localhost/dca",
            f"mysql+pymysql://me:{SECRET}@localhost/dca",
            f"mysql://me:{SECRET}@localhost",
            f"mysql://:{SECRET}@localhost/dca",
            f"mysql://me:{SECRET}@localhost:port/dca",
            f"mysql://me:{SECRET}@localhost/dca?autocommit=true",
            "sqlite://",
            "sqlite:///:memory:",
        ],
    )
    def test_a_wrong_url_is_a_setting_to_mend(self, url: str) -> None:
        with pytest.raises(ConfigError, match="DATABASE_URL") as failure:
            SqlStore(url)
        assert SECRET not in everything_said(failure.value)

    def test_a_wrong_password_is_a_setting_to_mend(self, mariadb: databases.Mariadb) -> None:
        for attempt in (SqlStore, migrate.upgrade, migrate.current):
            with pytest.raises(ConfigError, match="1045") as failure:
                attempt(mariadb.url("dca", password=SECRET))
            assert SECRET not in everything_said(failure.value)

    def test_an_unknown_database_is_a_setting_to_mend(self, mariadb: databases.Mariadb) -> None:
        with pytest.raises(ConfigError, match="1049"):
            SqlStore(mariadb.url("dca_no_such"))
        assert migrate.current(mariadb.url("dca_no_such")) is None

    def test_a_server_that_does_not_answer_is_unavailable(self) -> None:
        url = f"mysql://me:{SECRET}@127.0.0.1:1/dca"
        with pytest.raises(StoreUnavailable) as failure:
            SqlStore(url, sleep=lambda seconds: None)
        assert SECRET not in everything_said(failure.value)
        with pytest.raises(StoreUnavailable):
            migrate.upgrade(url)

    @pytest.mark.parametrize("scheme", ["mysql", "mysql+mysqlconnector", "mariadb"])
    def test_the_names_that_people_use_are_understood(self, mariadb_url: str, scheme: str) -> None:
        with opened(mariadb_url.replace("mysql", scheme, 1)) as store:
            assert given_asset(store)

    def test_a_value_that_fails_does_not_show_in_the_error(self, mariadb_url: str) -> None:
        with opened(mariadb_url) as store, pytest.raises(StoreError) as failure:
            store.write(lambda tx: tx.insert_asset(SECRET * 9, RULES, is_enabled=True, at=NOW))
        assert SECRET not in everything_said(failure.value)


def everything_said(error: BaseException | None) -> str:
    """The text of an error and of all that it came from."""
    said = []
    while error is not None:
        said.append(f"{error} {error!r}")
        error = error.__cause__ or error.__context__
    return "\n".join(said)


class TestThreads:
    def test_many_threads_share_a_store(self, store: SqlStore) -> None:
        cycle = given_cycle(store)

        def life(number: int) -> None:
            for step in range(10):
                store.write(lambda tx, step=step: note(tx, f"{number}.{step}"))
                store.read(lambda tx: tx.orders_of(cycle.id))

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(life, range(12)))
        assert len(set(store.read(lambda tx: [e.name for e in tx.events(limit=1000)]))) == 120

    def test_two_processes_journal_one_order(self, database_url: str) -> None:
        """Two stores stand for two processes: they share nothing but the database."""
        with opened(database_url) as one, opened(database_url) as two:
            cycle = given_cycle(one)
            barrier = threading.Barrier(2)

            def journal(store: SqlStore) -> bool:
                barrier.wait(timeout=30)
                return store.write(lambda tx: tx.insert_order(an_order(cycle.id)))

            with ThreadPoolExecutor(2) as pool:
                assert sorted(pool.map(journal, (one, two))) == [False, True]

    def test_the_slot_decides_between_orders_that_do_not_see_each_other(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        """The second insert runs while the first is written but not committed."""
        waiting = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
        with opened(mariadb_url, lock_s=9) as store, ThreadPoolExecutor(1) as pool:
            cycle = given_cycle(store)
            second: list[Future[bool]] = []

            def work(tx: Tx) -> bool:
                won = tx.insert_order(an_order(cycle.id, "k1"))
                insert = pool.submit(store.write, lambda tx: tx.insert_order(an_order(cycle.id, "k2")))
                second.append(insert)
                while not insert.done() and mariadb.run(waiting)[0][1] == "0":
                    pass
                return won

            assert store.write(work)
            assert not second[0].result(timeout=60)
            assert [order.key for order in store.read(lambda tx: tx.orders())] == ["k1"]

    def test_closing_leaves_no_connection(self, mariadb: databases.Mariadb, mariadb_url: str) -> None:
        store = SqlStore(mariadb_url)
        given_asset(store)
        numbers = {store.write(connection_id), store.read(connection_id)}
        store.close()
        waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE id IN ({}, {})"
        for _ in range(200):
            if mariadb.run(waiting.format(*numbers)) == [(0,)]:
                return
        raise AssertionError("a connection stayed open")


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = tmp_path / "deep" / "er" / "dca.sqlite3"
        migrate.upgrade(f"sqlite:///{file}")
        with opened(f"sqlite:///{file}") as store:
            given_asset(store)
            modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    "amount", ["0.000000000000000001", "999999999999999999.999999999999999999", "-1.2E-7", "1E+17"]
)
def test_amounts_are_never_rounded_on_the_way(store: SqlStore, amount: str) -> None:
    cycle = given_cycle(store)
    store.write(lambda tx: tx.update_cycle(replace(cycle, quantity=Decimal(amount))))
    found = store.read(lambda tx: tx.cycle(cycle.id))
    assert found is not None and found.quantity == Decimal(amount)


class TestGarbledAnswers:
    """What does not look like MySQL's protocol is an unknown outcome, whatever the driver calls it."""

    @pytest.mark.parametrize("error", [IndexError, AttributeError, ValueError])
    def test_the_unit_is_repeated_on_another_connection(
        self, mariadb_url: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        real = MySQLConnection._handle_ok
        answers: list[int] = []

        def garbled(self: MySQLConnection, packet: bytes) -> Any:
            answers.append(1)
            if len(answers) == 1:
                raise error("bytearray index out of range")
            return real(self, packet)

        with opened(mariadb_url) as store:
            before = store.write(connection_id)
            monkeypatch.setattr(MySQLConnection, "_handle_ok", garbled)
            store.write(lambda tx: note(tx, "a"))
            monkeypatch.undo()
            assert names(store) == ["a"]
            assert store.write(connection_id) != before
