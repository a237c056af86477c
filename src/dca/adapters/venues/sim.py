"""A venue inside this process: the matching of the paper exchange without sockets, on any clock.

Its rules are those of Alpaca that money depends on: reservation, the smallest order, fees in what is
received, keys used once for ever, gross fills against net positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from random import Random

from dca import boundaries
from dca.domain.account import Activity
from dca.domain.errors import DuplicateKey, Rejected, Unavailable
from dca.domain.market import Instrument, Quote
from dca.domain.money import ZERO
from dca.domain.order import Execution, Intent, OrderStatus, Side, TimeInForce, TradeUpdate, VenueOrder
from dca.matching.book import Book, Match, Terms, Working, collar, enter, match, without
from dca.ports import Account, Clock, Holding

MIN_NOTIONAL = Decimal(10)
_OPEN = (OrderStatus.OPEN, OrderStatus.PARTIAL)


@dataclass
class SimVenue:
    """Implements dca.ports.Broker. `updates` collects what its trade stream would send, in order."""

    clock: Clock
    instruments_: dict[str, Instrument]
    cash: Decimal
    random: Random
    terms: Terms = Terms()
    coins: dict[str, Decimal] = field(default_factory=dict)
    updates: list[TradeUpdate] = field(default_factory=list)
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    submitted: list[Intent] = field(default_factory=list)
    matches: list[tuple[str, Match]] = field(default_factory=list)
    transfers: list[Activity] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._books: dict[str, Book] = {symbol: Book() for symbol in self.instruments_}
        self._quotes: dict[str, Quote] = {}
        self._keys: dict[str, str] = {}
        self._executions: dict[str, list[Execution]] = {}

    # What the market does

    def quote(self, quote: Quote) -> None:
        """The market is at `quote`, and every order it executes has its fills."""
        self._quotes[quote.symbol] = quote
        self._match(quote.symbol)

    def _match(self, symbol: str) -> None:
        quote = self._quotes[symbol]
        self._book(symbol, match(self._books[symbol], quote, self.terms, self.random.random))

    def _book(self, symbol: str, result: tuple[Book, tuple[Match, ...]]) -> None:
        self._books[symbol], matches = result
        for one in matches:
            self._fill(symbol, one)

    def _fill(self, symbol: str, one: Match) -> None:
        order = self.orders[one.order_id]
        held = self.coins.get(symbol, ZERO)
        if one.side is Side.BUY:
            self.coins[symbol] = held + one.qty - one.fee
            self.cash -= one.qty * one.price
        else:
            self.coins[symbol] = held - one.qty
            self.cash += one.qty * one.price - one.fee
        filled = order.filled_qty + one.qty
        value = (order.filled_avg_price or ZERO) * order.filled_qty + one.price * one.qty
        done = filled == order.qty
        status = OrderStatus.FILLED if done else OrderStatus.PARTIAL
        order = replace(order, status=status, filled_qty=filled, filled_avg_price=value / filled)
        self.orders[order.venue_id] = order
        self.matches.append((order.key, one))
        execution = Execution(
            id=f"x{len(self.matches)}", qty=one.qty, price=one.price, cum_qty=filled, at=self.clock.now()
        )
        self._executions.setdefault(order.venue_id, []).append(execution)
        self._tell("fill" if done else "partial_fill", order, execution)

    def _tell(self, event: str, order: VenueOrder, execution: Execution | None = None) -> None:
        self.updates.append(TradeUpdate(event=event, order=order, execution=execution, at=self.clock.now()))

    def transfer(self, amount: Decimal) -> None:
        """USD came in, or went out when negative, and the account's history says so."""
        self.cash += amount
        kind, name = "CSD" if amount > 0 else "CSW", f"t{len(self.transfers) + 1}"
        self.transfers.append(Activity(id=name, kind=kind, at=self.clock.now(), net=amount))

    # dca.ports.Broker

    @boundaries.request
    def submit(self, intent: Intent) -> VenueOrder:
        self.submitted.append(intent)
        if intent.key in self._keys:
            raise DuplicateKey("client_order_id must be unique", status=422, code=40010001)
        quote = self._quotes.get(intent.symbol)
        if quote is None:
            raise Rejected(f"asset {intent.symbol} has no price", status=422, code=42210000)
        limit = intent.limit if intent.limit is not None else collar(intent.side, quote)
        self._check(intent, limit, quote)
        order = VenueOrder(
            venue_id=f"v{len(self.orders) + 1}",
            key=intent.key,
            symbol=intent.symbol,
            side=intent.side,
            status=OrderStatus.OPEN,
            qty=intent.qty,
            limit=intent.limit,
            filled_qty=ZERO,
            filled_avg_price=None,
            submitted_at=self.clock.now(),
        )
        self.orders[order.venue_id] = order
        self._keys[order.key] = order.venue_id
        self._tell("new", order)
        working = Working(id=order.venue_id, side=intent.side, qty=intent.qty, limit=limit)
        book = self._books[intent.symbol]
        self._book(intent.symbol, enter(book, working, quote, self.terms, self.random.random))
        if intent.time_in_force is TimeInForce.IOC and self.orders[order.venue_id].status in _OPEN:
            self._cancel(self.orders[order.venue_id])
        return order

    def _check(self, intent: Intent, limit: Decimal, quote: Quote) -> None:
        holding = self._holding(intent.symbol)
        if intent.side is Side.SELL:
            if intent.qty > holding.available:
                raise Rejected("insufficient balance for the coin", status=403, code=40310000)
            if intent.qty * quote.bid < MIN_NOTIONAL and intent.qty != holding.available:
                raise Rejected("cost basis must be >= minimal amount of order 10", status=403)
            return
        if intent.qty * limit > self._spendable():
            raise Rejected("insufficient balance for USD", status=403, code=40310000)
        if intent.qty * limit < MIN_NOTIONAL:
            raise Rejected("cost basis must be >= minimal amount of order 10", status=403)

    @boundaries.request
    def cancel(self, venue_id: str) -> None:
        order = self.orders[venue_id]
        if order.status not in _OPEN:
            raise Rejected(f'order is already in "{order.status}" state', status=422, code=42210000)
        self._cancel(order)

    def _cancel(self, order: VenueOrder) -> None:
        self._books[order.symbol] = without(self._books[order.symbol], order.venue_id)
        self.orders[order.venue_id] = replace(order, status=OrderStatus.CANCELED)
        self._tell("canceled", self.orders[order.venue_id])

    @boundaries.request
    def find(self, key: str) -> VenueOrder | None:
        venue_id = self._keys.get(key)
        return None if venue_id is None else self.orders[venue_id]

    def _working(self, symbol: str, side: Side) -> Iterable[VenueOrder]:
        return (
            order
            for order in self.orders.values()
            if order.status in _OPEN and order.symbol == symbol and order.side is side
        )

    @boundaries.request
    def open_orders(self) -> list[VenueOrder]:
        return [order for order in self.orders.values() if order.status in _OPEN]

    @boundaries.request
    def orders_since(self, at: datetime) -> list[VenueOrder]:
        return [order for order in self.orders.values() if order.submitted_at > at]

    @boundaries.request
    def executions(self, venue_id: str) -> list[Execution]:
        return list(self._executions.get(venue_id, ()))

    @boundaries.request
    def activities(self, since: datetime) -> list[Activity]:
        fills = (self._activity(name, one) for name, done in self._executions.items() for one in done)
        return [one for one in (*fills, *self.transfers) if one.at >= since]

    def _activity(self, venue_id: str, one: Execution) -> Activity:
        order = self.orders[venue_id]
        qty = one.qty if order.side is Side.BUY else -one.qty
        return Activity(
            id=one.id,
            kind="FILL",
            at=one.at,
            symbol=order.symbol,
            qty=qty,
            price=one.price,
            net=-qty * one.price,
            order_id=venue_id,
        )

    @boundaries.request
    def holding(self, symbol: str) -> Holding:
        return self._holding(symbol)

    def _holding(self, symbol: str) -> Holding:
        held = self.coins.get(symbol, ZERO)
        reserved = sum(
            ((order.qty or ZERO) - order.filled_qty for order in self._working(symbol, Side.SELL)), ZERO
        )
        return Holding(held, held - reserved)

    @boundaries.request
    def positions(self) -> dict[str, Holding]:
        return {symbol: self._holding(symbol) for symbol, held in self.coins.items() if held > 0}

    def _spendable(self) -> Decimal:
        reserved = sum(
            (
                ((order.qty or ZERO) - order.filled_qty) * (order.limit or ZERO)
                for symbol in self.instruments_
                for order in self._working(symbol, Side.BUY)
            ),
            ZERO,
        )
        return self.cash - reserved

    @boundaries.request
    def account(self) -> Account:
        worth = sum(
            (held * self._quotes[symbol].bid for symbol, held in self.coins.items() if held > 0), ZERO
        )
        return Account("sim", self.cash, self.cash + worth, self._spendable(), blocked=False)

    @boundaries.request
    def instruments(self) -> dict[str, Instrument]:
        return dict(self.instruments_)

    @boundaries.request
    def latest_quote(self, symbol: str) -> Quote:
        if symbol not in self._quotes:
            raise Unavailable(f"{symbol} has no price yet")
        return self._quotes[symbol]

    @boundaries.request
    def latest_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return {symbol: self._quotes[symbol] for symbol in symbols if symbol in self._quotes}

    @boundaries.request
    def time(self) -> datetime:
        return self.clock.now()
