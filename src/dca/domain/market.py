"""What the venue says about a market: its instruments and its best prices."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from dca.domain.money import floor_to


class Quote(NamedTuple):
    """The best bid and ask of a symbol (`BTC/USD`) at an instant, as the venue stamped it."""

    symbol: str
    bid: Decimal
    ask: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Instrument:
    """The venue's facts about a symbol. They change over time: read them, never hard-code them.

    `min_order_size` and `min_trade_increment` are in units of base, `price_increment` in USD.
    """

    symbol: str
    min_order_size: Decimal
    min_trade_increment: Decimal
    price_increment: Decimal
    tradable: bool = True

    def floor_qty(self, qty: Decimal) -> Decimal:
        return floor_to(qty, self.min_trade_increment)

    def floor_price(self, price: Decimal) -> Decimal:
        return floor_to(price, self.price_increment)


def symbol_of(text: str) -> str:
    """`text` in the venue's own form, `BASE/USD`, in capitals.

    Raises ValueError unless it is a pair quoted in US dollars. Symbols without a slash cannot be
    split for certain (`USDCUSD`), so they are refused rather than guessed.
    """
    symbol = text.strip().upper()
    base, slash, quote = symbol.partition("/")
    if not slash or not base.isalnum() or quote != "USD":
        raise ValueError(f"not a symbol of the form BTC/USD: {text!r}")
    return symbol


def compact(symbol: str) -> str:
    """The form without a slash in which Alpaca names positions: `BTC/USD` -> `BTCUSD`."""
    return symbol.replace("/", "")
