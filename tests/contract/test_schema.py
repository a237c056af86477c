"""The schema: made by the migrations, described by the tables, the same on both dialects."""

import gc
import importlib.util
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import databases
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from contract.rows import NOW, given_asset

from dca.adapters.db import migrate, tables
from dca.adapters.db.mysql import NETWORK_TIMEOUT_S
from dca.adapters.db.store import SqlStore
from dca.adapters.db.target import parse
from dca.domain.errors import ConfigError

VERSIONS = Path(tables.__file__).parent / "migrations" / "versions"
EVERY_TABLE = sorted([*tables.metadata.tables, tables.VERSION_TABLE])
EVERY_REVISION = sorted(path.stem for path in VERSIONS.glob("0*.py"))


@pytest.fixture(params=["sqlite", "mariadb"])
def empty_urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Two databases of a kind that do not exist yet."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{name}.sqlite3" for name in ("one", "two")]
    mariadb: databases.Mariadb = request.getfixturevalue("mariadb")
    names = [f"dca_schema_{number}" for number in (1, 2)]
    mariadb.run(*(f"DROP DATABASE IF EXISTS {name}" for name in names))
    return [mariadb.url(name) for name in names]


def engine_on(url: str) -> sa.Engine:
    target = parse(url)
    target.create()
    return target.engine(lambda: target.connect(writing=True, lock_timeout_s=5), writing=True)


def created(url: str) -> sa.Engine:
    """An engine on a database made from the tables, without migrations."""
    engine = engine_on(url)
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
    return engine


def shape(engine: sa.Engine) -> dict[str, Any]:
    """All that can be seen of a schema."""
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        return {name: shape_of(inspector, name) for name in sorted(tables.metadata.tables)}


def shape_of(inspector: sa.Inspector, table: str) -> dict[str, Any]:
    return {
        "columns": [{**column, "type": repr(column["type"])} for column in inspector.get_columns(table)],
        "primary": inspector.get_pk_constraint(table),
        "unique": sorted(inspector.get_unique_constraints(table), key=repr),
        "indexes": sorted(inspector.get_indexes(table), key=repr),
        "foreign": sorted(inspector.get_foreign_keys(table), key=repr),
        "options": inspector.get_table_options(table),
        "sql": definition(inspector, table),
    }


def definition(inspector: sa.Inspector, table: str) -> list[str]:
    """What the database itself says it has, line by line: constraints may come in any order."""
    connection: Any = inspector.bind
    if connection.dialect.name == "sqlite":
        query = sa.text("SELECT sql FROM sqlite_master WHERE tbl_name = :name AND sql IS NOT NULL")
        found = connection.execute(query, {"name": table}).scalars()
        # A column that was added later stands behind the constraints, and on their last line.
        text = "\n".join(re.sub(r"\)\s*\Z", "\n)", statement) for statement in found)
        parts = re.split(r"\n|,(?![^(]*\))", text)
    else:
        parts = connection.exec_driver_sql(f"SHOW CREATE TABLE `{table}`").one()[1].splitlines()
    lines = (re.sub(r"\s+", " ", part).strip(" ,") for part in parts)
    return sorted(re.sub(r" AUTO_INCREMENT=\d+", "", line) for line in lines if line)


class TestBothWays:
    def test_migrations_and_tables_make_the_same_schema(self, empty_urls: list[str]) -> None:
        migrated_url, created_url = empty_urls
        migrate.upgrade(migrated_url)
        with (
            closing_engine(engine_on(migrated_url)) as migrated,
            closing_engine(created(created_url)) as made,
        ):
            assert shape(migrated) == shape(made)

    def test_alembic_finds_nothing_to_change(self, empty_urls: list[str]) -> None:
        migrate.upgrade(empty_urls[0])
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "version_table": tables.VERSION_TABLE,
        }
        with closing_engine(engine_on(empty_urls[0])) as engine, engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, tables.metadata) == []

    def test_every_constraint_has_the_name_of_the_convention(self, empty_urls: list[str]) -> None:
        migrate.upgrade(empty_urls[0])
        with closing_engine(engine_on(empty_urls[0])) as engine:
            for table, seen in shape(engine).items():
                constraints = [*seen["unique"], *seen["indexes"], *seen["foreign"]]
                for name in (constraint["name"] for constraint in constraints):
                    assert re.match(rf"(uq|ix|fk)_{table}_", name)


class closing_engine(closing):  # noqa: N801
    """Like `contextlib.closing`, for what is disposed of."""

    def __init__(self, engine: sa.Engine) -> None:
        engine.close = engine.dispose  # type: ignore[attr-defined]
        super().__init__(engine)


class TestMariadb:
    def test_text_compares_byte_by_byte_and_rows_are_transactional(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        name = mariadb_url.rpartition("/")[2]
        found = mariadb.run(
            "SELECT table_name, engine, table_collation FROM information_schema.tables "
            f"WHERE table_schema = '{name}' AND table_name <> '{tables.VERSION_TABLE}'"
        )
        assert {row[0] for row in found} == set(tables.metadata.tables)
        assert {row[1:] for row in found} == {("InnoDB", "utf8mb4_bin")}

    def test_a_default_of_another_charset_does_not_matter(self, mariadb: databases.Mariadb) -> None:
        mariadb.run("CREATE OR REPLACE DATABASE dca_latin CHARACTER SET latin1")
        migrate.upgrade(mariadb.url("dca_latin"))
        with closing(SqlStore(mariadb.url("dca_latin"))) as store:
            assert given_asset(store, "\N{SNOWMAN}/USD")

    def test_a_template_copy_is_what_the_migrations_make(
        self, mariadb: databases.Mariadb, mariadb_url: str
    ) -> None:
        mariadb.run("DROP DATABASE IF EXISTS dca_fresh")
        migrate.upgrade(mariadb.url("dca_fresh"))
        with (
            closing_engine(engine_on(mariadb_url)) as copy,
            closing_engine(engine_on(mariadb.url("dca_fresh"))) as fresh,
        ):
            assert [value["sql"] for value in shape(copy).values()] == [
                value["sql"] for value in shape(fresh).values()
            ]


class TestUpgrade:
    def test_it_says_what_it_applied_and_is_idle_the_second_time(self, empty_urls: list[str]) -> None:
        url = empty_urls[0]
        assert migrate.current(url) is None
        assert migrate.upgrade(url, at=NOW) == EVERY_REVISION
        assert migrate.current(url) == tables.REVISION
        with closing(SqlStore(url)) as store:
            install = store.install
            given_asset(store)
        assert migrate.upgrade(url) == []
        with closing(SqlStore(url)) as store:
            assert store.install == install
            assert len(store.read(lambda tx: tx.assets())) == 1
        assert born(url) == NOW

    def test_two_databases_have_different_numbers(self, empty_urls: list[str]) -> None:
        numbers = []
        for url in empty_urls:
            migrate.upgrade(url)
            with closing(SqlStore(url)) as store:
                numbers.append(store.install)
        assert numbers[0] != numbers[1]

    def test_two_upgrades_at_once_do_it_once(self, empty_urls: list[str]) -> None:
        with ThreadPoolExecutor(2) as pool:
            applied = list(pool.map(migrate.upgrade, [empty_urls[0]] * 2))
        assert sorted(applied) == [[], EVERY_REVISION]

    def test_a_directory_with_odd_characters_is_fine(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/50%/a b/?x=1#y.sqlite3"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            assert migrate.upgrade(f"sqlite:///{tmp_path}/50%25 ä b/dca.sqlite3") == EVERY_REVISION
        assert migrate.current(url) is None

    def test_a_user_who_may_not_create_databases_uses_one_that_is_there(
        self, mariadb: databases.Mariadb
    ) -> None:
        mariadb.run(
            "CREATE OR REPLACE DATABASE dca_given",
            "CREATE OR REPLACE USER 'poor'@'127.0.0.1' IDENTIFIED BY 'pw'",
            "GRANT ALL ON dca_given.* TO 'poor'@'127.0.0.1'",
        )
        url = f"mysql://poor:pw@127.0.0.1:{mariadb.port}/dca_given"
        assert migrate.upgrade(url) == EVERY_REVISION

    def test_a_database_of_a_newer_program_is_left_alone(self, empty_urls: list[str]) -> None:
        migrate.upgrade(empty_urls[0])
        with closing_engine(engine_on(empty_urls[0])) as engine, engine.begin() as connection:
            connection.exec_driver_sql("UPDATE dca_schema SET version_num = '9999_later'")
        with pytest.raises(ConfigError, match=r"9999_later.*newer version"):
            migrate.upgrade(empty_urls[0])
        assert migrate.current(empty_urls[0]) == "9999_later"

    def test_a_place_that_cannot_be_written_is_a_setting_to_mend(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be created"):
            migrate.upgrade(f"sqlite:///{tmp_path}/file/dca.sqlite3")

    def test_the_newest_revision_is_the_one_the_program_asks_for(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(VERSIONS.parent))
        config.set_main_option("path_separator", "os")
        assert ScriptDirectory.from_config(config).get_heads() == [tables.REVISION]

    def test_migrations_go_forward_only(self) -> None:
        for file in VERSIONS.glob("*.py"):
            spec = importlib.util.spec_from_file_location(file.stem, file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            with pytest.raises(NotImplementedError):
                module.downgrade()

    def test_a_migration_does_not_read_the_tables_of_today(self) -> None:
        for file in VERSIONS.glob("*.py"):
            assert "db.tables" not in file.read_text(), "it must make the same schema for ever"


def born(url: str) -> datetime:
    with closing_engine(engine_on(url)) as engine, engine.connect() as connection:
        return connection.execute(sa.select(tables.install.c.created_at)).scalar_one().astimezone(UTC)


class Killed(BaseException):
    """The process ends here."""


def statements_of(upgrade: Any, *, stop_after: int | None = None) -> Iterator[str]:
    """The statements that `upgrade` sends; it is killed after so many."""
    seen: list[str] = []

    def sent(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not re.match(r"\s*(CREATE|INSERT|ALTER)", statement):
            return
        seen.append(statement)
        if len(seen) == stop_after:
            raise Killed

    sa.event.listen(sa.Engine, "after_cursor_execute", sent)
    try:
        upgrade()
    except Killed:
        pass
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", sent)
    # A dead process holds no locks, so what its frames held must go.
    gc.collect()
    return iter(seen)


class TestHalfway:
    """MariaDB commits each DDL statement at once: a killed upgrade leaves what it had done."""

    def test_an_upgrade_that_was_killed_anywhere_is_finished_by_the_next(self, empty_urls: list[str]) -> None:
        url, whole_url = empty_urls
        total = len(list(statements_of(lambda: migrate.upgrade(whole_url))))
        assert total >= 20
        with closing_engine(engine_on(whole_url)) as engine:
            whole = shape(engine)
        # SQLite undoes what a killed upgrade did, wherever that was: a sample of it is enough.
        for last in range(1, total + 1, 6 if url.startswith("sqlite") else 1):
            assert len(list(statements_of(lambda: migrate.upgrade(url), stop_after=last))) == last
            migrate.upgrade(url)
            with closing_engine(engine_on(url)) as engine:
                assert shape(engine) == whole, f"killed after statement {last}"
                drop_everything(engine)

    def test_the_version_is_written_last(self, mariadb: databases.Mariadb) -> None:
        url = mariadb.url("dca_half")
        mariadb.run("DROP DATABASE IF EXISTS dca_half")
        sent = list(statements_of(lambda: migrate.upgrade(url)))
        tables_done = len([statement for statement in sent if "CREATE" in statement])
        for last in (2, tables_done // 2, tables_done):
            mariadb.run("DROP DATABASE dca_half")
            list(statements_of(lambda last=last: migrate.upgrade(url), stop_after=last))
            assert migrate.current(url) != tables.REVISION


def drop_everything(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        tables.metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {tables.VERSION_TABLE}")


def test_a_network_timeout_is_longer_than_the_wait_for_a_lock() -> None:
    from dca.adapters.db.store import LOCK_TIMEOUT_S

    assert LOCK_TIMEOUT_S < NETWORK_TIMEOUT_S


def test_threads_that_upgrade_databases_of_their_own_do_not_meet(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.sqlite3" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(migrate.upgrade, urls)) == [EVERY_REVISION] * 8
