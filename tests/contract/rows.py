"""Rows to start from, for the tests of the stores."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.mode import OPERATOR, Mode, Restriction
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side
from dca.domain.position import Fill
from dca.ports import Store

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
RULES = Rules(
    base_order_amount=Decimal("20"),
    safety_order_amount=Decimal("40.50"),
    max_safety_orders=5,
    safety_order_deviation=Decimal("0.9"),
    take_profit_percent=Decimal("2"),
    max_cycle_spend=Decimal("0.000000000000000001"),
)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def given_asset(store: Store, symbol: str = "BTC/USD") -> Asset:
    asset = store.write(lambda tx: tx.insert_asset(symbol, RULES, is_enabled=True, at=NOW))
    assert asset is not None
    return asset


def given_cycle(store: Store, asset: Asset | None = None) -> Cycle:
    asset = asset or given_asset(store)
    cycle = store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=NOW))
    assert cycle is not None
    return cycle


def an_order(cycle_id: int, key: str = "k1", status: OrderStatus = OrderStatus.IN_FLIGHT) -> Order:
    intent = Intent(
        key=key,
        symbol="BTC/USD",
        side=Side.BUY,
        purpose=Purpose.SAFETY,
        step=3,
        qty=Decimal("0.000000012"),
        limit=Decimal("64123.45"),
        cycle_id=cycle_id,
        reason="0.9 % below the last fill",
    )
    return Order(intent=intent, status=status, created_at=NOW, updated_at=NOW)


def given_order(store: Store, cycle: Cycle | None = None, key: str = "k1") -> Order:
    order = an_order((cycle or given_cycle(store)).id, key)
    assert store.write(lambda tx: tx.insert_order(order))
    return order


def a_fill(order: Order, **changes: Any) -> Fill:
    fill = Fill(
        id="x1",
        order_key=order.key,
        cycle_id=order.intent.cycle_id,
        side=Side.BUY,
        qty=Decimal("0.000000005"),
        price=Decimal("64123.4"),
        fee=Decimal("0.000000001"),
        cum_qty=Decimal("0.000000005"),
        at=NOW,
    )
    return replace(fill, **changes)


def a_restriction(mode: Mode, reason: str = "holidays", **changes: Any) -> Restriction:
    base: dict[str, Any] = {"source": OPERATOR, "since": NOW}
    return Restriction(mode=mode, reason=reason, **{**base, **changes})
