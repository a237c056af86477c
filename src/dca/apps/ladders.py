"""Whether the venue would take what each asset does next, and whether there is money for it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from dca import wiring
from dca.apps.findings import Finding, Findings, fail, ok, warn
from dca.apps.words import lasting
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Instrument, Quote
from dca.domain.money import ZERO, plain
from dca.domain.order import Intent, Purpose
from dca.ports import Account, Broker, Store, Tx
from dca.risk.review import Denied, Exposure, review
from dca.service.brief import Brief, read_brief
from dca.service.trader import intent_of
from dca.settings import Settings
from dca.strategy.dca import Buy, Sell, safety_trigger, shown
from dca.strategy.exits import take_profit_price
from dca.strategy.ladder import commitment, spend, warnings

REMEDY = {
    "below_minimum": "raise the amount: dca asset set {symbol} --{option} USD",
    "cycle_spend": "raise what a cycle may spend: dca asset set {symbol} --max-cycle-spend USD",
    "too_many_open_orders": "raise MAX_OPEN_ORDERS, or cancel orders",
    "not_tradable": "dca asset disable {symbol}, until the venue trades it again",
}
OPTION = {Purpose.BASE: "base", Purpose.SAFETY: "safety", Purpose.TAKE_PROFIT: "base"}
"""What is raised when an order is too small."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An order built as the trader builds it, for a price that would cause it, and its review."""

    intent: Intent
    price: Decimal
    denied: Denied | None

    @property
    def usd(self) -> Decimal:
        return self.intent.qty * self.price

    @property
    def words(self) -> str:
        step = f" {self.intent.step}" if self.intent.step else ""
        name = str(self.intent.purpose).replace("_", " ")
        return f"{name}{step} {plain(self.intent.qty)} at {shown(self.price)} ({self.usd:.2f} USD)"


@dataclass(frozen=True, slots=True)
class Case:
    """An asset with all it takes to build its orders."""

    settings: Settings
    brief: Brief
    instrument: Instrument
    quote: Quote
    open_orders: int
    install: str
    now: datetime


def trials(case: Case) -> list[Trial]:
    """The next base order, safety order and sell. Without a position they start from the base order."""
    brief, cycle = case.brief, case.brief.cycle
    assert cycle is not None
    asset, rules = brief.situation.asset, brief.situation.asset.rules
    fee = case.settings.fees.taker
    blank = replace(cycle, status=CycleStatus.WATCHING, quantity=ZERO, safety_orders=0)
    buy = Buy(Purpose.BASE, 0, spend(rules, 0), case.quote.ask, "tried out")
    base = _tried(case, blank, buy, case.quote.ask, ZERO)
    held, committed = cycle, brief.committed
    if cycle.quantity <= 0:
        average, committed = case.quote.ask / (1 - fee), base.usd
        bought = base.intent.qty * (1 - fee)
        held = replace(
            blank, quantity=bought, average_purchase_price=average, last_order_fill_price=case.quote.ask
        )
    found = [base]
    trigger = safety_trigger(held, asset)
    if trigger is not None:
        step = held.safety_orders + 1
        wish = Buy(Purpose.SAFETY, step, spend(rules, step), trigger, "tried out")
        found.append(_tried(case, held, wish, trigger, committed))
    target = take_profit_price(held.average_purchase_price, rules, fee)
    return [*found, _tried(case, held, Sell(held.quantity, "tried out"), target, committed)]


def _tried(case: Case, cycle: Cycle, wish: Buy | Sell, price: Decimal, committed: Decimal) -> Trial:
    brief, instrument = case.brief, case.instrument
    intent = intent_of(wish, cycle, brief.orders, instrument, case.install)
    rules = brief.situation.asset.rules
    exposure = Exposure(
        instrument=instrument,
        quote=Quote(instrument.symbol, price, price, case.now),
        now=case.now,
        committed=committed,
        max_cycle_spend=rules.max_cycle_spend or commitment(rules) + brief.added_funds,
        owned=cycle.quantity,
        open_orders=case.open_orders,
    )
    answer = review(intent, exposure, wiring.limits(case.settings))
    return Trial(intent, intent.limit or price, answer if isinstance(answer, Denied) else None)


def check(
    settings: Settings, store: Store, venue: Broker, account: Account | None, now: datetime
) -> Findings:
    """Each enabled asset, and the money for all of them. Raises Unavailable, StoreUnavailable."""
    briefs, open_orders = store.read(_read)
    if not briefs:
        yield warn("assets", "there is nothing to trade yet", "dca asset add BTC/USD")
        return
    instruments = venue.instruments()
    quotes = venue.latest_quotes([_symbol(brief) for brief in briefs])
    for brief in briefs:
        instrument, quote = instruments.get(_symbol(brief)), quotes.get(_symbol(brief))
        wrong = _untradable(settings, brief, instrument, quote, now)
        if wrong is not None:
            yield wrong
        for words in warnings(brief.situation.asset.rules, settings.fees.taker):
            do = f"a deeper stop or fewer safety orders, unless that is meant: dca asset set {_symbol(brief)}"
            yield warn(_symbol(brief), words, do)
        if instrument is not None and quote is not None and brief.cycle is not None:
            case = Case(settings, brief, instrument, quote, open_orders, store.install, now)
            yield from _orders(case, account)
    if account is not None:
        yield _funds(briefs, account)


def _read(tx: Tx) -> tuple[list[Brief], int]:
    found = [read_brief(tx, asset.id) for asset in tx.assets() if asset.is_enabled]
    return [brief for brief in found if brief is not None], len(tx.live_orders())


def _symbol(brief: Brief) -> str:
    return brief.situation.asset.asset_symbol


def _untradable(
    settings: Settings, brief: Brief, instrument: Instrument | None, quote: Quote | None, now: datetime
) -> Finding | None:
    """The first thing that keeps the asset from being traded now."""
    asset, symbol = brief.situation.asset, _symbol(brief)
    if asset.halted_reason is not None:
        return fail(symbol, f"is halted: {asset.halted_reason}", f"dca resume {symbol}")
    if instrument is None or not instrument.tradable:
        return fail(symbol, "is not traded by the venue", f"dca asset disable {symbol}")
    if quote is None:
        return warn(symbol, "has no price at the venue", "wait until it has one, then again")
    if brief.cycle is None:
        return warn(symbol, "has no cycle", "python scripts/asset_caretaker.py")
    if asset.paused_reason is not None:
        return warn(symbol, f"is paused: {asset.paused_reason}", f"dca resume {symbol}")
    age = now - quote.at
    if age > timedelta(seconds=settings.max_quote_age_s):
        seen = f"its price has not moved for {lasting(age.total_seconds())}: older prices are not traded on"
        return warn(symbol, seen, "nothing, if that is usual for it; else raise MAX_QUOTE_AGE_S")
    return None


def _orders(case: Case, account: Account | None) -> Findings:
    """Each order that would not pass, or one line with all of them."""
    symbol, tried = case.quote.symbol, trials(case)
    denied = [one for one in tried if one.denied is not None]
    for one in denied:
        assert one.denied is not None
        remedy = REMEDY.get(one.denied.code, "correct the rules: dca asset set {symbol}")
        do = remedy.format(symbol=symbol, option=OPTION[one.intent.purpose])
        yield fail(symbol, f"{one.words} would be denied: {one.denied.reason}", do)
    holds = case.brief.cycle is not None and case.brief.cycle.quantity > 0
    following = next((one for one in tried[1 if holds else 0 :] if one.intent.limit is not None), None)
    if account is not None and following is not None and following.usd > account.spendable:
        seen = f"{following.words} cannot be paid: {account.spendable:.2f} USD to spend"
        yield fail(symbol, seen, f"deposit, or lower what {symbol} spends: dca asset set")
    if not denied:
        steps = f"steps of {plain(case.instrument.min_trade_increment)} and "
        steps += f"{plain(case.instrument.price_increment)} USD"
        yield ok(symbol, "; ".join([*(one.words for one in tried), steps]))


def _funds(briefs: list[Brief], account: Account) -> Finding:
    """Whether every ladder could be bought to its end at once."""
    needed = sum(map(_left, briefs), ZERO)
    seen = f"{needed:.2f} USD for the rest of every ladder, {account.spendable:.2f} USD to spend"
    if needed <= account.spendable:
        return ok("funds", seen)
    return warn("funds", seen, "deposit, or shorten the ladders: a deep fall could not be bought to its end")


def _left(brief: Brief) -> Decimal:
    asset = brief.situation.asset
    most = asset.rules.max_cycle_spend or commitment(asset.rules) + brief.added_funds
    return max(most - brief.committed, ZERO) if asset.buys else ZERO
