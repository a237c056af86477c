"""Values for tests: a domain object with one or two things said about it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Instrument, Quote
from dca.domain.mode import OPERATOR, Mode, Restriction
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side, VenueOrder, order_key
from dca.domain.position import Fill

T0 = datetime(2023, 3, 9, 12, 0, tzinfo=UTC)
INSTALL = "0a1b2c3d"
BTC = Instrument("BTC/USD", D("0.000045"), D("0.000000001"), D("0.01"))


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def rules(**changes: Any) -> Rules:
    base: dict[str, Any] = {
        "base_order_amount": D(20),
        "safety_order_amount": D(20),
        "max_safety_orders": 3,
        "safety_order_deviation": D(2),
        "take_profit_percent": D("1.5"),
        "take_profit_net_of_fees": False,
        "cooldown_period": 120,
    }
    return Rules(**{**base, **changes})


def asset(*, is_enabled: bool = True, **changes: Any) -> Asset:
    outer = {name: changes.pop(name) for name in ("last_sell_price", "halted_reason") if name in changes}
    return Asset(
        id=1,
        asset_symbol="BTC/USD",
        is_enabled=is_enabled,
        rules=rules(**changes),
        created_at=T0,
        updated_at=T0,
        **outer,
    )


def cycle(status: str = "watching", **changes: Any) -> Cycle:
    base: dict[str, Any] = {"id": 7, "asset_id": 1, "created_at": T0, "updated_at": T0}
    return Cycle(status=CycleStatus(status), **{**base, **changes})


def restriction(mode: Mode, reason: str = "holidays", **changes: Any) -> Restriction:
    base: dict[str, Any] = {"source": OPERATOR, "since": T0}
    return Restriction(mode=mode, reason=reason, **{**base, **changes})


def quote(bid: str, ask: str | None = None, *, seconds: float = 0) -> Quote:
    return Quote("BTC/USD", D(bid), D(ask or bid), at(seconds))


def intent(purpose: str = "base", step: int = 0, attempt: int = 1, **changes: Any) -> Intent:
    kind = Purpose(purpose)
    base: dict[str, Any] = {
        "key": order_key(INSTALL, 7, kind, step, attempt),
        "symbol": "BTC/USD",
        "side": Side.SELL if kind is Purpose.TAKE_PROFIT else Side.BUY,
        "purpose": kind,
        "step": step,
        "qty": D("0.001"),
        "limit": None if kind is Purpose.TAKE_PROFIT else D(20_000),
        "cycle_id": 7,
        "reason": "a test wants it",
    }
    return Intent(**{**base, **changes})


def order(status: str = "in_flight", wish: Intent | None = None, **changes: Any) -> Order:
    base: dict[str, Any] = {"created_at": T0, "updated_at": T0}
    if status not in ("in_flight", "rejected", "lost"):
        base["venue_id"] = "v-1"
    return Order(intent=wish or intent(), status=OrderStatus(status), **{**base, **changes})


def seen(wish: Intent, status: str = "open", filled: str = "0", **changes: Any) -> VenueOrder:
    base: dict[str, Any] = {
        "venue_id": f"v-{wish.key}",
        "key": wish.key,
        "symbol": wish.symbol,
        "side": wish.side,
        "status": OrderStatus(status),
        "qty": wish.qty,
        "limit": wish.limit,
        "filled_qty": D(filled),
        "filled_avg_price": D(20_000) if D(filled) > 0 else None,
        "submitted_at": T0,
    }
    return VenueOrder(**{**base, **changes})


def fill(wish: Intent, qty: str, price: str = "20000", fee: str = "0", *, cum: str | None = None) -> Fill:
    return Fill(
        id=f"x-{wish.key}-{cum or qty}",
        order_key=wish.key,
        cycle_id=wish.cycle_id,
        side=wish.side,
        qty=D(qty),
        price=D(price),
        fee=D(fee),
        cum_qty=D(cum or qty),
        at=T0,
    )
