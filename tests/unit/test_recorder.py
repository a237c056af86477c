"""What the venue shows becomes rows: lost, doubled, late and reordered messages end the same."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import INSTALL, T0, at, intent, order, rules, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.fees import FeeRates
from dca.domain.order import Execution, Intent, Order, OrderStatus, Side, VenueOrder, order_key
from dca.domain.position import fold
from dca.service.recorder import Recorder

FEES = FeeRates()
Message = tuple[VenueOrder, tuple[Execution, ...]]


class Desk:
    """A recorder on a store with one asset, one cycle and whatever orders a test journals."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.store = MemoryStore(INSTALL)
        self.recorder = Recorder(self.store, self.clock, FEES)
        asset = self.store.write(lambda tx: tx.insert_asset("BTC/USD", rules(), is_enabled=True, at=T0))
        assert asset is not None
        self.asset_id = asset.id
        cycle = self.store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=T0))
        assert cycle is not None
        self.cycle_id = cycle.id

    def wish(self, purpose: str = "base", step: int = 0, attempt: int = 1, qty: str = "0.001") -> Intent:
        base = intent(purpose, step, attempt, qty=D(qty), cycle_id=self.cycle_id)
        key = order_key(INSTALL, self.cycle_id, base.purpose, step, attempt)
        return intent(purpose, step, attempt, qty=D(qty), cycle_id=self.cycle_id, key=key)

    def journal(self, wish: Intent, status: str = "in_flight") -> None:
        assert self.store.write(lambda tx: tx.insert_order(order(status, wish)))

    def see(self, message: Message) -> None:
        self.recorder.record(*message, source="test")

    @property
    def cycle(self) -> Cycle:
        found = self.store.read(lambda tx: tx.cycle(self.cycle_id))
        assert found is not None
        return found

    def order(self, wish: Intent) -> Order:
        found = self.store.read(lambda tx: tx.order(wish.key))
        assert found is not None
        return found


def execution(wish: Intent, qty: str, cum: str, price: str = "20000") -> Execution:
    return Execution(id=f"x-{wish.key}-{cum}", qty=D(qty), price=D(price), cum_qty=D(cum), at=T0)


def shown(wish: Intent, status: str, filled: str = "0", *executions: Execution) -> Message:
    return seen(wish, status, filled), executions


def filled(wish: Intent, price: str = "20000") -> Message:
    qty = str(wish.qty)
    return shown(wish, "filled", qty, execution(wish, qty, qty, price))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_order_known_to_live_makes_the_cycle_buying(desk: Desk) -> None:
    wish = desk.wish()
    desk.journal(wish)
    assert desk.cycle.status == "watching"
    desk.see(shown(wish, "open"))
    assert (desk.cycle.status, desk.cycle.latest_order_id) == ("buying", f"v-{wish.key}")


def test_a_filled_buy_is_in_the_cycle_net_of_its_coin_fee(desk: Desk) -> None:
    wish = desk.wish()
    desk.journal(wish)
    desk.see(filled(wish))
    cycle = desk.cycle
    assert cycle.quantity == D("0.0009975")
    assert cycle.average_purchase_price == (D(20) / D("0.0009975")).quantize(D("1e-12"))
    assert (cycle.status, cycle.latest_order_id, cycle.last_order_fill_price) == ("watching", None, 20_000)
    assert (cycle.safety_orders, desk.order(wish).status) == (0, "filled")


def messages(wish: Intent) -> list[Message]:
    """An order's life as the stream tells it: accepted, two partial fills, the last fill."""
    first, second, last = (
        execution(wish, "0.0002", "0.0002", "19990"),
        execution(wish, "0.0003", "0.0005", "19995"),
        execution(wish, "0.0005", "0.001", "20000"),
    )
    return [
        shown(wish, "open"),
        shown(wish, "partial", "0.0002", first),
        shown(wish, "partial", "0.0005", second),
        shown(wish, "filled", "0.001", last),
    ]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_reordered_and_doubled_messages_end_the_same(data: st.DataObject) -> None:
    straight, mixed = Desk(), Desk()
    for desk in (straight, mixed):
        desk.journal(desk.wish())
    for message in messages(straight.wish()):
        straight.see(message)
    told = messages(mixed.wish())
    extra = data.draw(st.lists(st.sampled_from(range(len(told))), max_size=6))
    for index in data.draw(st.permutations([*range(len(told)), *extra])):
        mixed.see(told[index])
    assert mixed.cycle.status == straight.cycle.status == CycleStatus.WATCHING
    assert fold(mixed.store.read(lambda tx: tx.fills())) == fold(straight.store.read(lambda tx: tx.fills()))
    assert mixed.cycle.quantity == straight.cycle.quantity
    assert mixed.order(mixed.wish()).status == OrderStatus.FILLED
    assert len(mixed.store.read(lambda tx: tx.fills())) == 3


@settings(max_examples=60, deadline=None)
@given(lost=st.sets(st.sampled_from(range(4))))
def test_lost_messages_are_made_good_by_what_rest_shows(lost: set[int]) -> None:
    desk = Desk()
    wish = desk.wish()
    desk.journal(wish)
    told = messages(wish)
    for index, message in enumerate(told):
        if index not in lost:
            desk.see(message)
    # REST names executions differently from the stream; the cumulative quantity is the same.
    executions = [
        Execution(id=f"rest-{one.cum_qty}", qty=one.qty, price=one.price, cum_qty=one.cum_qty, at=at(9))
        for _, some in told
        for one in some
    ]
    desk.see(shown(wish, "filled", "0.001", *executions))
    assert len(desk.store.read(lambda tx: tx.fills())) == 3
    assert (desk.order(wish).status, desk.cycle.status) == ("filled", "watching")


def test_what_a_person_trades_by_himself_asks_no_database(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = seen(intent(key="bought-in-the-app"), "filled", "0.001")
    monkeypatch.setattr(desk.recorder, "_store", None)
    monkeypatch.setattr(desk.recorder, "_unknown", lambda seen, source: None)
    assert desk.recorder.record(theirs, source="stream:fill").order is None


def test_an_order_is_not_over_before_its_last_execution_is_stored(desk: Desk) -> None:
    wish = desk.wish()
    desk.journal(wish)
    result = desk.recorder.record(seen(wish, "filled", "0.001"), source="test")
    assert (result.missing, result.ended) == (D("0.001"), False)
    assert (desk.order(wish).status, desk.cycle.status) == ("partial", "buying")
    desk.see(filled(wish))
    assert (desk.order(wish).status, desk.cycle.status) == ("filled", "watching")


@pytest.mark.parametrize("status", ["canceled", "rejected", "expired"])
def test_an_order_that_ends_empty_frees_the_cycle(desk: Desk, status: str) -> None:
    wish = desk.wish()
    desk.journal(wish)
    desk.see(shown(wish, "open"))
    desk.see(shown(wish, status))
    assert (desk.cycle.status, desk.cycle.latest_order_id, desk.cycle.quantity) == ("watching", None, 0)
    assert desk.order(wish).status == status


def test_a_partly_filled_then_canceled_safety_order_counts_for_what_it_filled(desk: Desk) -> None:
    base, safety = desk.wish(), desk.wish("safety", 1)
    desk.journal(base)
    desk.see(filled(base))
    desk.journal(safety)
    desk.see(shown(safety, "partial", "0.0004", execution(safety, "0.0004", "0.0004", "19600")))
    assert (desk.cycle.safety_orders, desk.cycle.status) == (0, "buying")
    desk.see(shown(safety, "canceled", "0.0004"))
    cycle = desk.cycle
    assert (cycle.safety_orders, cycle.status, cycle.last_order_fill_price) == (1, "watching", D(19_600))
    assert cycle.quantity == D("0.001") - D("0.0000025") + D("0.0004") - D("0.000001")


def test_a_fill_may_come_after_the_cancellation(desk: Desk) -> None:
    wish = desk.wish()
    desk.journal(wish)
    desk.see(shown(wish, "canceled"))
    desk.see(shown(wish, "canceled", "0.0004", execution(wish, "0.0004", "0.0004")))
    assert desk.cycle.quantity == D("0.0004") - D("0.000001")


def sold(desk: Desk) -> Intent:
    base = desk.wish()
    desk.journal(base)
    desk.see(filled(base))
    wish = desk.wish("take_profit", qty="0.0009975")
    desk.journal(wish)
    return wish


def test_a_filled_sell_completes_the_cycle_and_opens_the_next_in_cooldown(desk: Desk) -> None:
    wish = sold(desk)
    desk.clock.move(60)
    desk.see(filled(wish, "21000"))
    assert (desk.cycle.status, desk.cycle.completed_at) == ("complete", at(60))
    assert (desk.cycle.sell_price, desk.cycle.quantity) == (D(21_000), 0)
    situation = desk.store.read(lambda tx: tx.situation(desk.asset_id))
    assert situation is not None and situation.cycle is not None
    assert situation.asset.last_sell_price == D(21_000)
    assert (situation.cycle.status, situation.cycle.quantity) == ("cooldown", 0)
    assert situation.cycle.previous_completed_at == at(60)


def test_a_partial_sell_that_ends_leaves_the_rest_under_management(desk: Desk) -> None:
    wish = sold(desk)
    desk.see(shown(wish, "canceled", "0.0004", execution(wish, "0.0004", "0.0004", "21000")))
    assert (desk.cycle.status, desk.cycle.quantity) == ("watching", D("0.0005975"))


def test_doubled_final_fills_open_one_successor(desk: Desk) -> None:
    wish = sold(desk)
    for _ in range(3):
        desk.see(filled(wish, "21000"))
    assert [cycle.status for cycle in desk.store.read(lambda tx: tx.cycles())] == ["complete", "cooldown"]


def test_an_order_of_nobody_changes_nothing(desk: Desk) -> None:
    before = desk.cycle
    result = desk.recorder.record(seen(desk.wish(attempt=9), "filled", "0.001"), source="test")
    assert result.order is None
    assert desk.cycle == before
    assert desk.store.read(lambda tx: tx.fills()) == []


def test_coins_that_turn_up_after_the_cycle_ended_halt_the_asset(desk: Desk) -> None:
    late = desk.wish("safety", 1)
    base = desk.wish()
    desk.journal(base)
    desk.see(filled(base))
    desk.journal(late)
    desk.recorder.refuse(late.key, "never seen", status=OrderStatus.LOST)
    wish = desk.wish("take_profit", qty="0.0009975")
    desk.journal(wish)
    desk.see(filled(wish, "21000"))
    before = desk.cycle
    desk.see(filled(late, "19600"))
    assert desk.cycle == before
    situation = desk.store.read(lambda tx: tx.situation(desk.asset_id))
    assert situation is not None and "filled after its cycle" in (situation.asset.halted_reason or "")
    assert len(desk.store.read(lambda tx: tx.fills())) == 3


class TestRefusal:
    def test_a_definite_refusal_ends_the_order(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        assert desk.recorder.refuse(wish.key, "403").ended
        assert (desk.order(wish).status, desk.cycle.status) == ("rejected", "watching")

    def test_a_refusal_after_an_unclear_attempt_proves_nothing(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.recorder.mark_unclear(wish.key)
        assert not desk.recorder.refuse(wish.key, "403").ended
        assert desk.order(wish).status == "in_flight"

    def test_a_refusal_does_not_end_an_order_that_was_seen(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(shown(wish, "open"))
        desk.recorder.refuse(wish.key, "403")
        assert desk.order(wish).status == "open"

    def test_a_lost_order_may_turn_up_after_all(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.recorder.refuse(wish.key, "404", status=OrderStatus.LOST)
        desk.see(filled(wish))
        assert (desk.order(wish).status, desk.cycle.quantity) == ("filled", D("0.0009975"))


def test_the_measured_fee_replaces_the_estimate_once(desk: Desk) -> None:
    wish = desk.wish()
    desk.journal(wish)
    desk.see(filled(wish))
    for _ in range(2):
        desk.recorder.correct_fees(desk.cycle, {wish.key: D("-0.000001")})
    assert desk.cycle.quantity == D("0.0009985")
    desk.see(filled(wish))
    assert desk.cycle.quantity == D("0.0009985")


def racing(desk: Desk, wish: Intent) -> Callable[[], None]:
    return lambda: desk.see(shown(wish, "partial", "0.0002", execution(wish, "0.0002", "0.0002")))


def test_a_writer_who_loses_the_race_reads_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = desk.wish()
    desk.journal(wish)
    first = racing(desk, wish)
    original = desk.store.write
    calls = []

    def interrupted(work):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 1:
            from dca.domain.errors import StaleWrite

            monkeypatch.setattr(desk.store, "write", original)
            first()
            raise StaleWrite("lost")
        return original(work)

    monkeypatch.setattr(desk.store, "write", interrupted)
    desk.see(shown(wish, "filled", "0.001", execution(wish, "0.0008", "0.001")))
    assert (desk.order(wish).status, desk.cycle.quantity) == ("filled", D("0.0009975"))


def test_a_halt_is_written_once_and_its_first_reason_stays(desk: Desk) -> None:
    desk.recorder.halt(desk.asset_id, "the first reason")
    desk.recorder.halt(desk.asset_id, "another reason")
    situation = desk.store.read(lambda tx: tx.situation(desk.asset_id))
    assert situation is not None and situation.asset.halted_reason == "the first reason"
    assert len(desk.store.read(lambda tx: tx.messages())) == 1


class TestTelling:
    def told(self, desk: Desk) -> dict[str, str]:
        return {one.key: one.text for one in desk.store.read(lambda tx: tx.messages())}

    def test_a_base_order_that_filled_starts_the_cycle(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(shown(wish, "partial", "0.0004", execution(wish, "0.0004", "0.0004")))
        assert self.told(desk) == {}, "it may fill further"
        for _ in range(2):
            desk.see(shown(wish, "filled", "0.001", execution(wish, "0.0006", "0.001")))
        assert self.told(desk) == {"started:c1": "BTC/USD: cycle 1 started, 0.001 bought at 20000"}

    def test_one_that_filled_in_part_and_ended_starts_it_too(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(shown(wish, "canceled", "0.0004", execution(wish, "0.0004", "0.0004")))
        assert "0.0004 bought" in self.told(desk)["started:c1"]

    def test_a_safety_order_tells_the_new_average(self, desk: Desk) -> None:
        base, safety = desk.wish(), desk.wish("safety", 1)
        for wish, price in ((base, "20000"), (safety, "19600")):
            desk.journal(wish)
            desk.see(filled(wish, price))
        text = "BTC/USD: safety order 1, 0.001 bought at 19600; the average is 19849.624 now"
        assert self.told(desk)["safety:c1-1"] == text

    @pytest.mark.parametrize("status", ["canceled", "rejected", "expired"])
    def test_an_order_that_bought_nothing_is_no_news(self, desk: Desk, status: str) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(shown(wish, status))
        assert self.told(desk) == {}

    def test_every_halt_is_told(self, desk: Desk) -> None:
        for _ in range(2):
            desk.recorder.halt(desk.asset_id, "the same reason")
            asset = desk.store.read(lambda tx: tx.assets())[0]
            desk.store.write(lambda tx: tx.update_asset(replace(asset, halted_reason=None)))  # noqa: B023
        assert list(self.told(desk).values()) == ["BTC/USD is halted: the same reason"] * 2


class TestAnotherOrderUnderOurKey:
    """A database restored from a backup gives the number of a cycle, and so a key, a second time."""

    @pytest.mark.parametrize("other", [{"symbol": "ETH/USD"}, {"side": Side.SELL}])
    def test_nothing_of_it_is_booked_and_ours_never_was(self, desk: Desk, other: dict[str, Any]) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.recorder.mark_unclear(wish.key)
        shows, executions = filled(wish)
        for _ in range(2):
            desk.see((replace(shows, **other), executions))
        assert (desk.order(wish).status, desk.cycle.quantity) == ("lost", 0)
        assert desk.store.read(lambda tx: tx.fills()) == []
        asset = desk.store.read(lambda tx: tx.assets())[0]
        assert f"under the key {wish.key}" in (asset.halted_reason or "")

    def test_a_symbol_without_its_slash_is_the_same(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        shows, executions = filled(wish)
        desk.see((replace(shows, symbol="BTCUSD"), executions))
        assert desk.order(wish).status == "filled"


class TestVanishing:
    def test_an_open_order_ends_with_the_fills_that_are_stored(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(shown(wish, "partial", "0.0004", execution(wish, "0.0004", "0.0004")))
        assert desk.recorder.vanish(wish.key, "gone").ended
        assert (desk.order(wish).status, desk.order(wish).detail) == ("canceled", "gone")
        assert (desk.cycle.status, desk.cycle.quantity) == ("watching", D("0.000399"))
        assert not desk.recorder.vanish(wish.key, "gone").changed

    def test_one_in_flight_does_not(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        assert not desk.recorder.vanish(wish.key, "gone").changed
        assert desk.order(wish).status == "in_flight"

    def test_it_may_turn_up_filled_after_all(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(shown(wish, "open"))
        desk.recorder.vanish(wish.key, "gone")
        desk.see(filled(wish))
        assert (desk.order(wish).status, desk.cycle.quantity) == ("filled", D("0.0009975"))


class TestRefolding:
    def test_a_cycle_that_is_right_is_not_touched(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(filled(wish))
        before = desk.cycle
        assert not desk.recorder.refold(desk.cycle_id, "a test")
        assert desk.cycle == before

    def test_one_that_is_wrong_is_what_its_fills_make(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(filled(wish))
        before = desk.cycle
        desk.store.write(lambda tx: tx.update_cycle(replace(before, quantity=D(9), safety_orders=4)))
        assert desk.recorder.refold(desk.cycle_id, "a test")
        assert (desk.cycle.quantity, desk.cycle.safety_orders) == (before.quantity, 0)
        event = desk.store.read(lambda tx: tx.events(name="cycle_refolded"))[0]
        assert event.data["quantity"] == {"before": "9", "after": "0.0009975"}

    def test_one_whose_fills_sold_everything_is_completed(self, desk: Desk) -> None:
        """A late fill sold all while the next attempt, which was refused, was still under way."""
        wish = sold(desk)
        desk.see(shown(wish, "canceled", "0.0004", execution(wish, "0.0004", "0.0004", "21000")))
        rest = desk.wish("take_profit", attempt=2, qty="0.0005975")
        desk.journal(rest)
        late = execution(wish, "0.0005975", "0.0009975", "21000")
        desk.see(shown(wish, "canceled", "0.0009975", late))
        desk.recorder.refuse(rest.key, "403")
        assert desk.cycle.status == "watching"
        assert desk.recorder.refold(desk.cycle_id, "a test")
        assert [str(one.status) for one in desk.store.read(lambda tx: tx.cycles())] == [
            "complete",
            "cooldown",
        ]

    def test_a_finished_cycle_never_changes(self, desk: Desk) -> None:
        desk.see(filled(sold(desk), "21000"))
        done = replace(desk.cycle, quantity=D(5))
        desk.store.write(lambda tx: tx.update_cycle(done))
        assert not desk.recorder.refold(desk.cycle_id, "a test")


class TestMeasuringAMovingPosition:
    def test_nothing_is_measured_on_a_cycle_that_changed_since(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(filled(wish))
        seen_then = desk.cycle
        desk.store.write(lambda tx: tx.update_cycle(seen_then))
        desk.recorder.correct_fees(seen_then, {wish.key: D("-0.000001")})
        assert desk.cycle.quantity == D("0.0009975")

    def test_nor_while_an_order_is_under_way(self, desk: Desk) -> None:
        wish = desk.wish()
        desk.journal(wish)
        desk.see(filled(wish))
        desk.journal(desk.wish("safety", 1))
        desk.recorder.correct_fees(desk.cycle, {wish.key: D("-0.000001")})
        assert desk.cycle.quantity == D("0.0009975")
