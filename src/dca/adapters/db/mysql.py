"""Connections to MySQL and MariaDB, set up so that nothing depends on how the server is set up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mysql.connector.constants import ClientFlag
from mysql.connector.errors import Error
from sqlalchemy import URL, Engine, create_engine

from dca.adapters.db.driver import Connection

HOST = "127.0.0.1"
PORT = 3306
CONNECT_TIMEOUT_S = 5
NETWORK_TIMEOUT_S = 10
"""Above the lock timeout, or a wait for a lock would look like a dead server."""

SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
OPTIONS = frozenset({"unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_disabled", "ssl_verify_cert"})
"""What the query part of a URL may say; the rest is for us to decide."""

WRITER = "READ COMMITTED, READ WRITE"
READER = "REPEATABLE READ, READ ONLY"
"""One view for all statements of a read. Reads are short, so it cannot go stale."""

NO_DATABASE = 1049


def config(url: URL, *, database: str | None, network_timeout_s: int = NETWORK_TIMEOUT_S) -> dict[str, Any]:
    """The driver's settings for `url`. The pure Python driver, always.

    Whether its C twin can be loaded depends on which OpenSSL the process loaded first.
    """
    return {
        **{name: _flag(value) for name, value in url.query.items()},
        "host": url.host or HOST,
        "port": url.port or PORT,
        "user": url.username,
        "password": url.password,
        "database": database,
        "charset": "utf8mb4",
        "collation": "utf8mb4_bin",
        "sql_mode": SQL_MODE,
        "time_zone": "+00:00",
        "autocommit": False,
        "connection_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": network_timeout_s,
        "write_timeout": network_timeout_s,
        # An UPDATE counts the rows it found, not those it changed.
        "client_flags": [ClientFlag.FOUND_ROWS],
    }


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value)


def connect(url: URL, *, access: str, lock_timeout_s: int, network_timeout_s: int) -> Any:
    """A new connection whose session is as WRITER or READER says."""
    connection = Connection(**config(url, database=url.database, network_timeout_s=network_timeout_s))
    try:
        cursor = connection.cursor()
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {access}")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", (lock_timeout_s,))
    except BaseException:
        connection.close()
        raise
    return connection


def engine(creator: Any) -> Engine:
    """An engine on connections that `creator` makes.

    It sends no ping and no rollback of its own: a unit ends in COMMIT or ROLLBACK anyway, and one
    that meets a dead connection is done again from the top.
    """
    return create_engine(
        "mysql+mysqlconnector://",
        creator=creator,
        pool_size=5,
        max_overflow=10,
        pool_timeout=NETWORK_TIMEOUT_S,
        pool_reset_on_return=None,
        pool_use_lifo=True,
        paramstyle="format",
        hide_parameters=True,
    )


def create_database(url: URL) -> None:
    """The database of `url` exists. Raises the driver's error when the user may not create it."""
    try:
        Connection(**config(url, database=url.database)).close()
    except Error as error:
        if error.errno != NO_DATABASE:
            raise
        _create(url)


def _create(url: URL) -> None:
    with serving(url) as cursor:
        name = str(url.database).replace("`", "``")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


@contextmanager
def serving(url: URL) -> Iterator[Any]:
    """A cursor on the server of `url`, in none of its databases."""
    connection = Connection(**config(url, database=None))
    try:
        yield connection.cursor()
    finally:
        connection.close()
