"""What the account owns, down to the last digit: folded from deposits and executions."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal

from dca.domain.money import ZERO, plain
from dca.domain.order import Side
from dca.paper.orders import PaperOrder
from dca.paper.wire import Json, instant, stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Money or coins put in, or taken out when negative. `asset` is USD or a symbol.

    The account's history tells of it when it is `listed`.
    """

    asset: str
    amount: Decimal
    at: datetime
    listed: bool = False

    def row(self) -> Json:
        return {"asset": self.asset, "amount": plain(self.amount), "listed": self.listed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution. `qty` is gross; `fee` is in coins for a buy and in USD for a sell.

    `id` is what the stream calls it, `activity_id` what the account's history does, `fee_id` the
    history's name of its fee. `position_qty` is the net holding after it.
    """

    id: str
    activity_id: str
    fee_id: str
    order_id: str
    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    cum_qty: Decimal
    leaves_qty: Decimal
    fee: Decimal
    liquidity: str
    position_qty: Decimal
    at: datetime

    def row(self) -> Json:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: plain(value) if isinstance(value, Decimal) else value for name, value in values} | {
            "at": stamp(self.at)
        }

    @classmethod
    def from_row(cls, row: Json) -> "Execution":
        amounts = ("qty", "price", "cum_qty", "leaves_qty", "fee", "position_qty")
        exact = {name: Decimal(row[name]) for name in amounts}
        return cls(**{**row, **exact, "side": Side(row["side"]), "at": instant(row["at"])})


@dataclass(slots=True)
class Holding:
    """Coins of one symbol. `average` weighs fill prices by coins received.

    Whether the venue's average entry price counts the coin fee is unverified; here it does not.
    """

    qty: Decimal = ZERO
    average: Decimal = ZERO


class Ledger:
    """Cash and coins. Only `deposit` and `execute` change it."""

    def __init__(self) -> None:
        self.cash = ZERO
        self.deposited = ZERO
        self.coins: dict[str, Holding] = {}

    def holding(self, symbol: str) -> Holding:
        return self.coins.get(symbol) or Holding()

    def deposit(self, deposit: Deposit, price: Decimal | None) -> None:
        """Coins that are given enter at `price`; without one, at an average of zero, as some do at
        the venue."""
        if deposit.asset == "USD":
            self.cash += deposit.amount
            self.deposited += deposit.amount
        else:
            self._receive(deposit.asset, deposit.amount, price or ZERO)

    def execute(self, execution: Execution) -> None:
        """The USD fee of a sell leaves at once; whether the venue waits is unverified."""
        value = execution.qty * execution.price
        if execution.side is Side.BUY:
            self.cash -= value
            self._receive(execution.symbol, execution.qty - execution.fee, execution.price)
        else:
            self.cash += value - execution.fee
            self._receive(execution.symbol, -execution.qty, ZERO)

    def _receive(self, symbol: str, qty: Decimal, price: Decimal) -> None:
        held = self.coins.setdefault(symbol, Holding())
        if qty > 0:
            held.average = (held.qty * held.average + qty * price) / (held.qty + qty)
        held.qty += qty
        if held.qty == 0:
            del self.coins[symbol]


def reserved_cash(open_orders: Iterable[PaperOrder]) -> Decimal:
    """USD that open buys may still spend; their fees are taken in coins."""
    return sum((order.left * order.working_limit for order in open_orders if order.side is Side.BUY), ZERO)


def reserved_coins(open_orders: Iterable[PaperOrder], symbol: str) -> Decimal:
    """Coins that open sells of `symbol` may still take."""
    return sum(
        (order.left for order in open_orders if order.side is Side.SELL and order.symbol == symbol), ZERO
    )
