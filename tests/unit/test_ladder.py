"""The ladder and its validation."""

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import BTC, T0, asset, cycle, quote, rules

from dca.strategy.dca import Buy, Sell, Terms, decide
from dca.strategy.ladder import (
    commitment,
    complaints,
    depths_pct,
    instrument_complaints,
    ladder,
    most_lost,
    warnings,
)

FEE = D("0.0025")


def test_the_ladder_multiplies_steps_and_adds_spend() -> None:
    steps = ladder(rules(safety_order_step_scale=D(2), safety_order_volume_scale=D("1.5")))
    assert [step.spend for step in steps] == [D(20), D(20), D("30.00"), D("45.00")]
    assert [step.deviation_pct for step in steps] == [0, 2, 4, 8]
    assert steps[-1].committed == commitment(
        rules(safety_order_step_scale=D(2), safety_order_volume_scale=D("1.5"))
    )
    assert steps[2].drop_pct == (1 - D("0.98") * D("0.96")) * 100


def test_sound_rules_have_no_complaints() -> None:
    assert complaints(rules(), FEE) == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"base_order_amount": D(10)}, "base_order_amount is 10; it must be from 11"),
        ({"base_order_amount": D(-5)}, "base_order_amount"),
        ({"safety_order_amount": D("10.99")}, "safety_order_amount"),
        ({"max_safety_orders": -1}, "max_safety_orders"),
        ({"max_safety_orders": 10**9}, "max_safety_orders"),
        ({"safety_order_deviation": D(0)}, "safety_order_deviation"),
        ({"safety_order_deviation": D(100)}, "safety_order_deviation"),
        ({"take_profit_percent": D(0)}, "take_profit_percent"),
        ({"take_profit_percent": D("0.25")}, "every exit would lose money"),
        ({"cooldown_period": -1}, "cooldown_period"),
        ({"ttp_enabled": True}, "ttp_deviation_percent above 0"),
        ({"safety_order_step_scale": D(10)}, "safety order 3 waits for a drop of 200 %"),
        ({"safety_order_volume_scale": D("0.2")}, "safety order 2 would cost 4 USD"),
        ({"max_cycle_spend": D("79.99")}, "the whole ladder costs 80 USD"),
        ({"stop_loss_percent": D(0)}, "stop_loss_percent is 0; it must be from 0.1 to 99 %"),
        ({"stop_loss_percent": D(100)}, "stop_loss_percent"),
        ({"stop_loss_percent": D(9), "stop_loss_timeout": -1}, "stop_loss_timeout"),
        ({"stop_loss_percent": D(9), "break_even_percent": D(0)}, "break_even_percent is 0; it must be from"),
        ({"stop_loss_percent": D(9), "break_even_percent": D("0.25")}, "would sell as soon as it moves"),
        ({"stop_loss_percent": D(9), "stop_loss_cooldown_period": -1}, "stop_loss_cooldown_period"),
        ({"stop_loss_trailing": True}, "stop_loss_trailing needs a stop_loss_percent"),
        ({"stop_loss_timeout": 60}, "stop_loss_timeout needs a stop_loss_percent"),
        ({"break_even_percent": D(1)}, "break_even_percent needs a stop_loss_percent"),
        ({"stop_loss_cooldown_period": 0}, "stop_loss_cooldown_period needs a stop_loss_percent"),
    ],
)
def test_a_ladder_that_cannot_work_is_refused_by_name(change: dict[str, Any], names: str) -> None:
    found = complaints(rules(**change), FEE)
    assert found and names in " ".join(found)


def test_every_range_complaint_comes_at_once() -> None:
    assert len(complaints(rules(base_order_amount=D(1), max_safety_orders=-1), FEE)) == 2


def test_an_increment_too_coarse_for_the_amount_is_refused() -> None:
    coarse = replace(BTC, min_trade_increment=D("0.0015"))
    assert "after rounding to 0.0015" in instrument_complaints(rules(), coarse, D(20_000))[0]
    assert instrument_complaints(rules(), BTC, D(20_000)) == []
    assert "does not trade" in instrument_complaints(rules(), replace(BTC, tradable=False), D(20_000))[0]


def test_a_stop_with_everything_it_can_have_is_sound() -> None:
    stop = {"stop_loss_percent": D(9), "stop_loss_timeout": 60, "stop_loss_trailing": True}
    assert complaints(rules(**stop, break_even_percent=D("0.26"), stop_loss_cooldown_period=0), FEE) == []


def test_the_depth_of_a_step_is_counted_from_the_average_before_it() -> None:
    assert depths_pct(rules(max_safety_orders=0), FEE) == []
    first, second, third = depths_pct(rules(), D(0))
    assert first == 2
    # 20 USD at 100 and 20 at 98 average 98.9899; the next one waits at 96.04.
    assert abs(second - (1 - D("96.04") / (40 / (20 / D(100) + 20 / D(98)))) * 100) < D("1e-20")
    assert first < second < third


@pytest.mark.parametrize(
    ("stop", "cut"), [("2.24", 1), ("2.25", 2), ("3.2", 2), ("3.3", 3), ("4.18", 3), ("4.19", None)]
)
def test_a_stop_within_the_ladder_cuts_it_with_a_warning(stop: str, cut: int | None) -> None:
    chosen = rules(stop_loss_percent=D(stop))
    assert complaints(chosen, FEE) == [], "a person may want just that"
    found = warnings(chosen, FEE)
    if cut is None:
        assert found == []
    else:
        (words,) = found
        assert f"cuts the ladder at safety order {cut}:" in words and "more than 4.19 %" in words


@pytest.mark.parametrize(("stop", "buys"), [("2.24", False), ("2.25", True)])
def test_the_warning_says_what_the_decision_does(stop: str, buys: bool) -> None:
    held = cycle(
        quantity=D("0.001"), average_purchase_price=20_000 / (1 - FEE), last_order_fill_price=D(20_000)
    )
    one = decide(held, asset(stop_loss_percent=D(stop)), quote("19600"), T0, Terms(FEE))
    assert isinstance(one, Buy) is buys


def test_without_a_stop_there_is_nothing_to_warn_of() -> None:
    assert warnings(rules(), FEE) == []
    assert most_lost(rules(), FEE) is None


def test_what_the_stop_loses_of_the_whole_ladder_includes_the_fee_of_its_sale() -> None:
    assert most_lost(rules(stop_loss_percent=D(10)), D(0)) == 8
    assert most_lost(rules(stop_loss_percent=D(10)), FEE) == D("8.18")


def test_where_stop_and_safety_order_meet_the_stop_comes_first() -> None:
    (words,) = warnings(rules(stop_loss_percent=D(2)), D(0))
    assert "cuts the ladder at safety order 1:" in words
    held = cycle(quantity=D("0.001"), average_purchase_price=D(20_000), last_order_fill_price=D(20_000))
    assert isinstance(decide(held, asset(stop_loss_percent=D(2)), quote("19600"), T0, Terms()), Sell)
