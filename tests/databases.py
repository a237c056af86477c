"""Throw-away databases: a private mariadbd that never touches a server that is already there.

    with throwaway_mariadb() as url: ...

Needs nothing but the server's core package (mariadbd and its SQL scripts).
"""

import itertools
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dca.adapters.db import migrate
from dca.adapters.db.direct import Direct
from dca.prove.mariadb import INSTALL_HINT, Mariadb, mariadb_server, mariadbd

TEMPLATE = "dca_template"

_numbers = itertools.count(1)


@contextmanager
def statements_noted(wanted: Callable[[], bool] = lambda: True) -> Iterator[list[str]]:
    """The statements that stores run meanwhile, where `wanted` says so at that moment."""
    noted: list[str] = []
    run = Direct.run

    def noting(self: Direct, sql: str, values: Any = ()) -> Any:
        if wanted():
            noted.append(sql)
        return run(self, sql, values)

    Direct.run = noting  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        Direct.run = run  # type: ignore[method-assign]


@contextmanager
def throwaway_mariadb(*, on_disk: bool = False) -> Iterator[str]:
    """The URL of a migrated database on a server of its own."""
    with mariadb_server(on_disk=on_disk) as server:
        url = server.url("dca")
        migrate.upgrade(url)
        yield url


class MariadbTemplate:
    """Makes fresh migrated databases: migrated once, then copied table by table."""

    def __init__(self, server: Mariadb) -> None:
        self._server = server
        migrate.upgrade(server.url(TEMPLATE))
        tables = [row[0] for row in server.run("SHOW TABLES", database=TEMPLATE)]
        self._statements = [
            "SET foreign_key_checks = 0",
            *(server.run(f"SHOW CREATE TABLE `{table}`", database=TEMPLATE)[0][1] for table in tables),
            f"INSERT INTO dca_schema SELECT * FROM {TEMPLATE}.dca_schema",
        ]

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database that nobody else has."""
        name = f"dca_test_{next(_numbers)}"
        self._server.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        born = f"INSERT INTO dca_install VALUES (1, '{secrets.token_hex(4)}', '2026-01-01 00:00:00')"
        self._server.run(*self._statements, born, database=name)
        try:
            yield self._server.url(name)
        finally:
            self._server.run(f"DROP DATABASE {name}")


class SqliteTemplate:
    """Makes fresh migrated files: migrated once, then copied."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "template.sqlite3"
        migrate.upgrade(f"sqlite:///{self._file}")

    def database(self, directory: Path) -> str:
        """The URL of a file in `directory`."""
        file = directory / f"dca{next(_numbers)}.sqlite3"
        shutil.copyfile(self._file, file)
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE dca_install SET nonce = ?", (secrets.token_hex(4),))
        return f"sqlite:///{file}"


__all__ = [
    "INSTALL_HINT",
    "Mariadb",
    "MariadbTemplate",
    "SqliteTemplate",
    "mariadb_server",
    "mariadbd",
    "throwaway_mariadb",
]
