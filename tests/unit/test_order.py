"""An order's life: the table of moves, keys, and what an observation makes of an order."""

from decimal import Decimal as D

import pytest
from build import INSTALL, at, intent, order, seen

from dca.domain.errors import IllegalTransition
from dca.domain.folding import observe
from dca.domain.order import LIVE, MOVES, OrderStatus, Purpose, is_ours, move, order_key


@pytest.mark.parametrize("start", OrderStatus)
@pytest.mark.parametrize("to", OrderStatus)
def test_only_moves_of_the_table_are_made(start: OrderStatus, to: OrderStatus) -> None:
    one = order(start)
    if to in MOVES[start]:
        assert move(one, to, at=at(1)).status is to
    else:
        with pytest.raises(IllegalTransition):
            move(one, to, at=at(1))


def test_filled_and_rejected_are_the_end_and_in_flight_counts_as_live() -> None:
    assert MOVES[OrderStatus.FILLED] == MOVES[OrderStatus.REJECTED] == frozenset()
    assert OrderStatus.IN_FLIGHT in LIVE


def test_a_key_names_installation_cycle_purpose_step_and_attempt() -> None:
    key = order_key(INSTALL, 42, Purpose.SAFETY, 3, 1)
    assert key == "dca0a1b2c3d-c42-safety-3-1"
    assert is_ours(key, INSTALL)
    assert not is_ours(key, "ffffffff")
    assert not is_ours("a person's order", INSTALL)
    assert not is_ours(key + "x", INSTALL)
    assert len(order_key(INSTALL, 10**9, Purpose.TAKE_PROFIT, 200, 10**4)) <= 48


@pytest.mark.parametrize(
    ("before", "venue", "filled", "known", "after"),
    [
        ("in_flight", "open", "0", "0", "open"),
        ("in_flight", "open", "0.0004", "0.0004", "partial"),
        ("in_flight", "filled", "0.001", "0.001", "filled"),
        ("open", "filled", "0.001", "0.0004", "partial"),
        ("partial", "filled", "0.001", "0.001", "filled"),
        ("partial", "partial", "0.0004", "0.001", "filled"),
        ("partial", "canceled", "0.0004", "0.0004", "canceled"),
        ("partial", "canceled", "0.0004", "0", "partial"),
        ("open", "canceled", "0", "0", "canceled"),
        ("open", "rejected", "0", "0", "rejected"),
        ("open", "expired", "0", "0", "expired"),
        ("filled", "open", "0", "0.001", "filled"),
        ("canceled", "open", "0", "0", "canceled"),
        ("canceled", "canceled", "0.0004", "0.0004", "canceled"),
        ("canceled", "partial", "0.0004", "0.0004", "canceled"),
        ("expired", "partial", "0.0004", "0.0004", "expired"),
        ("canceled", "partial", "0.0006", "0.0004", "partial"),
        ("canceled", "filled", "0.001", "0.001", "filled"),
        ("lost", "open", "0", "0", "open"),
        ("lost", "filled", "0.001", "0.001", "filled"),
        ("rejected", "open", "0", "0", "rejected"),
    ],
)
def test_an_observation_moves_an_order_forward_only(
    before: str, venue: str, filled: str, known: str, after: str
) -> None:
    wish = intent()
    assert observe(order(before, wish), seen(wish, venue, filled), D(known), at(5)).status == after


def test_an_observation_that_says_nothing_new_gives_the_same_order_back() -> None:
    wish = intent()
    once = observe(order("in_flight", wish), seen(wish, "open"), D(0), at(1))
    assert observe(once, seen(wish, "open"), D(0), at(2)) is once
