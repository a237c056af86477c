"""An order from wish to end: intent, journal row, what the venue says, and the table of moves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from dca.domain.errors import IllegalTransition
from dca.domain.money import ZERO


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class Purpose(StrEnum):
    """Why an order exists.

    ADD_FUNDS and CLOSE are an operator's own buy and sell. ADOPTED was never sent: it stands for
    what a person bought or sold past the bot and then told it to count as the cycle's own.
    """

    BASE = "base"
    SAFETY = "safety"
    TAKE_PROFIT = "take_profit"
    ADD_FUNDS = "add_funds"
    CLOSE = "close"
    STOP_LOSS = "stop_loss"
    ADOPTED = "adopted"


class TimeInForce(StrEnum):
    """How long an order may wait: until it is canceled, or not at all (what does not fill is canceled)."""

    GTC = "gtc"
    IOC = "ioc"


class OrderStatus(StrEnum):
    """What we know of an order. IN_FLIGHT: journaled, the venue may or may not know it.

    DRY_RUN: reviewed and journaled, and by setting not sent.
    """

    IN_FLIGHT = "in_flight"
    OPEN = "open"
    PARTIAL = "partial"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    LOST = "lost"
    DRY_RUN = "dry_run"


_S = OrderStatus
MOVES: dict[OrderStatus, frozenset[OrderStatus]] = {
    _S.IN_FLIGHT: frozenset({_S.OPEN, _S.PARTIAL, _S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.LOST}),
    _S.OPEN: frozenset({_S.PARTIAL, _S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED}),
    _S.PARTIAL: frozenset({_S.PARTIAL, _S.FILLED, _S.CANCELED, _S.EXPIRED}),
    _S.CANCELED: frozenset({_S.PARTIAL, _S.FILLED}),
    _S.EXPIRED: frozenset({_S.PARTIAL, _S.FILLED}),
    _S.LOST: frozenset({_S.IN_FLIGHT, _S.OPEN, _S.PARTIAL, _S.FILLED, _S.CANCELED}),
    _S.FILLED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.DRY_RUN: frozenset(),
}
LIVE = frozenset({_S.IN_FLIGHT, _S.OPEN, _S.PARTIAL})
"""Statuses in which an order may still take or return money; in flight counts as live, always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One wish to trade. `qty` is in units of base; `limit` None means a market order.

    `key` is the journal's primary key and the venue's `client_order_id`. `step` is 0 for the base
    order and the take profit, n for the n-th safety order.
    """

    key: str
    symbol: str
    side: Side
    purpose: Purpose
    step: int
    qty: Decimal
    limit: Decimal | None
    cycle_id: int
    reason: str
    time_in_force: TimeInForce = TimeInForce.GTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A row of the journal: an intent, and what is known of its fate.

    `filled_qty` and `filled_avg_price` are the venue's cumulative gross figures as far as they are
    known. `venue_id` is None until the venue has shown that it has the order. `unclear` is true
    once an attempt to send it ended without a proof either way: from then on no later refusal can
    end it (only a look at the venue can). `sent_at` is when it was last given to the venue again;
    None while that happened once, at `created_at`.
    """

    intent: Intent
    status: OrderStatus
    created_at: datetime
    updated_at: datetime
    filled_qty: Decimal = ZERO
    filled_avg_price: Decimal | None = None
    venue_id: str | None = None
    unclear: bool = False
    detail: str = ""
    sent_at: datetime | None = None
    version: int = 1

    @property
    def key(self) -> str:
        return self.intent.key

    @property
    def live(self) -> bool:
        return self.status in LIVE

    @property
    def asked_at(self) -> datetime:
        """When the venue was last asked to take it."""
        return self.sent_at or self.created_at


def move(order: Order, to: OrderStatus, *, at: datetime, detail: str = "") -> Order:
    """`order` in status `to`. Raises IllegalTransition when MOVES has no such edge."""
    if to not in MOVES[order.status]:
        raise IllegalTransition(f"order {order.key}: {order.status} -> {to} is not a move")
    return replace(order, status=to, updated_at=at, detail=detail or order.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """What the venue says of an order. Quantities are gross: the coin fee is not in them.

    `key` is the order's `client_order_id`, ours or not. `status` is mapped onto our words; a status
    that means "the venue has it and it is not over" is OPEN (or PARTIAL once it filled in part).
    """

    venue_id: str
    key: str
    symbol: str
    side: Side
    status: OrderStatus
    qty: Decimal | None
    limit: Decimal | None
    filled_qty: Decimal
    filled_avg_price: Decimal | None
    submitted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution of an order. `qty` is gross; `cum_qty` is the order's filled quantity after it.

    `id` is the venue's name for it, which may differ between its stream and its REST history;
    (order, cum_qty) is the same in both (docs/alpaca.md, activities).
    """

    id: str
    qty: Decimal
    price: Decimal
    cum_qty: Decimal
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeUpdate:
    """One message of the trade-update stream. `event` is the venue's own word for it."""

    event: str
    order: VenueOrder
    execution: Execution | None
    at: datetime


KEY = re.compile(
    r"^dca(?P<install>[0-9a-f]{8})-c(?P<cycle>\d+)-(?P<purpose>base|safety|take_profit|add_funds|close|stop_loss|adopted)"
    r"-(?P<step>\d+)-(?P<attempt>\d+)$"
)


def order_key(install: str, cycle_id: int, purpose: Purpose, step: int, attempt: int) -> str:
    """The key of an attempt: everybody who wants the same order makes the same key.

    `install` (8 hex digits) names this installation's database, so that a database created anew
    never uses a key again that the venue has already seen.
    """
    return f"dca{install}-c{cycle_id}-{purpose}-{step}-{attempt}"


def last_attempt(orders: Iterable[Order], purpose: Purpose, step: int) -> int:
    """The highest attempt that the orders of a cycle have made at a step; 0: none was.

    Read from the keys, because a journal that was rebuilt lacks those that the venue never had.
    """
    tried = (order.key for order in orders if (order.intent.purpose, order.intent.step) == (purpose, step))
    return max((int(match["attempt"]) for match in map(KEY.match, tried) if match), default=0)


def is_ours(key: str, install: str) -> bool:
    """Whether an order under `key` was placed by this installation. Others are never touched."""
    match = KEY.match(key)
    return match is not None and match["install"] == install
