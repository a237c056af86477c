"""The venue of a life: an account, orders that fill in bursts, and a log of everything that happened.

It shares no rule with the program that trades on it: prices, fees, reservation and refusals are
written down here a second time, from Alpaca's documentation.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal
from random import Random

from dca.domain.account import Activity
from dca.domain.errors import DuplicateKey, Rejected
from dca.domain.market import Instrument, Quote
from dca.domain.order import Execution, Intent, OrderStatus, Side, TimeInForce, TradeUpdate, VenueOrder
from dca.prove.fates import Fates
from dca.prove.loop import LoopClock

MAKER, TAKER = Decimal("0.0015"), Decimal("0.0025")
SMALLEST_USD = Decimal(10)
COIN, CENT = Decimal("0.000000001"), Decimal("0.01")
ZERO = Decimal(0)
PERSON = "person"
STEP = Decimal("0.000000001")


@dataclass(slots=True)
class Placed:
    """An order as the venue keeps it. Times are seconds of virtual time; `visible_at` is when reads
    begin to show it."""

    id: str
    key: str
    symbol: str
    side: Side
    qty: Decimal
    limit: Decimal | None
    at: float
    visible_at: float
    taken: datetime
    filled: Decimal = ZERO
    value: Decimal = ZERO
    status: str = "new"
    resting: bool = False
    filling: bool = False
    told_fill: bool = False
    cancel_asked: bool = False
    executions: list["Executed"] = field(default_factory=list)
    ended_at: float | None = None

    @property
    def live(self) -> bool:
        return self.status in ("new", "partially_filled", "pending_cancel")

    @property
    def left(self) -> Decimal:
        return self.qty - self.filled


@dataclass(frozen=True, slots=True)
class Executed:
    """One execution: `qty` gross, `fee` in what was received."""

    id: str
    order: Placed
    qty: Decimal
    price: Decimal
    fee: Decimal
    cum: Decimal
    at: float
    stamp: datetime


class Watcher:
    """Sees what the venue did, at that instant; a judge overrides what it wants to see."""

    def accepted(self, order: Placed) -> None: ...

    def executed(self, execution: Executed) -> None: ...


Listener = Callable[[TradeUpdate, Executed | None], None]


class Exchange:
    """An account at the venue."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: LoopClock,
        fates: Fates,
        random: Random,
        instruments: dict[str, Instrument],
        cash: Decimal,
    ) -> None:
        self.loop, self.clock, self.fates, self.random = loop, clock, fates, random
        self.instruments = instruments
        self.cash = cash
        self.coins: dict[str, Decimal] = dict.fromkeys(instruments, ZERO)
        self.quotes: dict[str, Quote] = {}
        self.orders: dict[str, Placed] = {}
        self.by_key: dict[str, Placed] = {}
        self.live: dict[str, Placed] = {}
        self.executions: list[Executed] = []
        self.bodies: list[tuple[float, Intent, bool]] = []
        self.listener: Listener | None = None
        self.watcher = Watcher()
        self.blocked_until = -1.0
        self.transfers: list[Activity] = []
        self.foreign: dict[str, Decimal] = dict.fromkeys(instruments, ZERO)
        self.deposited_at = 0.0

    # The market

    def quote(self, quote: Quote) -> None:
        """The market is at `quote`; what can execute begins to."""
        self.quotes[quote.symbol] = quote
        for order in [one for one in self.live.values() if one.symbol == quote.symbol]:
            if self.fates.happens("venue_cancels", 0.1):
                self._end(order, "canceled")
            elif self._crosses(order):
                self._fill_soon(order)
            else:
                order.resting = True

    def _crosses(self, order: Placed) -> bool:
        quote = self.quotes[order.symbol]
        if order.limit is None:
            return True
        return quote.ask <= order.limit if order.side is Side.BUY else quote.bid >= order.limit

    def _fill_soon(self, order: Placed, first_s: float | None = None) -> None:
        """What is left is executed in one to three bursts, the first of them `first_s` from now."""
        if order.filling:
            return
        order.filling = True
        total = order.left
        if self.fates.happens("partial"):
            total = (total * Decimal(self.random.randint(10, 90)) / 100).quantize(STEP, ROUND_DOWN)
        bursts = self.random.choice((1, 1, 2, 3))
        delay = self.fates.between(0.0, 0.4) if first_s is None else first_s
        share = (total / bursts).quantize(STEP, ROUND_DOWN)
        for number in range(bursts):
            qty = share if number < bursts - 1 else total - share * (bursts - 1)
            last = number == bursts - 1
            if delay <= 0 and number == 0:
                self._execute(order, qty, last)
            else:
                self.loop.call_later(delay, self._execute, order, qty, last)
            delay += self.random.choice((0.0, 0.0, 0.004, 0.2))

    def _execute(self, order: Placed, qty: Decimal, last: bool) -> None:
        if last:
            order.filling = False
        if not order.live or qty <= 0 or not self._crosses(order):
            return
        quote = self.quotes[order.symbol]
        touch = quote.ask if order.side is Side.BUY else quote.bid
        price = order.limit if order.resting and order.limit is not None else touch
        rate = MAKER if order.resting else TAKER
        if order.side is Side.BUY:
            fee = (qty * rate).quantize(COIN, ROUND_CEILING)
            self.coins[order.symbol] += qty - fee
            self.cash -= qty * price
        else:
            fee = (qty * price * rate).quantize(CENT, ROUND_CEILING)
            self.coins[order.symbol] -= qty
            self.cash += qty * price - fee
        order.filled += qty
        order.value += qty * price
        at = self.loop.time()
        number = f"x{len(self.executions) + 1}"
        execution = Executed(number, order, qty, price, fee, order.filled, at, self.clock.true())
        self.executions.append(execution)
        order.executions.append(execution)
        self.watcher.executed(execution)
        if order.left <= 0:
            self._over(order, "filled")
        elif order.status == "new":
            order.status = "partially_filled"
        self._tell("fill" if order.left <= 0 else "partial_fill", order, execution)

    def _over(self, order: Placed, status: str) -> None:
        if status == "filled" and order.cancel_asked:
            self.fates.happened["cancel_lost_to_fill"] += 1
        if status == "canceled" and order.filled > 0:
            self.fates.happened["partial_then_cancel"] += 1
        order.status, order.ended_at = status, self.loop.time()
        self.live.pop(order.id, None)

    def _end(self, order: Placed, status: str) -> None:
        """The order is over without having filled whole."""
        if order.live:
            self._over(order, status)
            self._tell(status, order, None)

    def _tell(self, event: str, order: Placed, execution: Executed | None) -> None:
        if self.listener is not None:
            shown = None if execution is None else self._shown(execution)
            update = TradeUpdate(event=event, order=self.seen(order), execution=shown, at=self.clock.true())
            self.listener(update, execution)

    # Requests

    def accept(self, intent: Intent, lag_s: float = 0.0) -> VenueOrder:
        """The order is taken. Raises Rejected, DuplicateKey."""
        taken = False
        try:
            self._check(intent)
            taken = True
        finally:
            self.bodies.append((self.loop.time(), intent, taken))
        order = self._place(intent.key, intent.symbol, intent.side, intent.qty, intent.limit, lag_s)
        self.watcher.accepted(order)
        self._tell("new", order, None)
        if self.fates.happens("async_reject"):
            order.filling = True
            self.loop.call_later(2.0, self._end, order, "rejected")
        elif intent.time_in_force is TimeInForce.IOC:
            self._fill_soon(order, 0.0)
            self.loop.call_later(0.0, self._end, order, "canceled")
        elif self.fates.happens("price_moves_away"):
            order.resting = True
            order.filling = True
            away = (1, 40) if self.random.random() < 0.6 else (200, 700)
            self.loop.call_later(self.fates.between(*away), self._back, order)
        elif self._crosses(order):
            # Half of the time before the request is answered.
            self._fill_soon(order, self.random.choice((0.0, 0.01, 0.3, 1.5)))
        return self.seen(order)

    def _back(self, order: Placed) -> None:
        """The market came back to an order that it had left."""
        order.filling = False
        if order.live and self._crosses(order):
            self._fill_soon(order)

    def _place(
        self, key: str, symbol: str, side: Side, qty: Decimal, limit: Decimal | None, lag_s: float
    ) -> Placed:
        now = self.loop.time()
        order = Placed(
            f"v{len(self.orders) + 1}", key, symbol, side, qty, limit, now, now + lag_s, self.clock.true()
        )
        self.orders[order.id] = order
        self.by_key[key] = order
        self.live[order.id] = order
        return order

    def _check(self, intent: Intent) -> None:
        if intent.key in self.by_key:
            self.fates.happened["second_request_refused"] += 1
            raise DuplicateKey("client_order_id must be unique", status=422, code=40010001)
        if self.loop.time() < self.blocked_until:
            raise Rejected("account is blocked", status=403, code=40310000)
        quote = self.quotes[intent.symbol]
        opposite = [o for o in self.live.values() if o.symbol == intent.symbol and o.side is not intent.side]
        if opposite and intent.limit is None:
            raise Rejected("potential wash trade detected", status=403, code=40310000)
        if intent.side is Side.SELL:
            if intent.qty > self.available(intent.symbol):
                raise Rejected("insufficient balance for the coin", status=403, code=40310000)
            return
        assert intent.limit is not None, "the program buys with limits only"
        if intent.qty * intent.limit > self.spendable():
            raise Rejected("insufficient balance for USD", status=403, code=40310000)
        if intent.qty * min(intent.limit, quote.ask) < SMALLEST_USD:
            raise Rejected("cost basis must be >= minimal amount of order 10", status=403, code=40310000)

    def withdraw(self, venue_id: str) -> None:
        """The request to cancel was taken. Raises Rejected."""
        order = self.orders[venue_id]
        if not order.live:
            raise Rejected(f'order is already in "{order.status}" state', status=422, code=42210000)
        order.cancel_asked = True
        if self.fates.happens("fill_during_cancel"):
            order.filling = False
            self.loop.call_later(0.05, self._fill_anyway, order)
            self.loop.call_later(1.0, self._end, order, "canceled")
        elif self.fates.happens("slow_cancel"):
            order.status = "pending_cancel"
            self.loop.call_later(self.fates.between(0.5, 30), self._end, order, "canceled")
        else:
            self._end(order, "canceled")

    def _fill_anyway(self, order: Placed) -> None:
        """The market comes to the order for a moment, and takes some or all of it."""
        if not order.live or order.limit is None:
            return
        before = self.quotes[order.symbol]
        near = before._replace(ask=order.limit, bid=order.limit)
        self.quotes[order.symbol] = near
        part = self.random.choice((Decimal(1), Decimal(1), Decimal("0.4")))
        self._execute(order, (order.left * part).quantize(STEP, ROUND_DOWN), True)
        self.quotes[order.symbol] = before

    # What reads show

    def seen(self, order: Placed) -> VenueOrder:
        return VenueOrder(
            venue_id=order.id,
            key=order.key,
            symbol=order.symbol,
            side=order.side,
            status=_STATUS.get(order.status, OrderStatus.PARTIAL if order.filled > 0 else OrderStatus.OPEN),
            qty=order.qty,
            limit=order.limit,
            filled_qty=order.filled,
            filled_avg_price=order.value / order.filled if order.filled > 0 else None,
            submitted_at=order.taken,
        )

    def _shown(self, execution: Executed) -> Execution:
        return Execution(
            id=execution.id,
            qty=execution.qty,
            price=execution.price,
            cum_qty=execution.cum,
            at=execution.stamp,
        )

    def find(self, key: str) -> VenueOrder | None:
        order = self.by_key.get(key)
        if order is None or order.visible_at > self.loop.time():
            return None
        return self.seen(order)

    def open(self) -> list[VenueOrder]:
        now = self.loop.time()
        return [self.seen(order) for order in self.live.values() if order.visible_at <= now]

    def since(self, at: datetime) -> list[VenueOrder]:
        now = self.loop.time()
        found = [one for one in self.orders.values() if one.taken > at and one.visible_at <= now]
        return [self.seen(one) for one in found]

    def activities(self, since: datetime) -> list[Activity]:
        fills = [self._activity(one) for one in self.executions if one.stamp >= since]
        return [*fills, *(one for one in self.transfers if one.at >= since)]

    def _activity(self, one: Executed) -> Activity:
        sign = 1 if one.order.side is Side.BUY else -1
        return Activity(
            id=one.id,
            kind="FILL",
            at=one.stamp,
            symbol=one.order.symbol,
            qty=sign * one.qty,
            price=one.price,
            net=-sign * one.qty * one.price,
            order_id=one.order.id,
        )

    def history(self, venue_id: str) -> list[Execution]:
        return [self._shown(one) for one in self.orders[venue_id].executions]

    def available(self, symbol: str) -> Decimal:
        sells = (one for one in self.live.values() if one.symbol == symbol and one.side is Side.SELL)
        return self.coins[symbol] - sum((one.left for one in sells), ZERO)

    def spendable(self) -> Decimal:
        buys = (one for one in self.live.values() if one.side is Side.BUY)
        return self.cash - sum((one.left * (one.limit or ZERO) for one in buys), ZERO)

    # People

    def sell_by_hand(self, symbol: str, qty: Decimal) -> None:
        """A person sells coins, whoever bought them, past the program; the streams tell of his order."""
        order = self._place(f"{PERSON}-{len(self.orders) + 1}", symbol, Side.SELL, qty, None, 0.0)
        order.filled, order.value = qty, qty * self.quotes[symbol].bid
        self._over(order, "filled")
        self._tell("fill", order, None)
        self.coins[symbol] -= qty
        self.cash += qty * self.quotes[symbol].bid
        self.foreign[symbol] -= qty

    def deposit(self, symbol: str, qty: Decimal) -> None:
        self.coins[symbol] += qty
        self.foreign[symbol] += qty
        self.deposited_at = self.loop.time()


_STATUS = {
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "rejected": OrderStatus.REJECTED,
}
