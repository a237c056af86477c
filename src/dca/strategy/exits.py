"""Where a position is sold: take profit, trailing and the break-even floor."""

from decimal import Decimal

from dca.domain.asset import Rules
from dca.domain.money import ONE, percent


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
