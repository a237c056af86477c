"""What a connection must show before anything is read or written through it."""

import logging
import sqlite3
from typing import Any

from mysql.connector.errors import ProgrammingError

from dca.adapters.db.tables import REVISION, VERSION_TABLE
from dca.adapters.db.target import Target
from dca.domain.errors import ConfigError, StoreUnavailable

_UPGRADE = "run `dca db upgrade`"
_MYSQL_NO_TABLE = 1146
_log = logging.getLogger(__name__)


class Admission:
    """Lets only connections to the one database in, at the one schema this program knows.

    Every new connection is looked at, because the server behind an address, or the file behind a
    path, may be exchanged while the program runs.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.nonce = ""
        self._warned = False

    def find(self) -> None:
        """The SQLite file is there. Raises ConfigError."""
        if self._target.sqlite and not self._target.path.exists():
            raise ConfigError(f"there is no database {self._target.path}: {_UPGRADE}")

    def check(self, connection: Any) -> None:
        """The connection may be used. Raises ConfigError, StoreUnavailable."""
        cursor = connection.cursor()
        self._check_schema(_value(cursor, f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
        self._check_install(_value(cursor, "SELECT nonce FROM dca_install WHERE id = 1"))
        if not self._target.sqlite:
            self._check_durability(_value(cursor, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit"))
        cursor.close()
        connection.rollback()

    def _check_schema(self, revision: Any) -> None:
        if revision == REVISION:
            return
        if revision is not None:
            raise ConfigError(
                f"{self._target} is at schema {revision}, this program needs {REVISION}: "
                f"{_UPGRADE}, or install the version of the program that belongs to it"
            )
        if self.nonce:
            raise StoreUnavailable(f"{self._target}: the tables are gone")
        raise ConfigError(f"{self._target} has no tables, or half of them: {_UPGRADE}")

    def _check_install(self, nonce: Any) -> None:
        if nonce is None:
            raise ConfigError(f"{self._target} has no installation number: {_UPGRADE}")
        if self.nonce and nonce != self.nonce:
            raise ConfigError(f"{self._target} is another database than at start ({nonce}, not {self.nonce})")
        self.nonce = nonce

    def _check_durability(self, flush: Any) -> None:
        if int(flush) == 0:
            raise ConfigError(
                f"{self._target}: innodb_flush_log_at_trx_commit is 0, so the server forgets committed "
                "orders when it dies: set it to 1"
            )
        if int(flush) != 1 and not self._warned:
            self._warned = True
            _log.warning(
                "store_durability", extra={"innodb_flush_log_at_trx_commit": int(flush), "wanted": 1}
            )


def _value(cursor: Any, statement: str) -> Any:
    """The first value of the first row; None when there is no row or no such table."""
    try:
        cursor.execute(statement)
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    except ProgrammingError as error:
        if error.errno != _MYSQL_NO_TABLE:
            raise
        return None
    row = cursor.fetchone()
    return row[0] if row else None
