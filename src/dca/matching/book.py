"""The orders of one symbol at the venue, and what a quote does to them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from dca.domain.fees import FeeRates
from dca.domain.market import Quote
from dca.domain.money import floor_to
from dca.domain.order import Side
from dca.matching.fees import TIERS, fee_of

COLLAR = Decimal("0.02")
"""A market order is a limit order this far beyond the touch (Alpaca support on notional orders)."""
QTY_STEP = Decimal("0.000000001")
_NEVER_BUY = Decimal("-Infinity")
_NEVER_SELL = Decimal("Infinity")

Draw = Callable[[], float]
"""A number in [0, 1), from the caller's random source."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a venue executes: its fee rates, and how often an execution is only a part of the order."""

    rates: FeeRates = TIERS[0]
    partial_rate: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """An order in the book. `qty` is what is left of it.

    A market order is one whose `limit` is its collar. `stop` is None once triggered. `resting`
    turns true at the first quote that does not execute the order: from then on it is a maker.
    """

    id: str
    side: Side
    qty: Decimal
    limit: Decimal
    stop: Decimal | None = None
    resting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One execution. `qty` is gross; `fee` is in coins for a buy, in USD for a sell."""

    order_id: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    maker: bool


@dataclass(frozen=True, slots=True)
class Book:
    """The orders of one symbol, oldest first.

    An ask at or below `buy_at`, or a bid at or above `sell_at`, may change something; any other
    quote changes nothing, and costs two comparisons.
    """

    orders: tuple[Working, ...] = ()
    buy_at: Decimal = _NEVER_BUY
    sell_at: Decimal = _NEVER_SELL
    eager: bool = False

    def __contains__(self, order_id: str) -> bool:
        return any(order.id == order_id for order in self.orders)


def book_of(orders: tuple[Working, ...]) -> Book:
    """The book that holds `orders`.

    Stops look the other way (a buy stop waits for the ask to rise), so any stop makes the book
    eager, as does an order that has not yet seen a quote it could not execute on.
    """
    buys = [order.limit for order in orders if order.side is Side.BUY]
    sells = [order.limit for order in orders if order.side is Side.SELL]
    eager = any(order.stop is not None or not order.resting for order in orders)
    return Book(orders, max(buys, default=_NEVER_BUY), min(sells, default=_NEVER_SELL), eager)


def without(book: Book, order_id: str) -> Book:
    """`book` without the order of that id, if it held it."""
    return book_of(tuple(order for order in book.orders if order.id != order_id))


def collar(side: Side, quote: Quote) -> Decimal:
    """The limit that a market order gets at `quote`."""
    if side is Side.BUY:
        return quote.ask * (1 + COLLAR)
    return quote.bid * (1 - COLLAR)


def match(book: Book, quote: Quote, terms: Terms, draw: Draw) -> tuple[Book, tuple[Match, ...]]:
    """`book` after `quote`, and the executions it caused, in the order of arrival.

    The size of an order never matters: the venue simulated here does not check liquidity either
    (docs.alpaca.markets/docs/paper-trading). The book itself is returned when nothing changed.
    """
    if not book.eager and quote.ask > book.buy_at and quote.bid < book.sell_at:
        return book, ()
    kept: list[Working] = []
    matches: list[Match] = []
    for order in book.orders:
        left, executed = _try(order, quote, terms, draw)
        if executed is not None:
            matches.append(executed)
        if left is not None:
            kept.append(left)
    orders = tuple(kept)
    return (book if orders == book.orders else book_of(orders)), tuple(matches)


def enter(
    book: Book, order: Working, quote: Quote | None, terms: Terms, draw: Draw, *, ioc: bool = False
) -> tuple[Book, tuple[Match, ...]]:
    """`book` after `order` arrived while `quote` stood, and what it executed at once.

    Orders that were there before do not meet the same quote twice. With `ioc`, or when it executed
    in full, the order is not in the book that is returned.
    """
    alone, matches = book_of((order,)), ()  # type: tuple[Book, tuple[Match, ...]]
    if quote is not None:
        alone, matches = match(alone, quote, terms, draw)
    if ioc or not alone.orders:
        return book, matches
    return book_of(book.orders + alone.orders), matches


def _try(order: Working, quote: Quote, terms: Terms, draw: Draw) -> tuple[Working | None, Match | None]:
    buys = order.side is Side.BUY
    touch = quote.ask if buys else quote.bid
    if order.stop is not None:
        if not _triggers(order.stop, buys, touch):
            return order, None
        order = replace(order, stop=None)
    if touch > order.limit if buys else touch < order.limit:
        return (order if order.resting else replace(order, resting=True)), None
    qty = _executed_qty(order.qty, terms.partial_rate, draw)
    executed = execution(order, qty, order.limit if order.resting else touch, terms.rates)
    return (replace(order, qty=order.qty - qty) if qty < order.qty else None), executed


def _triggers(stop: Decimal, buys: bool, touch: Decimal) -> bool:
    """What triggers a crypto stop is nowhere documented; here it is the price it would trade at."""
    return touch >= stop if buys else touch <= stop


def _executed_qty(qty: Decimal, partial_rate: float, draw: Draw) -> Decimal:
    if partial_rate <= 0 or draw() >= partial_rate:
        return qty
    part = floor_to(qty * Decimal(str(round(0.1 + 0.8 * draw(), 6))), QTY_STEP)
    return part if part > 0 else qty


def execution(order: Working, qty: Decimal, price: Decimal, rates: FeeRates) -> Match:
    """`qty` of `order` executed at `price`, with its fee."""
    rate = rates.maker if order.resting else rates.taker
    return Match(
        order_id=order.id,
        side=order.side,
        qty=qty,
        price=price,
        fee=fee_of(order.side, qty, price, rate),
        maker=order.resting,
    )
