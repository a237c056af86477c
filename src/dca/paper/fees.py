"""Fees that are others than the venue publishes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from dca.domain.fees import FeeRates
from dca.domain.order import Side
from dca.matching.book import Match


@dataclass(frozen=True, slots=True)
class Fees:
    """Fees other than those of the tier; None: as there. A side with a step has its fees rounded to it."""

    maker: Decimal | None
    taker: Decimal | None
    steps: Mapping[Side, Decimal | None]
    rounding: str

    def rates(self, rates: FeeRates) -> FeeRates:
        maker, taker = self.maker, self.taker
        return FeeRates(rates.maker if maker is None else maker, rates.taker if taker is None else taker)

    def charged(self, executed: Match, rates: FeeRates) -> Match:
        """The execution with the fee that is really taken."""
        step = self.steps.get(executed.side)
        if step is None:
            return executed
        rate = rates.maker if executed.maker else rates.taker
        amount = executed.qty * rate * (executed.price if executed.side is Side.SELL else 1)
        fee = (amount / step).to_integral_value(self.rounding) * step
        return replace(executed, fee=fee)
