"""The database of a life: a SQLite file and the program's own statements, without what threads need."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from dca import boundaries
from dca.adapters.db import sqlite
from dca.adapters.db.direct import Direct
from dca.adapters.db.tx import SqlTx
from dca.ports import Tx

T = TypeVar("T")
DIALECT = SQLiteDialect_pysqlite(paramstyle="qmark", dbapi=SQLiteDialect_pysqlite.import_dbapi())


class LifeStore:
    """dca.ports.Store on a SQLite file that nobody else has open.

    Units of work, boundaries and statements are those of SqlStore. Nothing else is: no pool, no
    thread, no second try, because a life has one thread and no other process can be in the way.
    """

    def __init__(self, path: Path) -> None:
        self._raw = sqlite.connect(path, writing=True, lock_timeout_s=1)
        # Deaths are simulated ones: the machine keeps its power, and nobody else looks into the file.
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = MEMORY", "synchronous = OFF"):
            self._raw.execute(f"PRAGMA {pragma}").fetchall()
        self._tx: Tx = SqlTx(Direct(self._raw, DIALECT))
        (self.install,) = self._raw.execute("SELECT nonce FROM dca_install").fetchone()

    def read(self, work: Callable[[Tx], T]) -> T:
        # Nothing is committed meanwhile, so its statements see one state without a transaction.
        return work(self._tx)

    def write(self, work: Callable[[Tx], T]) -> T:
        raw = self._raw
        raw.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._tx)
            boundaries.before(work)
            raw.execute("COMMIT")
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
        boundaries.after(work)
        return result

    def close(self) -> None:
        self._raw.close()
