"""Fixtures that every test may use: fresh databases, migrated, on both dialects."""

import os
from collections.abc import Iterator

import databases
import pytest

from dca.adapters.db.store import SqlStore
from dca.adapters.memory import MemoryStore
from dca.ports import Store


@pytest.fixture(scope="session")
def mariadb() -> Iterator[databases.Mariadb]:
    """A private server for the whole run. Tests that change it must put it back."""
    if databases.mariadbd() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(databases.INSTALL_HINT)
        pytest.skip(databases.INSTALL_HINT)
    with databases.mariadb_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_template(mariadb: databases.Mariadb) -> databases.MariadbTemplate:
    return databases.MariadbTemplate(mariadb)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> databases.SqliteTemplate:
    return databases.SqliteTemplate(tmp_path_factory.mktemp("template"))


@pytest.fixture
def sqlite_url(sqlite_template: databases.SqliteTemplate, tmp_path) -> str:
    return sqlite_template.database(tmp_path)


@pytest.fixture
def mariadb_url(mariadb_template: databases.MariadbTemplate) -> Iterator[str]:
    with mariadb_template.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database of each kind."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    """A store on a fresh database of each kind."""
    opened = SqlStore(database_url)
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "sqlite", "mariadb"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One of the stores that must behave alike, on fresh data."""
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    else:
        store = SqlStore(request.getfixturevalue(f"{request.param}_url"))
    yield store
    store.close()
