"""The ladder and its validation."""

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import BTC, rules

from dca.strategy.ladder import commitment, complaints, instrument_complaints, ladder

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
