"""Connections to a SQLite file, safe for several processes and for a power cut."""

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, QueuePool, create_engine

POOL_TIMEOUT_S = 15


def connect(path: Path, *, writing: bool, lock_timeout_s: int) -> sqlite3.Connection:
    """A new connection to the file, which must be there: a lost file is not an empty database.

    The driver leaves transactions alone; whoever uses the connection says BEGIN.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=lock_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not writing:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Readers do not wait for the writer, nor it for them.

    The file remembers it. While two processes open a new file at once the switch is refused without
    waiting; whoever comes next makes it.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise


def engine(creator: Any, *, writing: bool) -> Engine:
    """An engine on connections that `creator` makes.

    Writers of one process share one connection: they then wait for each other in line, while
    SQLite would let each look again now and then.
    """
    return create_engine(
        "sqlite://",
        creator=creator,
        poolclass=QueuePool,
        pool_size=1 if writing else 5,
        max_overflow=0 if writing else 10,
        pool_timeout=POOL_TIMEOUT_S,
        pool_reset_on_return=None,
        hide_parameters=True,
    )


def create_file(path: Path) -> None:
    """The file exists, and only its owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
