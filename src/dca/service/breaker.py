"""The circuit breakers of the venue's endpoint groups: counted by each process, opened and closed for all."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from functools import partial

from dca.domain.account import Breaker, BreakerState
from dca.domain.errors import Unavailable
from dca.domain.mode import Mode, Restriction
from dca.domain.record import Event, Message
from dca.ports import Clock, Tx
from dca.risk.breaker import (
    GOOD,
    CallMade,
    Passage,
    opened,
    passage,
    probing,
    reconciled,
    tripped,
    well,
)
from dca.service.shared import Shared

log = logging.getLogger(__name__)

REMEMBERED = 400
TELL_S = 300.0


class Group(StrEnum):
    """Endpoints that fail together."""

    TRADING = "trading"
    ORDERS = "orders"
    MARKET = "market_data"


SHOWN = {
    Group.TRADING: "reading orders and positions",
    Group.ORDERS: "sending and canceling orders",
    Group.MARKET: "reading prices",
}
SHOWS = {
    Group.TRADING: (Group.TRADING, Group.ORDERS),
    Group.ORDERS: (),
    Group.MARKET: (Group.MARKET,),
}
"""Whose return a good answer of the group shows: no order is sent to find out whether orders can be."""


class Circuits:
    """Threads may share them; no lock is held while the database is asked.

    What was decided is a row, an event and a restriction of the mode, written together. Without the
    database each process has its own.
    """

    def __init__(self, shared: Shared, clock: Clock, first_pause_s: int) -> None:
        self._shared = shared
        self._clock = clock
        self._first_s = first_pause_s
        now = clock.now()
        self._known = {group: _closed(group, now) for group in Group}
        self._calls = {group: deque[CallMade](maxlen=REMEMBERED) for group in Group}
        self._knocked: set[Group] = set()
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def admit(self, group: Group) -> None:
        """A read of the group may go; perhaps as the one that finds out for all. Raises Unavailable."""
        mine = [other for other in SHOWS[group] if self.is_due(other) and self._claimed(other)]
        if group not in mine and self._passage(self._known[group]) is not Passage.FREE:
            raise Unavailable(self._shown(self._known[group]))

    def answered(self, group: Group) -> None:
        """A request of the group was answered, if only by a refusal."""
        self._calls[group].append((self._clock.monotonic(), True))
        for other in SHOWS[group]:
            known = self._known[other]
            if known.state is BreakerState.HALF_OPEN and known.good < GOOD:
                self._change(other, well)

    def failed(self, group: Group, error: Exception) -> None:
        """A request of the group got no answer that says anything."""
        now_s = self._clock.monotonic()
        with self._lock:
            calls = self._calls[group]
            calls.append((now_s, False))
            reason = tripped(tuple(calls), now_s)
            failures = sum(not good for _, good in calls)
        if reason is not None and self._known[group].state is BreakerState.CLOSED:
            self._open(group, BreakerState.CLOSED, f"{reason}, the last: {error}", failures)
        for other in {group, *SHOWS[group]}:
            if self._known[other].state is BreakerState.HALF_OPEN:
                self._open(other, BreakerState.HALF_OPEN, f"it still fails: {error}", failures)

    def reconciled(self) -> None:
        """The books were compared with the venue, whole: what was found well again is closed."""
        now = self._clock.now()
        for group, known in list(self._known.items()):
            if known.state is BreakerState.HALF_OPEN:
                self._change(group, lambda row: reconciled(row, now))

    def knock(self) -> None:
        """Something shows that the venue is back: the next read may find out, whatever the pause."""
        self._knocked = {group for group, known in self._known.items() if known.state is BreakerState.OPEN}

    def is_due(self, group: Group) -> bool:
        """Whether the next read of the group finds out for all."""
        return self._passage(self._known[group]) is Passage.PROBE

    def is_unproven(self, group: Group) -> bool:
        """Whether only more good reads of the group can close its circuit."""
        known = self._known[group]
        return self.is_due(group) or (known.state is BreakerState.HALF_OPEN and 0 < known.good < GOOD)

    def is_shut(self, group: Group) -> bool:
        """Whether a read of the group would not be let through."""
        return self._passage(self._known[group]) is Passage.SHUT

    def shut(self) -> str | None:
        """Why nothing that raises exposure may be sent; None when it may."""
        for known in self._known.values():
            if known.state is not BreakerState.CLOSED:
                return self._shown(known)
        return None

    def seen(self, rows: Iterable[Breaker]) -> None:
        """The rows as they stand; what other processes decided counts from now on."""
        by_name = {row.name: row for row in rows}
        for group in Group:
            row = by_name.get(group)
            if row is not None:
                self._learn(group, row)

    def states(self) -> dict[str, str]:
        return {str(group): str(known.state) for group, known in self._known.items()}

    def tell(self) -> None:
        """A person knows of each that has not been closed for TELL_S real seconds. Once."""
        now = self._clock.now()
        for group, known in list(self._known.items()):
            key = f"circuit:{group}:{known.since.isoformat()}"
            long = now - known.since > self._clock.span(TELL_S)
            if known.state is BreakerState.CLOSED or not long or key in self._told:
                continue
            text = (
                f"{SHOWN[group]} has failed since {known.since:%H:%M} UTC, nothing is bought: {known.reason}"
            )
            message = Message(key=key, name="circuit_open", text=text, at=now)
            if self._shared.write(partial(_add, message)) is not None:
                self._told.add(key)

    def _passage(self, breaker: Breaker) -> Passage:
        knocked = Group(breaker.name) in self._knocked
        return passage(breaker, self._clock.now(), self._clock.span(1), knocked=knocked)

    def _claimed(self, group: Group) -> bool:
        """Whether it is this process that finds out; the row lets one of them."""

        def claim(row: Breaker) -> Breaker:
            now = self._clock.now()
            due = self._passage(row) is Passage.PROBE
            return probing(row, now, self._clock.span(1)) if due else row

        changed = self._change(group, claim)
        self._knocked.discard(group)
        return changed

    def _open(self, group: Group, known: BreakerState, reason: str, failures: int) -> None:
        now = self._clock.now()

        def work(row: Breaker) -> Breaker:
            if row.state is not known:
                return row
            second = self._clock.span(1)
            return opened(row, reason, failures, now, first_s=self._first_s, second=second)

        self._change(group, work)

    def _change(self, group: Group, change: Callable[[Breaker], Breaker]) -> bool:
        """The row is what `change` makes of it; whether that changed anything."""
        now = self._clock.now()

        def write(tx: Tx) -> tuple[Breaker, bool]:
            rows = {row.name: row for row in tx.breakers()}
            before = rows.get(group) or _closed(group, now)
            after = change(before)
            if after == before:
                return before, False
            stored = tx.put_breaker(after)
            if stored.state is not before.state:
                _note(tx, stored, now)
            return stored, True

        found = self._shared.write(write)
        if found is None:
            before = self._known[group]
            after = change(before)
            found = after, after != before
        self._learn(group, found[0])
        return found[1]

    def _learn(self, group: Group, row: Breaker) -> None:
        with self._lock:
            before = self._known[group]
            if row.version < before.version:
                # Read before another thread changed it.
                return
            self._known[group] = row
            if before.state is not row.state:
                self._calls[group].clear()
        if before.state is not row.state:
            log.warning(f"breaker_{row.state}", extra={"group": str(group), "reason": row.reason})

    def _shown(self, breaker: Breaker) -> str:
        what = SHOWN[Group(breaker.name)]
        if breaker.state is BreakerState.HALF_OPEN:
            return f"{what} failed ({breaker.reason}), and is being tried again"
        until = "" if breaker.retry_at is None else f" until {breaker.retry_at:%H:%M:%S}"
        return f"{what} fails ({breaker.reason}): circuit open{until}"


def _add(message: Message, tx: Tx) -> bool:
    return tx.add_message(message)


def _closed(group: Group, now: datetime) -> Breaker:
    return Breaker(name=group, state=BreakerState.CLOSED, since=now)


def _note(tx: Tx, row: Breaker, now: datetime) -> None:
    """What everybody must know of a change: an event, and that nothing is bought meanwhile."""
    tx.add_event(
        Event(
            name=f"breaker_{row.state}",
            at=now,
            reason=row.reason,
            data={"group": row.name, "pause_s": row.pause_s, "failures": row.failures},
            uid=f"breaker:{row.name}:{row.version}:{row.since.isoformat()}",
        )
    )
    source = f"breaker:{row.name}"
    if row.state is BreakerState.CLOSED:
        tx.drop_mode(source)
    elif row.state is BreakerState.OPEN:
        reason = f"{SHOWN[Group(row.name)]} fails: {row.reason}"
        tx.put_mode(Restriction(source=source, mode=Mode.REDUCE_ONLY, reason=reason, since=row.since))
