"""Settings: the environment and `.env`, read once into one frozen object."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from dca.domain.errors import ConfigError
from dca.domain.fees import FeeRates
from dca.domain.money import HUNDRED, exact

PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"
DATA_STREAM_URL = "wss://stream.data.alpaca.markets/v1beta3/crypto/us"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, kw_only=True)
class ClockSettings:
    """How the wall's time is mapped onto the time that trading follows; origins None: it is the same."""

    speed: float = 1.0
    wall_origin: datetime | None = None
    origin: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the environment decides. Secrets never show in its text.

    `*_s` are seconds: `stale_order_s` and `max_quote_age_s` on the clock that trading follows,
    every other on the wall.
    `crash_at` names a boundary and a count: the process kills itself there, to show that it may.
    """

    api_key_id: str = field(repr=False)
    api_secret_key: str = field(repr=False)
    base_url: str
    data_url: str
    stream_url: str
    data_stream_url: str
    database_url: str = field(repr=False)
    run_dir: Path = Path("logs")
    log_level: str = "INFO"
    request_timeout_s: float = 10.0
    grace_s: float = 60.0
    reconcile_every_s: float = 20.0
    stale_order_s: float = 300.0
    max_quote_age_s: float = 60.0
    max_open_orders: int = 50
    fees: FeeRates = FeeRates()
    clock: ClockSettings = ClockSettings()
    crash_at: tuple[str, int] | None = None


def load(environ: Mapping[str, str] | None = None, *, env_file: Path | None = None) -> Settings:
    """The settings. What stands in the environment wins over `.env`.

    Raises ConfigError that names every wrong or missing setting at once, and no value of any.
    """
    given = os.environ if environ is None else environ
    file = env_file if env_file is not None else Path(given.get("DCA_ENV_FILE", ".env"))
    values: dict[str, str] = {key: text for key, text in dotenv_values(file).items() if text is not None}
    values.update(given)
    reader = _Reader(values)
    settings = _read(reader)
    if reader.complaints:
        raise ConfigError("settings: " + "; ".join(reader.complaints))
    return settings


def clock(environ: Mapping[str, str] | None = None) -> ClockSettings:
    """The clock's settings, for commands that need nothing else. Raises ConfigError."""
    reader = _Reader(os.environ if environ is None else environ)
    found = _clock(reader)
    if reader.complaints:
        raise ConfigError("settings: " + "; ".join(reader.complaints))
    return found


def database_url(environ: Mapping[str, str] | None = None) -> str:
    """Where the database is, for commands that need nothing else."""
    given = os.environ if environ is None else environ
    values = dotenv_values(Path(given.get("DCA_ENV_FILE", ".env")))
    return given.get("DATABASE_URL") or values.get("DATABASE_URL") or "sqlite:///dca.sqlite3"


class _Reader:
    """Reads one setting after the other and keeps every complaint."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.complaints: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, "").strip() or default
        if value is None:
            self.complaints.append(f"{name} is missing")
            return ""
        return value

    def parsed(self, name: str, parse: Callable[[str], Any], wanted: str, default: Any) -> Any:
        value = self.values.get(name, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError:
            self.complaints.append(f"{name} must be {wanted}")
            return default

    def number(self, name: str, default: float) -> float:
        return float(self.parsed(name, _positive, "a number above 0", default))

    def ratio(self, name: str, default: Decimal) -> Decimal:
        """A percentage in the environment, a ratio in the program."""
        value: Decimal = self.parsed(name, _percentage, "a percentage from 0 to 10", default)
        return value

    def url(self, name: str, default: str, schemes: tuple[str, str]) -> str:
        value = self.text(name, default).rstrip("/")
        parts = urlsplit(value)
        secure, plain = schemes
        if parts.scheme not in schemes or not parts.hostname:
            self.complaints.append(f"{name} must be a {secure}:// address")
        elif parts.scheme == plain and parts.hostname not in LOOPBACK:
            self.complaints.append(f"{name} must be {secure}://: {plain}:// is for this machine only")
        return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _percentage(text: str) -> Decimal:
    value = exact(text)
    if not 0 <= value <= 10:
        raise ValueError(text)
    return value / HUNDRED


def _instant(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(text)
    return value.astimezone(UTC)


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _crossing(text: str) -> tuple[str, int]:
    name, _, count = text.partition(":")
    return name, _whole(count or "1")


def _stream_of(base_url: str) -> str:
    """The trade-update address that belongs to a trading address."""
    return base_url.replace("http", "ws", 1) + "/stream"


def _read(reader: _Reader) -> Settings:
    base_url = reader.url("APCA_API_BASE_URL", PAPER_URL, ("https", "http")).removesuffix("/v2")
    _refuse_live(reader, base_url)
    return Settings(
        api_key_id=reader.text("APCA_API_KEY_ID"),
        api_secret_key=reader.text("APCA_API_SECRET_KEY"),
        base_url=base_url,
        data_url=reader.url("APCA_API_DATA_URL", DATA_URL, ("https", "http")),
        stream_url=reader.url("APCA_API_STREAM_URL", _stream_of(base_url), ("wss", "ws")),
        data_stream_url=reader.url("APCA_API_DATA_STREAM_URL", DATA_STREAM_URL, ("wss", "ws")),
        database_url=reader.text("DATABASE_URL", "sqlite:///dca.sqlite3"),
        run_dir=Path(reader.text("DCA_RUN_DIR", "logs")),
        log_level=reader.text("LOG_LEVEL", "INFO").upper(),
        request_timeout_s=reader.number("REQUEST_TIMEOUT_S", 10.0),
        grace_s=reader.number("GRACE_S", 60.0),
        reconcile_every_s=reader.number("RECONCILE_EVERY_S", 20.0),
        stale_order_s=reader.number("STALE_ORDER_S", 300.0),
        max_quote_age_s=reader.number("MAX_QUOTE_AGE_S", 60.0),
        max_open_orders=reader.parsed("MAX_OPEN_ORDERS", _whole, "a whole number above 0", 50),
        fees=FeeRates(
            maker=reader.ratio("MAKER_FEE_PCT", FeeRates().maker),
            taker=reader.ratio("TAKER_FEE_PCT", FeeRates().taker),
        ),
        clock=_clock(reader),
        crash_at=reader.parsed(
            "CRASH_AT", _crossing, "a boundary and a count, such as after_journal:2", None
        ),
    )


def _clock(reader: _Reader) -> ClockSettings:
    return ClockSettings(
        speed=reader.number("CLOCK_SPEED", 1.0),
        wall_origin=reader.parsed("CLOCK_WALL_ORIGIN", _instant, "a time with an offset", None),
        origin=reader.parsed("CLOCK_ORIGIN", _instant, "a time with an offset", None),
    )


def _refuse_live(reader: _Reader, base_url: str) -> None:
    host = urlsplit(base_url).hostname or ""
    if host in LOOPBACK or host.startswith("paper-"):
        return
    if reader.values.get("LIVE_TRADING", "").strip() != "armed":
        reader.complaints.append(
            "APCA_API_BASE_URL is not a paper address; set LIVE_TRADING=armed if real money is meant"
        )
