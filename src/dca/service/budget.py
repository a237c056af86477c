"""The rate budget as one process spends it: a few requests in hand, the rest in a row that all share."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from dca.domain.account import Budget
from dca.domain.errors import RateLimited, TooMany
from dca.ports import Clock, Tx
from dca.risk.budget import Priority, Rate, banned, banned_until, drawn, free_at, full
from dca.service.shared import Shared

log = logging.getLogger(__name__)

NAME = "venue"
KEEP_S = 30.0
"""A request that was taken and not sent within so many seconds counts as sent."""
UNTOLD_S = 10.0
"""How long a venue is left alone that says "too many" and not until when."""
ALONE = 3
"""Without the database each process has this part of the rate for itself."""
SHORTEST_S = 0.05
LOOK_AGAIN_S = 1.0
LOW, SOON_S = 2, 5.0
"""So few in hand, or so few seconds before they are forgotten, are too few to begin with an order."""


class RateBudget:
    """Requests are taken before they are sent. Threads may share it; no lock is held while it waits.

    In hand are only requests that anybody may use. What the venue says about "too many" the other
    processes learn with the next request they take, or when they look at the row (`seen`).
    """

    def __init__(
        self, shared: Shared, clock: Clock, per_minute: int, rest: Callable[[float], object]
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._rate = Rate(per_minute, clock.span(1))
        self._alone = replace(self._rate, per_minute=per_minute // ALONE)
        self._rest = rest
        self._own = full(NAME, self._alone, clock.now())
        self._in_hand = 0
        self._keep_until = 0.0
        self._banned_until: datetime | None = None
        self._lacks: dict[Priority, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def take(self, priority: Priority, *, patience_s: float = 0.0) -> None:
        """One request may be sent now. Raises RateLimited when none is free within `patience_s`."""
        ends = self._clock.monotonic() + patience_s
        while not self._spent():
            budget, taken, rate = self._draw(priority)
            if taken:
                self._keep(taken - 1)
                return
            wait_s = max(self._wait_s(budget, priority, rate), SHORTEST_S)
            if self._clock.monotonic() + wait_s > ends:
                raise RateLimited(self._why(budget, priority, rate), retry_after_s=wait_s)
            self._rest(wait_s)

    def lacking(self, priority: Priority) -> str | None:
        """Why no request of that priority can be sent now; None when one can.

        It may be asked with every quote: a shared bucket that was found empty is left alone for a while.
        """
        if self._has_some():
            return None
        known = self._lacks.get(priority)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        budget, taken, rate = self._draw(Priority.READ)
        if taken:
            self._keep(taken)
            return None
        wait_s = self._wait_s(budget, priority, rate)
        if wait_s <= 0:
            return None
        reason = self._why(budget, priority, rate)
        self._lacks[priority] = self._clock.monotonic() + min(wait_s, LOOK_AGAIN_S), reason
        return reason

    def stock(self) -> None:
        """There is something in hand for the next seconds, so that no order has to wait for the row."""
        now_s = self._clock.monotonic()
        if self._in_hand < LOW or now_s > self._keep_until - SOON_S:
            _, taken, _ = self._draw(Priority.READ)
            self._keep(taken)

    def ban(self, too_many: TooMany) -> None:
        """No process sends anything before the instant that the venue named."""
        now = self._clock.now()
        until = too_many.reset_at or now + self._clock.span(too_many.retry_after_s or UNTOLD_S)
        # The header has whole seconds, so it may be over while the venue still counts.
        until = max(until, now + self._clock.span(1))

        def write(tx: Tx) -> Budget:
            before = tx.budget(NAME) or full(NAME, self._rate, now)
            after = banned(before, until, now, self._rate)
            return before if after is before else tx.put_budget(after)

        self._own = banned(self._own, until, now, self._alone)
        self.seen(self._own)
        self._shared.write(write)
        log.warning("too_many_requests", extra={"until": until.isoformat()})

    def seen(self, budget: Budget | None) -> None:
        """The row as it stands: what it forbids counts from now on."""
        until = None if budget is None else banned_until(budget, self._clock.now(), self._rate)
        if until is not None:
            with self._lock:
                self._in_hand = 0
                self._banned_until = until
                self._lacks.clear()

    def _spent(self) -> bool:
        with self._lock:
            if not self._usable():
                return False
            self._in_hand -= 1
            return True

    def _has_some(self) -> bool:
        with self._lock:
            return self._usable()

    def _usable(self) -> bool:
        return self._in_hand > 0 and self._clock.monotonic() < self._keep_until

    def _keep(self, requests: int) -> None:
        with self._lock:
            fresh = self._in_hand if self._usable() else 0
            self._in_hand = fresh + requests
            self._keep_until = self._clock.monotonic() + KEEP_S

    def _draw(self, priority: Priority) -> tuple[Budget, int, Rate]:
        """What is left, how many were taken, and the rate that counts: everybody's, or our part of it."""
        now = self._clock.now()
        if self._banned_until is not None and now < self._banned_until:
            return replace(self._own, at=self._banned_until), 0, self._alone

        def write(tx: Tx) -> tuple[Budget, int]:
            left, taken = drawn(tx.budget(NAME) or full(NAME, self._rate, now), priority, now, self._rate)
            if taken:
                tx.put_budget(left)
            return left, taken

        found = self._shared.write(write)
        if found is not None:
            return (*found, self._rate)
        with self._lock:
            self._own, taken = drawn(self._own, priority, now, self._alone)
        return self._own, taken, self._alone

    def _wait_s(self, budget: Budget, priority: Priority, rate: Rate) -> float:
        now = self._clock.now()
        return (free_at(budget, priority, now, rate) - now) / rate.second

    def _why(self, budget: Budget, priority: Priority, rate: Rate) -> str:
        now = self._clock.now()
        until = banned_until(budget, now, rate)
        if until is not None:
            return f"the venue wants no request before {until:%H:%M:%S}: it got too many"
        wait_s = self._wait_s(budget, priority, rate)
        return (
            f"the request budget is used up: {self._rate.per_minute} a minute for the whole account, "
            f"the next one in {wait_s:.1f} s (see REQUESTS_PER_MINUTE)"
        )
