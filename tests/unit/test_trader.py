"""From a quote to an order on a simulated venue: what is asked, what is sent, what waits."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random

import pytest
from build import BTC, INSTALL, T0, asset, at, order, quote, rules

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.cycle import CycleStatus
from dca.domain.errors import InDoubt, Rejected, Unauthorized, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.order import Order
from dca.matching.book import Terms as MatchTerms
from dca.ports import Situation
from dca.risk.review import Limits
from dca.service import assets, operating
from dca.service.brief import Brief, read_brief
from dca.service.catchup import CatchUp
from dca.service.recorder import Recorder
from dca.service.trader import Outcome, Trader
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
        until = brief(order("filled"), *[order("rejected")] * count).paused_until()
        assert until is not None
        return (until - T0).total_seconds()

    assert [after(count) for count in (1, 2, 3, 7, 30)] == [60, 120, 240, 3600, 3600]
    assert brief(order("rejected"), order("filled")).paused_until() is None


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
    assert desk.venue.submitted[0].key.endswith("-base-0-2")


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
