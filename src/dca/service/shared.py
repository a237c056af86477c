"""Rows that every process shares and none may depend on: where the database is away, each goes on alone."""

import logging
from collections.abc import Callable

from dca.domain.errors import StaleWrite, StoreError
from dca.ports import Clock, Store, T, Tx

log = logging.getLogger(__name__)

RACES = 20
BLIND_S = 10.0


class Shared:
    """The database, as far as it answers. `store` None: there is none.

    After a failure it is left alone for BLIND_S seconds, because finding out takes seconds itself.
    """

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._blind_until = 0.0

    def read(self, work: Callable[[Tx], T]) -> T | None:
        """What `work` returns; None when the database does not answer."""
        store = self._store
        return None if store is None else self._tried(lambda: store.read(work))

    def write(self, work: Callable[[Tx], T]) -> T | None:
        """What `work` returns, committed; None when that could not be done."""
        store = self._store
        if store is None:
            return None
        for _ in range(RACES):
            try:
                return self._tried(lambda: store.write(work))
            except StaleWrite:
                # Another process was first: read again, decide again.
                continue
        log.warning("shared_rows_contested")
        return None

    def _tried(self, ask: Callable[[], T]) -> T | None:
        if self._clock.monotonic() < self._blind_until:
            return None
        try:
            return ask()
        except StaleWrite:
            raise
        except StoreError as error:
            self._blind_until = self._clock.monotonic() + BLIND_S
            log.warning("shared_rows_not_reached", extra={"error": str(error)})
            return None
