"""Settings: the environment and `.env`, read once into one frozen object."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, tzinfo
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from dca.domain.errors import ConfigError
from dca.domain.fees import FeeRates
from dca.domain.money import HUNDRED, exact
from dca.domain.notices import NOTICES, Quiet
from dca.domain.order import TimeInForce

PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"
DATA_STREAM_URL = "wss://stream.data.alpaca.markets/v1beta3/crypto/us"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MOST_DAYS = 36_500
FEWEST_REQUESTS = 30
"""Fewer a minute would not leave anything for exits beside the reads of one streamer."""
MOST_SLIPPAGE_PCT = Decimal(5)
"""The review denies a limit that is further from the market."""
LONG_WORD = 8
"""A shorter part of an address is not taken for a token."""


class Hidden(str):
    """A secret: text that does not show in the text of what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, kw_only=True)
class ClockSettings:
    """How the wall's time is mapped onto the time that trading follows; origins None: it is the same."""

    speed: float = 1.0
    wall_origin: datetime | None = None
    origin: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class NotifySettings:
    """Whom to tell, of what not (names of messages), and when not. `zone`: whose clock people read."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    off: frozenset[str] = frozenset()
    quiet: Quiet | None = None
    zone: tzinfo = UTC


@dataclass(frozen=True, kw_only=True)
class KeepSettings:
    """For how many days logs, old rows and backups are kept, and where the backups are."""

    log_days: int = 14
    events_days: int = 90
    backup_days: int = 14
    backup_dir: Path = Path("backups")


@dataclass(frozen=True, kw_only=True)
class RiskSettings:
    """What may be at risk, in USD and percent; None: no limit. `max_balance_age_s` is on the wall.

    `reserve_pct` is how much of the rest of every started ladder must stay payable when a cycle
    starts.
    """

    max_order: Decimal | None = None
    max_asset: Decimal | None = None
    max_day: Decimal | None = None
    max_account: Decimal | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown_pct: Decimal | None = None
    max_active_cycles: int | None = None
    reserve_pct: Decimal = HUNDRED
    min_profit_pct: Decimal = Decimal(0)
    max_balance_age_s: float = 120.0
    buy_slippage_pct: Decimal = Decimal(0)
    sell_slippage_pct: Decimal | None = None
    buy_time_in_force: TimeInForce = TimeInForce.GTC


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the environment decides. Secrets never show in its text.

    `*_s` are seconds: `stale_order_s`, `stuck_sell_s` and `max_quote_age_s` on the clock that trading
    follows, every other on the wall. `whole_account`: no person trades on the account.
    `crash_at` names a boundary and a count: the process kills itself there, to show that it may;
    every boundary that it crosses goes to `crash_log`.
    `live_account` is the number of the account with real money that may be traded, None on paper.
    With `dry_run` no order is sent. `watchdog_may_start` is false where something else starts a
    streamer that ended.
    `systemd_*`: where systemd listens, and how often it must hear from the streamer.
    `venue_complaints` is why the venue cannot be asked; only `local` leaves any.
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
    stuck_sell_s: float = 300.0
    whole_account: bool = False
    max_quote_age_s: float = 60.0
    max_open_orders: int = 50
    requests_per_minute: int = 180
    breaker_pause_s: int = 30
    risk: RiskSettings = RiskSettings()
    live_account: str | None = None
    dry_run: bool = False
    fees: FeeRates = FeeRates()
    clock: ClockSettings = ClockSettings()
    crash_at: tuple[str, int] | None = None
    crash_log: Path | None = None
    watchdog_may_start: bool = True
    systemd_socket: str | None = None
    systemd_watchdog_s: float | None = None
    notify: NotifySettings = NotifySettings()
    keep: KeepSettings = KeepSettings()
    env_file: Path = Path(".env")
    venue_complaints: tuple[str, ...] = ()

    def secrets(self) -> list[str]:
        """Everything that must never show."""
        password = _split(self.database_url).password or ""
        parts = [part for url in self.notify.urls for part in (url, *_tokens(url))]
        return [self.api_key_id, self.api_secret_key, password, unquote(password), *parts]


def load(environ: Mapping[str, str] | None = None, *, env_file: Path | None = None) -> Settings:
    """The settings. What stands in the environment wins over `.env`.

    Raises ConfigError that names every wrong or missing setting at once, and no value of any.
    """
    settings, complaints = _settings(environ, env_file)
    _refuse([*settings.venue_complaints, *complaints])
    return settings


def local(environ: Mapping[str, str] | None = None, *, env_file: Path | None = None) -> Settings:
    """The settings for what can be done without the venue: database, folders, rules of the clock.

    What is wrong or missing about the venue (its keys, its addresses) is kept as `venue_complaints`.
    Raises ConfigError for everything else.
    """
    settings, complaints = _settings(environ, env_file)
    _refuse(complaints)
    return settings


def _settings(environ: Mapping[str, str] | None, env_file: Path | None) -> tuple[Settings, Sequence[str]]:
    """The settings, and what is wrong with all that does not concern the venue."""
    given = os.environ if environ is None else environ
    file = env_file if env_file is not None else Path(given.get("DCA_ENV_FILE", ".env"))
    values = {**_env_values(file), **given}
    reader, venue = _Reader(values), _Reader(values)
    settings = _read(reader, venue)
    readable = env_file_complaint(file)
    if readable and is_live(settings.base_url):
        venue.complaints.append(f"{readable} (real money is traded with it)")
    settings = replace(settings, env_file=file, venue_complaints=tuple(venue.complaints))
    return settings, reader.complaints


def _env_values(file: Path) -> dict[str, str]:
    """What `file` says; nothing when there is none. Raises ConfigError when it cannot be understood."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        # The error holds the bytes of the file.
        raise ConfigError(f"{file} is not UTF-8 text: save it again as plain text in UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}): make it a file that belongs to the user of the "
            "bot (chmod 600), or remove it and set the environment instead"
        ) from error
    wrong = [str(found.original.line) for found in parse_stream(StringIO(text)) if found.error]
    if wrong:
        raise ConfigError(
            f"{file}, line {', '.join(wrong)}: write NAME=value, and end the quotes that are begun"
        )
    values = {name: text for name, text in dotenv_values(stream=StringIO(text)).items() if text is not None}
    curly = sorted(name for name, text in values.items() if text[:1] in set("“”„‘’«»"))
    if curly:
        raise ConfigError(f'{file}: {", ".join(curly)}: use plain quotes (") or none')
    return values


def env_file_complaint(file: Path) -> str | None:
    """What to do when others than its owner may read `file`; None when all is well or there is none."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode) or not mode & 0o077:
        return None
    return f"{file} can be read by others: chmod 600 {file}"


def is_live(base_url: str) -> bool:
    """Whether the trading address is neither a paper account's nor on this machine."""
    host = _split(base_url).hostname or ""
    return host not in LOOPBACK and not host.startswith("paper-")


def _refuse(complaints: Sequence[str]) -> None:
    if complaints:
        raise ConfigError("settings: " + "; ".join(complaints))


def clock(environ: Mapping[str, str] | None = None) -> ClockSettings:
    """The clock's settings, for commands that need nothing else. Raises ConfigError."""
    reader = _Reader(os.environ if environ is None else environ)
    found = _clock(reader)
    _refuse(reader.complaints)
    return found


def database_url(environ: Mapping[str, str] | None = None) -> str:
    """Where the database is, for commands that need nothing else."""
    given = os.environ if environ is None else environ
    values = _env_values(Path(given.get("DCA_ENV_FILE", ".env")))
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
        except (ValueError, KeyError):
            self.complaints.append(f"{name} must be {wanted}")
            return default

    def number(self, name: str, default: float) -> float:
        return float(self.parsed(name, _positive, "a number above 0", default))

    def days(self, name: str, default: int) -> int:
        return int(self.parsed(name, _days, f"a whole number of days from 1 to {MOST_DAYS}", default))

    def ratio(self, name: str, default: Decimal) -> Decimal:
        """A percentage in the environment, a ratio in the program."""
        value: Decimal = self.parsed(name, _percentage, "a percentage from 0 to 10", default)
        return value

    def url(self, name: str, default: str, schemes: tuple[str, str]) -> str:
        value = self.text(name, default).rstrip("/")
        parts = _split(value)
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


def _amount(text: str) -> Decimal:
    value = exact(text)
    if value <= 0:
        raise ValueError(text)
    return value


def _pct(text: str) -> Decimal:
    value = exact(text)
    if not 0 <= value <= HUNDRED:
        raise ValueError(text)
    return value


def _slippage(text: str) -> Decimal:
    value = _pct(text)
    if value > MOST_SLIPPAGE_PCT:
        raise ValueError(text)
    return value


def _reserve(text: str) -> Decimal:
    words = {"full": HUNDRED, "none": Decimal(0)}
    return words[text.lower()] if text.lower() in words else _pct(text)


def _microseconds(text: str) -> float:
    return _positive(text) / 1_000_000


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


def _is_all(text: str) -> bool:
    if text not in ("ours", "all"):
        raise ValueError(text)
    return text == "all"


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _split(url: str) -> SplitResult:
    """The parts of an address; none when it is not one."""
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.password
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def _tokens(url: str) -> Iterator[str]:
    """What may be a secret in the address of a messenger: user, password, tokens in its path or query,
    also in place of a host, which then has no dot."""
    rest, _, query = url.partition("://")[2].partition("?")
    place, _, path = rest.partition("/")
    user, _, host = place.rpartition("@")
    name = host.partition(":")[0]
    words = [word for word in user.split(":") if word]
    tokens = [*path.split("/"), *(pair.partition("=")[2] for pair in query.split("&"))]
    if "." not in name and name not in LOOPBACK:
        tokens += [host, *host.split(":")]
    words += [word for word in tokens if len(word) >= LONG_WORD]
    for word in words:
        yield from {word, unquote(word)}


def _level(text: str) -> str:
    if text.upper() not in LEVELS:
        raise ValueError(text)
    return text.upper()


def _addresses(text: str) -> tuple[str, ...]:
    found = re.split(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+-]*://)", text.strip(" ,"))
    if not all(re.match(r"[A-Za-z][A-Za-z0-9+-]*://[^\s]", url) for url in found):
        raise ValueError(text)
    return tuple(Hidden(url) for url in found)


def _notices(text: str) -> frozenset[str]:
    found = frozenset(name for name in re.split(r"[\s,]+", text) if name)
    if not found <= NOTICES.keys():
        raise ValueError(text)
    return found


def _zone(text: str) -> tzinfo:
    try:
        return ZoneInfo(text)
    except (KeyError, OSError) as error:
        raise ValueError(text) from error


def _hours(text: str) -> tuple[time, time]:
    start, _, end = text.partition("-")
    hours = time.fromisoformat(start.strip()), time.fromisoformat(end.strip())
    if hours[0] == hours[1] or hours[0].tzinfo or hours[1].tzinfo:
        raise ValueError(text)
    return hours


def _days(text: str) -> int:
    value = _whole(text)
    if value > MOST_DAYS:
        raise ValueError(text)
    return value


def _yes(text: str) -> bool:
    return {"yes": True, "no": False}[text.lower()]


def _requests(text: str) -> int:
    value = _whole(text)
    if value < FEWEST_REQUESTS:
        raise ValueError(text)
    return value


def _crossing(text: str) -> tuple[str, int]:
    name, _, count = text.partition(":")
    return name, _whole(count or "1")


def _stream_of(base_url: str) -> str:
    """The trade-update address that belongs to a trading address."""
    return base_url.replace("http", "ws", 1) + "/stream"


def _read(reader: _Reader, venue: _Reader) -> Settings:
    base_url = venue.url("APCA_API_BASE_URL", PAPER_URL, ("https", "http")).removesuffix("/v2")
    return Settings(
        api_key_id=Hidden(venue.text("APCA_API_KEY_ID")),
        api_secret_key=Hidden(venue.text("APCA_API_SECRET_KEY")),
        base_url=base_url,
        data_url=venue.url("APCA_API_DATA_URL", DATA_URL, ("https", "http")),
        stream_url=venue.url("APCA_API_STREAM_URL", _stream_of(base_url), ("wss", "ws")),
        data_stream_url=venue.url("APCA_API_DATA_STREAM_URL", DATA_STREAM_URL, ("wss", "ws")),
        database_url=Hidden(reader.text("DATABASE_URL", "sqlite:///dca.sqlite3")),
        run_dir=Path(reader.text("DCA_RUN_DIR", "logs")),
        log_level=reader.parsed("LOG_LEVEL", _level, f"one of {', '.join(LEVELS)}", "INFO"),
        request_timeout_s=reader.number("REQUEST_TIMEOUT_S", 10.0),
        grace_s=reader.number("GRACE_S", 60.0),
        reconcile_every_s=reader.number("RECONCILE_EVERY_S", 20.0),
        stale_order_s=reader.number("STALE_ORDER_S", 300.0),
        stuck_sell_s=reader.number("STUCK_SELL_S", 300.0),
        whole_account=reader.parsed("ORPHAN_SCOPE", _is_all, "ours or all", False),
        max_quote_age_s=reader.number("MAX_QUOTE_AGE_S", 60.0),
        max_open_orders=reader.parsed("MAX_OPEN_ORDERS", _whole, "a whole number above 0", 50),
        requests_per_minute=reader.parsed("REQUESTS_PER_MINUTE", _requests, "a whole number from 30", 180),
        breaker_pause_s=reader.parsed("BREAKER_PAUSE_S", _whole, "a whole number above 0", 30),
        risk=_risk(reader),
        live_account=_armed_account(venue, base_url),
        dry_run=reader.parsed("DRY_RUN", _yes, "yes or no", False),
        fees=FeeRates(
            maker=reader.ratio("MAKER_FEE_PCT", FeeRates().maker),
            taker=reader.ratio("TAKER_FEE_PCT", FeeRates().taker),
        ),
        clock=_clock(reader),
        notify=_notify(reader),
        keep=KeepSettings(
            log_days=reader.days("LOG_KEEP_DAYS", 14),
            events_days=reader.days("EVENTS_KEEP_DAYS", 90),
            backup_days=reader.days("BACKUP_KEEP_DAYS", 14),
            backup_dir=Path(reader.text("BACKUP_DIR", "backups")),
        ),
        crash_at=reader.parsed("CRASH_AT", _crossing, "a boundary and a count, such as after_submit:2", None),
        crash_log=reader.parsed("CRASH_LOG", Path, "a file", None),
        watchdog_may_start=reader.parsed("WATCHDOG_MAY_START", _yes, "yes or no", True),
        systemd_socket=reader.values.get("NOTIFY_SOCKET") or None,
        systemd_watchdog_s=reader.parsed("WATCHDOG_USEC", _microseconds, "a number above 0", None),
    )


def _clock(reader: _Reader) -> ClockSettings:
    return ClockSettings(
        speed=reader.number("CLOCK_SPEED", 1.0),
        wall_origin=reader.parsed("CLOCK_WALL_ORIGIN", _instant, "a time with an offset", None),
        origin=reader.parsed("CLOCK_ORIGIN", _instant, "a time with an offset", None),
    )


def _notify(reader: _Reader) -> NotifySettings:
    zone: tzinfo = reader.parsed("NOTIFY_TZ", _zone, "a time zone such as Europe/Vienna", UTC)
    hours = reader.parsed("NOTIFY_QUIET", _hours, "two times of day such as 22:00-07:00", None)
    names = ", ".join(sorted(NOTICES))
    return NotifySettings(
        urls=reader.parsed("NOTIFY_URLS", _addresses, "addresses such as mailto://user:password@host", ()),
        off=reader.parsed("NOTIFY_OFF", _notices, f"some of {names}", frozenset()),
        quiet=None if hours is None else Quiet(hours[0], hours[1], zone),
        zone=zone,
    )


def _risk(reader: _Reader) -> RiskSettings:
    def usd(name: str) -> Decimal | None:
        found: Decimal | None = reader.parsed(name, _amount, "an amount of USD above 0", None)
        return found

    def pct(name: str, default: Decimal | None) -> Any:
        return reader.parsed(name, _pct, "a percentage from 0 to 100", default)

    return RiskSettings(
        max_order=usd("MAX_ORDER_USD"),
        max_asset=usd("MAX_ASSET_USD"),
        max_day=usd("MAX_DAY_USD"),
        max_account=usd("MAX_ACCOUNT_USD"),
        max_daily_loss=usd("MAX_DAILY_LOSS_USD"),
        max_drawdown_pct=pct("MAX_DRAWDOWN_PCT", None),
        max_active_cycles=reader.parsed("MAX_ACTIVE_CYCLES", _whole, "a whole number above 0", None),
        reserve_pct=reader.parsed("RESERVE", _reserve, "full, none or a percentage from 0 to 100", HUNDRED),
        min_profit_pct=pct("MIN_PROFIT_PCT", Decimal(0)),
        max_balance_age_s=reader.number("MAX_BALANCE_AGE_S", 120.0),
        buy_slippage_pct=reader.parsed("BUY_SLIPPAGE_PCT", _slippage, "a percentage from 0 to 5", Decimal(0)),
        sell_slippage_pct=reader.parsed("SELL_SLIPPAGE_PCT", _slippage, "a percentage from 0 to 5", None),
        buy_time_in_force=reader.parsed("BUY_TIME_IN_FORCE", TimeInForce, "gtc or ioc", TimeInForce.GTC),
    )


def _armed_account(reader: _Reader, base_url: str) -> str | None:
    """The account whose real money may be traded: two settings must agree that it may."""
    if not is_live(base_url):
        return None
    number = reader.values.get("LIVE_ACCOUNT", "").strip()
    if reader.values.get("LIVE_TRADING", "").strip() != "armed" or not number:
        reader.complaints.append(
            "APCA_API_BASE_URL is not a paper address; if real money is meant, set LIVE_TRADING=armed and "
            "LIVE_ACCOUNT to the number of the account"
        )
    return number or None
