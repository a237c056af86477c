"""What the venue showed against what the journal says: what has to be written. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.folding import observe
from dca.domain.market import compact
from dca.domain.money import ZERO
from dca.domain.order import Execution, Order, OrderStatus, VenueOrder, is_ours

CLOCK_SLACK = timedelta(minutes=10)
"""How far the venue's clock and ours may be apart before a sweep could miss what it looks for."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Orders with the quantity of their stored fills, by key; read after the venue's lists, because each
    order of ours is journaled before the venue has it."""

    install: str
    orders: Mapping[str, Order]
    stored: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every order that was submitted after `since`, over or not: the list was read to its end."""

    since: datetime
    orders: Sequence[VenueOrder]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the venue showed; `at` is the instant before the first question was asked.

    `shown` are orders by key, `unknown` the keys that it says it does not have.
    """

    at: datetime
    shown: Mapping[str, VenueOrder]
    unknown: Collection[str] = ()
    executions: Mapping[str, Sequence[Execution]] = field(default_factory=dict)
    sweep: Sweep | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The order, its fills or its end are not in the journal as the venue shows them."""

    key: str
    seen: VenueOrder
    executions: Sequence[Execution]


@dataclass(frozen=True, slots=True)
class Lose:
    """The venue never had the order; `version` is that of the row which this was concluded from."""

    key: str
    version: int
    why: str


@dataclass(frozen=True, slots=True)
class Vanish:
    """The venue had the order open, and has it no more: an account that was reset forgets."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The venue has an order of ours that the journal does not know."""

    key: str
    seen: VenueOrder


Repair = Record | Lose | Vanish | Unknown


def reconcile(journal: Journal, seen: Seen, grace: timedelta) -> list[Repair]:
    """What the journal must be told, so that it says what the venue showed.

    What was not asked proves nothing. An order is given up only when it is older than `grace`, the venue
    says that it has none under the key, and a list of all orders since before it was sent lacks it:
    a lookup alone may miss an order that was just accepted.
    """
    repairs: list[Repair] = []
    for key, order in journal.orders.items():
        shown = seen.shown.get(key)
        if shown is not None:
            repairs += _news(order, journal.stored[key], shown, seen)
        elif _is_absent(order, seen, grace):
            repairs.append(_given_up(order))
    return repairs + list(_unknown(journal, seen))


def to_ask(journal: Journal, shown: Collection[str]) -> list[str]:
    """Keys of live orders that no list has shown."""
    return [key for key, order in journal.orders.items() if order.live and key not in shown]


def to_fetch(journal: Journal, shown: Mapping[str, VenueOrder]) -> list[VenueOrder]:
    """Orders of which the venue counts executions that are not stored."""
    known = [(one, journal.orders.get(key)) for key, one in shown.items()]
    return [
        one
        for one, order in known
        if order is not None and is_same(order, one) and one.filled_qty > journal.stored[one.key]
    ]


def sweep_from(journal: Journal, unknown: Collection[str], at: datetime, grace: timedelta) -> datetime | None:
    """Since when all orders must be read to be sure of those that the venue does not know; None: nothing
    is old enough to be given up."""
    asked = [journal.orders[key].asked_at for key in unknown if _is_due(journal.orders[key], at, grace)]
    return min(asked) - CLOCK_SLACK if asked else None


def is_same(order: Order, seen: VenueOrder) -> bool:
    """Whether the venue's order under the key can be this one at all."""
    return (compact(seen.symbol), seen.side) == (compact(order.intent.symbol), order.intent.side)


def _news(order: Order, stored: Decimal, shown: VenueOrder, seen: Seen) -> Iterator[Record]:
    if order.status in (OrderStatus.REJECTED, OrderStatus.DRY_RUN) and shown.filled_qty <= stored:
        return
    same = is_same(order, shown)
    if not same or shown.filled_qty > stored or observe(order, shown, stored, seen.at) is not order:
        yield Record(order.key, shown, seen.executions.get(order.key, ()))


def _is_due(order: Order, at: datetime, grace: timedelta) -> bool:
    return order.live and at - order.asked_at >= grace


def _is_absent(order: Order, seen: Seen, grace: timedelta) -> bool:
    if order.key not in seen.unknown or not _is_due(order, seen.at, grace) or seen.sweep is None:
        return False
    covered = seen.sweep.since <= order.asked_at - CLOCK_SLACK
    return covered and all(one.key != order.key for one in seen.sweep.orders)


def _given_up(order: Order) -> Repair:
    if order.status is OrderStatus.IN_FLIGHT:
        return Lose(order.key, order.version, "the venue does not know it after the grace time")
    return Vanish(order.key, "the venue had it open and knows it no more")


def _unknown(journal: Journal, seen: Seen) -> Iterator[Unknown]:
    """One that is over and never filled has done nothing, and is none of anybody's business."""
    for key, shown in seen.shown.items():
        working = shown.status in (OrderStatus.OPEN, OrderStatus.PARTIAL) or shown.filled_qty > ZERO
        if working and key not in journal.orders and is_ours(key, journal.install):
            yield Unknown(key, shown)
