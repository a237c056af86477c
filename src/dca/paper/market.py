"""What the market-data side remembers: quotes, trades, and bars made of them."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dca.domain.market import Quote
from dca.domain.order import Side
from dca.paper.ledger import Execution
from dca.paper.wire import Json

MINUTE = timedelta(minutes=1)
QUOTES_KEPT = 20_000
SIZE = 1.0
"""Shown at every touch; like the venue's simulator, this one never looks at it."""


@dataclass(slots=True)
class Bar:
    """Mid prices of quotes and prices of trades; `volume` is in base and often 0, as at the venue."""

    at: datetime
    open: float
    high: float
    low: float
    close: float
    count: int = 0
    volume: float = 0.0
    total: float = 0.0
    points: int = 0

    def add(self, price: float, qty: float = 0.0) -> None:
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += qty
        self.count += qty > 0
        self.total += price
        self.points += 1

    def wire(self) -> Json:
        return {
            "t": self.at,
            "o": self.open,
            "h": self.high,
            "l": self.low,
            "c": self.close,
            "v": round(self.volume, 9),
            "n": self.count,
            "vw": round(self.total / max(1, self.points), 9),
        }


def merged(bars: Iterable[Bar], at: datetime) -> Bar:
    """One bar, stamped `at`, of several that follow each other. There must be one at least."""
    first, *others = bars
    sums = Bar(
        at,
        first.open,
        first.high,
        first.low,
        first.close,
        first.count,
        first.volume,
        first.total,
        first.points,
    )
    for bar in others:
        sums.high, sums.low, sums.close = max(sums.high, bar.high), min(sums.low, bar.low), bar.close
        sums.count += bar.count
        sums.volume += bar.volume
        sums.total += bar.total
        sums.points += bar.points
    return sums


@dataclass(slots=True)
class Tape:
    """One symbol's past, oldest first. The last bar is still forming."""

    quotes: deque[Quote] = field(default_factory=lambda: deque(maxlen=QUOTES_KEPT))
    trades: list[Json] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def point(self, at: datetime, price: float, qty: float = 0.0) -> Bar | None:
        """The bar that ended because `price` belongs to a later minute, if one did."""
        minute = at.replace(second=0, microsecond=0)
        last = self.bars[-1] if self.bars else None
        if last is not None and last.at >= minute:
            last.add(price, qty)
            return None
        bar = Bar(minute, price, price, price, price)
        bar.add(price, qty)
        self.bars.append(bar)
        return last

    def day(self, at: datetime) -> Bar | None:
        """The bar of the day in which `at` lies, as far as it is known."""
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        bars = [bar for bar in self.bars if midnight <= bar.at < midnight + timedelta(days=1)]
        return merged(bars, midnight) if bars else None


class Market:
    """The past of every symbol."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self.tapes = {symbol: Tape() for symbol in symbols}
        self.quotes_seen = 0

    def on_quote(self, quote: Quote) -> Bar | None:
        """The quote is remembered; the minute bar that it ended, if it did."""
        self.quotes_seen += 1
        tape = self.tapes[quote.symbol]
        tape.quotes.append(quote)
        return tape.point(quote.at, float(quote.bid + quote.ask) / 2)

    def on_execution(self, executed: Execution) -> tuple[Json, Bar | None]:
        """The trade as the market sees it, and the minute bar that it ended, if it did."""
        tape = self.tapes[executed.symbol]
        price, qty = float(executed.price), float(executed.qty)
        ended = tape.point(executed.at, price, qty)
        taker_buys = (executed.side is Side.BUY) is (executed.liquidity == "taker")
        trade = {"t": executed.at, "p": price, "s": qty, "i": len(tape.trades) + 1}
        trade["tks"] = "B" if taker_buys else "S"
        tape.trades.append(trade)
        return trade, ended


def quote_wire(quote: Quote) -> Json:
    return {
        "t": quote.at,
        "bp": float(quote.bid),
        "bs": SIZE,
        "ap": float(quote.ask),
        "as": SIZE,
    }


def orderbook_wire(quote: Quote) -> Json:
    """A book of one level: there is no depth where size is not looked at."""
    return {
        "t": quote.at,
        "b": [{"p": float(quote.bid), "s": SIZE}],
        "a": [{"p": float(quote.ask), "s": SIZE}],
    }
