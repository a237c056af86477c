"""How a paper exchange is set up."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from dca.domain.errors import ConfigError
from dca.domain.market import Instrument, Quote
from dca.paper.faults import Fault


class Clock(Protocol):
    """The time the exchange follows; the only source of time in this package."""

    def now(self) -> datetime:
        """The instant it is, aware, in UTC."""

    def monotonic(self) -> float:
        """Real seconds since some fixed moment."""

    def span(self, seconds: float) -> timedelta:
        """How far `now` moves while `seconds` of real time pass."""


class Source(Protocol):
    """Where the prices of one symbol come from."""

    @property
    def symbol(self) -> str:
        """In the form BTC/USD."""

    def open(self, seed: int, now: datetime) -> "Tape":
        """The quotes, for an exchange that starts at `now` with `seed`."""


@dataclass(frozen=True, slots=True)
class Tape:
    """Quotes in the order of their time. `length` is how many there are, None when endless."""

    quotes: Iterator[Quote]
    length: int | None


_STEP = Decimal("0.000000001")


def instrument(symbol: str, min_order_size: str) -> Instrument:
    """An instrument with the increments that every USD pair had in 2026 (GET /v2/assets)."""
    return Instrument(symbol, Decimal(min_order_size), _STEP, _STEP)


INSTRUMENTS = (
    instrument("BTC/USD", "0.000015739"),
    instrument("ETH/USD", "0.000380000"),
    instrument("SOL/USD", "0.007000000"),
    instrument("LTC/USD", "0.010000000"),
    instrument("DOGE/USD", "8.000000000"),
)
"""Smallest orders are worth about a dollar, as at the venue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What the venue does one way or another, or what nobody outside it knows for certain.

    Rates are ratios. 0 connections means no limit; `rate_limit` counts requests in a real minute.
    """

    crypto_tier: int = 1
    partial_rate: float = 0.1
    event_before_response: float = 0.2
    full_exit_exempt: bool = True
    """A sell of all that is available may be worth less than the $10 minimum."""
    notional_limit_orders: bool = True
    stop_limit_ioc: bool = False
    cancel_again_status: int = 204
    """What a cancel of a canceled order answers: 204 was measured, 422 is expected by others."""
    fractional_replace: bool = False
    """PATCH may change a quantity to one that is not whole; the venue documents whole ones only."""
    same_execution_ids: bool = False
    """The id of a FILL activity holds the stream's execution_id."""
    fees_listed_at_once: bool = False
    """CFEE activities appear with the fill instead of when its day is over."""
    binary_trade_frames: bool = True
    trading_connections: int = 1
    data_connections: int = 1
    auth_timeout_s: float = 10.0
    channel_limit: int = 30
    frames_behind: int = 10_000
    """A reader this many frames behind is a slow client and is cut off."""
    rate_limit: int | None = None
    log_reads: bool = True
    """Requests that change nothing are logged too; an exchange that runs for weeks may do without."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 1 <= self.crypto_tier <= 8 or self.cancel_again_status not in (204, 422):
            raise ConfigError("crypto_tier must be from 1 to 8, cancel_again_status 204 or 422")
        if not 0 <= self.partial_rate <= 1 or not 0 <= self.event_before_response <= 1:
            raise ConfigError("partial_rate and event_before_response must be from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperConfig:
    """A paper exchange. `port` 0 takes a free one. `cash` counts only where no state is kept yet.

    Nothing here is secret: the exchange holds no money, and `/control` is open to this machine.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str = "PAPER"
    secret: str = "paper-secret"  # noqa: S105
    cash: Decimal = Decimal(100_000)
    instruments: tuple[Instrument, ...] = INSTRUMENTS
    sources: tuple[Source, ...] = ()
    seed: int = 1
    switches: Switches = field(default_factory=Switches)
    state_file: Path | None = None
    faults: tuple[Fault, ...] = ()
    """In force from the start; see `faults.py`."""
