"""From a quote to an order on a simulated venue: what is asked, what is sent, what waits."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random

import pytest
from build import BTC, INSTALL, T0, asset, at, intent, order, quote, rules

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.cycle import CycleStatus
from dca.domain.errors import InDoubt, Rejected, Unauthorized, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.order import Order, OrderStatus, Side, TimeInForce
from dca.matching.book import Terms as MatchTerms
from dca.ports import Situation
from dca.risk.review import Limits
from dca.service import assets, operating
from dca.service.brief import Brief, read_brief
from dca.service.catchup import CatchUp
from dca.service.recorder import Recorder
from dca.service.trader import Outcome, Slippage, Trader
from dca.strategy.dca import Terms


class Desk:
    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.venue = SimVenue(self.clock, {"BTC/USD": BTC}, D(1000), Random(1), MatchTerms(partial_rate=0))
        self.store = MemoryStore(INSTALL)
        self.recorder = Recorder(self.store, self.clock, FeeRates())
        limits = Limits(max_open_orders=5, max_quote_age=timedelta(seconds=60), min_notional=D(10))
        terms = Terms(D("0.0025"), timedelta(seconds=300))
        self.trader = Trader(
            self.store, self.venue, self.clock, self.recorder, limits, terms, {"BTC/USD": BTC}
        )
        self.catch_up = CatchUp(self.store, self.venue, self.clock, self.recorder, grace_s=60)
        asset = assets.add(self.store, self.clock, "BTC/USD", rules(ttp_enabled=False, cooldown_period=60))
        self.asset_id = asset.id

    def at(self, bid: str, **act: object) -> Outcome:
        one = quote(bid, str(D(bid) + 3))._replace(at=self.clock.now())
        self.venue.quote(one)
        outcome = self.trader.act(self.brief(), one, **act)  # type: ignore[arg-type]
        self.deliver()
        return outcome

    def brief(self) -> Brief:
        found = self.store.read(lambda tx: read_brief(tx, self.asset_id))
        assert found is not None
        return found

    def deliver(self) -> None:
        for update in self.venue.updates:
            executions = () if update.execution is None else (update.execution,)
            self.recorder.record(update.order, executions, source=update.event)
        self.venue.updates.clear()
        self.catch_up.fees(self.cycle.id)

    @property
    def cycle(self):  # type: ignore[no-untyped-def]
        situation = self.store.read(lambda tx: tx.situation(self.asset_id))
        assert situation is not None and situation.cycle is not None
        return situation.cycle

    def events(self) -> list[str]:
        return [event.name for event in self.store.read(lambda tx: tx.events())]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_whole_cycle(desk: Desk) -> None:
    desk.at("20000")
    assert desk.cycle.quantity == D("0.000999850") - D("0.000002500")
    desk.clock.move(10)
    desk.at("19500")
    assert desk.cycle.safety_orders == 1
    desk.clock.move(10)
    desk.at("20500")
    assert desk.cycle.status == CycleStatus.COOLDOWN
    assert desk.venue.coins["BTC/USD"] == 0
    desk.clock.move(61)
    desk.at("20500")
    assert desk.cycle.status == CycleStatus.WATCHING
    sent = [(intent.purpose, intent.step) for intent in desk.venue.submitted]
    assert sent == [("base", 0), ("safety", 1), ("take_profit", 0)]


def test_the_base_order_is_a_limit_at_the_ask_for_its_amount(desk: Desk) -> None:
    desk.at("20000")
    intent = desk.venue.submitted[0]
    assert (intent.limit, intent.qty) == (D("20003.00"), D("0.000999850"))
    assert intent.qty * intent.limit <= 20


def test_nothing_is_sent_without_a_fresh_quote(desk: Desk) -> None:
    one = quote("20000", "20003")
    desk.venue.quote(one)
    desk.clock.move(61)
    outcome = desk.trader.act(desk.brief(), one)
    assert "quote stale" in outcome.reason
    assert outcome.hold_until is None, "the next quote may be fresh"
    assert desk.venue.submitted == []


def test_entries_wait_for_the_stream_but_exits_go(desk: Desk) -> None:
    assert "stream is down" in desk.at("20000", entries_blocked="the stream is down").reason
    assert desk.venue.submitted == []
    desk.at("20000")
    desk.at("20500", entries_blocked="the stream is down")
    assert desk.cycle.status == CycleStatus.COOLDOWN


def test_a_position_of_somebody_else_keeps_the_base_order_away(desk: Desk) -> None:
    desk.venue.coins["BTC/USD"] = D("0.01")
    outcome = desk.at("20000")
    assert desk.venue.submitted == []
    assert outcome.hold_until == at(300)
    assert "position_exists" in desk.events()
    desk.at("20000")
    assert len(desk.store.read(lambda tx: tx.messages())) == 1


def test_dust_does_not_keep_the_base_order_away(desk: Desk) -> None:
    desk.venue.coins["BTC/USD"] = D("0.00004")
    assert "left alone" in desk.at("20000").reason
    desk.at("20000")
    assert len(desk.venue.submitted) == 1


def test_an_unreadable_position_is_not_taken_for_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(symbol: str) -> None:
        raise Unavailable("500")

    monkeypatch.setattr(desk.venue, "holding", unreadable)
    one = quote("20000", "20003")
    assert "cannot be read" in desk.trader.act(desk.brief(), one, before=one).reason
    assert desk.venue.submitted == []


def test_one_wild_tick_sells_nothing_and_buys_nothing(desk: Desk) -> None:
    desk.at("20000")
    for wild in ("200000", "2000"):
        flash = quote(wild, str(D(wild) + 3))
        outcome = desk.trader.act(desk.brief(), flash, before=quote("20000", "20003"))
        assert "is not confirmed" in outcome.reason and outcome.hold_until is not None
    assert len(desk.venue.submitted) == 1


def test_two_wild_ticks_do_not_confirm_each_other_after_a_gap(desk: Desk) -> None:
    desk.at("20000")
    wild = quote("200000", "200003")
    desk.clock.move(61)
    late = wild._replace(at=desk.clock.now())
    assert "is not confirmed" in desk.trader.act(desk.brief(), late, before=wild).reason


def test_a_price_that_nobody_can_confirm_is_not_traded_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(symbol: str) -> None:
        raise Unavailable("500")

    one = quote("20000", "20003")
    desk.venue.quote(one)
    monkeypatch.setattr(desk.venue, "latest_quote", unreadable)
    assert "cannot be confirmed" in desk.trader.act(desk.brief(), one).reason
    assert desk.trader.act(desk.brief(), one, before=one).reason.startswith("watching without a position")


def test_a_real_jump_is_confirmed_by_the_venue_and_traded_on(desk: Desk) -> None:
    desk.at("20000", before=quote("10000", "10003"))
    assert len(desk.venue.submitted) == 1


def refusing(desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(intent: object) -> None:
        raise error

    monkeypatch.setattr(desk.venue, "submit", refuse)


def test_a_refusal_is_recorded_and_pauses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(desk, monkeypatch, Rejected("insufficient balance for USD", status=403, code=40310000))
    outcome = desk.at("20000")
    assert outcome.reconcile
    assert outcome.hold_until == at(60)
    assert [one.status for one in desk.store.read(lambda tx: tx.orders())] == ["rejected"]
    assert "paused after a refusal" in desk.at("20000").reason
    desk.clock.move(61)
    desk.at("20000")
    assert desk.store.read(lambda tx: tx.orders())[1].key.endswith("-base-0-2")


def test_pauses_grow_with_refusals_in_a_row_up_to_an_hour() -> None:
    def brief(*orders: Order) -> Brief:
        return Brief(Situation(asset(), None), list(orders), [], D(0))

    def after(count: int) -> float:
        until = brief(order("filled"), *[order("rejected")] * count).paused_until(Side.BUY)
        assert until is not None
        return (until - T0).total_seconds()

    assert [after(count) for count in (1, 2, 3, 7, 30)] == [60, 120, 240, 3600, 3600]
    assert brief(order("rejected"), order("filled")).paused_until(Side.BUY) is None


def test_an_order_that_was_sent_again_for_nothing_pauses_although_others_were_journaled_after_it() -> None:
    lost = replace(order("lost", updated_at=at(200)), sent_at=at(199))
    later = order("canceled", intent("close", qty=D(1), side=Side.BUY), created_at=at(50))
    brief = Brief(Situation(asset(), None), [lost, later], [], D(0))
    assert brief.paused_until(Side.BUY) == at(400)


def test_wrong_keys_pause_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(desk, monkeypatch, Unauthorized("unauthorized.", status=401))
    assert desk.at("20000").hold_until == at(3600)


def test_an_unclear_answer_leaves_the_order_in_flight(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(desk, monkeypatch, InDoubt("504"))
    outcome = desk.at("20000")
    (found,) = desk.store.read(lambda tx: tx.orders())
    assert (found.status, found.unclear, outcome.ask) == ("in_flight", True, found.key)
    monkeypatch.undo()
    assert "is live" in desk.at("20000").reason
    assert desk.venue.submitted == []
    desk.clock.move(59)
    desk.catch_up.everything()
    assert desk.store.read(lambda tx: tx.orders())[0].status == "in_flight", (
        "a miss is no proof before the grace"
    )
    desk.clock.move(2)
    desk.catch_up.everything()
    assert desk.store.read(lambda tx: tx.orders())[0].status == "lost"
    desk.at("20000")
    assert desk.venue.submitted[0].key.endswith("-base-0-1"), "the same wish keeps its key"


def test_a_stale_buy_is_canceled_and_tried_again_at_the_new_price(desk: Desk) -> None:
    one = quote("20000", "20003")
    desk.venue.quote(quote("20100", "20103"))
    desk.trader.act(desk.brief(), one)
    desk.deliver()
    assert desk.cycle.status == CycleStatus.BUYING
    desk.clock.move(301)
    desk.at("20100")
    assert desk.cycle.status == CycleStatus.WATCHING
    desk.at("20100")
    assert desk.cycle.quantity > 0
    assert [intent.limit for intent in desk.venue.submitted] == [D("20003.00"), D("20103.00")]


def test_a_wild_tick_is_not_stored_as_the_peak(desk: Desk) -> None:
    trailing = rules(ttp_enabled=True, ttp_deviation_percent=D(1))
    assets.change(desk.store, desk.clock, "BTC/USD", lambda asset: replace(asset, rules=trailing), "a test")
    desk.at("20000")
    desk.at("20500")
    calm = quote("20500", "20503")
    outcome = desk.trader.act(desk.brief(), quote("23000", "23003"), before=calm)
    assert "is not confirmed" in outcome.reason
    assert desk.cycle.highest_trailing_price == D(20_500)
    desk.venue.quote(quote("23000", "23003"))
    assert desk.trader.act(desk.brief(), quote("23000", "23003"), before=calm).believed
    assert desk.cycle.highest_trailing_price == D(23_000), "what the venue confirms is a peak"


def test_trailing_stores_its_peak_before_it_is_used(desk: Desk) -> None:
    trailing = rules(ttp_enabled=True, ttp_deviation_percent=D(1))
    assets.change(desk.store, desk.clock, "BTC/USD", lambda asset: replace(asset, rules=trailing), "a test")
    desk.at("20000")
    desk.at("20500")
    assert (desk.cycle.status, desk.cycle.highest_trailing_price) == ("trailing", D(20_500))
    desk.at("21000")
    assert desk.cycle.highest_trailing_price == D(21_000)
    desk.at("20800")
    assert desk.cycle.status == CycleStatus.TRAILING
    desk.at("20790")
    assert desk.cycle.status == CycleStatus.COOLDOWN


def test_a_halt_stops_every_order(desk: Desk) -> None:
    operating.halt(desk.store, desk.clock, None, "by hand")
    assert "trading halted" in desk.at("20000").reason
    assert desk.venue.submitted == []
    operating.resume(desk.store, desk.clock, None)
    desk.at("20000")
    assert len(desk.venue.submitted) == 1


class TestOnceMore:
    """What the venue never had is sent again under the same key, and never as a second order."""

    def lost(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Order:
        with monkeypatch.context() as patch:
            refusing(desk, patch, InDoubt("504"))
            assert "unclear" in desk.at("20000").reason
        key = desk.store.read(lambda tx: tx.orders())[0].key
        desk.recorder.refuse(key, "the venue has no such order", status=OrderStatus.LOST)
        found = desk.store.read(lambda tx: tx.order(key))
        assert found is not None and found.status == "lost"
        return found

    def test_the_same_wish_keeps_key_and_body(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        lost = self.lost(desk, monkeypatch)
        desk.clock.move(60)
        desk.at("20100")
        assert desk.venue.submitted == [lost.intent]
        (order,) = desk.store.read(lambda tx: tx.orders())
        assert (order.status, order.sent_at) == ("open", desk.clock.now())
        desk.at("19000")
        (order,) = desk.store.read(lambda tx: tx.orders())
        assert order.status == "filled"

    def test_the_venue_that_had_it_after_all_is_asked(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = self.lost(desk, monkeypatch)
        desk.venue.submit(lost.intent)
        desk.venue.updates.clear()
        outcome = desk.trader.act(desk.brief(), quote("20000", "20003"), before=quote("20000", "20003"))
        assert outcome.ask == lost.key
        desk.catch_up.order(lost.key)
        (order,) = desk.store.read(lambda tx: tx.orders())
        assert order.status == "filled" and len(desk.venue.orders) == 1

    def test_a_market_that_went_away_makes_it_a_new_wish(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = self.lost(desk, monkeypatch)
        desk.at("18000", before=quote("18000", "18003"))
        assert [one.key for one in desk.venue.submitted] == [lost.key[:-1] + "2"]

    def test_one_that_is_refused_then_is_lost_again_and_rests_ever_longer(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = self.lost(desk, monkeypatch)
        desk.clock.move(300)
        with monkeypatch.context() as patch:
            refusing(desk, patch, Rejected("insufficient balance for USD", status=403))
            assert "refused" in desk.at("20100").reason
        (order,) = desk.store.read(lambda tx: tx.orders())
        assert (order.key, order.status) == (lost.key, "lost")
        assert desk.brief().paused_until(Side.BUY) == desk.clock.now() + timedelta(seconds=300)

    def test_two_who_send_it_again_are_one(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost(desk, monkeypatch)
        one = quote("20100", "20103")
        desk.venue.quote(one)
        brief = desk.brief()
        first = desk.trader.act(brief, one, before=one)
        second = desk.trader.act(brief, one, before=one)
        assert len(desk.venue.submitted) == 1
        assert "watching" in first.reason and "somebody else" in second.reason


class TestDryRun:
    def test_everything_happens_but_the_sending(self, desk: Desk) -> None:
        desk.trader.dry_run = True
        outcome = desk.at("20000")
        assert "dry run" in outcome.reason and desk.venue.submitted == []
        (order,) = desk.store.read(lambda tx: tx.orders())
        assert order.status == "dry_run" and not order.live
        assert "paused" in desk.at("20000").reason

    def test_what_was_not_sent_is_in_nobodys_way_later(self, desk: Desk) -> None:
        desk.trader.dry_run = True
        desk.at("20000")
        desk.trader.dry_run = False
        desk.clock.move(61)
        desk.at("20000")
        assert [one.key[-1] for one in desk.venue.submitted] == ["2"]

    def test_what_was_lost_is_not_taken_for_in_flight(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = TestOnceMore().lost(desk, monkeypatch)
        desk.trader.dry_run = True
        desk.clock.move(60)
        assert "dry run" in desk.at("20100").reason
        statuses = {one.key: str(one.status) for one in desk.store.read(lambda tx: tx.orders())}
        assert statuses == {lost.key: "lost", f"{lost.key[:-1]}2": "dry_run"}
        assert desk.venue.submitted == []


def test_a_key_with_another_body_is_a_conflict_that_is_written_down(desk: Desk) -> None:
    wish = intent(key=f"dca{INSTALL}-c{desk.cycle.id}-base-0-1", cycle_id=desk.cycle.id)
    brief = desk.brief()
    ended = replace(order("rejected", wish), updated_at=at(-3600))
    assert desk.store.write(lambda tx: tx.insert_order(ended))
    one = quote("20000", "20003")
    desk.venue.quote(one)
    outcome = desk.trader.act(brief, one, before=one)
    assert "another order has the key" in outcome.reason and "qty, limit" in outcome.reason
    assert desk.venue.submitted == [] and "order_conflict" in desk.events()


class TestSlippage:
    def test_a_buy_may_cost_more_and_must_fill_at_once(self, desk: Desk) -> None:
        desk.trader.slippage = Slippage(buy_pct=D("0.5"), buy_time_in_force=TimeInForce.IOC)
        desk.at("20000")
        (sent,) = desk.venue.submitted
        assert (sent.limit, sent.time_in_force) == (D("20103.02"), "ioc")
        assert sent.qty * sent.limit <= 20

    def test_a_take_profit_may_sell_no_lower_than_the_guard(self, desk: Desk) -> None:
        desk.trader.slippage = Slippage(sell_pct=D("0.5"))
        desk.at("20000")
        desk.at("20500")
        sent = desk.venue.submitted[-1]
        assert (sent.side, sent.limit, sent.time_in_force) == ("sell", D("20397.50"), "ioc")

    def test_what_could_not_fill_at_once_waits_some_seconds(self, desk: Desk) -> None:
        desk.trader.slippage = Slippage(buy_time_in_force=TimeInForce.IOC)
        one = quote("20000", "20003")
        desk.venue.quote(quote("20100", "20103"))
        desk.trader.act(desk.brief(), one, before=one)
        desk.deliver()
        assert desk.store.read(lambda tx: tx.orders())[0].status == "canceled"
        waiting = desk.at("20000")
        assert "paused" in waiting.reason and waiting.hold_until == at(5)
        desk.clock.move(6)
        desk.at("20000")
        assert desk.cycle.quantity > 0


def test_refused_buys_do_not_keep_a_sale_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.at("20000")
    with monkeypatch.context() as patch:
        refusing(desk, patch, Rejected("insufficient balance for USD", status=403, code=40310000))
        assert desk.at("19500").only_buys
    desk.at("20500")
    assert desk.venue.submitted[-1].side == "sell"
