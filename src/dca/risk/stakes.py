"""What is at stake on the whole account when an order is reviewed: pure sums over what was read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from dca.domain.account import Funds, Stake
from dca.domain.asset import Asset
from dca.domain.money import HUNDRED, ZERO
from dca.domain.order import Intent, Purpose

Rest = Callable[[Asset, int], Decimal]
"""USD that the safety orders of an asset cost that come after the given step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtStake:
    """The account as a review counts it, in USD; money in flight counts as spent, always.

    `free` is what may be spent now, None when the balance is not known; `funds_age` is how old that
    knowledge is. `promised` is what started cycles, this one with its later steps included, may still
    come to need. `asset` and `account` are at risk already, `day` was spent or is resting since the
    day began, `active` counts the other cycles that hold coins or buy. `lost_today` is realised (below
    0: a gain), `drawdown_pct` how far equity is below its peak.
    """

    free: Decimal | None
    funds_age: timedelta | None = None
    promised: Decimal = ZERO
    asset: Decimal = ZERO
    account: Decimal = ZERO
    day: Decimal = ZERO
    active: int = 0
    lost_today: Decimal = ZERO
    drawdown_pct: Decimal = ZERO


def free_funds(funds: Funds, stakes: Iterable[Stake], bought: Decimal, slack: timedelta) -> Decimal:
    """What `funds` leave, less every buy that may not be in them yet.

    `bought` is what fills cost since `slack` before the funds were read. `slack` is how far the clocks
    of the venue and of this machine may differ: what happened so shortly before counts once more than
    it should, which only ever makes the sum smaller.
    """
    since = funds.read_at - slack
    resting = (
        stake.resting
        for stake in stakes
        if stake.in_flight or (stake.asked_at is not None and stake.asked_at >= since)
    )
    return funds.spendable - sum(resting, ZERO) - bought


def promised(
    intent: Intent, asset_id: int, stakes: Sequence[Stake], assets: Mapping[int, Asset], rest: Rest
) -> Decimal:
    """USD that the safety orders still to come of every started cycle may need.

    The cycle of `intent` counts as started, with `intent` as its newest step. An asset that buys
    nothing any more needs nothing.
    """
    started: dict[int, int] = {}
    for stake in stakes:
        started[stake.asset_id] = max(started.get(stake.asset_id, 0), stake.steps, stake.working or 0)
    step = intent.step if intent.purpose in (Purpose.BASE, Purpose.SAFETY) else 0
    started[asset_id] = max(started.get(asset_id, 0), step)
    buying = (one for one in started if one in assets and assets[one].buys)
    return sum((rest(assets[one], started[one]) for one in buying), ZERO)


def drawdown_pct(funds: Funds) -> Decimal:
    """How far equity is below its peak, in percent."""
    if funds.peak_equity <= 0:
        return ZERO
    return max(ZERO, (funds.peak_equity - funds.equity) / funds.peak_equity * HUNDRED)
