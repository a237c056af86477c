"""The DCA rules, case by case."""

from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from build import asset, at, cycle, quote

from dca.domain.order import Purpose
from dca.strategy.dca import Buy, Cancel, Sell, StopTrailing, Terms, Trail, Wait, Wake, decide

HOLDING: dict[str, Any] = {
    "quantity": D("0.001"),
    "average_purchase_price": D(20_000),
    "last_order_fill_price": D(20_000),
}
TERMS = Terms(taker_fee=D("0.0025"), stale_after=timedelta(seconds=300))


def wanted(state: Any, rules: Any, price: Any, seconds: float = 0) -> Any:
    return decide(state, rules, price, at(seconds), TERMS)


def test_a_flat_watching_cycle_buys_the_base_order_at_the_ask() -> None:
    action = wanted(cycle(), asset(), quote("19990", "20000"))
    assert isinstance(action, Buy)
    assert (action.purpose, action.step, action.spend, action.limit) == (Purpose.BASE, 0, D(20), D(20_000))


@pytest.mark.parametrize(
    ("ask", "used", "step"),
    [
        ("19600.01", 0, None),
        ("19600", 0, 1),
        ("19000", 0, 1),
        ("19600", 1, 2),
        ("19600", 2, 3),
        ("19600", 3, None),
    ],
)
def test_a_safety_order_is_due_at_the_deviation_below_the_last_fill(
    ask: str, used: int, step: int | None
) -> None:
    action = wanted(cycle(safety_orders=used, **HOLDING), asset(), quote("19500", ask))
    if step is None:
        assert isinstance(action, Wait)
    else:
        assert isinstance(action, Buy)
        assert (action.purpose, action.step, action.spend) == (Purpose.SAFETY, step, D(20))


def test_safety_orders_look_at_the_ask_and_not_at_the_bid() -> None:
    assert isinstance(wanted(cycle(**HOLDING), asset(), quote("19000", "19700")), Wait)


def test_scales_make_later_steps_deeper_and_larger() -> None:
    rules = asset(safety_order_step_scale=D(2), safety_order_volume_scale=D("1.5"))
    state = cycle(safety_orders=1, **HOLDING)
    assert isinstance(wanted(state, rules, quote("19000", "19200.01")), Wait)
    action = wanted(state, rules, quote("19000", "19200"))
    assert isinstance(action, Buy) and action.spend == D("30.00")


@pytest.mark.parametrize(("bid", "sells"), [("20299.99", False), ("20300", True), ("25000", True)])
def test_everything_is_sold_at_the_take_profit(bid: str, sells: bool) -> None:
    action = wanted(cycle(**HOLDING), asset(), quote(bid, "30000"))
    assert isinstance(action, Sell) is sells
    if isinstance(action, Sell):
        assert action.qty == D("0.001")


def test_net_of_fees_puts_the_fee_of_the_sale_on_top() -> None:
    rules = asset(take_profit_net_of_fees=True)
    target = D(20_300) / D("0.9975")
    assert isinstance(wanted(cycle(**HOLDING), rules, quote(str(target - 1), "30000")), Wait)
    assert isinstance(wanted(cycle(**HOLDING), rules, quote(str(target + D("0.01")), "30000")), Sell)


def test_the_safety_order_comes_before_the_take_profit() -> None:
    state = cycle(quantity=D("0.001"), average_purchase_price=D(10_000), last_order_fill_price=D(20_000))
    assert isinstance(wanted(state, asset(), quote("19000", "19600")), Buy)


def test_a_disabled_asset_buys_nothing_but_still_sells() -> None:
    off = asset(is_enabled=False)
    assert isinstance(wanted(cycle(), off, quote("20000")), Wait)
    assert isinstance(wanted(cycle(**HOLDING), off, quote("15000")), Wait)
    assert isinstance(wanted(cycle(**HOLDING), off, quote("20300")), Sell)


def test_a_halted_asset_does_nothing() -> None:
    assert wanted(cycle(), asset(halted_reason="a person must look"), quote("20000")) == Wait("asset_halted")


@pytest.mark.parametrize("status", ["selling", "complete", "error"])
def test_other_states_wait(status: str) -> None:
    assert isinstance(wanted(cycle(status, **HOLDING), asset(), quote("10000")), Wait)


def test_a_buy_that_rested_too_long_is_canceled() -> None:
    state = cycle("buying", latest_order_id="v-1", latest_order_created_at=at(0))
    assert isinstance(wanted(state, asset(), quote("20000"), 299.9), Wait)
    assert wanted(state, asset(), quote("20000"), 300) == Cancel("v-1", "the buy has rested for 300 s")


class TestTrailing:
    rules = asset(ttp_enabled=True, ttp_deviation_percent=D(1))

    def test_the_take_profit_starts_trailing_instead_of_selling(self) -> None:
        action = wanted(cycle(**HOLDING), self.rules, quote("20300", "20310"))
        assert isinstance(action, Trail) and action.peak == D(20_300)

    @pytest.mark.parametrize(
        ("bid", "kind"),
        [("21001", Trail), ("21000", Wait), ("20790.01", Wait), ("20790", Sell), ("20200", Sell)],
    )
    def test_it_follows_the_peak_and_sells_at_the_deviation(self, bid: str, kind: type) -> None:
        state = cycle("trailing", highest_trailing_price=D(21_000), **HOLDING)
        assert isinstance(wanted(state, self.rules, quote(bid, "22000")), kind)

    def test_it_never_sells_below_break_even(self) -> None:
        floor = D(20_000) / D("0.9975")
        state = cycle("trailing", highest_trailing_price=D(21_000), **HOLDING)
        assert isinstance(wanted(state, self.rules, quote(str(floor - D("0.01")), "22000")), StopTrailing)
        assert isinstance(wanted(state, self.rules, quote(str(floor + D("0.01")), "22000")), Sell)


class TestCooldown:
    state = cycle("cooldown", previous_completed_at=at(0))

    @pytest.mark.parametrize(("seconds", "wakes"), [(0, False), (119.9, False), (120, True)])
    def test_it_ends_when_its_time_has_passed(self, seconds: float, wakes: bool) -> None:
        action = wanted(self.state, asset(), quote("20000"), seconds)
        assert isinstance(action, Wake) is wakes

    @pytest.mark.parametrize(("ask", "wakes"), [("19800.01", False), ("19800", True)])
    def test_it_ends_early_when_the_price_fell_below_the_last_sale(self, ask: str, wakes: bool) -> None:
        rules = asset(last_sell_price=D(20_000), buy_order_price_deviation_percent=D(1))
        assert isinstance(wanted(self.state, rules, quote("19000", ask), 5), Wake) is wakes

    def test_there_is_no_early_end_without_a_deviation(self) -> None:
        rules = asset(last_sell_price=D(20_000))
        assert isinstance(wanted(self.state, rules, quote("1"), 5), Wait)


def test_doing_nothing_has_a_reason_with_its_numbers() -> None:
    waiting = wanted(cycle(**HOLDING), asset(), quote("19900", "19910"))
    assert waiting.reason == "ask 19910 is above the next safety order at 19600, and below the take profit"
