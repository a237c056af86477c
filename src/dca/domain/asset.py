"""An asset: a symbol we may trade, with the rules by which it is traded."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from dca.domain.money import ONE, ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How an asset is traded. Amounts are USD, percentages are percent (2 = 2 %), periods seconds.

    The names are the columns of `dca_assets`.
    """

    base_order_amount: Decimal
    safety_order_amount: Decimal
    max_safety_orders: int
    safety_order_deviation: Decimal
    take_profit_percent: Decimal
    safety_order_step_scale: Decimal = ONE
    safety_order_volume_scale: Decimal = ONE
    ttp_enabled: bool = False
    ttp_deviation_percent: Decimal = ZERO
    take_profit_net_of_fees: bool = True
    buy_order_price_deviation_percent: Decimal = ZERO
    cooldown_period: int = 0
    max_cycle_spend: Decimal | None = None
    stop_loss_percent: Decimal | None = None
    stop_loss_timeout: int = 0
    stop_loss_trailing: bool = False
    break_even_percent: Decimal | None = None
    stop_loss_cooldown_period: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A row of `dca_assets`. `halted_reason` set means: no order of ours until a person looked.

    `paused_reason` set means: nothing is bought, what is held is sold by its rules.
    `accepted_difference` is how many more coins than ours the venue holds (fewer: below 0), of which
    a person said that this is right. `stopped_out`: the last sale that ended a cycle was its stop's.
    """

    id: int
    asset_symbol: str
    is_enabled: bool
    rules: Rules
    last_sell_price: Decimal | None = None
    halted_reason: str | None = None
    paused_reason: str | None = None
    accepted_difference: Decimal = ZERO
    stopped_out: bool = False
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def buys(self) -> bool:
        """Whether new coins may be bought."""
        return self.is_enabled and self.paused_reason is None
