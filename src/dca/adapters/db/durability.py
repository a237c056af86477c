"""Whether what was committed survives a power cut."""

from typing import Any

from mysql.connector.errors import Error

from dca.adapters.db.target import parse
from dca.domain.errors import StoreUnavailable

LOCK_TIMEOUT_S = 3
_SETTINGS = "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog"


def complaint(url: str) -> str | None:
    """What the server may forget; None when every commit is on the disk. SQLite is told so by us.

    Raises StoreUnavailable."""
    target = parse(url)
    if target.sqlite:
        return None
    try:
        connection = target.connect(writing=False, lock_timeout_s=LOCK_TIMEOUT_S)
        try:
            return _said(connection)
        finally:
            connection.close()
    except Error as error:
        raise StoreUnavailable(f"{target}: {error.msg}") from error


def _said(connection: Any) -> str | None:
    cursor = connection.cursor()
    cursor.execute(_SETTINGS)
    flush, binlog, sync = (int(value) for value in cursor.fetchone())
    cursor.close()
    if flush != 1:
        return f"innodb_flush_log_at_trx_commit is {flush}: set it to 1"
    if binlog and sync != 1:
        return f"sync_binlog is {sync}: a replica or a restore from the binary log may miss the last commits"
    return None
