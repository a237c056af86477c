"""What a cycle earned: gross, fees and net, folded from its fills, that agree to the last digit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from dca.domain.money import ZERO
from dca.domain.order import Side
from dca.domain.position import Fill, average_price, fold

STEP = Decimal("1e-12")
"""What a fee in coins is worth is rounded to this, once, so that sums of it are exact."""


@dataclass(frozen=True, slots=True)
class Profit:
    """What the fills of a cycle came to, in USD.

    `cost` was paid for coins, `proceeds` came back after fees, `quantity` is what is left. `fees`
    are those taken in dollars and, at the price they were bought for, those taken in coins.
    `flows` is what the cycle bound (above 0) and set free again, in order of time.
    """

    cost: Decimal
    proceeds: Decimal
    fees: Decimal
    quantity: Decimal
    began_at: datetime | None
    flows: tuple[tuple[datetime, Decimal], ...]

    @property
    def net(self) -> Decimal:
        """What stays; coins that are left count for nothing."""
        return self.proceeds - self.cost

    @property
    def gross(self) -> Decimal:
        """What it would have been had the venue taken no fees."""
        return self.net + self.fees


def profit(fills: Sequence[Fill], *, finished: bool) -> Profit:
    """What `fills` of one cycle came to. Once it is `finished` it binds no dollar any more."""
    position = fold(fills)
    return Profit(
        cost=position.cost,
        proceeds=position.proceeds,
        fees=position.usd_fees + _coin_fees(fills),
        quantity=position.quantity,
        began_at=min((fill.at for fill in fills if fill.qty > 0), default=None),
        flows=tuple(_flows(fills, finished=finished)),
    )


def _coin_fees(fills: Sequence[Fill]) -> Decimal:
    """The coins that the venue kept, in USD: a correction is worth what its order's coins cost."""
    total = ZERO
    for key in {fill.order_key for fill in fills if fill.side is Side.BUY}:
        mine = [fill for fill in fills if fill.order_key == key]
        fee = sum((fill.fee for fill in mine), ZERO)
        total += (fee * (average_price(mine) or ZERO)).quantize(STEP)
    return total


def _flows(fills: Sequence[Fill], *, finished: bool) -> Iterable[tuple[datetime, Decimal]]:
    executed = sorted((fill for fill in fills if fill.qty > 0), key=lambda fill: fill.at)
    bound = ZERO
    for fill in executed:
        value = fill.qty * fill.price
        change = value if fill.side is Side.BUY else -min(value - fill.fee, bound)
        bound += change
        yield fill.at, change
    if finished and executed:
        yield executed[-1].at, -bound


def most_bound(profits: Iterable[Profit]) -> Decimal:
    """The most dollars that these cycles had in the market at any one time, all together."""
    flows = sorted((flow for one in profits for flow in one.flows), key=lambda flow: (flow[0], -flow[1]))
    bound = most = ZERO
    for _, change in flows:
        bound += change
        most = max(most, bound)
    return most
