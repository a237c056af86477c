"""An order as the exchange keeps it, and its form on the wire."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from dca.domain.money import ZERO, plain
from dca.domain.order import Side
from dca.matching.book import Working
from dca.paper.wire import Json, instant, plain_or_none, stamp, stamp_or_none

NEW_YORK = ZoneInfo("America/New_York")
LIFETIME = timedelta(days=90)


class Kind(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_LIMIT = "stop_limit"


class Status(StrEnum):
    """The venue's words for an order's state, as far as crypto orders reach them here."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REJECTED = "rejected"


OVER = frozenset({Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REPLACED, Status.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOrder:
    """An order. `qty` is what is to be bought or sold, also where the client gave `notional`.

    `working_limit` is the price the book works with: the client's limit, or a market order's
    collar. It is also what a buy reserves per coin.
    """

    id: str
    client_order_id: str
    symbol: str
    side: Side
    type: Kind
    time_in_force: str
    qty: Decimal
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    working_limit: Decimal
    position_intent: str
    status: Status
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    filled_qty: Decimal = ZERO
    filled_avg_price: Decimal | None = None
    triggered: bool = False
    filled_at: datetime | None = None
    canceled_at: datetime | None = None
    expired_at: datetime | None = None
    failed_at: datetime | None = None
    replaced_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    replaced_by: str | None = None
    replaces: str | None = None

    @property
    def open(self) -> bool:
        return self.status not in OVER

    @property
    def left(self) -> Decimal:
        return self.qty - self.filled_qty

    @property
    def stopped(self) -> bool:
        """It waits for its stop price."""
        return self.type is Kind.STOP_LIMIT and not self.triggered

    def working(self, *, resting: bool = False) -> Working:
        """What the book works with."""
        return Working(
            id=self.id,
            side=self.side,
            qty=self.left,
            limit=self.working_limit,
            stop=self.stop_price if self.stopped else None,
            resting=resting and not self.stopped,
        )


def expiry(created: datetime) -> datetime:
    """When an order of that age ends: at 16:00 in New York, 90 days later."""
    day = (created + LIFETIME).astimezone(NEW_YORK)
    return day.replace(hour=16, minute=0, second=0, microsecond=0).astimezone(UTC)


def wire(order: PaperOrder, asset_id: str) -> Json:
    """The order object of the trading API (OpenAPI Trading: Order)."""
    created = stamp(order.created_at)
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": created,
        "updated_at": stamp(order.updated_at),
        "submitted_at": created,
        "filled_at": stamp_or_none(order.filled_at),
        "expired_at": stamp_or_none(order.expired_at),
        "expires_at": stamp(order.expires_at),
        "canceled_at": stamp_or_none(order.canceled_at),
        "failed_at": stamp_or_none(order.failed_at),
        "replaced_at": stamp_or_none(order.replaced_at),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": asset_id,
        "symbol": order.symbol,
        "asset_class": "crypto",
        "notional": plain_or_none(order.notional),
        "qty": None if order.notional is not None else plain(order.qty),
        "filled_qty": plain(order.filled_qty),
        "filled_avg_price": plain_or_none(order.filled_avg_price),
        "order_class": "",
        "order_type": order.type.value,
        "type": order.type.value,
        "side": order.side.value,
        "position_intent": order.position_intent,
        "time_in_force": order.time_in_force,
        "limit_price": plain_or_none(order.limit_price),
        "stop_price": plain_or_none(order.stop_price),
        "status": order.status.value,
        "extended_hours": False,
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "subtag": None,
        "source": None,
    }


_AMOUNTS = frozenset(
    {"qty", "notional", "limit_price", "stop_price", "working_limit", "filled_qty", "filled_avg_price"}
)
_KINDS = {"side": Side, "type": Kind, "status": Status}


def to_row(order: PaperOrder) -> Json:
    """The order as JSON that `from_row` reads; for the log and the state file."""
    return {field.name: _plain_value(getattr(order, field.name)) for field in fields(PaperOrder)}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    return stamp(value) if isinstance(value, datetime) else value


def from_row(row: Json) -> PaperOrder:
    """The order that `to_row` wrote."""
    return PaperOrder(**{name: _value(name, value) for name, value in row.items()})


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _AMOUNTS:
        return Decimal(value)
    if name in _KINDS:
        return _KINDS[name](value)
    return instant(value) if name.endswith("_at") else value
