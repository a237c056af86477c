"""What people are told goes out: at least once, in order, and not while they sleep."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from dca.domain.errors import StoreUnavailable, Unavailable
from dca.domain.notices import Quiet, notice
from dca.domain.record import Message
from dca.ports import Clock, Notifier, Store, Tx
from dca.service.lease import Alive, Holding, LeaseTaken, take

log = logging.getLogger(__name__)

LEASE = "caretaker:notifier"
"""The lease of the caretaker, because nobody else may send while it does."""
LEASE_S = 300.0
BUDGET_S = 60.0
"""A pass begins nothing new after so many real seconds: what is left waits for the next."""
MANY = 5
"""More than so many messages at once go out as one."""
LINES = 40
LATE = timedelta(minutes=5)
"""A message that is told later than this says when it was written."""
LONGEST_KEY = 190
AT_ONCE = 500

_FOR_ONE = re.compile(r"(?P<key>.*)@(?P<address>[a-z0-9+-]+-[0-9a-f]{8})", re.S)


@dataclass(frozen=True, slots=True)
class Policy:
    """Names of messages that nobody wants, hours in which only urgent ones go, and people's clock."""

    off: frozenset[str] = frozenset()
    quiet: Quiet | None = None
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Parcel:
    """Messages that go out in one piece, to each of `addresses`."""

    messages: tuple[Message, ...]
    addresses: tuple[str, ...]
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes now, what never does (with the reason), and what waits for the end of quiet hours."""

    parcels: tuple[Parcel, ...] = ()
    dropped: tuple[tuple[Message, str], ...] = ()
    waiting: tuple[Message, ...] = ()


def plan(messages: Sequence[Message], policy: Policy, addresses: Sequence[str], now: datetime) -> Plan:
    """What becomes of `messages`, which are in the order they were written; pure."""
    dropped: list[tuple[Message, str]] = []
    waiting: list[Message] = []
    groups: dict[tuple[tuple[str, ...], bool], list[Message]] = {}
    for message in messages:
        urgent = notice(message.name).urgent
        to = _addresses_of(message, addresses)
        if message.name in policy.off:
            dropped.append((message, "switched off"))
        elif not to:
            dropped.append((message, "no address"))
        elif not urgent and policy.quiet is not None and policy.quiet.holds(now):
            waiting.append(message)
        else:
            groups.setdefault((to, urgent), []).append(message)
    parcels = [parcel for (to, _), group in groups.items() for parcel in _parcels(group, to, policy, now)]
    place = {message.key: number for number, message in enumerate(messages)}
    parcels.sort(key=lambda parcel: place[parcel.messages[0].key])
    return Plan(tuple(parcels), tuple(dropped), tuple(waiting))


def _addresses_of(message: Message, addresses: Sequence[str]) -> tuple[str, ...]:
    """All of them, unless the message is one that all others took already."""
    only = _FOR_ONE.fullmatch(message.key)
    if only is None:
        return tuple(addresses)
    return (only["address"],) if only["address"] in addresses else ()


def _parcels(group: list[Message], to: tuple[str, ...], policy: Policy, now: datetime) -> list[Parcel]:
    if len(group) <= MANY:
        return [
            Parcel((message,), to, f"DCA: {notice(message.name).title}", _dated(message, policy, now))
            for message in group
        ]
    lines = [
        f"{message.at.astimezone(policy.zone):%m-%d %H:%M} {notice(message.name).title}: {message.text}"
        for message in group[:LINES]
    ]
    if len(group) > LINES:
        lines.append(f"and {len(group) - LINES} more, which are in the log")
    return [Parcel(tuple(group), to, f"DCA: {len(group)} messages", "\n".join(lines))]


def _dated(message: Message, policy: Policy, now: datetime) -> str:
    if now - message.at <= LATE:
        return message.text
    return f"{message.text} ({message.at.astimezone(policy.zone):%Y-%m-%d %H:%M})"


@dataclass(frozen=True, slots=True)
class Outbox:
    """Takes messages from the database to people. Threads and processes may use it at once."""

    store: Store
    clock: Clock
    notifier: Notifier
    policy: Policy = field(default_factory=Policy)
    holder: str = ""
    alive: Alive = lambda holder: True

    def deliver(self) -> None:
        """What may go has gone, unless somebody else is sending at this moment.

        One statement when there is nothing to do. Raises Unavailable when something was not taken
        (the next call tries it again), StoreUnavailable.
        """
        if self._next(set()) == Plan():
            return
        try:
            holding = take(self.store, self.clock, LEASE, self.holder, self.alive, ttl_s=LEASE_S)
        except LeaseTaken:
            return
        try:
            self._deliver_all()
        finally:
            _drop(holding)

    def unsent(self) -> list[Message]:
        return self.store.read(lambda tx: tx.messages())

    def plan(self, messages: Sequence[Message], now: datetime) -> Plan:
        return plan(messages, self.policy, self.notifier.addresses, now)

    def send(self, parcel: Parcel) -> None:
        """At least one address took the parcel; whoever did not is told separately, next time.

        So a dead address does not make the others hear everything again and again. Raises
        Unavailable when no address took it, StoreUnavailable when that could not be written down.
        """
        missed = [address for address in parcel.addresses if not self._taken(parcel, address)]
        if len(missed) == len(parcel.addresses):
            raise Unavailable(f"{parcel.title!r} was not taken by {', '.join(missed)}")
        self._settle(parcel.messages, "sent", missed)

    def drop(self, messages: Sequence[Message], why: str) -> None:
        """The messages count as sent; they stand in the log."""
        for start in range(0, len(messages), AT_ONCE):
            self._settle(messages[start : start + AT_ONCE], why, [])

    def _next(self, tried: set[str]) -> Plan:
        """What is to be done about messages that were not tried yet; nothing when all wait."""
        found = self.plan([one for one in self.unsent() if _origin(one) not in tried], self.clock.now())
        return Plan(found.parcels, found.dropped)

    def _deliver_all(self) -> None:
        begun, tried, failed = self.clock.monotonic(), set[str](), 0
        while (todo := self._next(tried)) != Plan():
            for why in {why for _, why in todo.dropped}:
                self.drop([message for message, reason in todo.dropped if reason == why], why)
            tried.update(_origin(message) for message, _ in todo.dropped)
            for parcel in todo.parcels:
                if self.clock.monotonic() - begun > BUDGET_S:
                    raise Unavailable("telling people takes too long; the rest waits")
                tried.update(map(_origin, parcel.messages))
                try:
                    self.send(parcel)
                except Unavailable:
                    failed += 1
        if failed:
            raise Unavailable(f"{failed} messages were not taken by anybody")

    def _taken(self, parcel: Parcel, address: str) -> bool:
        try:
            self.notifier.send(parcel.title, parcel.text, to=address)
        except Unavailable as error:
            log.warning("notice_not_taken", extra={"address": address, "reason": str(error)})
            return False
        return True

    def _settle(self, messages: Sequence[Message], outcome: str, missed: Sequence[str]) -> None:
        now = self.clock.now()

        def work(tx: Tx) -> None:
            for message in messages:
                tx.mark_sent(message.key, at=now)
                for address in missed:
                    tx.add_message(_only_for(message, address))

        self.store.write(work)
        for message in messages:
            log.info(
                "notice",
                extra={"key": message.key, "notice": message.name, "text": message.text, "outcome": outcome},
            )


def _only_for(message: Message, address: str) -> Message:
    key = f"{message.key[: LONGEST_KEY - len(address) - 1]}@{address}"
    return Message(key=key, name=message.name, text=message.text, at=message.at)


def _origin(message: Message) -> str:
    """The key of the message, without the address that it is still to go to."""
    only = _FOR_ONE.fullmatch(message.key)
    return message.key if only is None else only["key"]


def _drop(holding: Holding) -> None:
    """Whoever cannot give the lease back lets it run out."""
    with suppress(StoreUnavailable):
        holding.drop()
