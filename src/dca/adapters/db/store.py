"""The database as a store: whole units of work, done again where the database lost one."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dca import boundaries
from dca.adapters.db.admission import Admission
from dca.adapters.db.direct import Direct
from dca.adapters.db.faults import Fault, fault_of, said
from dca.adapters.db.mysql import NETWORK_TIMEOUT_S
from dca.adapters.db.target import parse
from dca.adapters.db.tx import SqlTx
from dca.domain.errors import ConfigError, StoreError, StoreUnavailable
from dca.ports import Tx

T = TypeVar("T")
Work = Callable[[Tx], T]

PAUSES_S = (0.05, 0.1, 0.3, 0.6)
"""Between the tries of a unit: one more try than pauses."""

LOCK_TIMEOUT_S = 3
_CONNECTION_IS_FINE = frozenset({Fault.AGAIN, Fault.BROKEN})

_log = logging.getLogger(__name__)


class SqlStore:
    """dca.ports.Store on SQLite, MySQL or MariaDB. Threads may share it.

    `lock_timeout_s` is how long one try waits for another writer, `network_timeout_s` how long for
    any answer of a server; keep it the longer one. Raises ConfigError when the URL,
    the user, the schema or the server's durability is wrong, StoreUnavailable when nobody answers.
    """

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        lock_timeout_s: int = LOCK_TIMEOUT_S,
        network_timeout_s: int = NETWORK_TIMEOUT_S,
    ) -> None:
        self._target = parse(url)
        self._sleep = sleep
        self._lock_timeout_s = lock_timeout_s
        self._network_timeout_s = network_timeout_s
        self._admission = Admission(self._target)
        self._writers = self._target.engine(self._creator(writing=True), writing=True)
        self._readers = self._target.engine(self._creator(writing=False), writing=False)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _creator(self, *, writing: bool) -> Callable[[], Any]:
        def connect() -> Any:
            connection = self._target.connect(
                writing=writing,
                lock_timeout_s=self._lock_timeout_s,
                network_timeout_s=self._network_timeout_s,
            )
            try:
                self._admission.check(connection)
            except BaseException:
                connection.close()
                raise
            return connection

        return connect

    def _start(self) -> None:
        self._admission.find()
        self.read(lambda tx: None)

    @property
    def install(self) -> str:
        return self._admission.nonce

    def read(self, work: Work[T]) -> T:
        return self._repeated(work, writing=False)

    def write(self, work: Work[T]) -> T:
        return self._repeated(work, writing=True)

    def close(self) -> None:
        """Every connection is closed."""
        self._writers.dispose()
        self._readers.dispose()

    def _repeated(self, work: Work[T], *, writing: bool) -> T:
        for pause in (*PAUSES_S, None):
            try:
                return self._unit(work, writing=writing)
            except DBAPIError as error:
                fault = fault_of(error)
                if fault is Fault.BROKEN or (fault is Fault.READ_ONLY and not writing):
                    raise StoreError(f"{self._target}: {said(error)}") from error
                if fault is Fault.REFUSED and not self._admission.nonce:
                    raise ConfigError(f"DATABASE_URL: {said(error)}") from error
                if pause is None or fault is Fault.SILENT:
                    raise StoreUnavailable(f"{self._target}: {said(error)}") from error
                _log.info("store_retried", extra={"error": said(error), "fault": fault.name})
            self._sleep(pause)
        raise AssertionError("unreachable")

    def _unit(self, work: Work[T], *, writing: bool) -> T:
        engine = self._writers if writing else self._readers
        try:
            with engine.connect() as connection:
                return self._done(connection, work, writing=writing)
        except DBAPIError:
            raise
        except PoolTimeout as error:
            raise StoreUnavailable(f"{self._target}: every connection is busy") from error
        except StatementError as error:
            # A value that its column refuses: what the type said is what the caller must hear.
            if isinstance(error.orig, ValueError):
                raise error.orig from None
            raise StoreError(str(error)) from error
        except SQLAlchemyError as error:
            raise StoreError(str(error)) from error

    def _done(self, connection: Connection, work: Work[T], *, writing: bool) -> T:
        try:
            connection.begin()
            direct = Direct(connection.connection.driver_connection, connection.dialect)
            if self._target.sqlite:
                direct.run("BEGIN IMMEDIATE" if writing else "BEGIN")
            result = work(SqlTx(direct))
            if writing:
                boundaries.before(work)
                connection.commit()
                boundaries.after(work)
        except DBAPIError as error:
            if fault_of(error) not in _CONNECTION_IS_FINE:
                connection.invalidate()
            raise
        except (KeyboardInterrupt, SystemExit):
            # Perhaps in the middle of an answer.
            connection.invalidate()
            raise
        # Leaving the connection rolls back: that ends a read, and everything that failed.
        return result
