"""What the venue takes from an execution, exactly."""

from decimal import Decimal

from dca.domain.fees import COIN_STEP, FeeRates
from dca.domain.money import CENT, ceil_to
from dca.domain.order import Side


def _tier(maker_bps: str, taker_bps: str) -> FeeRates:
    return FeeRates(Decimal(maker_bps).scaleb(-4), Decimal(taker_bps).scaleb(-4))


TIERS: tuple[FeeRates, ...] = (
    _tier("15", "25"),
    _tier("12", "22"),
    _tier("10", "20"),
    _tier("8", "18"),
    _tier("5", "15"),
    _tier("2", "13"),
    _tier("2", "12"),
    _tier("0", "10"),
)
"""By 30-day volume in USD: below 100 k, 500 k, 1 M, 10 M, 25 M, 50 M, 100 M, and above.

Source: docs.alpaca.markets/docs/crypto-fees. `account.crypto_tier` counts from 1.
"""


def fee_of(side: Side, qty: Decimal, price: Decimal, rate: Decimal) -> Decimal:
    """What one execution costs, in what it brings: coins for a buy, USD for a sell.

    Rounded up per execution, coins to nine decimals and dollars to the cent: every published
    measurement of fees at the lowest tier fits that and none fits rounding to nearest.
    """
    if side is Side.BUY:
        return ceil_to(qty * rate, COIN_STEP)
    return ceil_to(qty * price * rate, CENT)
