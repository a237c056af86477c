"""Frames of the market-data stream, decoded to the newest quote of each symbol.

This runs for every frame there is, so it does little: only the newest item of a symbol is read, and
a price becomes Decimal only when it differs from the one before.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import msgpack

from dca.adapters.venues.alpaca.link import Tally
from dca.adapters.venues.alpaca.wire import MISSHAPEN, PRICE_LIMIT
from dca.domain.market import Quote
from dca.domain.money import ZERO

UNPACKABLE = (*MISSHAPEN, msgpack.UnpackException, RecursionError)

_quote = partial(tuple.__new__, Quote)


def unpack(frame: bytes) -> list[Any]:
    """The items of a frame, as text. Raises one of UNPACKABLE."""
    return _array(msgpack.unpackb(frame, strict_map_key=False, unicode_errors="replace"))


def _unpack_raw(frame: bytes) -> list[Any]:
    """The items of a frame, with times as datetime, or all of them as msgpack.Timestamp when one is
    beyond what datetime holds.

    Text is left as bytes: that is a quarter faster, and text that is no UTF-8 costs nobody else.
    """
    try:
        return _array(msgpack.unpackb(frame, raw=True, strict_map_key=False, timestamp=3))
    except (OverflowError, ValueError):
        return _array(msgpack.unpackb(frame, raw=True, strict_map_key=False))


def _array(items: Any) -> list[Any]:
    if type(items) is not list:
        raise ValueError("a frame that is not an array")
    return items


class _Last:
    """The last prices of a symbol, as the numbers that came and as what they are."""

    __slots__ = ("ask", "ask_number", "bid", "bid_number", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.bid_number = self.ask_number = 0.0
        self.bid = self.ask = ZERO


class QuoteDecoder:
    """Decodes frames for `symbols`. `on_notice` gets the items that are not quotes.

    `dropped` counts items that are no usable quote (a price that is NaN, infinite, 0 or negative, a
    bid above its ask, no time, a symbol nobody asked for), `malformed` counts whole frames.
    """

    def __init__(self, symbols: Sequence[str], on_notice: Callable[[dict[str, Any]], None]) -> None:
        self._on_notice = on_notice
        self._lasts = {symbol.encode(): _Last(symbol) for symbol in symbols}
        self.dropped = Tally("quote_dropped")
        self.malformed = Tally("frame_malformed")

    def newest(self, frame: bytes) -> list[Quote]:
        """The newest usable quote of each symbol in `frame`.

        Older ones are passed over: all of them arrived at the same instant, and only the newest
        can still be traded.
        """
        try:
            items = _unpack_raw(frame)
        except UNPACKABLE as error:
            self.malformed.add(repr(error))
            return []
        try:
            return self._read({item[b"S"]: item for item in items}.values())
        except MISSHAPEN:
            return self._picked(items, frame)

    def _picked(self, items: list[Any], frame: bytes) -> list[Quote]:
        """The same, for a frame that holds something else than usable quotes."""
        quotes: dict[bytes, Quote] = {}
        others = False
        for item in reversed(items):
            try:
                if item[b"T"] != b"q":
                    others = True
                elif item[b"S"] not in quotes:
                    quotes[item[b"S"]] = self._read((item,))[0]
            except MISSHAPEN as error:
                self.dropped.add(repr(error))
        if others:
            for item in unpack(frame):
                if isinstance(item, dict) and item.get("T") != "q":
                    self._on_notice(item)
        return list(quotes.values())

    def _read(self, items: Iterable[Any]) -> list[Quote]:
        """The quotes that `items` show. Raises one of MISSHAPEN when one of them shows none."""
        quotes = []
        lasts = self._lasts
        for item in items:
            if item[b"T"] != b"q":
                raise ValueError("not a quote")
            last = lasts[item[b"S"]]
            bid, ask, at = item[b"bp"], item[b"ap"], item[b"t"]
            # One comparison refuses NaN, infinity, 0, negative and crossed prices, and what is no number.
            if not 0 < bid <= ask < PRICE_LIMIT:
                raise ValueError(f"bid {bid}, ask {ask}")
            if bid != last.bid_number:
                last.bid, last.bid_number = Decimal(repr(bid)), bid
            if ask != last.ask_number:
                last.ask, last.ask_number = Decimal(repr(ask)), ask
            if type(at) is not datetime:
                at = at.to_datetime()
            quotes.append(_quote((last.symbol, last.bid, last.ask, at)))
        return quotes
