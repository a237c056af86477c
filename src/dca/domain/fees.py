"""What the venue is expected to take from a fill, until it shows what it took."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from dca.domain.money import CENT, ceil_to
from dca.domain.order import Side

COIN_STEP = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Ratios of the traded amount: 0.0025 is a quarter of a percent."""

    HIGHEST: ClassVar[Decimal] = Decimal("0.01")
    """More than any rate the venue takes: a larger difference is not a fee."""

    maker: Decimal = Decimal("0.0015")
    taker: Decimal = Decimal("0.0025")

    def estimate(self, side: Side, qty: Decimal, price: Decimal) -> Decimal:
        """The most this fill can cost: coins for a buy, USD for a sell.

        The taker rate, rounded up per fill (coins to nine decimals, dollars to the cent), because
        an estimate that is too low would make us sell coins we do not own.
        """
        if side is Side.BUY:
            return ceil_to(qty * self.taker, COIN_STEP)
        return ceil_to(qty * price * self.taker, CENT)
