"""The ladder of a cycle: how deep each safety order waits, what it spends, what all of it costs."""

from dataclasses import dataclass
from decimal import Decimal

from dca.domain.asset import Rules
from dca.domain.market import Instrument
from dca.domain.money import HUNDRED, ONE, ZERO, percent, plain

VENUE_MINIMUM = Decimal(10)
"""USD below which Alpaca refuses a crypto order, whatever the instrument's own minimum says."""
MIN_SPEND = Decimal(11)
"""The least a buy may cost: the venue's minimum and room for rounding, the coin fee and a fall."""
MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class Step:
    """One buy of the ladder; step 0 is the base order.

    `deviation_pct` is the drop from the fill before it, `drop_pct` the drop from the base fill,
    `committed` the USD spent once this step has filled.
    """

    step: int
    deviation_pct: Decimal
    drop_pct: Decimal
    spend: Decimal
    committed: Decimal


def deviation_pct(rules: Rules, step: int) -> Decimal:
    """How far below the last fill safety order `step` (1..n) waits, in percent."""
    if rules.safety_order_step_scale == ONE:
        return rules.safety_order_deviation
    return rules.safety_order_deviation * rules.safety_order_step_scale ** (step - 1)


def spend(rules: Rules, step: int) -> Decimal:
    """The USD that step 0 (base) or safety order 1..n may cost, in whole cents."""
    if step == 0:
        return rules.base_order_amount
    if rules.safety_order_volume_scale == ONE:
        return rules.safety_order_amount
    scaled = rules.safety_order_amount * rules.safety_order_volume_scale ** (step - 1)
    return scaled.quantize(Decimal("0.01"))


def ladder(rules: Rules) -> list[Step]:
    """Every buy that one cycle can make, base order first."""
    left = ONE
    committed = spend(rules, 0)
    steps = [Step(0, ZERO, ZERO, committed, committed)]
    for number in range(1, rules.max_safety_orders + 1):
        deviation = deviation_pct(rules, number)
        left *= ONE - percent(deviation)
        cost = spend(rules, number)
        committed += cost
        steps.append(Step(number, deviation, (ONE - left) * HUNDRED, cost, committed))
    return steps


def commitment(rules: Rules) -> Decimal:
    """The USD that the whole ladder costs: what a started cycle may come to need."""
    return ladder(rules)[-1].committed


def rest(rules: Rules, done: int) -> Decimal:
    """The USD that the safety orders after step `done` cost."""
    return sum((spend(rules, step) for step in range(done + 1, rules.max_safety_orders + 1)), ZERO)


def complaints(rules: Rules, taker_fee: Decimal) -> list[str]:
    """What is wrong with `rules`, a sentence each; empty when they can be traded.

    `taker_fee` is a ratio. Names are those of the settings, so that a person finds them.
    """
    found = _range_complaints(rules)
    if found:
        return found
    return _ladder_complaints(rules) + _exit_complaints(rules, taker_fee) + _stop_complaints(rules, taker_fee)


def _range_complaints(rules: Rules) -> list[str]:
    ranges: list[tuple[str, Decimal | int, Decimal | int, Decimal | int, str]] = [
        ("base_order_amount", rules.base_order_amount, MIN_SPEND, 200_000, "USD"),
        ("safety_order_amount", rules.safety_order_amount, MIN_SPEND, 200_000, "USD"),
        ("max_safety_orders", rules.max_safety_orders, 0, MAX_STEPS, "orders"),
        ("safety_order_step_scale", rules.safety_order_step_scale, Decimal("0.1"), 10, "times"),
        ("safety_order_volume_scale", rules.safety_order_volume_scale, Decimal("0.1"), 10, "times"),
        ("ttp_deviation_percent", rules.ttp_deviation_percent, 0, 50, "%"),
        ("buy_order_price_deviation_percent", rules.buy_order_price_deviation_percent, 0, 99, "%"),
        ("cooldown_period", rules.cooldown_period, 0, 2_592_000, "seconds"),
        ("take_profit_percent", rules.take_profit_percent, Decimal("0.01"), 1000, "%"),
        ("safety_order_deviation", rules.safety_order_deviation, Decimal("0.01"), 99, "%"),
        ("stop_loss_timeout", rules.stop_loss_timeout, 0, 86_400, "seconds"),
    ]
    if rules.stop_loss_percent is not None:
        ranges.append(("stop_loss_percent", rules.stop_loss_percent, Decimal("0.1"), 99, "%"))
    if rules.break_even_percent is not None:
        ranges.append(("break_even_percent", rules.break_even_percent, Decimal("0.01"), 1000, "%"))
    if rules.stop_loss_cooldown_period is not None:
        rest_s = rules.stop_loss_cooldown_period
        ranges.append(("stop_loss_cooldown_period", rest_s, 0, 2_592_000, "seconds"))
    return [
        f"{name} is {_show(value)}; it must be from {_show(low)} to {_show(high)} {unit}"
        for name, value, low, high, unit in ranges
        if not low <= value <= high
    ]


def _ladder_complaints(rules: Rules) -> list[str]:
    found = []
    for step in range(1, rules.max_safety_orders + 1):
        if deviation_pct(rules, step) >= HUNDRED:
            found.append(
                f"safety order {step} waits for a drop of {_show(deviation_pct(rules, step))} %: "
                "lower safety_order_deviation, safety_order_step_scale or max_safety_orders"
            )
            break
        if not MIN_SPEND <= spend(rules, step) <= 200_000:
            found.append(
                f"safety order {step} would cost {_show(spend(rules, step))} USD; "
                f"an order must cost from {MIN_SPEND} to 200000 USD"
            )
            break
    if not found and rules.max_cycle_spend is not None and rules.max_cycle_spend < commitment(rules):
        found.append(
            f"max_cycle_spend is {_show(rules.max_cycle_spend)} USD, but the whole ladder costs "
            f"{_show(commitment(rules))} USD"
        )
    return found


def _exit_complaints(rules: Rules, taker_fee: Decimal) -> list[str]:
    found = []
    if not rules.take_profit_net_of_fees and percent(rules.take_profit_percent) <= taker_fee:
        found.append(
            f"take_profit_percent is {_show(rules.take_profit_percent)}, no more than the fee of "
            f"{_show(taker_fee * HUNDRED)} %: every exit would lose money"
        )
    if rules.ttp_enabled and rules.ttp_deviation_percent <= 0:
        found.append("ttp_enabled needs a ttp_deviation_percent above 0")
    return found


def _stop_complaints(rules: Rules, taker_fee: Decimal) -> list[str]:
    if rules.stop_loss_percent is None:
        without = {
            "stop_loss_timeout": rules.stop_loss_timeout > 0,
            "stop_loss_trailing": rules.stop_loss_trailing,
            "break_even_percent": rules.break_even_percent is not None,
            "stop_loss_cooldown_period": rules.stop_loss_cooldown_period is not None,
        }
        return [f"{name} needs a stop_loss_percent" for name, given in without.items() if given]
    armed = rules.break_even_percent
    if armed is not None and (ONE + percent(armed)) * (ONE - taker_fee) <= ONE:
        return [
            f"break_even_percent is {_show(armed)}, no more than the fee of {_show(taker_fee * HUNDRED)} %: "
            "the stop would sell as soon as it moves"
        ]
    return []


def depths_pct(rules: Rules, taker_fee: Decimal) -> list[Decimal]:
    """How far below the average before it each safety order waits, in percent, the first one first.

    Taken as if every buy filled where it waits; the average is of what is left after fees.
    """
    base, *steps = ladder(rules)
    cost, coins = base.spend, base.spend * (ONE - taker_fee)
    found = []
    for step in steps:
        price = ONE - percent(step.drop_pct)
        found.append((ONE - price * coins / cost) * HUNDRED)
        cost += step.spend
        coins += step.spend / price * (ONE - taker_fee)
    return found


def warnings(rules: Rules, taker_fee: Decimal) -> list[str]:
    """What can be traded and may yet not be meant, a sentence each."""
    stop, depths = rules.stop_loss_percent, depths_pct(rules, taker_fee)
    cut = next((number for number, depth in enumerate(depths, 1) if stop is not None and depth >= stop), None)
    if stop is None or cut is None:
        return []
    return [
        f"the stop cuts the ladder at safety order {cut}: it sells everything {_show(stop)} % below the "
        f"average, and that order waits {depths[cut - 1]:.2f} % below it; the whole ladder is bought only "
        f"with a stop of more than {max(depths):.2f} %"
    ]


def most_lost(rules: Rules, taker_fee: Decimal) -> Decimal | None:
    """The USD that a stop loses about where it was never moved, after the whole ladder; None without."""
    if rules.stop_loss_percent is None:
        return None
    return commitment(rules) * (ONE - (ONE - percent(rules.stop_loss_percent)) * (ONE - taker_fee))


def _show(value: Decimal | int) -> str:
    return plain(Decimal(value))


def instrument_complaints(rules: Rules, instrument: Instrument, ask: Decimal) -> list[str]:
    """What keeps the venue from taking the ladder of `rules` at today's `ask`, a sentence each."""
    if not instrument.tradable:
        return [f"the venue does not trade {instrument.symbol} at present"]
    found = []
    for step in ladder(rules):
        price = ask * (ONE - percent(step.drop_pct))
        qty = instrument.floor_qty(step.spend / price)
        if qty < instrument.min_order_size or qty * price < VENUE_MINIMUM:
            name = "the base order" if step.step == 0 else f"safety order {step.step}"
            found.append(
                f"{_show(step.spend)} USD for {name} buys {_show(qty)} after rounding to "
                f"{_show(instrument.min_trade_increment)}; the venue wants at least "
                f"{_show(instrument.min_order_size)} and {VENUE_MINIMUM} USD"
            )
    return found[:1]
