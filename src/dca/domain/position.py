"""Fills, and the position they fold to: the only source of quantity and average."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from dca.domain.money import ZERO
from dca.domain.order import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution of one of our orders, or a correction of an order's fee.

    `id` is the venue's execution id. `qty` is gross, in units of base; `fee` is in what was
    received: coins for a buy, USD for a sell. A correction has id `fee:<order key>`, qty 0 and a
    signed `fee`: the venue books fees without saying so on the fill, so the fee of a fill is an
    estimate until the position shows what was really taken. `cum_qty` is the order's filled
    quantity after this execution and with the order names the execution in every channel.
    """

    id: str
    order_key: str
    cycle_id: int
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    cum_qty: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """Coins owned, and the dollars behind them.

    `bought` counts net coins, `cost` the USD paid for them; `sold` counts coins, `proceeds` the USD
    received after fees; `coin_fees` and `usd_fees` are what the venue took.
    """

    bought: Decimal = ZERO
    cost: Decimal = ZERO
    sold: Decimal = ZERO
    proceeds: Decimal = ZERO
    coin_fees: Decimal = ZERO
    usd_fees: Decimal = ZERO

    @property
    def quantity(self) -> Decimal:
        return self.bought - self.sold

    @property
    def average(self) -> Decimal:
        """USD really paid per coin really owned; 0 when nothing was bought."""
        return self.cost / self.bought if self.bought > 0 else ZERO


def fold(fills: Iterable[Fill]) -> Position:
    """The position that `fills` make, in whatever order they come."""
    bought = cost = sold = proceeds = coin_fees = usd_fees = ZERO
    for fill in fills:
        if fill.side is Side.BUY:
            bought += fill.qty - fill.fee
            cost += fill.qty * fill.price
            coin_fees += fill.fee
        else:
            sold += fill.qty
            proceeds += fill.qty * fill.price - fill.fee
            usd_fees += fill.fee
    return Position(bought, cost, sold, proceeds, coin_fees, usd_fees)


def gross(fills: Iterable[Fill]) -> Decimal:
    """The quantity executed, before fees."""
    return sum((fill.qty for fill in fills), ZERO)


def average_price(fills: Iterable[Fill]) -> Decimal | None:
    """The price per unit executed, before fees; None when nothing was."""
    qty = value = ZERO
    for fill in fills:
        qty += fill.qty
        value += fill.qty * fill.price
    return value / qty if qty > 0 else None
