"""What is known of an asset when a decision is made: read together, and held in memory."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle
from dca.domain.folding import committed, unmeasured_buys
from dca.domain.money import HUNDRED, ONE, ZERO
from dca.domain.order import Order, OrderStatus, Purpose, Side, TimeInForce
from dca.domain.position import Fill
from dca.ports import Situation, Standing, Tx
from dca.strategy.ladder import MAX_STEPS

PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(hours=1)
LONGEST_LOST_PAUSE = timedelta(minutes=10)
SHORT_PAUSE = timedelta(seconds=5)
ADDED = frozenset({Purpose.ADD_FUNDS, Purpose.ADOPTED})
"""Buys that a person wanted on top of what the rules would spend."""


TOO_MUCH = 10**9
"""No rule of anybody's has so large a number in it."""
MAY_BE_ZERO = frozenset(
    {
        "ttp_enabled",
        "ttp_deviation_percent",
        "take_profit_net_of_fees",
        "buy_order_price_deviation_percent",
        "cooldown_period",
        "stop_loss_timeout",
        "stop_loss_trailing",
        "stop_loss_cooldown_period",
    }
)


@dataclass(frozen=True, slots=True)
class Brief:
    """An asset, its unfinished cycle, and that cycle's orders and fills.

    `owned` is what all cycles of the asset own, the dust of finished ones included.
    """

    situation: Situation
    orders: list[Order]
    fills: list[Fill]
    owned: Decimal
    wished: Decimal = ZERO
    """USD that a person is adding now."""
    by_hand: bool = False
    """A person wants an order now, whatever was refused before."""

    @property
    def added_funds(self) -> Decimal:
        """USD that a person added, adopted, or is adding, to what the rules would spend."""
        added = {order.key for order in self.orders if order.intent.purpose in ADDED}
        orders = [order for order in self.orders if order.key in added]
        return self.wished + committed(orders, [fill for fill in self.fills if fill.order_key in added])

    @property
    def cycle(self) -> Cycle | None:
        return self.situation.cycle

    @property
    def busy(self) -> bool:
        return any(order.live for order in self.orders)

    @property
    def committed(self) -> Decimal:
        return committed(self.orders, self.fills)

    def holds(self, standing: Standing | None) -> bool:
        """Whether nobody changed asset or cycle since this was read."""
        cycle = self.cycle
        return (
            standing is not None
            and cycle is not None
            and (
                standing.asset_version,
                standing.cycle_id,
                standing.cycle_version,
            )
            == (self.situation.asset.version, cycle.id, cycle.version)
        )

    def unmeasured_since(self) -> datetime | None:
        """When the latest buy ended whose coin fee is still an estimate; None without one."""
        return max((order.updated_at for order in unmeasured_buys(self.orders, self.fills)), default=None)

    def paused_until(self, side: Side) -> datetime | None:
        """When the cycle may order on that side again after refusals in a row: a minute, doubling up to
        an hour. A dry run counts as refused; an order that could not fill at once waits some seconds."""
        if self.by_hand:
            return None
        # One that was lost is sent again later than others that were journaled after it.
        mine = (order for order in self.orders if order.intent.side is side)
        orders = sorted(mine, key=lambda order: order.asked_at)
        if orders and _unfilled_at_once(orders[-1]):
            return orders[-1].updated_at + SHORT_PAUSE
        if orders and orders[-1].status is OrderStatus.LOST and orders[-1].sent_at is not None:
            # Sent again for nothing: once more, but ever later, so that others see the asset at rest.
            last = orders[-1]
            return last.updated_at + min(max(PAUSE, last.updated_at - last.created_at), LONGEST_LOST_PAUSE)
        refusals = 0
        for order in reversed(orders):
            if order.status not in (OrderStatus.REJECTED, OrderStatus.DRY_RUN):
                break
            refusals += 1
        if refusals == 0:
            return None
        return orders[-1].updated_at + min(PAUSE * (1 << min(refusals - 1, 10)), LONGEST_PAUSE)


def _unfilled_at_once(order: Order) -> bool:
    ended = order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED)
    return ended and order.intent.time_in_force is TimeInForce.IOC and order.filled_qty == 0


@lru_cache(maxsize=256)
def nonsense(rules: Rules) -> str | None:
    """What is wrong with rules that nobody could have saved: somebody wrote them past the program.

    None when they can be followed.
    """
    amounts = ((one.name, getattr(rules, one.name)) for one in fields(rules))
    wrong = [name for name, value in amounts if value is not None and not _sane(name, value)]
    if not wrong:
        return None
    return f"its rules make no sense ({', '.join(wrong)}): correct them with dca asset set"


def _sane(name: str, value: Decimal | int) -> bool:
    number = Decimal(value)
    if number.is_nan() or abs(number) >= TOO_MUCH:
        return False
    if name == "max_safety_orders":
        return 0 <= number <= MAX_STEPS
    if name == "safety_order_deviation":
        return 0 < number < HUNDRED
    return number >= 0 if name in MAY_BE_ZERO else number > 0


def _harmless(asset: Asset) -> Asset:
    """The asset halted, with nothing among its rules that cannot be compared or counted through."""
    given: dict[str, Any] = {one.name: getattr(asset.rules, one.name) for one in fields(asset.rules)}
    wrong = {name: value for name, value in given.items() if value is not None and not _sane(name, value)}
    stand_ins = {name: ONE if isinstance(value, Decimal) else 0 for name, value in wrong.items()}
    why = asset.halted_reason or nonsense(asset.rules)
    return replace(asset, rules=Rules(**given | stand_ins), halted_reason=why)


def read_brief(tx: Tx, asset_id: int) -> Brief | None:
    """The asset as it is now; None when there is no such asset. One whose rules make no sense is halted."""
    situation = tx.situation(asset_id)
    if situation is None:
        return None
    if nonsense(situation.asset.rules) is not None:
        situation = replace(situation, asset=_harmless(situation.asset))
    cycle = situation.cycle
    if cycle is None:
        return Brief(situation, [], [], ZERO)
    return Brief(situation, tx.orders_of(cycle.id), tx.fills_of(cycle.id), tx.owned(asset_id))
