"""What the pipeline keeps beside orders, on every store: modes, funds, breakers, replacements, history."""

from dataclasses import replace
from decimal import Decimal

import pytest
from contract.rows import (
    NOW,
    RULES,
    a_fill,
    a_restriction,
    an_order,
    given_asset,
    given_cycle,
    given_order,
    later,
)

from dca.domain.account import Activity, Balance, Breaker, BreakerState, Budget, Funds, Stake
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import StaleWrite
from dca.domain.mode import OPERATOR, Mode
from dca.domain.money import ZERO
from dca.domain.order import OrderStatus, Side, TimeInForce
from dca.domain.record import Event
from dca.domain.replacement import Replacement, Stage, advance
from dca.ports import Store

FUNDS = Funds(
    account_id="a1",
    read_at=NOW,
    cash=Decimal("1000.01"),
    equity=Decimal("2000.02"),
    spendable=Decimal("900.03"),
    peak_equity=Decimal("2500.04"),
    peak_at=NOW,
)


def test_a_source_has_one_restriction_and_lifts_it_once(any_store: Store) -> None:
    any_store.write(lambda tx: tx.put_mode(a_restriction(Mode.HALTED)))
    any_store.write(lambda tx: tx.put_mode(a_restriction(Mode.REDUCE_ONLY, "later")))
    assert any_store.read(lambda tx: tx.modes()) == [a_restriction(Mode.REDUCE_ONLY, "later")]
    assert any_store.write(lambda tx: tx.drop_mode(OPERATOR))
    assert not any_store.write(lambda tx: tx.drop_mode(OPERATOR))


@pytest.mark.parametrize("row", [
    FUNDS,
    Breaker(name="orders", state=BreakerState.OPEN, since=NOW, failures=5, retry_at=later(30), reason="503"),
    Budget(name="venue", tokens=180, at=NOW),
], ids=["funds", "breaker", "budget"])  # fmt: skip
def test_a_row_is_written_by_whoever_read_its_version(
    any_store: Store, row: Funds | Breaker | Budget
) -> None:
    put, read = {
        Funds: (lambda tx, one: tx.put_funds(one), lambda tx: tx.funds()),
        Breaker: (lambda tx, one: tx.put_breaker(one), lambda tx: tx.breakers()[0]),
        Budget: (lambda tx, one: tx.put_budget(one), lambda tx: tx.budget("venue")),
    }[type(row)]
    first = any_store.write(lambda tx: put(tx, row))
    assert any_store.read(read) == first == replace(row, version=1)
    with pytest.raises(StaleWrite):
        any_store.write(lambda tx: put(tx, row))
    second = any_store.write(lambda tx: put(tx, first))
    with pytest.raises(StaleWrite):
        any_store.write(lambda tx: put(tx, first))
    assert any_store.read(read) == second


def test_stakes_count_what_is_held_and_what_is_resting(any_store: Store) -> None:
    idle = given_cycle(any_store, given_asset(any_store, "SOL/USD"))
    holding = given_cycle(any_store, given_asset(any_store, "ETH/USD"))
    held = replace(holding, quantity=Decimal(2), average_purchase_price=Decimal(3), safety_orders=1)
    any_store.write(lambda tx: tx.update_cycle(held))
    buying = given_cycle(any_store)
    order = given_order(any_store, buying)
    resting = order.intent.qty * (order.intent.limit or 0)
    assert idle.id not in {stake.cycle_id for stake in any_store.read(lambda tx: tx.stakes())}
    assert any_store.read(lambda tx: tx.stakes()) == [
        Stake(holding.asset_id, holding.id, Decimal(6), Decimal(0), 1),
        Stake(buying.asset_id, buying.id, Decimal(0), resting, 0, 3, NOW, True),
    ]


def test_what_the_venue_has_only_counted_is_at_stake_until_its_fills_are_stored(any_store: Store) -> None:
    order = given_order(any_store)
    limit = order.intent.limit
    assert limit is not None
    seen = replace(order, status=OrderStatus.PARTIAL, filled_qty=order.intent.qty, venue_id="v1")
    any_store.write(lambda tx: tx.update_order(seen))
    (stake,) = any_store.read(lambda tx: tx.stakes())
    assert stake.resting == order.intent.qty * limit
    fill = a_fill(order)
    any_store.write(lambda tx: tx.insert_fill(fill))
    (stake,) = any_store.read(lambda tx: tx.stakes())
    assert stake.resting == (order.intent.qty - fill.qty) * limit


def test_one_replacement_per_order_and_per_cycle_at_a_time(any_store: Store) -> None:
    def wish(old_key: str, cycle_id: int = 1) -> Replacement:
        return Replacement(
            old_key=old_key,
            cycle_id=cycle_id,
            stage=Stage.CANCEL_SENT,
            reason="stale",
            created_at=NOW,
            updated_at=NOW,
        )

    first = wish("k1")
    assert any_store.write(lambda tx: tx.insert_replacement(first))
    assert not any_store.write(lambda tx: tx.insert_replacement(wish("k1", 2)))
    assert not any_store.write(lambda tx: tx.insert_replacement(wish("k2")))
    assert any_store.read(lambda tx: tx.replacements()) == [first]
    over = any_store.write(lambda tx: tx.update_replacement(advance(first, Stage.BLOCKED, at=later(1))))
    with pytest.raises(StaleWrite):
        any_store.write(lambda tx: tx.update_replacement(first))
    assert any_store.read(lambda tx: (tx.replacements(), tx.replacement("k1"))) == ([], over)
    assert any_store.write(lambda tx: tx.insert_replacement(wish("k2")))


def test_history_is_read_by_its_instants(any_store: Store) -> None:
    balances = [Balance(at=later(n), cash=Decimal(n), coins={"BTC/USD": "0.1"}) for n in range(3)]
    for balance in balances:
        any_store.write(lambda tx, balance=balance: tx.add_balance(balance))
    assert any_store.read(lambda tx: tx.balances(NOW, later(2))) == balances[:2]
    assert any_store.read(lambda tx: tx.last_balance(later(2))) == balances[1]
    assert any_store.read(lambda tx: tx.last_balance(NOW)) is None
    fee = Activity(id="20260301::1", kind="CFEE", at=NOW, symbol="BTC/USD", qty=Decimal("-0.000000001"))
    assert any_store.write(lambda tx: tx.add_activity(fee))
    assert not any_store.write(lambda tx: tx.add_activity(fee))
    assert any_store.read(lambda tx: tx.activities(NOW, later(1))) == [fee]
    assert any_store.read(lambda tx: tx.activities(later(1), later(2))) == []


def test_an_event_with_a_name_of_its_own_is_written_once(any_store: Store) -> None:
    event = Event(name="order_open", at=NOW, uid="k1#2")
    assert any_store.write(lambda tx: tx.add_event(event))
    assert not any_store.write(lambda tx: tx.add_event(replace(event, at=later(1))))
    assert any_store.write(lambda tx: tx.add_event(replace(event, uid=None)))
    assert any_store.read(lambda tx: tx.events())[-1] == event


def test_orders_rules_and_cycles_keep_what_was_added_to_them(any_store: Store) -> None:
    rules = replace(RULES, stop_loss_percent=Decimal(20), stop_loss_timeout=60, stop_loss_trailing=True,
                    break_even_percent=Decimal("1.5"), stop_loss_cooldown_period=3600)  # fmt: skip
    asset = any_store.write(lambda tx: tx.insert_asset("SOL/USD", rules, is_enabled=True, at=NOW))
    assert asset is not None and asset.rules == rules and not asset.stopped_out
    sold = any_store.write(lambda tx: tx.update_asset(replace(asset, stopped_out=True)))
    assert sold.stopped_out and any_store.read(lambda tx: tx.asset_by_symbol("SOL/USD")) == sold
    cycle = given_cycle(any_store, asset)
    stopped = replace(cycle, stop_price=Decimal("12.5"), stop_since=NOW)
    any_store.write(lambda tx: tx.update_cycle(stopped))
    assert any_store.read(lambda tx: tx.cycle(cycle.id)) == replace(stopped, version=2)
    wish = an_order(cycle.id)
    order = replace(wish, intent=replace(wish.intent, time_in_force=TimeInForce.IOC))
    assert any_store.write(lambda tx: tx.insert_order(order))
    again = replace(order, sent_at=later(1), status=OrderStatus.LOST)
    any_store.write(lambda tx: tx.update_order(again))
    assert any_store.read(lambda tx: tx.order("k1")) == replace(again, version=2)


def test_fills_are_found_by_when_they_were_executed(any_store: Store) -> None:
    order = given_order(any_store)
    fills = [a_fill(order, id=f"x{n}", cum_qty=Decimal(n), at=later(n)) for n in (1, 2, 3)]
    for fill in fills:
        any_store.write(lambda tx, fill=fill: tx.insert_fill(fill))
    assert any_store.read(lambda tx: tx.fills_between(later(1), later(3))) == fills[:2]


def test_what_buys_cost_is_added_up_exactly(any_store: Store) -> None:
    order = given_order(any_store)
    step, cost = Decimal("0.000000001"), ZERO
    for n in (1, 2, 3):
        fill = a_fill(
            order, id=f"x{n}", cum_qty=Decimal(n), qty=n * step, price=Decimal("64123.41"), at=later(n)
        )
        any_store.write(lambda tx, fill=fill: tx.insert_fill(fill))
        cost += fill.qty * fill.price if n < 3 else ZERO
    sold = a_fill(order, id="x4", cum_qty=Decimal(4), side=Side.SELL, at=later(1))
    any_store.write(lambda tx: tx.insert_fill(sold))
    assert any_store.read(lambda tx: tx.bought_between(later(1), later(3))) == cost
    assert any_store.read(lambda tx: tx.bought_between(later(4), later(5))) == 0


def test_a_cycle_is_given_the_number_that_the_venue_knows(any_store: Store) -> None:
    asset = given_asset(any_store)
    other = given_asset(any_store, "ETH/USD")

    def insert(asset_id: int, status: CycleStatus, number: int | None = None) -> Cycle | None:
        return any_store.write(lambda tx: tx.insert_cycle(asset_id, status, at=NOW, number=number))

    forty = insert(asset.id, CycleStatus.COMPLETE, 40)
    assert forty is not None and forty.id == 40
    any_store.write(lambda tx: tx.update_cycle(replace(forty, completed_at=later(5))))
    following = insert(asset.id, CycleStatus.WATCHING)
    assert following is not None and (following.id, following.previous_completed_at) == (41, later(5))
    earlier = insert(asset.id, CycleStatus.COMPLETE, 7)
    assert earlier is not None and (earlier.id, earlier.previous_completed_at) == (7, None)
    assert insert(asset.id, CycleStatus.WATCHING, 8) is None, "it has an unfinished one"
    assert insert(other.id, CycleStatus.WATCHING, 40) is None, "the number is taken"
    last = insert(other.id, CycleStatus.WATCHING)
    assert last is not None and last.id == 42
    assert [one.id for one in any_store.read(lambda tx: tx.cycles())] == [7, 40, 41, 42]


def test_a_cycle_without_orders_can_be_removed(any_store: Store) -> None:
    cycle = given_cycle(any_store)
    with pytest.raises(StaleWrite):
        any_store.write(lambda tx: tx.remove_cycle(replace(cycle, version=2)))
    assert any_store.write(lambda tx: tx.remove_cycle(cycle))
    assert any_store.read(lambda tx: tx.cycle(cycle.id)) is None
    again = any_store.write(lambda tx: tx.insert_cycle(cycle.asset_id, CycleStatus.WATCHING, at=NOW))
    assert again is not None and again.id == cycle.id + 1, "no number is given twice"
    given_order(any_store, again)
    assert not any_store.write(lambda tx: tx.remove_cycle(again))
    assert any_store.read(lambda tx: tx.cycle(again.id)) == again
