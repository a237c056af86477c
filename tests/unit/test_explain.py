"""What stands between the market and each trigger, in numbers and in words."""

from datetime import timedelta
from decimal import Decimal as D

import pytest
from build import T0, asset, at, cycle, quote

from dca.domain.cycle import Cycle
from dca.strategy.dca import Terms, Wait, decide
from dca.strategy.explain import triggers

TERMS = Terms(D("0.0025"), timedelta(minutes=5))
HELD = {
    "quantity": D("0.003"),
    "average_purchase_price": D(61_500),
    "last_order_fill_price": D("62228.571428571"),
    "safety_orders": 2,
}


def sentences(seen: Cycle, bid: str, ask: str, seconds: float = 0, **rules: object) -> list[str]:
    found = triggers(seen, asset(**rules), quote(bid, ask), at(seconds), TERMS)  # type: ignore[arg-type]
    return [one.sentence for one in found]


def test_a_position_waits_for_a_fall_and_for_a_rise() -> None:
    assert sentences(cycle(**HELD), "61237", "61240") == [
        "no safety order 3: ask 61240 is 0.42 % above 60984",
        "no take profit: bid 61237 is 1.94 % below 62422.5",
    ]


def test_a_distance_too_small_to_show_keeps_its_side() -> None:
    assert sentences(cycle(**HELD), "60984", "60984.01")[0] == (
        "no safety order 3: ask 60984.01 is 0.00 % above 60984"
    )


def test_a_trigger_that_is_met_says_so() -> None:
    assert sentences(cycle(**HELD), "60000", "60003")[0] == "safety order 3: ask 60003 has reached 60984"


def test_a_used_ladder_waits_for_the_rise_only() -> None:
    assert sentences(cycle(**{**HELD, "safety_orders": 3}), "61237", "61240") == [
        "no take profit: bid 61237 is 1.94 % below 62422.5"
    ]


def test_a_rest_ends_by_time_or_by_price() -> None:
    resting = cycle("cooldown", previous_completed_at=T0)
    assert sentences(resting, "61237", "61240") == ["end of cooldown: not before 2023-03-09 12:02:00 UTC"]
    early = {"last_sell_price": D(62_000), "buy_order_price_deviation_percent": D(2)}
    assert sentences(resting, "61237", "61240", 130, **early) == [
        "end of cooldown: due since 2023-03-09 12:02:00 UTC",
        "no early restart: ask 61240 is 0.78 % above 60760",
    ]


def test_a_trailing_position_falls_to_its_sale_or_to_its_floor() -> None:
    trailing = cycle("trailing", **{**HELD, "highest_trailing_price": D(63_000)})
    rules = {"ttp_enabled": True, "ttp_deviation_percent": D(1)}
    assert sentences(trailing, "62800", "62803", **rules) == [
        "no trailing sale: bid 62800 is 0.68 % above 62370",
        "no end of trailing: bid 62800 is 1.82 % above 61654.135",
    ]


STOP = {"stop_loss_percent": D(10)}


def test_a_stop_stands_first_with_its_distance() -> None:
    assert sentences(cycle(**HELD), "61237", "61240", **STOP) == [
        "no stop loss: bid 61237 is 9.61 % above 55350",
        "no safety order 3: ask 61240 is 0.42 % above 60984",
        "no take profit: bid 61237 is 1.94 % below 62422.5",
    ]
    moved = cycle(**HELD, stop_price=D(61_000))
    assert sentences(moved, "61237", "61240", **STOP)[0] == "no stop loss: bid 61237 is 0.39 % above 61000"
    trailing = cycle("trailing", **{**HELD, "highest_trailing_price": D(63_000)})
    assert sentences(trailing, "62800", "62803", **STOP, ttp_enabled=True)[0].startswith("no stop loss: bid")


def test_a_stop_that_is_hit_tells_until_when_it_waits() -> None:
    waits = {**STOP, "stop_loss_timeout": 60}
    hit = cycle(**HELD, stop_since=T0)
    assert sentences(hit, "55000", "55003", 5, **waits)[:2] == [
        "stop loss: bid 55000 has reached 55350",
        "stop loss timeout: not before 2023-03-09 12:01:00 UTC",
    ]
    late = triggers(hit, asset(**waits), quote("55000", seconds=60), at(60), TERMS)
    assert late[1].sentence == "stop loss timeout: due since 2023-03-09 12:01:00 UTC"
    assert "timeout" not in sentences(hit, "56000", "56003", 5, **waits)[1]


def test_break_even_is_named_until_the_stop_stands_there() -> None:
    rules = {**STOP, "break_even_percent": D(1)}
    assert "no break even: bid 61237 is 1.43 % below 62115" in sentences(
        cycle(**HELD), "61237", "61240", **rules
    )
    there = cycle(**HELD, stop_price=D("61654.14"))
    assert not any("break even" in one for one in sentences(there, "62000", "62003", **rules))


@pytest.mark.parametrize("status", ["complete", "error"])
def test_what_is_over_or_empty_waits_for_nothing(status: str) -> None:
    assert sentences(cycle(status, **HELD), "61237", "61240") == []
    assert sentences(cycle(), "61237", "61240") == []


@pytest.mark.parametrize("bid", ["50000", "60980", "60984", "61000", "62422", "62423", "70000"])
def test_a_trigger_is_met_when_the_rules_act_on_it(bid: str) -> None:
    """`decide` and `triggers` are two readings of the same rules."""
    one = quote(bid, bid)
    acts = not isinstance(decide(cycle(**HELD), asset(), one, T0, TERMS), Wait)
    assert any(found.met for found in triggers(cycle(**HELD), asset(), one, T0, TERMS)) == acts
