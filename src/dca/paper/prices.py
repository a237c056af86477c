"""Where prices come from: recorded candles, or a random walk."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.domain.money import exact
from dca.paper.config import Tape
from dca.paper.wire import instant

CANDLE_S = 60
POINTS = 4
BPS = Decimal("0.0001")
SPREAD_BPS = Decimal(3)
"""Full spread between bid and ask; BTC/USD was measured at 2.7 to 3.8 on the venue."""
COLUMNS = ["open_time", "open", "high", "low", "close"]


class Candle(NamedTuple):
    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass(frozen=True, slots=True)
class Replay:
    """Recorded candles of one symbol, from `start` up to but not including `end`."""

    symbol: str
    path: Path
    start: datetime | None = None
    end: datetime | None = None
    spread_bps: Decimal = SPREAD_BPS

    def open(self, seed: int, now: datetime) -> Tape:
        """Raises ConfigError when the file cannot be read or has nothing in the window."""
        candles = read_candles(self.path, self.start, self.end)
        return Tape(quotes_of(self.symbol, candles, self.spread_bps), POINTS * len(candles))


@dataclass(frozen=True, slots=True)
class Walk:
    """A seeded random walk: a quote every `every_s` seconds, moving by some `step_bps`, for ever."""

    symbol: str
    price: Decimal
    step_bps: float = 5.0
    every_s: float = 1.0
    spread_bps: Decimal = SPREAD_BPS

    def open(self, seed: int, now: datetime) -> Tape:
        return Tape(self._quotes(Random(f"{seed}/{self.symbol}"), now), None)  # noqa: S311

    def _quotes(self, random: Random, at: datetime) -> Iterator[Quote]:
        price = self.price
        while True:
            yield quote_at(self.symbol, price, self.spread_bps, at)
            at += timedelta(seconds=self.every_s)
            change = 1 + random.gauss(0, self.step_bps) / 10_000
            price = max(price_step(price), price * exact(f"{max(0.5, change):.9f}"))
            price = price.quantize(price_step(price) / 1000)


def read_candles(path: Path, start: datetime | None, end: datetime | None) -> list[Candle]:
    """The candles of a window of a CSV file, packed or not. Raises ConfigError."""
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        rows = csv.reader(io.StringIO(text.decode()))
        if next(rows)[: len(COLUMNS)] != COLUMNS:
            raise ConfigError(f"{path}: the first columns must be {', '.join(COLUMNS)}")
        candles = [_candle(row) for row in rows if row and _inside(row[0], start, end)]
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise ConfigError(f"{path}: not a readable candle file: {error!r}") from error
    if not candles:
        raise ConfigError(f"{path}: no candles between {start} and {end}")
    return candles


def _inside(at: str, start: datetime | None, end: datetime | None) -> bool:
    when = instant(at)
    return (start is None or when >= start) and (end is None or when < end)


def _candle(row: list[str]) -> Candle:
    opened, high, low, close = (exact(text) for text in row[1:5])
    return Candle(instant(row[0]), opened, high, low, close)


def quotes_of(symbol: str, candles: Iterable[Candle], spread_bps: Decimal) -> Iterator[Quote]:
    """Four quotes a candle, a quarter of it apart.

    A candle does not tell which of its extremes came first; one that rose is taken to have dipped
    before, one that fell to have risen before.
    """
    step = timedelta(seconds=CANDLE_S / POINTS)
    for candle in candles:
        rose = candle.close >= candle.open
        extremes = (candle.low, candle.high) if rose else (candle.high, candle.low)
        for place, price in enumerate((candle.open, *extremes, candle.close)):
            yield quote_at(symbol, price, spread_bps, candle.at + place * step)


def quote_at(symbol: str, price: Decimal, spread_bps: Decimal, at: datetime) -> Quote:
    """Bid and ask around `price`, rounded to its step."""
    half = spread_bps * BPS / 2
    step = price_step(price)
    return Quote(symbol, (price * (1 - half)).quantize(step), (price * (1 + half)).quantize(step), at)


def price_step(price: Decimal) -> Decimal:
    """Cents; finer for coins so cheap that cents would swallow the spread."""
    if price >= 100:
        return Decimal("0.01")
    return Decimal("0.0001") if price >= 1 else Decimal("0.000001")
