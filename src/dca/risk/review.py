"""The review that every intent passes before it is journaled: pure, each denial with its numbers."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.market import Instrument, Quote
from dca.domain.money import ONE, ZERO, percent, plain
from dca.domain.order import Intent, Purpose, Side
from dca.risk.stakes import AtStake

MAX_PRICE_DISTANCE = Decimal("0.05")
"""A limit further than this ratio from the quote it was decided on is a mistake, not a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What risk allows; None: no limit. Amounts are USD, percentages percent.

    `min_notional` is the venue's smallest order. `reserve_pct` is how much of the rest of every
    started ladder must stay payable when a cycle starts. Funds older than `max_funds_age` count as
    unknown; None: funds are not asked for at all. `min_profit_pct` is what a take profit must earn
    beyond the fee of the sale, `taker_fee` that fee as a ratio. `armed` is false where real money
    would be traded without both settings that allow it.
    """

    max_open_orders: int
    max_quote_age: timedelta
    min_notional: Decimal
    max_order: Decimal | None = None
    max_asset: Decimal | None = None
    max_day: Decimal | None = None
    max_account: Decimal | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown_pct: Decimal | None = None
    max_active_cycles: int | None = None
    reserve_pct: Decimal = ZERO
    max_funds_age: timedelta | None = None
    min_profit_pct: Decimal = ZERO
    taker_fee: Decimal = ZERO
    armed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What is at stake when an intent is reviewed.

    `committed` is the USD this cycle has spent or may still spend on orders that are in flight or
    resting; `open_orders` counts the live orders of the whole account. `halted` is the reason why
    trading is halted, None when it is not; `paused` why nothing may be bought. `entries_blocked` is
    the reason why no order that raises exposure may go (the trade stream is down, the venue is
    unknown), `unsendable` why no request of this side can be made now, None when they may.
    `cooling`: the cycle rests after the one before it; `average` is what was paid per coin owned.
    `at_stake` is None where the account was not counted: before the transaction that journals, and
    for sells.
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
    unsendable: str | None = None
    cooling: bool = False
    average: Decimal = ZERO
    at_stake: AtStake | None = None


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
    checks = _BUY if intent.side is Side.BUY else _SELL
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


def _armed(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    return None if limits.armed else Denied("not_armed", intent)


def _sendable(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    if exposure.unsendable is not None:
        return Denied("venue_not_ready", intent, {"because": exposure.unsendable}, passing=True)
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
    return _over("cycle_spend", intent, exposure.committed, exposure.max_cycle_spend)


def _order_spend(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    return _over("order_spend", intent, ZERO, limits.max_order)


def _account_spend(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    stake = exposure.at_stake
    if stake is None:
        return None
    for code, before, most in (
        ("asset_spend", stake.asset, limits.max_asset),
        ("day_spend", stake.day, limits.max_day),
        ("account_spend", stake.account, limits.max_account),
    ):
        denied = _over(code, intent, before, most)
        if denied is not None:
            return denied
    return None


def _over(code: str, intent: Intent, before: Decimal, most: Decimal | None) -> Denied | None:
    """Denied when the order, beside what is at stake `before` it, costs more than `most`."""
    total = before + cost(intent)
    if most is None or total <= most:
        return None
    return Denied(code, intent, {"would_be": f"{total:.2f}", "max": plain(most)})


def cost(intent: Intent) -> Decimal:
    """The most USD that a buy may come to cost."""
    assert intent.limit is not None
    return intent.qty * intent.limit


def _funds(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    stake = exposure.at_stake
    if stake is None or limits.max_funds_age is None:
        return None
    if stake.free is None or stake.funds_age is None or stake.funds_age > limits.max_funds_age:
        age = "never read" if stake.funds_age is None else f"{stake.funds_age.total_seconds():.0f}"
        return Denied("balance_unknown", intent, {"age_s": age}, passing=True)
    if cost(intent) > stake.free:
        return Denied("no_funds", intent, {"usd": f"{cost(intent):.2f}", "free": f"{stake.free:.2f}"})
    starts = intent.purpose is not Purpose.SAFETY
    if starts and cost(intent) + stake.promised > stake.free:
        numbers = {
            "usd": f"{cost(intent):.2f}",
            "promised_to_safety_orders": f"{stake.promised:.2f}",
            "free": f"{stake.free:.2f}",
        }
        return Denied("reserved", intent, numbers)
    return None


def _losses(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    stake = exposure.at_stake
    if stake is None:
        return None
    if limits.max_daily_loss is not None and stake.lost_today >= limits.max_daily_loss:
        numbers = {"lost_today": f"{stake.lost_today:.2f}", "max": plain(limits.max_daily_loss)}
        return Denied("daily_loss", intent, numbers)
    if limits.max_drawdown_pct is not None and stake.drawdown_pct >= limits.max_drawdown_pct:
        numbers = {"drawdown_pct": f"{stake.drawdown_pct:.2f}", "max_pct": plain(limits.max_drawdown_pct)}
        return Denied("drawdown", intent, numbers)
    return None


def _cycles(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    if intent.purpose is not Purpose.BASE:
        return None
    if exposure.cooling:
        return Denied("cooling_down", intent)
    stake, most = exposure.at_stake, limits.max_active_cycles
    if stake is None or most is None or stake.active < most:
        return None
    return Denied("too_many_cycles", intent, {"active": str(stake.active), "max": str(most)})


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


def _profit(intent: Intent, exposure: Exposure, limits: Limits) -> Denied | None:
    """A take profit must earn what it says; whoever stops a loss or closes by hand must not be kept."""
    if intent.purpose is not Purpose.TAKE_PROFIT or exposure.average <= 0:
        return None
    price = intent.limit if intent.limit is not None else exposure.quote.bid
    least = exposure.average * (ONE + percent(limits.min_profit_pct)) / (ONE - limits.taker_fee)
    if limits.min_profit_pct <= 0 or price >= least:
        return None
    numbers = {"price": plain(price), "least": f"{least:.8f}", "min_profit_pct": plain(limits.min_profit_pct)}
    return Denied("below_min_profit", intent, numbers, passing=True)


_BOTH = (_halted, _armed, _sendable, _quote_sane, _quote_fresh, _size)
_BUY = (
    *_BOTH,
    _entry,
    _cycles,
    _open_orders,
    _order_spend,
    _cycle_spend,
    _price,
    _funds,
    _account_spend,
    _losses,
)
_SELL = (*_BOTH, _own_coins, _profit)
