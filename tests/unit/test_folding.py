"""Fills fold to a position, and with their orders to a cycle, whatever their order."""

from decimal import Decimal as D

from build import T0, at, cycle, fill, intent, order
from hypothesis import given
from hypothesis import strategies as st

from dca.domain.cycle import CycleStatus
from dca.domain.folding import committed, folded, unmeasured_buys
from dca.domain.position import fold

BASE = intent("base")
SAFETY = intent("safety", 1)
EXIT = intent("take_profit", qty=D("0.001995"))
BUYS = [fill(BASE, "0.001", "20000", "0.0000025"), fill(SAFETY, "0.001", "19600", "0.0000025")]


def test_the_average_is_what_was_paid_per_coin_really_owned() -> None:
    position = fold([fill(BASE, "0.1", "20000", "0.00025")])
    assert position.quantity == D("0.09975")
    assert position.average == D(2000) / D("0.09975")


def test_a_correction_of_the_fee_changes_coins_and_not_cost() -> None:
    from dataclasses import replace

    correction = replace(BUYS[0], id="fee", qty=D(0), price=D(0), fee=D("-0.000001"))
    assert fold([BUYS[0], correction]).quantity == D("0.0009985")
    assert fold([BUYS[0], correction]).cost == D(20)


@given(
    st.permutations(
        [*BUYS, fill(EXIT, "0.0005", "21000", "0.03"), fill(EXIT, "0.0004", "21000", "0.03", cum="0.0009")]
    )
)
def test_the_order_of_fills_does_not_matter(fills: list) -> None:  # type: ignore[type-arg]
    assert fold(fills) == fold(sorted(fills, key=lambda one: one.id))


def test_an_ended_safety_order_with_any_fill_uses_its_step() -> None:
    done = order("filled", BASE)
    assert folded(cycle(), [done, order("canceled", SAFETY)], BUYS[:1], at(1)).safety_orders == 0
    assert folded(cycle(), [done, order("partial", SAFETY)], BUYS, at(1)).safety_orders == 0
    after = folded(cycle("buying"), [done, order("canceled", SAFETY)], BUYS, at(1))
    assert after.safety_orders == 1
    assert after.status is CycleStatus.WATCHING
    assert after.latest_order_id is None
    assert after.last_order_fill_price == D(19_600)


def test_a_working_order_makes_the_cycle_buying_or_selling() -> None:
    after = folded(cycle(), [order("open", BASE)], [], at(1))
    assert (after.status, after.latest_order_id, after.latest_order_created_at) == ("buying", "v-1", T0)
    orders = [order("filled", BASE), order("open", EXIT)]
    assert folded(cycle(), orders, BUYS[:1], at(1)).status is CycleStatus.SELLING


def test_an_order_in_flight_does_not_make_the_cycle_buying() -> None:
    assert folded(cycle(), [order("in_flight", BASE)], [], at(1)).status is CycleStatus.WATCHING


def test_a_full_exit_completes_the_cycle() -> None:
    orders = [order("filled", BASE), order("filled", SAFETY), order("filled", EXIT)]
    after = folded(cycle("selling"), orders, [*BUYS, fill(EXIT, "0.001995", "21000", "0.11")], at(9))
    assert (after.status, after.quantity, after.sell_price) == ("complete", 0, D(21_000))
    assert after.completed_at == at(9)


def test_a_partial_exit_leaves_the_rest_under_management() -> None:
    orders = [order("filled", BASE), order("filled", SAFETY), order("canceled", EXIT)]
    after = folded(cycle("selling"), orders, [*BUYS, fill(EXIT, "0.0005", "21000", "0.03")], at(9))
    assert (after.status, after.quantity) == ("watching", D("0.001495"))
    assert after.average_purchase_price == folded(cycle(), orders[:2], BUYS, at(9)).average_purchase_price


def test_money_in_flight_and_resting_counts_as_committed() -> None:
    wish = intent("safety", 2, qty=D("0.001"), limit=D(19_000))
    assert committed([order("filled", BASE), order("in_flight", wish)], BUYS) == D("58.6")
    half = order("partial", wish, filled_qty=D("0.0004"))
    assert committed([half], [fill(wish, "0.0004", "19000")]) == D(19)
    assert committed([half], []) == D(19), "it is paid, though no fill is stored yet"
    assert committed([order("canceled", wish)], []) == 0


def test_the_fee_of_what_was_adopted_is_never_measured() -> None:
    by_hand = intent("adopted")
    ended = [order("filled", BASE), order("filled", by_hand)]
    assert unmeasured_buys(ended, [BUYS[0], fill(by_hand, "0.001")]) == ended[:1]
