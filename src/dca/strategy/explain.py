"""Why: every trigger of a cycle with its distance from the market, in numbers and in sentences."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Quote
from dca.domain.money import HUNDRED, ZERO, plain
from dca.strategy.dca import Terms, restart_trigger, safety_trigger, shown, wakes_at
from dca.strategy.exits import (
    break_even_trigger,
    floor_price,
    stop_price,
    take_profit_price,
    trailing_price,
)


@dataclass(frozen=True, slots=True)
class Trigger:
    """One thing that would change the decision: `side` (bid or ask) at `wanted`, or the time `at`.

    `distance_pct` is how far the market has to move, in percent of what it shows now: below 0, it
    has to fall. `met` is whether it has.
    """

    name: str
    side: str | None = None
    seen: Decimal | None = None
    wanted: Decimal | None = None
    at: datetime | None = None
    step: int | None = None
    met: bool = False

    @property
    def distance_pct(self) -> Decimal | None:
        if self.seen is None or self.wanted is None or self.seen <= 0:
            return None
        return ((self.wanted - self.seen) / self.seen * HUNDRED).quantize(Decimal("0.01"))

    @property
    def sentence(self) -> str:
        """What stands between the market and this trigger."""
        name = self.name.replace("_", " ") + (f" {self.step}" if self.step else "")
        if self.wanted is None or self.seen is None:
            when = "" if self.at is None else f" {self.at:%Y-%m-%d %H:%M:%S} UTC"
            return f"{name}: {'due since' if self.met else 'not before'}{when}"
        if self.met:
            return f"{name}: {self.side} {shown(self.seen)} has reached {shown(self.wanted)}"
        where = "above" if self.seen > self.wanted else "below"
        distance = abs(self.distance_pct or ZERO)
        return f"no {name}: {self.side} {shown(self.seen)} is {distance:.2f} % {where} {shown(self.wanted)}"

    def fields(self) -> dict[str, str | int | bool | None]:
        """JSON-ready."""

        def text(value: Decimal | None) -> str | None:
            return None if value is None else plain(value)

        return {
            "name": self.name,
            "step": self.step,
            "side": self.side,
            "seen": text(self.seen),
            "wanted": text(self.wanted),
            "distance_pct": text(self.distance_pct),
            "at": None if self.at is None else self.at.isoformat(),
            "met": self.met,
            "sentence": self.sentence,
        }


def triggers(cycle: Cycle, asset: Asset, quote: Quote, now: datetime, terms: Terms) -> list[Trigger]:
    """What `decide` looks at for this cycle, nearest concern first; empty where nothing is awaited."""
    if cycle.status is CycleStatus.COOLDOWN:
        return _resting(cycle, asset, quote, now)
    if cycle.quantity <= 0 or cycle.finished:
        return []
    fee = terms.taker_fee
    if cycle.status is CycleStatus.TRAILING and cycle.highest_trailing_price is not None:
        sells = trailing_price(cycle.highest_trailing_price, asset.rules)
        floor = floor_price(cycle.average_purchase_price, fee)
        return [
            *_stop(cycle, asset, quote, now, fee),
            _falls("trailing_sale", "bid", quote.bid, sells),
            _falls("end_of_trailing", "bid", quote.bid, floor),
        ]
    found = _stop(cycle, asset, quote, now, fee)
    safety = safety_trigger(cycle, asset)
    if safety is not None:
        found.append(_falls("safety_order", "ask", quote.ask, safety, cycle.safety_orders + 1))
    target = take_profit_price(cycle.average_purchase_price, asset.rules, fee)
    found.append(Trigger("take_profit", "bid", quote.bid, target, met=quote.bid >= target))
    return found


def _stop(cycle: Cycle, asset: Asset, quote: Quote, now: datetime, fee: Decimal) -> list[Trigger]:
    """The stop, the end of its timeout while it is hit, and what would move it to break-even."""
    stop, rules = stop_price(cycle, asset.rules), asset.rules
    if stop is None:
        return []
    found = [_falls("stop_loss", "bid", quote.bid, stop)]
    if found[0].met and rules.stop_loss_timeout and cycle.stop_since is not None:
        due = cycle.stop_since + timedelta(seconds=rules.stop_loss_timeout)
        found.append(Trigger("stop_loss_timeout", at=due, met=min(now, quote.at) >= due))
    rises = break_even_trigger(cycle, rules)
    if rises is not None and stop < floor_price(cycle.average_purchase_price, fee):
        found.append(Trigger("break_even", "bid", quote.bid, rises, met=quote.bid >= rises))
    return found


def _resting(cycle: Cycle, asset: Asset, quote: Quote, now: datetime) -> list[Trigger]:
    ends = wakes_at(cycle, asset)
    found = [Trigger("end_of_cooldown", at=ends, met=now >= ends)]
    early = restart_trigger(asset)
    return found if early is None else [*found, _falls("early_restart", "ask", quote.ask, early)]


def _falls(name: str, side: str, seen: Decimal, wanted: Decimal, step: int | None = None) -> Trigger:
    return Trigger(name, side, seen, wanted, step=step, met=seen <= wanted)
