"""The DCA rules: one cycle, one quote, one instant -> one decision with its reason."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import NamedTuple

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Quote
from dca.domain.money import ONE, ZERO, percent, plain
from dca.domain.order import Purpose
from dca.strategy.exits import floor_price, raised_stop, stop_price, take_profit_price, trailing_price
from dca.strategy.ladder import deviation_pct, spend

_SHOWN = Context(prec=8)
"""Prices in sentences have eight digits: enough for any coin, and readable."""


class Wait(NamedTuple):
    """Nothing is to be done, because of `code`: the market shows `seen` where `wanted` is needed."""

    code: str
    seen: Decimal | None = None
    wanted: Decimal | None = None

    @property
    def reason(self) -> str:
        return _reason(self.code, self.seen, self.wanted)


@dataclass(frozen=True, slots=True)
class Buy:
    """Buy for `spend` USD, at no more than `limit`; step 0 is the base order."""

    purpose: Purpose
    step: int
    spend: Decimal
    limit: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Sell:
    """Sell everything the cycle owns."""

    qty: Decimal
    reason: str
    purpose: Purpose = Purpose.TAKE_PROFIT


@dataclass(frozen=True, slots=True)
class Trail:
    """Follow the price up: `peak` is the highest bid, and must be stored before it is used."""

    peak: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class StopTrailing:
    """The bid fell through the floor: hold the position and watch again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wake:
    """The cooldown is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """A buy that rested too long is canceled; a fresh one follows at the price there is then."""

    venue_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class MoveStop:
    """The stop moves up to `price`, which must be stored before it is used."""

    price: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class StartStop:
    """The bid is at or below the stop from `since` on; the sale waits for the timeout."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ClearStop:
    """The bid recovered: the time at or below the stop counts from nothing again."""

    reason: str


Change = Trail | StopTrailing | Wake | MoveStop | StartStop | ClearStop
"""What only the cycle's own row shows."""
Action = Buy | Sell | Cancel | Change
_GUARDED = frozenset({CycleStatus.WATCHING, CycleStatus.TRAILING, CycleStatus.BUYING})
"""Statuses in which the stop is looked at: in the others nothing is held, or it is being sold."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What decisions need beside the asset's own rules.

    `taker_fee` is a ratio; a buy that has rested for `stale_after` is canceled, because Alpaca
    takes no `day` orders for crypto.
    """

    taker_fee: Decimal = ZERO
    stale_after: timedelta = timedelta(minutes=5)


def decide(cycle: Cycle, asset: Asset, quote: Quote, now: datetime, terms: Terms) -> Action | Wait:
    """What the rules want for `cycle` at `quote`. Buys look at the ask, sells at the bid.

    A disabled or paused asset buys nothing more; what it holds is still sold by its rules. The stop
    comes before everything else.
    """
    if asset.halted_reason is not None:
        return Wait("asset_halted")
    if cycle.status not in _GUARDED:
        return _usual(cycle, asset, quote, now, terms)
    stop = stop_price(cycle, asset.rules)
    if stop is not None and quote.bid <= stop:
        return _stopped(cycle, asset, stop, quote, now)
    if cycle.stop_since is not None:
        return ClearStop(f"bid {shown(quote.bid)} is not at the stop any more")
    raised = None if stop is None else raised_stop(cycle, asset.rules, quote.bid, terms.taker_fee)
    if raised is not None:
        return MoveStop(raised, f"bid {shown(quote.bid)} moves the stop to {shown(raised)}")
    return _usual(cycle, asset, quote, now, terms)


def _stopped(cycle: Cycle, asset: Asset, stop: Decimal, quote: Quote, now: datetime) -> Action | Wait:
    """The bid is at or below the stop: the working buy makes way, then everything is sold.

    With a timeout the bid must stay there. Time without quotes counts once the next one is there still.
    """
    timeout = timedelta(seconds=asset.rules.stop_loss_timeout)
    why = f"bid {shown(quote.bid)} is at or below the stop {shown(stop)}"
    if timeout and cycle.stop_since is None:
        return StartStop(now, f"{why}: sold unless it recovers within {asset.rules.stop_loss_timeout} s")
    if cycle.status is CycleStatus.BUYING:
        order = cycle.latest_order_id
        return Wait("order_working") if order is None else Cancel(order, f"{why}: the buy makes way")
    if cycle.stop_since is not None and min(now, quote.at) - cycle.stop_since < timeout:
        return Wait("stopping", quote.bid, stop)
    return Sell(cycle.quantity, why, Purpose.STOP_LOSS)


def _usual(cycle: Cycle, asset: Asset, quote: Quote, now: datetime, terms: Terms) -> Action | Wait:
    """What is wanted while no stop is hit."""
    status = cycle.status
    if status is CycleStatus.WATCHING:
        if cycle.quantity > 0:
            return _holding(cycle, asset, quote, terms.taker_fee)
        return _flat(asset, quote)
    if status is CycleStatus.TRAILING:
        return _trailing(cycle, asset, quote, terms.taker_fee)
    if status is CycleStatus.COOLDOWN:
        return resting(cycle, asset, quote, now)
    if status is CycleStatus.BUYING:
        return _buying(cycle, now, terms.stale_after)
    return Wait("cycle_finished" if cycle.finished else "order_working")


def _buying(cycle: Cycle, now: datetime, stale_after: timedelta) -> Action | Wait:
    since = cycle.latest_order_created_at
    why = None if since is None else stale(since, now, stale_after)
    if cycle.latest_order_id is None or why is None:
        return Wait("order_working")
    return Cancel(cycle.latest_order_id, why)


def stale(since: datetime, now: datetime, stale_after: timedelta) -> str | None:
    """Why a buy that rests `since` then is canceled; None while it may rest."""
    return f"the buy has rested for {stale_after.total_seconds():g} s" if now - since >= stale_after else None


def _flat(asset: Asset, quote: Quote) -> Action | Wait:
    if not asset.buys:
        return Wait("asset_disabled" if not asset.is_enabled else "asset_paused")
    amount = spend(asset.rules, 0)
    return Buy(Purpose.BASE, 0, amount, quote.ask, f"watching without a position: base order at {quote.ask}")


def _holding(cycle: Cycle, asset: Asset, quote: Quote, taker_fee: Decimal) -> Action | Wait:
    trigger = safety_trigger(cycle, asset)
    if trigger is not None and quote.ask <= trigger:
        step = cycle.safety_orders + 1
        why = f"ask {quote.ask} is at or below {shown(trigger)}: safety order {step}"
        return Buy(Purpose.SAFETY, step, spend(asset.rules, step), quote.ask, why)
    target = take_profit_price(cycle.average_purchase_price, asset.rules, taker_fee)
    if quote.bid >= target:
        why = f"bid {quote.bid} is at or above the take profit {shown(target)}"
        return Trail(quote.bid, why) if asset.rules.ttp_enabled else Sell(cycle.quantity, why)
    if trigger is None:
        return Wait(_no_more_buys(cycle, asset), quote.bid, target)
    return Wait("between", quote.ask, trigger)


def _no_more_buys(cycle: Cycle, asset: Asset) -> str:
    if not asset.is_enabled:
        return "asset_disabled_holding"
    return "ladder_used" if asset.buys else "asset_paused_holding"


def safety_trigger(cycle: Cycle, asset: Asset) -> Decimal | None:
    """The ask at which the next safety order is due; None when there is no next one."""
    last = cycle.last_order_fill_price
    if not asset.buys or last is None or cycle.safety_orders >= asset.rules.max_safety_orders:
        return None
    return last * (ONE - percent(deviation_pct(asset.rules, cycle.safety_orders + 1)))


def _trailing(cycle: Cycle, asset: Asset, quote: Quote, taker_fee: Decimal) -> Action | Wait:
    peak = cycle.highest_trailing_price
    if peak is None or quote.bid > peak:
        return Trail(quote.bid, f"bid {quote.bid} is a new peak")
    floor = floor_price(cycle.average_purchase_price, taker_fee)
    if quote.bid < floor:
        return StopTrailing(f"bid {quote.bid} fell below the break-even floor {shown(floor)}")
    trigger = trailing_price(peak, asset.rules)
    if quote.bid <= trigger:
        return Sell(cycle.quantity, f"bid {quote.bid} fell from the peak {peak} to {shown(trigger)}")
    return Wait("trailing", quote.bid, trigger)


def wakes_at(cycle: Cycle, asset: Asset) -> datetime:
    """When the cooldown of a resting cycle has passed."""
    since = cycle.previous_completed_at or cycle.created_at
    return since + timedelta(seconds=rest_s(asset))


def rest_s(asset: Asset) -> int:
    """How many seconds the asset rests after its last sale; after a stop it may be more."""
    own = asset.rules.stop_loss_cooldown_period
    return own if asset.stopped_out and own is not None else asset.rules.cooldown_period


def restart_trigger(asset: Asset) -> Decimal | None:
    """The ask at which the cooldown ends early; None when only time ends it.

    A cheap price is of no use to an asset that buys nothing, and may be gone once it does again. After
    a stop a falling price is no bargain.
    """
    drop = asset.rules.buy_order_price_deviation_percent
    if not asset.buys or asset.stopped_out or asset.last_sell_price is None or drop <= 0:
        return None
    return asset.last_sell_price * (ONE - percent(drop))


def resting(cycle: Cycle, asset: Asset, quote: Quote | None, now: datetime) -> Wake | Wait:
    """What a cycle in cooldown wants; without a quote only time can wake it."""
    if now >= wakes_at(cycle, asset):
        return Wake(f"the cooldown of {rest_s(asset)} s is over")
    trigger = restart_trigger(asset)
    if trigger is None or quote is None:
        return Wait("cooling_down")
    if quote.ask <= trigger:
        return Wake(f"ask {quote.ask} is at or below {shown(trigger)}: early restart")
    return Wait("cooling_down", quote.ask, trigger)


_SENTENCES = {
    "asset_halted": "the asset is halted until a person resumes it",
    "asset_disabled": "the asset is disabled and holds nothing",
    "asset_disabled_holding": "the asset is disabled: no more buys; bid {seen} has not reached {wanted}",
    "asset_paused": "the asset is paused and holds nothing",
    "asset_paused_holding": "the asset is paused: no more buys; bid {seen} has not reached {wanted}",
    "trading_halted": "trading is halted until a person resumes it",
    "trading_paused": "trading is paused: no more buys; what is held is still sold by its rules",
    "no_cycle": "the asset has no cycle yet",
    "ladder_used": "every safety order is used; bid {seen} has not reached the take profit {wanted}",
    "between": "ask {seen} is above the next safety order at {wanted}, and below the take profit",
    "stopping": "bid {seen} is at or below the stop {wanted}: sold unless it recovers in time",
    "trailing": "trailing: bid {seen} is above the selling price {wanted}",
    "cooling_down": "cooling down",
    "cycle_finished": "the cycle is finished",
    "order_working": "an order of this cycle is working",
}


def _reason(code: str, seen: Decimal | None, wanted: Decimal | None) -> str:
    def text(value: Decimal | None) -> str:
        return "-" if value is None else shown(value)

    return _SENTENCES.get(code, code).format(seen=text(seen), wanted=text(wanted))


def shown(price: Decimal) -> str:
    """A price as it stands in sentences."""
    return plain(_SHOWN.plus(price))
