"""What is known of an asset when a decision is made: read together, and held in memory."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.cycle import Cycle
from dca.domain.folding import committed, unmeasured_buys
from dca.domain.money import ZERO
from dca.domain.order import Order, OrderStatus, Purpose, Side, TimeInForce
from dca.domain.position import Fill
from dca.ports import Situation, Standing, Tx

PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(hours=1)
SHORT_PAUSE = timedelta(seconds=5)
ADDED = frozenset({Purpose.ADD_FUNDS, Purpose.ADOPTED})
"""Buys that a person wanted on top of what the rules would spend."""


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
        orders = [order for order in self.orders if order.intent.side is side]
        if orders and _unfilled_at_once(orders[-1]):
            return orders[-1].updated_at + SHORT_PAUSE
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


def read_brief(tx: Tx, asset_id: int) -> Brief | None:
    """The asset as it is now; None when there is no such asset."""
    situation = tx.situation(asset_id)
    if situation is None:
        return None
    cycle = situation.cycle
    if cycle is None:
        return Brief(situation, [], [], ZERO)
    return Brief(situation, tx.orders_of(cycle.id), tx.fills_of(cycle.id), tx.owned(asset_id))
