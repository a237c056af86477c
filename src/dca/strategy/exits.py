"""Where a position is sold: take profit, trailing, the break-even floor and the stop."""

from decimal import Decimal

from dca.domain.asset import Rules
from dca.domain.cycle import Cycle
from dca.domain.folding import AVERAGE_STEP
from dca.domain.money import ONE, ZERO, ceil_to, percent

STOP_STEP = Decimal("0.001")
"""A trailing stop rises once it would by this part of itself: each rise is a write."""


def take_profit_price(average: Decimal, rules: Rules, taker_fee: Decimal) -> Decimal:
    """The bid at which the position has earned its percentage.

    `average` is what was really paid per coin really owned. With `take_profit_net_of_fees` the fee
    of the sale is added on top, so that the percentage is what stays.
    """
    target = average * (ONE + percent(rules.take_profit_percent))
    return target / (ONE - taker_fee) if rules.take_profit_net_of_fees else target


def floor_price(average: Decimal, taker_fee: Decimal) -> Decimal:
    """The bid below which a sale would lose money after its fee: trailing never sells lower."""
    return average / (ONE - taker_fee)


def trailing_price(peak: Decimal, rules: Rules) -> Decimal:
    """The bid at which a trailing position is sold."""
    return peak * (ONE - percent(rules.ttp_deviation_percent))


def stop_price(cycle: Cycle, rules: Rules) -> Decimal | None:
    """The bid at or below which everything is sold; None without a stop or without coins.

    It stands its percentage below the average price, or where it has moved up to since.
    """
    if rules.stop_loss_percent is None or cycle.quantity <= 0:
        return None
    stop = cycle.average_purchase_price * (ONE - percent(rules.stop_loss_percent))
    return stop if cycle.stop_price is None else max(stop, cycle.stop_price)


def break_even_trigger(cycle: Cycle, rules: Rules) -> Decimal | None:
    """The bid from which on the position must not lose any more; None when the rules ask for none."""
    if rules.break_even_percent is None:
        return None
    return cycle.average_purchase_price * (ONE + percent(rules.break_even_percent))


def raised_stop(cycle: Cycle, rules: Rules, bid: Decimal, taker_fee: Decimal) -> Decimal | None:
    """Where `bid` moves the stop up to; None when it stays. It never moves down."""
    stop = stop_price(cycle, rules)
    if stop is None or rules.stop_loss_percent is None:
        return None
    found = ZERO
    trailed = bid * (ONE - percent(rules.stop_loss_percent))
    if rules.stop_loss_trailing and trailed >= stop * (ONE + STOP_STEP):
        found = trailed
    armed_at = break_even_trigger(cycle, rules)
    if armed_at is not None and bid >= armed_at:
        found = max(found, floor_price(cycle.average_purchase_price, taker_fee))
    # To whole steps of the column, or what is read back would seem lower than what is wanted.
    found = ceil_to(found, AVERAGE_STEP)
    return found if stop < found < bid else None
