"""What every store does, in memory and on both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

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

from dca.domain.cycle import CycleStatus
from dca.domain.errors import StaleWrite, StoreError
from dca.domain.mode import OPERATOR, Mode
from dca.domain.order import OrderStatus, Side
from dca.domain.position import fold
from dca.domain.record import Decision, Event, Heartbeat, Lease, Message
from dca.ports import CycleRecord, Situation, Standing, Store, Tx


class Failure(Exception):
    """What a unit of work may raise."""


def finish(store: Store, cycle_id: int, at: datetime, **changes: Any) -> None:
    def work(tx: Tx) -> None:
        cycle = tx.cycle(cycle_id)
        assert cycle is not None
        tx.update_cycle(replace(cycle, status=CycleStatus.COMPLETE, completed_at=at, **changes))

    store.write(work)


class TestAssets:
    def test_an_asset_is_read_as_it_was_written(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        assert asset.rules == RULES
        assert (asset.asset_symbol, asset.is_enabled, asset.version) == ("BTC/USD", True, 1)
        assert asset.created_at == asset.updated_at == NOW
        assert any_store.read(lambda tx: tx.assets()) == [asset]
        assert any_store.read(lambda tx: tx.asset_by_symbol("BTC/USD")) == asset
        assert any_store.read(lambda tx: tx.situation(asset.id)) == Situation(asset, None)

    def test_what_is_not_there_is_none(self, any_store: Store) -> None:
        assert any_store.read(lambda tx: tx.asset_by_symbol("BTC/USD")) is None
        assert any_store.read(lambda tx: tx.situation(1)) is None
        assert any_store.read(lambda tx: tx.assets()) == []
        assert any_store.read(lambda tx: tx.situations()) == []

    def test_a_symbol_is_inserted_once(self, any_store: Store) -> None:
        first = given_asset(any_store)
        again = any_store.write(lambda tx: tx.insert_asset("BTC/USD", RULES, is_enabled=False, at=later(1)))
        assert again is None
        assert any_store.read(lambda tx: tx.assets()) == [first]

    def test_symbols_compare_letter_by_letter(self, any_store: Store) -> None:
        given_asset(any_store, "BTC/USD")
        assert any_store.read(lambda tx: tx.asset_by_symbol("btc/usd")) is None
        assert given_asset(any_store, "btc/usd")

    def test_assets_come_by_symbol(self, any_store: Store) -> None:
        for symbol in ("SOL/USD", "BTC/USD", "ETH/USD"):
            given_asset(any_store, symbol)
        assert [asset.asset_symbol for asset in any_store.read(lambda tx: tx.assets())] == [
            "BTC/USD",
            "ETH/USD",
            "SOL/USD",
        ]
        situations = any_store.read(lambda tx: tx.situations())
        assert [situation.asset.asset_symbol for situation in situations] == ["BTC/USD", "ETH/USD", "SOL/USD"]

    def test_an_update_is_written_whole_and_raises_the_version(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        changed = replace(
            asset,
            is_enabled=False,
            rules=replace(RULES, max_cycle_spend=None, ttp_enabled=True, cooldown_period=60),
            last_sell_price=Decimal("1234.5"),
            halted_reason="ünklar \N{SNOWMAN}\n' \" \\ %s DELIMITER // it's",
            updated_at=later(5),
        )
        written = any_store.write(lambda tx: tx.update_asset(changed))
        assert written == replace(changed, version=2)
        assert any_store.read(lambda tx: tx.asset_by_symbol("BTC/USD")) == written

    def test_an_update_that_changes_nothing_counts(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        written = any_store.write(lambda tx: tx.update_asset(asset))
        assert written == replace(asset, version=2)

    def test_an_update_of_an_older_version_is_refused(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        any_store.write(lambda tx: tx.update_asset(replace(asset, halted_reason="first")))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.update_asset(replace(asset, halted_reason="second")))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.update_asset(replace(asset, id=99)))
        assert any_store.read(lambda tx: tx.assets())[0].halted_reason == "first"

    def test_an_asset_that_never_traded_is_removed_whole(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        cycle = given_cycle(any_store, asset)
        other = given_cycle(any_store, given_asset(any_store, "ETH/USD"))
        assert any_store.write(lambda tx: tx.remove_asset(asset))
        assert any_store.read(lambda tx: tx.asset_by_symbol("BTC/USD")) is None
        assert any_store.read(lambda tx: tx.cycles()) == [other]
        again = given_asset(any_store)
        assert again.id > asset.id and given_cycle(any_store, again).id > cycle.id

    def test_an_asset_with_an_order_is_not_removed(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        cycle = given_cycle(any_store, asset)
        order = given_order(any_store, cycle)
        assert not any_store.write(lambda tx: tx.remove_asset(asset))
        assert any_store.read(lambda tx: (tx.assets(), tx.cycles(), tx.orders())) == (
            [asset],
            [cycle],
            [order],
        )

    def test_an_asset_that_changed_is_not_removed(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        cycle = given_cycle(any_store, asset)
        changed = any_store.write(lambda tx: tx.update_asset(asset))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.remove_asset(asset))
        assert any_store.read(lambda tx: (tx.assets(), tx.cycles())) == ([changed], [cycle])


class TestCycles:
    def test_a_cycle_is_read_as_it_was_written(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        cycle = given_cycle(any_store, asset)
        assert (cycle.asset_id, cycle.status, cycle.version) == (asset.id, CycleStatus.WATCHING, 1)
        assert (cycle.created_at, cycle.quantity, cycle.completed_at) == (NOW, Decimal(0), None)
        assert any_store.read(lambda tx: tx.cycle(cycle.id)) == cycle
        assert any_store.read(lambda tx: tx.cycle(99)) is None
        assert any_store.read(lambda tx: tx.situation(asset.id)) == Situation(asset, cycle)
        assert any_store.read(lambda tx: tx.situations()) == [Situation(asset, cycle)]

    def test_an_asset_has_one_unfinished_cycle(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        cycle = given_cycle(any_store, asset)
        assert any_store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.COOLDOWN, at=NOW)) is None
        finish(any_store, cycle.id, later(1))
        second = any_store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.COOLDOWN, at=later(2)))
        assert second is not None and second.id > cycle.id
        assert any_store.read(lambda tx: tx.situation(asset.id)) == Situation(asset, second)
        assert [cycle.id for cycle in any_store.read(lambda tx: tx.cycles())] == [cycle.id, second.id]

    def test_a_cycle_in_error_is_finished(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        any_store.write(lambda tx: tx.update_cycle(replace(cycle, status=CycleStatus.ERROR)))
        assert any_store.write(lambda tx: tx.insert_cycle(cycle.asset_id, CycleStatus.WATCHING, at=NOW))

    def test_a_cycle_of_no_asset_is_an_error(self, any_store: Store) -> None:
        with pytest.raises(StoreError):
            any_store.write(lambda tx: tx.insert_cycle(7, CycleStatus.WATCHING, at=NOW))

    def test_every_column_is_updated(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        changed = replace(
            cycle,
            status=CycleStatus.TRAILING,
            quantity=Decimal("1.000000000000000001"),
            average_purchase_price=Decimal("60000.123456789012"),
            safety_orders=2,
            latest_order_id="k1",
            latest_order_created_at=later(1),
            last_order_fill_price=Decimal("1"),
            highest_trailing_price=Decimal("2"),
            completed_at=later(2),
            sell_price=Decimal("3"),
            updated_at=later(3),
        )
        written = any_store.write(lambda tx: tx.update_cycle(changed))
        assert written == replace(changed, version=2)
        assert any_store.read(lambda tx: tx.cycle(cycle.id)) == written

    def test_an_update_of_an_older_version_is_refused(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        any_store.write(lambda tx: tx.update_cycle(cycle))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.update_cycle(cycle))

    def test_a_cycle_knows_when_the_one_before_it_ended(self, any_store: Store) -> None:
        asset, other = given_asset(any_store), given_asset(any_store, "ETH/USD")
        ends: list[datetime | None] = [None]
        for second in (10, 5, 20):
            cycle = given_cycle(any_store, asset)
            assert cycle.previous_completed_at == max(filter(None, ends), default=None)
            finish(any_store, cycle.id, later(second))
            ends.append(later(second))
        last = given_cycle(any_store, asset)
        assert last.previous_completed_at == later(20)
        assert given_cycle(any_store, other).previous_completed_at is None
        seen = [cycle.previous_completed_at for cycle in any_store.read(lambda tx: tx.cycles())]
        assert seen == [None, later(10), later(10), later(20), None]
        situation = any_store.read(lambda tx: tx.situation(asset.id))
        assert situation is not None and situation.cycle == last

    def test_an_end_that_is_corrected_is_seen_by_the_next_cycle(self, any_store: Store) -> None:
        first = given_cycle(any_store)
        finish(any_store, first.id, later(1))
        asset = any_store.read(lambda tx: tx.assets())[0]
        second = given_cycle(any_store, asset)
        finish(any_store, first.id, later(9))
        seen = any_store.read(lambda tx: tx.cycle(second.id))
        assert seen is not None and seen.previous_completed_at == later(9)

    def test_what_an_asset_owns_is_the_sum_over_its_cycles(self, any_store: Store) -> None:
        asset, other = given_asset(any_store), given_asset(any_store, "ETH/USD")
        assert any_store.read(lambda tx: tx.owned(asset.id)) == 0
        for quantity in ("0.000000003", "0", "0.000000000000000001"):
            finish(any_store, given_cycle(any_store, asset).id, NOW, quantity=Decimal(quantity))
        cycle = given_cycle(any_store, asset)
        any_store.write(lambda tx: tx.update_cycle(replace(cycle, quantity=Decimal("1.5"))))
        finish(any_store, given_cycle(any_store, other).id, NOW, quantity=Decimal(7))
        assert any_store.read(lambda tx: tx.owned(asset.id)) == Decimal("1.500000003000000001")
        assert any_store.read(lambda tx: tx.owned(other.id)) == 7
        every = {asset.id: Decimal("1.500000003000000001"), other.id: Decimal(7)}
        assert any_store.read(lambda tx: tx.owned_by_asset()) == every

    def test_the_coins_of_a_cycle_in_error_are_gone(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        held = any_store.write(lambda tx: tx.update_cycle(replace(cycle, quantity=Decimal(2))))
        assert any_store.read(lambda tx: tx.owned(cycle.asset_id)) == 2
        any_store.write(lambda tx: tx.update_cycle(replace(held, status=CycleStatus.ERROR)))
        assert any_store.read(lambda tx: tx.owned(cycle.asset_id)) == 0
        assert any_store.read(lambda tx: tx.owned_by_asset()) == {}

    def test_a_place_that_is_taken_is_not_given_again(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        done = any_store.write(lambda tx: tx.update_cycle(replace(cycle, status=CycleStatus.COMPLETE)))
        assert any_store.write(lambda tx: tx.insert_cycle(cycle.asset_id, CycleStatus.WATCHING, at=NOW))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.update_cycle(replace(done, status=CycleStatus.WATCHING)))
        assert any_store.read(lambda tx: tx.cycle(cycle.id)) == done

    def test_the_revision_follows_versions(self, any_store: Store) -> None:
        asset, other = given_asset(any_store), given_asset(any_store, "ETH/USD")
        cycle = given_cycle(any_store, asset)
        revision = any_store.read(lambda tx: tx.revision())
        assert revision == {asset.id: (1, cycle.id, 1), other.id: (1, 0, 0)}
        any_store.write(lambda tx: (tx.update_cycle(cycle), tx.update_asset(other)))
        assert any_store.read(lambda tx: tx.revision()) == {asset.id: (1, cycle.id, 2), other.id: (2, 0, 0)}
        finish(any_store, cycle.id, NOW)
        assert any_store.read(lambda tx: tx.revision()) == {asset.id: (1, 0, 0), other.id: (2, 0, 0)}


class TestStanding:
    def test_it_tells_versions_live_orders_and_the_halt(self, any_store: Store) -> None:
        asset, other = given_asset(any_store), given_asset(any_store, "ETH/USD")
        assert any_store.read(lambda tx: tx.standing(99, NOW)) is None
        assert any_store.read(lambda tx: tx.standing(asset.id, NOW)) == Standing(1, 0, 0, 0, None)
        cycle = given_cycle(any_store, asset)
        order = given_order(any_store, given_cycle(any_store, other))
        any_store.write(
            lambda tx: (tx.update_cycle(cycle), tx.put_mode(a_restriction(Mode.HALTED, "by a person")))
        )
        assert any_store.read(lambda tx: tx.standing(asset.id, NOW)) == Standing(
            1, cycle.id, 2, 1, "by a person"
        )
        any_store.write(lambda tx: tx.update_order(replace(order, status=OrderStatus.LOST)))
        any_store.write(lambda tx: tx.drop_mode(OPERATOR))
        assert any_store.read(lambda tx: tx.standing(asset.id, NOW)) == Standing(1, cycle.id, 2, 0, None)


class TestOrders:
    def test_an_order_is_read_as_it_was_written(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        order = given_order(any_store, cycle)
        assert any_store.read(lambda tx: tx.order("k1")) == order
        assert any_store.read(lambda tx: tx.cycle_record("k1")) == CycleRecord(cycle, [order], [])
        for read in (lambda tx: tx.orders(), lambda tx: tx.live_orders(), lambda tx: tx.orders_of(cycle.id)):
            assert any_store.read(read) == [order]

    def test_what_is_not_there_is_none(self, any_store: Store) -> None:
        given_order(any_store)
        assert any_store.read(lambda tx: tx.order("k2")) is None
        assert any_store.read(lambda tx: tx.order("K1")) is None
        assert any_store.read(lambda tx: tx.cycle_record("k2")) is None
        assert any_store.read(lambda tx: tx.orders_of(99)) == []

    def test_order_and_cycle_are_written_together(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        order = given_order(any_store, cycle)
        bought = replace(cycle, status=CycleStatus.BUYING, quantity=Decimal("0.5"))
        filled = replace(order, status=OrderStatus.FILLED, filled_qty=Decimal("0.5"))
        written = any_store.write(lambda tx: tx.update_order_and_cycle(filled, bought))
        assert written == replace(filled, version=2)
        assert any_store.read(lambda tx: tx.order("k1")) == written
        assert any_store.read(lambda tx: tx.cycle(cycle.id)) == replace(bought, version=2)

    @pytest.mark.parametrize("stale", ["order", "cycle"])
    def test_a_stale_half_keeps_both_unwritten(self, any_store: Store, stale: str) -> None:
        cycle = given_cycle(any_store)
        order = given_order(any_store, cycle)
        old_order = replace(order, version=9) if stale == "order" else order
        old_cycle = replace(cycle, version=9) if stale == "cycle" else cycle
        filled = replace(old_order, status=OrderStatus.FILLED)
        with pytest.raises(StaleWrite):
            any_store.write(
                lambda tx: tx.update_order_and_cycle(filled, replace(old_cycle, quantity=Decimal(1)))
            )
        assert any_store.read(lambda tx: tx.order("k1")) == order
        assert any_store.read(lambda tx: tx.cycle(cycle.id)) == cycle

    def test_an_order_that_finds_its_slot_taken_is_written_with_its_cycle(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        lost = given_order(any_store, cycle)
        lost = any_store.write(lambda tx: tx.update_order(replace(lost, status=OrderStatus.LOST)))
        given_order(any_store, cycle, "k2")
        found = replace(lost, status=OrderStatus.OPEN, venue_id="v1")
        any_store.write(lambda tx: tx.update_order_and_cycle(found, replace(cycle, quantity=Decimal(2))))
        assert any_store.read(lambda tx: tx.order("k1")) == replace(found, version=3)
        after = any_store.read(lambda tx: tx.cycle(cycle.id))
        assert after is not None and after.quantity == 2

    def test_a_market_order_has_no_limit(self, any_store: Store) -> None:
        order = an_order(given_cycle(any_store).id)
        market = replace(order, intent=replace(order.intent, limit=None, side=Side.SELL))
        assert any_store.write(lambda tx: tx.insert_order(market))
        assert any_store.read(lambda tx: tx.order("k1")) == market

    def test_a_key_is_inserted_once(self, any_store: Store) -> None:
        order = given_order(any_store)
        done = any_store.write(lambda tx: tx.update_order(replace(order, status=OrderStatus.FILLED)))
        assert not any_store.write(lambda tx: tx.insert_order(order))
        assert any_store.read(lambda tx: tx.orders()) == [done]

    def test_a_cycle_has_one_live_order(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        order = given_order(any_store, cycle)
        assert not any_store.write(lambda tx: tx.insert_order(an_order(cycle.id, "k2")))
        any_store.write(lambda tx: tx.update_order(replace(order, status=OrderStatus.CANCELED)))
        assert any_store.write(lambda tx: tx.insert_order(an_order(cycle.id, "k2")))

    def test_a_refused_insert_leaves_the_rest_of_the_unit_standing(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        given_order(any_store, cycle)

        def work(tx: Tx) -> tuple[bool, bool]:
            refused = tx.insert_order(an_order(cycle.id, "k2")), tx.insert_order(an_order(cycle.id))
            tx.add_event(Event(name="order_refused", at=NOW))
            return refused

        assert any_store.write(work) == (False, False)
        assert [event.name for event in any_store.read(lambda tx: tx.events())] == ["order_refused"]

    def test_an_order_of_no_cycle_is_an_error(self, any_store: Store) -> None:
        with pytest.raises(StoreError):
            any_store.write(lambda tx: tx.insert_order(an_order(99)))

    def test_an_update_writes_the_fate_of_an_order(self, any_store: Store) -> None:
        order = given_order(any_store)
        changed = replace(
            order,
            status=OrderStatus.PARTIAL,
            updated_at=later(1),
            filled_qty=Decimal("0.000000007"),
            filled_avg_price=Decimal("64123.333333333333"),
            venue_id="0b9e1c2a",
            unclear=True,
            detail="a reason " * 20_000,
        )
        written = any_store.write(lambda tx: tx.update_order(changed))
        assert written == replace(changed, version=2)
        assert any_store.read(lambda tx: tx.order("k1")) == written

    def test_an_update_of_an_older_version_is_refused(self, any_store: Store) -> None:
        order = given_order(any_store)
        any_store.write(lambda tx: tx.update_order(order))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.update_order(order))

    def test_live_means_in_flight_open_or_partly_filled(self, any_store: Store) -> None:
        order = given_order(any_store)
        for status in OrderStatus:
            changed = replace(order, status=status)
            order = any_store.write(lambda tx, changed=changed: tx.update_order(changed))
            expected = [order] if order.live else []
            assert any_store.read(lambda tx: tx.live_orders()) == expected

    def test_a_lost_order_that_turns_up_beside_its_successor_is_recorded(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        lost = given_order(any_store, cycle)
        lost = any_store.write(lambda tx: tx.update_order(replace(lost, status=OrderStatus.LOST)))
        successor = given_order(any_store, cycle, "k2")
        found = any_store.write(lambda tx: tx.update_order(replace(lost, status=OrderStatus.OPEN)))
        assert any_store.read(lambda tx: tx.live_orders()) == [found, successor]
        any_store.write(lambda tx: tx.update_order(replace(successor, status=OrderStatus.CANCELED)))
        assert not any_store.write(lambda tx: tx.insert_order(an_order(cycle.id, "k3"))), "k1 is still live"
        found = any_store.write(lambda tx: tx.update_order(replace(found, status=OrderStatus.PARTIAL)))
        assert any_store.read(lambda tx: tx.live_orders()) == [found]
        any_store.write(lambda tx: tx.update_order(replace(found, status=OrderStatus.FILLED)))
        assert any_store.write(lambda tx: tx.insert_order(an_order(cycle.id, "k3")))

    def test_orders_come_in_the_order_they_were_journaled(self, any_store: Store) -> None:
        """Whatever their keys and times say: the clock may step back."""
        cycle = given_cycle(any_store)
        keys = ["k9", "k1", "k5"]
        for number, key in enumerate(keys):
            order = replace(an_order(cycle.id, key), created_at=later(-number))
            assert any_store.write(lambda tx, order=order: tx.insert_order(order))
            any_store.write(
                lambda tx, order=order: tx.update_order(replace(order, status=OrderStatus.EXPIRED))
            )
        assert [order.key for order in any_store.read(lambda tx: tx.orders_of(cycle.id))] == keys
        assert [order.key for order in any_store.read(lambda tx: tx.orders())] == keys


class TestFills:
    def test_a_fill_is_read_as_it_was_written(self, any_store: Store) -> None:
        order = given_order(any_store)
        fill = a_fill(order)
        assert any_store.write(lambda tx: tx.insert_fill(fill))
        assert any_store.read(lambda tx: tx.fills()) == [fill]
        assert any_store.read(lambda tx: tx.fills_of(order.intent.cycle_id)) == [fill]
        assert any_store.read(lambda tx: tx.fills_of(99)) == []

    def test_an_execution_counts_once_under_either_of_its_names(self, any_store: Store) -> None:
        order = given_order(any_store)
        assert any_store.write(lambda tx: tx.insert_fill(a_fill(order)))
        again = a_fill(order, cum_qty=Decimal("0.000000006"))
        renamed = a_fill(order, id="the REST name of x1", cum_qty=Decimal("0.0000000050"))
        assert not any_store.write(lambda tx: tx.insert_fill(again))
        assert not any_store.write(lambda tx: tx.insert_fill(renamed))
        assert any_store.read(lambda tx: tx.fills()) == [a_fill(order)]

    def test_a_fee_is_corrected_once_beside_the_executions(self, any_store: Store) -> None:
        order = given_order(any_store)
        correction = a_fill(
            order, id="fee:k1", qty=Decimal(0), cum_qty=Decimal(0), fee=Decimal("-0.000000001")
        )
        assert any_store.write(lambda tx: tx.insert_fill(correction))
        assert any_store.write(lambda tx: tx.insert_fill(a_fill(order)))
        assert not any_store.write(lambda tx: tx.insert_fill(correction))
        assert any_store.read(lambda tx: tx.fills_of(order.intent.cycle_id)) == [correction, a_fill(order)]
        assert fold(any_store.read(lambda tx: tx.fills())).quantity == Decimal("0.000000005")

    def test_a_fill_of_no_order_is_an_error(self, any_store: Store) -> None:
        with pytest.raises(StoreError):
            any_store.write(lambda tx: tx.insert_fill(a_fill(an_order(1))))


class TestRecords:
    def test_events_come_newest_first(self, any_store: Store) -> None:
        events = [
            Event(name=name, at=later(-number), reason="r" * number, order_key="k", asset_id=1, cycle_id=2)
            for number, name in enumerate(["a", "b", "a", "c"])
        ]
        for event in events:
            any_store.write(lambda tx, event=event: tx.add_event(event))
        newest = events[::-1]
        assert any_store.read(lambda tx: tx.events()) == newest
        assert any_store.read(lambda tx: tx.events(limit=2)) == newest[:2]
        assert any_store.read(lambda tx: tx.events(name="a")) == [events[2], events[0]]
        assert any_store.read(lambda tx: tx.events(name="a", limit=1)) == [events[2]]
        assert any_store.read(lambda tx: tx.events(name="x")) == []

    def test_the_numbers_behind_an_event_survive(self, any_store: Store) -> None:
        data = {"bid": "1.10", "steps": [1, 2], "deep": {"ok": True, "none": None}, "text": "ü'\"\\\n"}
        any_store.write(lambda tx: tx.add_event(Event(name="a", at=NOW, data=data)))
        assert any_store.read(lambda tx: tx.events())[0].data == data

    @pytest.mark.parametrize("value", [Decimal(1), float("nan"), NOW, object()], ids=type)
    def test_what_json_cannot_say_is_refused(self, any_store: Store, value: object) -> None:
        with pytest.raises(ValueError):
            any_store.write(lambda tx: tx.add_event(Event(name="a", at=NOW, data={"x": value})))

    def test_a_message_is_kept_once_and_until_it_is_sent(self, any_store: Store) -> None:
        first = Message(key="m1", name="order_filled", text="filled", at=NOW)
        second = Message(key="m0", name="order_filled", text="filled too", at=later(-1))
        assert any_store.write(lambda tx: (tx.add_message(first), tx.add_message(second))) == (True, True)
        assert not any_store.write(lambda tx: tx.add_message(replace(first, text="other")))
        assert any_store.read(lambda tx: tx.messages()) == [first, second]
        assert any_store.write(lambda tx: tx.mark_sent("m1", at=NOW))
        assert not any_store.write(lambda tx: tx.mark_sent("m1", at=NOW))
        assert not any_store.write(lambda tx: tx.mark_sent("m7", at=NOW))
        assert any_store.read(lambda tx: tx.messages()) == [second]
        assert not any_store.write(lambda tx: tx.add_message(first)), "once means once"

    def test_a_heartbeat_replaces_the_last(self, any_store: Store) -> None:
        first = Heartbeat(name="quotes", at=NOW, detail={"count": 1})
        any_store.write(lambda tx: tx.beat(first))
        any_store.write(lambda tx: tx.beat(first))
        last = replace(first, at=later(1), detail={})
        other = Heartbeat(name="engine", at=NOW)
        any_store.write(lambda tx: (tx.beat(last), tx.beat(other)))
        assert any_store.read(lambda tx: tx.heartbeats()) == [other, last]

    def test_a_flag_is_set_and_taken_away(self, any_store: Store) -> None:
        assert any_store.read(lambda tx: tx.flag("halted")) is None
        for value in ("by a person", "again", "again", None, ""):
            any_store.write(lambda tx, value=value: tx.set_flag("halted", value, at=NOW))
            assert any_store.read(lambda tx: tx.flag("halted")) == value


class TestLeases:
    lease = Lease(name="order_manager", holder="host:1", expires_at=NOW, version=0)

    def test_a_lease_is_taken_prolonged_and_given_back(self, any_store: Store) -> None:
        assert any_store.read(lambda tx: tx.lease("order_manager")) is None
        held = any_store.write(lambda tx: tx.put_lease(self.lease))
        assert held == replace(self.lease, version=1)
        longer = any_store.write(lambda tx: tx.put_lease(replace(held, expires_at=later(60))))
        assert longer == replace(held, expires_at=later(60), version=2)
        assert any_store.read(lambda tx: tx.lease("order_manager")) == longer
        any_store.write(lambda tx: tx.drop_lease(longer))
        assert any_store.read(lambda tx: tx.lease("order_manager")) is None

    def test_a_held_lease_is_not_taken(self, any_store: Store) -> None:
        held = any_store.write(lambda tx: tx.put_lease(self.lease))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.put_lease(replace(self.lease, holder="host:2")))
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.put_lease(replace(held, holder="host:2", version=7)))
        assert any_store.read(lambda tx: tx.lease("order_manager")) == held

    def test_a_lease_that_changed_hands_is_not_dropped(self, any_store: Store) -> None:
        held = any_store.write(lambda tx: tx.put_lease(self.lease))
        taken = any_store.write(lambda tx: tx.put_lease(replace(held, holder="host:2")))
        any_store.write(lambda tx: tx.drop_lease(held))
        assert any_store.read(lambda tx: tx.lease("order_manager")) == taken

    def test_a_version_never_comes_again(self, any_store: Store) -> None:
        """Or a holder that slept would prolong the lease of somebody who took it after a release."""
        sleeper = any_store.write(lambda tx: tx.put_lease(self.lease))
        any_store.write(lambda tx: tx.drop_lease(sleeper))
        other = any_store.write(lambda tx: tx.put_lease(replace(self.lease, holder="host:2")))
        assert other.version > sleeper.version
        with pytest.raises(StaleWrite):
            any_store.write(lambda tx: tx.put_lease(sleeper))
        assert any_store.read(lambda tx: tx.lease("order_manager")) == other


class TestUnits:
    def test_a_failing_unit_leaves_no_trace(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        cycle = given_cycle(any_store, asset)
        order = given_order(any_store, cycle)
        held = any_store.write(lambda tx: tx.put_lease(TestLeases.lease))
        before = any_store.read(everything)

        def work(tx: Tx) -> None:
            tx.insert_asset("ETH/USD", RULES, is_enabled=True, at=NOW)
            tx.update_asset(replace(asset, halted_reason="x"))
            tx.update_order(replace(order, status=OrderStatus.FILLED))
            tx.insert_order(an_order(cycle.id, "k2"))
            tx.insert_fill(a_fill(order))
            tx.update_cycle(
                replace(cycle, status=CycleStatus.COMPLETE, completed_at=NOW, quantity=Decimal(1))
            )
            tx.insert_cycle(asset.id, CycleStatus.COOLDOWN, at=NOW)
            tx.add_event(Event(name="a", at=NOW))
            tx.add_message(Message(key="m", name="n", text="t", at=NOW))
            tx.beat(Heartbeat(name="h", at=NOW))
            tx.set_flag("halted", "x", at=NOW)
            tx.drop_lease(held)
            assert everything(tx) != before
            raise Failure

        with pytest.raises(Failure):
            any_store.write(work)
        assert any_store.read(everything) == before
        assert not any_store.write(lambda tx: tx.insert_order(an_order(cycle.id, "k2")))
        assert any_store.write(lambda tx: tx.insert_fill(a_fill(order)))

    def test_a_unit_sees_what_it_wrote(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)

        def work(tx: Tx) -> list[str]:
            tx.insert_order(an_order(cycle.id))
            return [order.key for order in tx.live_orders()]

        assert any_store.write(work) == ["k1"]

    def test_a_stale_write_undoes_its_unit(self, any_store: Store) -> None:
        asset = given_asset(any_store)

        def work(tx: Tx) -> None:
            tx.add_event(Event(name="a", at=NOW))
            tx.update_asset(replace(asset, version=9))

        with pytest.raises(StaleWrite):
            any_store.write(work)
        assert any_store.read(lambda tx: tx.events()) == []

    def test_a_read_must_not_write(self, any_store: Store) -> None:
        with pytest.raises(StoreError):
            any_store.read(lambda tx: tx.add_event(Event(name="a", at=NOW)))
        assert any_store.read(lambda tx: tx.events()) == []

    def test_the_install_number_is_eight_hex_digits(self, any_store: Store) -> None:
        assert len(any_store.install) == 8
        assert int(any_store.install, 16) >= 0
        assert any_store.install == any_store.install


def everything(tx: Tx) -> list[Any]:
    """All that a store holds."""
    asset_ids = [asset.id for asset in tx.assets()]
    return [
        *(tx.assets(), tx.situations(), tx.revision(), tx.cycles(), tx.orders(), tx.live_orders()),
        *(tx.fills(), tx.events(), tx.messages(), tx.heartbeats(), tx.flag("halted")),
        *(tx.lease("order_manager"), [tx.owned(asset_id) for asset_id in asset_ids]),
        *([tx.orders_of(cycle.id) for cycle in tx.cycles()], [tx.fills_of(c.id) for c in tx.cycles()]),
    ]


class TestValues:
    BAD_AMOUNTS: tuple[Any, ...] = (
        0.1,
        1,
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("1E+18"),
        Decimal("1E-19"),
        Decimal("0.1234567890123456789"),
        Decimal("1E+999999"),
    )

    @pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=str)
    def test_an_amount_that_would_change_is_refused(self, any_store: Store, amount: Any) -> None:
        cycle = given_cycle(any_store)
        with pytest.raises(ValueError):
            any_store.write(lambda tx: tx.update_cycle(replace(cycle, quantity=amount)))
        order = an_order(cycle.id)
        with pytest.raises(ValueError):
            any_store.write(
                lambda tx: tx.insert_order(replace(order, intent=replace(order.intent, qty=amount)))
            )
        rules = replace(RULES, base_order_amount=amount)
        with pytest.raises(ValueError):
            any_store.write(lambda tx: tx.insert_asset("ETH/USD", rules, is_enabled=True, at=NOW))
        assert any_store.read(lambda tx: tx.cycle(cycle.id)) == cycle

    def test_an_instant_without_a_zone_is_refused(self, any_store: Store) -> None:
        naive = datetime(2026, 1, 1)
        order = given_order(any_store)
        units: list[Callable[[Tx], object]] = [
            lambda tx: tx.insert_asset("ETH/USD", RULES, is_enabled=True, at=naive),
            lambda tx: tx.update_order(replace(order, updated_at=naive)),
            lambda tx: tx.insert_fill(a_fill(order, at=naive)),
            lambda tx: tx.add_event(Event(name="a", at=naive)),
            lambda tx: tx.add_message(Message(key="m", name="n", text="t", at=naive)),
            lambda tx: tx.beat(Heartbeat(name="h", at=naive)),
            lambda tx: tx.set_flag("f", "x", at=naive),
            lambda tx: tx.put_lease(replace(TestLeases.lease, expires_at=naive)),
        ]
        for unit in units:
            with pytest.raises(ValueError):
                any_store.write(unit)

    def test_an_instant_in_another_zone_is_the_same_instant(self, any_store: Store) -> None:
        at = datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=-5)))
        any_store.write(lambda tx: tx.add_event(Event(name="a", at=at)))
        seen = any_store.read(lambda tx: tx.events())[0].at
        assert seen == at and seen.utcoffset() is not None

    def test_old_instants_sort_as_they_should(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        for at in (datetime(1970, 1, 1, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)):
            finish(any_store, given_cycle(any_store, asset).id, at)
        assert given_cycle(any_store, asset).previous_completed_at == at


THREADS = 8


def racing(work: Callable[[int], Any]) -> list[Any]:
    """What `work` gives in THREADS threads that start at the same moment."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> Any:
        barrier.wait(timeout=30)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


class TestRaces:
    def test_one_of_many_inserts_an_asset(self, any_store: Store) -> None:
        won = racing(
            lambda n: any_store.write(lambda tx: tx.insert_asset("BTC/USD", RULES, is_enabled=True, at=NOW))
        )
        assert len([asset for asset in won if asset]) == 1

    def test_one_of_many_opens_a_cycle(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        won = racing(
            lambda n: any_store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=NOW))
        )
        assert len([cycle for cycle in won if cycle]) == 1
        assert len(any_store.read(lambda tx: tx.cycles())) == 1

    def test_one_of_many_journals_a_key(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        won = racing(lambda n: any_store.write(lambda tx: tx.insert_order(an_order(cycle.id))))
        assert won.count(True) == 1
        assert len(any_store.read(lambda tx: tx.orders())) == 1

    def test_one_of_many_keys_gets_the_cycle(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        won = racing(lambda n: any_store.write(lambda tx: tx.insert_order(an_order(cycle.id, f"k{n}"))))
        assert won.count(True) == 1
        assert len(any_store.read(lambda tx: tx.live_orders())) == 1

    def test_one_of_many_books_a_fill(self, any_store: Store) -> None:
        order = given_order(any_store)
        won = racing(lambda n: any_store.write(lambda tx: tx.insert_fill(a_fill(order, id=f"x{n}"))))
        assert won.count(True) == 1
        assert len(any_store.read(lambda tx: tx.fills())) == 1

    def test_no_update_is_lost(self, any_store: Store) -> None:
        asset = given_asset(any_store)

        def add_one(tx: Tx) -> None:
            situation = tx.situation(asset.id)
            assert situation is not None
            price = situation.asset.last_sell_price or Decimal(0)
            tx.update_asset(replace(situation.asset, last_sell_price=price + 1))

        def until_written(n: int) -> int:
            for tries in range(1000):
                try:
                    any_store.write(add_one)
                except StaleWrite:
                    continue
                return tries
            raise AssertionError("never got through")

        racing(lambda n: [until_written(n) for _ in range(5)])
        final = any_store.read(lambda tx: tx.assets())[0]
        assert (final.last_sell_price, final.version) == (THREADS * 5, THREADS * 5 + 1)

    def test_one_of_many_takes_a_lease(self, any_store: Store) -> None:
        def take(n: int) -> bool:
            try:
                any_store.write(lambda tx: tx.put_lease(replace(TestLeases.lease, holder=f"host:{n}")))
            except StaleWrite:
                return False
            return True

        assert racing(take).count(True) == 1

    def test_a_first_heartbeat_may_race(self, any_store: Store) -> None:
        racing(lambda n: any_store.write(lambda tx: tx.beat(Heartbeat(name="h", at=later(n)))))
        assert len(any_store.read(lambda tx: tx.heartbeats())) == 1


def a_decision(asset_id: int, seconds: float, code: str = "between") -> Decision:
    return Decision(
        asset_id=asset_id,
        cycle_id=7,
        at=later(seconds),
        code=code,
        reason=f"because of {code}",
        bid=Decimal("61240.123456789"),
        data={"triggers": [{"name": "safety_order", "distance_pct": "0.42"}]},
    )


class TestDecisions:
    def test_the_one_in_force_is_the_newest_not_after_the_instant(self, any_store: Store) -> None:
        first, second = a_decision(1, 0), a_decision(1, 60, "trailing")
        any_store.write(lambda tx: tx.add_decisions([first, a_decision(2, 30), second]))
        assert any_store.read(lambda tx: tx.decision_at(1, later(-1))) is None
        assert any_store.read(lambda tx: tx.decision_at(1, later(0))) == first
        assert any_store.read(lambda tx: tx.decision_at(1, later(59.9))) == first
        assert any_store.read(lambda tx: tx.decision_at(1, later(3600))) == second
        assert any_store.read(lambda tx: tx.decision_after(1, later(-1))) == first
        assert any_store.read(lambda tx: tx.decision_after(1, later(0))) == second
        assert any_store.read(lambda tx: tx.decision_after(1, later(60))) is None
        assert any_store.read(lambda tx: tx.decisions(1)) == [second, first]
        assert any_store.read(lambda tx: tx.decisions(1, limit=1)) == [second]

    def test_none_are_fine(self, any_store: Store) -> None:
        any_store.write(lambda tx: tx.add_decisions([]))
        assert any_store.read(lambda tx: tx.decisions(1)) == []


class TestPruning:
    def test_old_rows_go_in_bites_and_what_is_in_force_or_unsent_stays(self, any_store: Store) -> None:
        def write(tx: Tx) -> None:
            for number in range(5):
                tx.add_event(Event(name="thing", at=later(number)))
                tx.add_message(Message(key=f"m{number}", name="thing", text="", at=later(number)))
            tx.mark_sent("m0", at=later(9))
            tx.mark_sent("m4", at=later(9))
            tx.add_decisions([a_decision(1, 0), a_decision(1, 1), a_decision(2, 0)])

        any_store.write(write)
        before = later(3)
        assert any_store.write(lambda tx: tx.prune(before, limit=2)) == 2 + 1 + 1
        assert any_store.write(lambda tx: tx.prune(before, limit=2)) == 1
        assert any_store.write(lambda tx: tx.prune(before, limit=2)) == 0
        assert [event.at for event in any_store.read(lambda tx: tx.events())] == [later(4), later(3)]
        assert [message.key for message in any_store.read(lambda tx: tx.messages())] == ["m1", "m2", "m3"]
        assert not any_store.write(lambda tx: tx.add_message(Message(key="m4", name="", text="", at=NOW)))
        assert any_store.read(lambda tx: tx.decisions(1)) == [a_decision(1, 1)]
        assert any_store.read(lambda tx: tx.decisions(2)) == [a_decision(2, 0)]
        any_store.write(lambda tx: tx.add_event(Event(name="new", at=later(5))))
        assert [event.name for event in any_store.read(lambda tx: tx.events(limit=1))] == ["new"]


class TestCycleRecords:
    def test_open_and_closed_cycles_come_with_their_orders_and_fills(self, any_store: Store) -> None:
        assert any_store.read(lambda tx: tx.open_records()) == []
        order = given_order(any_store)
        cycle_id = order.intent.cycle_id
        any_store.write(lambda tx: tx.insert_fill(a_fill(order)))
        other = given_cycle(any_store, given_asset(any_store, "ETH/USD"))
        found = any_store.read(lambda tx: tx.open_records())
        assert [record.cycle.id for record in found] == [cycle_id, other.id]
        assert (found[0].orders, found[0].fills) == ([order], any_store.read(lambda tx: tx.fills()))
        assert (found[1].orders, found[1].fills) == ([], [])
        finish(any_store, cycle_id, later(10))
        assert [record.cycle.id for record in any_store.read(lambda tx: tx.open_records())] == [other.id]
        closed = any_store.read(lambda tx: tx.closed_records(later(10), later(11)))
        assert [(record.cycle.id, record.orders) for record in closed] == [(cycle_id, [order])]
        assert any_store.read(lambda tx: tx.closed_records(later(0), later(10))) == []

    def test_this_store_never_leaves_a_stray_cycle(self, any_store: Store) -> None:
        order = given_order(any_store)
        assert any_store.read(lambda tx: tx.stray_cycles()) == []
        finish(any_store, order.intent.cycle_id, later(10))
        assert any_store.read(lambda tx: tx.stray_cycles()) == []


class TestSwitches:
    def test_flags_are_read_at_once(self, any_store: Store) -> None:
        any_store.write(lambda tx: tx.set_flag("maintenance", "a new disk", at=NOW))
        any_store.write(lambda tx: tx.set_flag("other", None, at=NOW))
        assert any_store.read(lambda tx: tx.flags()) == {"maintenance": "a new disk"}

    def test_modes_are_read_with_the_standing_until_they_end(self, any_store: Store) -> None:
        cycle = given_cycle(any_store)
        ended = a_restriction(Mode.HALTED, "a storm", source="breaker", until=NOW)
        holds = a_restriction(Mode.REDUCE_ONLY, "holidays", until=later(1))
        any_store.write(
            lambda tx: (tx.put_mode(ended), tx.put_mode(a_restriction(Mode.HALTED)), tx.put_mode(holds))
        )
        assert any_store.read(lambda tx: tx.modes()) == [ended, holds]
        standing = any_store.read(lambda tx: tx.standing(cycle.asset_id, NOW))
        assert standing is not None
        assert (standing.halted, standing.paused) == (None, "holidays")

    def test_a_paused_asset_is_read_as_it_was_written(self, any_store: Store) -> None:
        asset = given_asset(any_store)
        assert asset.buys and asset.accepted_difference == 0
        changed = replace(asset, paused_reason="why not", accepted_difference=Decimal("-0.000000001"))
        written = any_store.write(lambda tx: tx.update_asset(changed))
        assert any_store.read(lambda tx: tx.assets()) == [written]
        assert not written.buys and written.accepted_difference == Decimal("-0.000000001")
