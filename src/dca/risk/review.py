"""The review that every intent passes before it is journaled."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.market import Instrument, Quote
from dca.domain.money import plain
from dca.domain.order import Intent, Side

MAX_PRICE_DISTANCE = Decimal("0.05")
"""A limit further than this ratio from the quote it was decided on is a mistake, not a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What risk allows. `min_notional` is the venue's smallest order in USD."""

    max_open_orders: int
    max_quote_age: timedelta
    min_notional: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What is at stake when an intent is reviewed.

    `committed` is the USD this cycle has spent or may still spend on orders that are in flight or
    resting; `open_orders` counts the live orders of the whole account. `halted` is the reason why
    trading is halted, None when it is not; `paused` why nothing may be bought. `entries_blocked` is
    the reason why no order that raises exposure may go (the trade stream is down, the venue is
    unknown), None when they may.
    """

    instrument: Instrument
    quote: Quote
    now: datetime
    committed: Decimal
    max_cycle_spend: Decimal
    owned: Decimal
    open_orders: int
    halted: str | None = None
    paused: str | None = None
    entries_blocked: str | None = None


@dataclass(frozen=True, slots=True)
class Approved:
    """An intent that may be journaled and sent. Only `review` makes one."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Denied:
    """An intent that may not be sent: `code` says why, `numbers` what was compared, as text.

    `passing` means that the next quote may change the answer, so it is not worth a pause.
    """

    code: str
    intent: Intent
    numbers: dict[str, str] = field(default_factory=dict)
    passing: bool = False

    @property
    def reason(self) -> str:
        shown = ", ".join(f"{name} {value}" for name, value in self.numbers.items())
        return f"{self.code.replace('_', ' ')}: {shown}" if shown else self.code.replace("_", " ")


def review(intent: Intent, exposure: Exposure, limits: Limits) -> Approved | Denied:
    """Approved, or Denied with the first limit that does not hold, strictest first."""
    checks = [_halted, _quote_sane, _quote_fresh, _size]
    checks += [_entry, _open_orders, _cycle_spend, _price] if intent.side is Side.BUY else [_own_coins]
    for check in checks:
        denied = check(intent, exposure, limits)
        if denied is not None:
            return denied
    return Approved(intent)


def _halted(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    if exposure.halted is not None:
        return Denied("trading_halted", intent, {"because": exposure.halted})
    if not exposure.instrument.tradable:
        return Denied("not_tradable", intent, {"symbol": intent.symbol})
    return None


def _quote_sane(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    quote = exposure.quote
    if not (quote.bid.is_finite() and quote.ask.is_finite() and 0 < quote.bid <= quote.ask):
        return Denied("quote_crossed", intent, {"bid": str(quote.bid), "ask": str(quote.ask)}, passing=True)
    return None


def _quote_fresh(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    age = exposure.now - exposure.quote.at
    if abs(age) > limits.max_quote_age:
        numbers = {
            "age_s": f"{age.total_seconds():.1f}",
            "max_age_s": f"{limits.max_quote_age.total_seconds():g}",
        }
        return Denied("quote_stale", intent, numbers, passing=True)
    return None


def _size(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    value = intent.qty * (intent.limit if intent.limit is not None else exposure.quote.bid)
    if intent.qty < exposure.instrument.min_order_size or value < limits.min_notional:
        if intent.side is Side.SELL and intent.qty == exposure.instrument.floor_qty(exposure.owned) > 0:
            return None
        numbers = {"qty": plain(intent.qty), "usd": f"{value:.2f}", "min_usd": plain(limits.min_notional)}
        return Denied("below_minimum", intent, numbers)
    return None


def _entry(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    if exposure.paused is not None:
        return Denied("trading_paused", intent, {"because": exposure.paused})
    if exposure.entries_blocked is not None:
        return Denied("entries_blocked", intent, {"because": exposure.entries_blocked}, passing=True)
    return None


def _open_orders(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    if exposure.open_orders >= limits.max_open_orders:
        numbers = {"open": str(exposure.open_orders), "max": str(limits.max_open_orders)}
        return Denied("too_many_open_orders", intent, numbers)
    return None


def _cycle_spend(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    assert intent.limit is not None
    total = exposure.committed + intent.qty * intent.limit
    if total > exposure.max_cycle_spend:
        numbers = {"would_be": f"{total:.2f}", "max": plain(exposure.max_cycle_spend)}
        return Denied("cycle_spend", intent, numbers)
    return None


def _price(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    assert intent.limit is not None
    distance = abs(intent.limit - exposure.quote.ask) / exposure.quote.ask
    if distance > MAX_PRICE_DISTANCE:
        numbers = {"limit": plain(intent.limit), "ask": plain(exposure.quote.ask)}
        return Denied("limit_far_from_market", intent, numbers)
    return None


def _own_coins(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    if not 0 < intent.qty <= exposure.owned:
        return Denied("not_owned", intent, {"qty": plain(intent.qty), "owned": plain(exposure.owned)})
    return None
