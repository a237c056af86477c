"""Orders that nobody settled, that rest too long, that nobody waits for, and sells that do not fill."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from build import INSTALL, at, intent, order, restriction, seen
from caretakers import GRACE_S, SYMBOL, Bot, Failing, repaired_once

from dca.adapters.memory import MemoryStore
from dca.domain.errors import InDoubt, StoreUnavailable
from dca.domain.mode import Mode
from dca.domain.order import Order, Purpose, VenueOrder, order_key
from dca.domain.record import Heartbeat
from dca.domain.replacement import Replacement, Stage
from dca.ports import Store
from dca.service.caretakers.order_manager import Ages, OrderManager, View
from dca.strategy.dca import Sell

MINUTES_5 = timedelta(minutes=5)
AGES = Ages(stale=MINUTES_5, stuck=MINUTES_5, orphan=MINUTES_5, grace=timedelta(seconds=GRACE_S))
BUY = intent("base")
SELL = intent("take_profit")
HAND = replace(BUY, key="by-hand")
OTHERS = replace(BUY, key="dcaffffffff-c7-base-0-1")


@pytest.fixture
def bot(any_store: Store) -> Bot:
    return Bot(any_store)


def view(
    live: Sequence[Order] = (), listed: Sequence[VenueOrder] = (), seconds: float = 0, **changes: Any
) -> View:
    base: dict[str, Any] = {
        "open": listed, "venue_now": at(seconds), "install": INSTALL, "live": live,
        "named": {one.venue_id for one in live}, "halted": (), "all_halted": False,
    }  # fmt: skip
    return View(**{**base, **changes})


def planned(found: View, seconds: float, ages: Ages = AGES) -> list[tuple[str, str]]:
    manager = OrderManager(None, None, None, None, None, ages, lambda _: None)  # type: ignore[arg-type]
    return [(work.kind, work.subject) for work in manager.plan(found, at(seconds))]


def replacement(old_key: str, stage: Stage) -> Replacement:
    now = at(0)
    return Replacement(
        old_key=old_key, cycle_id=7, stage=stage, reason="a test wants it", created_at=now, updated_at=now
    )


def here(wish: Any, status: str = "open", **changes: Any) -> Order:
    return order(status, wish, venue_id=None if status == "in_flight" else f"v-{wish.key}", **changes)


@pytest.mark.parametrize(
    ("status", "listed", "seconds", "settles"),
    [
        ("in_flight", False, 59, False),
        ("in_flight", False, 60, True),
        # The venue has it: whoever sent it may have died before hearing so.
        ("in_flight", True, 1, True),
        ("open", True, 60, False),
        ("open", False, 60, True),
        ("partial", False, 60, True),
        # It may have been opened after the venue was read.
        ("open", False, 59, False),
    ],
)
def test_what_is_in_doubt_is_asked_for(status: str, listed: bool, seconds: float, settles: bool) -> None:
    for wish in (BUY, SELL):
        found = view([here(wish, status)], [seen(wish)] if listed else [], seconds)
        assert planned(found, seconds) == ([("settle", wish.key)] if settles else [])


@pytest.mark.parametrize(
    ("wish", "seconds", "kind"),
    [
        (BUY, 299.9, None),
        (BUY, 300, "buy_again"),
        (SELL, 299.9, None),
        (SELL, 300, "sell_again"),
        # A market buy has no price to go stale.
        (replace(BUY, limit=None), 300, None),
    ],
)
def test_what_rests_too_long(wish: Any, seconds: float, kind: str | None) -> None:
    found = view([here(wish)], [seen(wish)], seconds)
    assert planned(found, seconds) == ([] if kind is None else [(kind, wish.key)])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "sell_again"),
        ({"halted": {SYMBOL}}, None),
        ({"halted": {"ETH/USD"}}, "sell_again"),
        ({"all_halted": True}, None),
    ],
)
def test_a_halt_sells_nothing_again(changes: dict[str, Any], kind: str | None) -> None:
    found = view([here(SELL)], [seen(SELL)], 300, **changes)
    assert planned(found, 300) == ([] if kind is None else [(kind, SELL.key)])
    begun = replacement(SELL.key, Stage.CANCEL_CONFIRMED)
    left = view([], [], 300, replacements=[(begun, here(SELL, "canceled"))], **changes)
    assert planned(left, 300) == ([] if kind is None else [("go_on", SELL.key)])


def test_what_makes_way_is_planned_for_once() -> None:
    begun = replacement(BUY.key, Stage.CANCEL_SENT)
    found = view([here(BUY)], [seen(BUY)], 300, replacements=[(begun, here(BUY))])
    assert planned(found, 300) == [("go_on", BUY.key)]


def test_a_halt_does_not_keep_stale_buys() -> None:
    found = view([here(BUY)], [seen(BUY)], 300, halted={SYMBOL}, all_halted=True)
    assert planned(found, 300) == [("buy_again", BUY.key)]


@pytest.mark.parametrize(
    ("wish", "named", "seconds", "whole_account", "goes"),
    [
        (BUY, (), 300, False, True),
        (SELL, (), 300, False, True),
        (BUY, (), 299, False, False),
        (BUY, (f"v-{BUY.key}",), 300, False, False),
        (HAND, (), 90_000, False, False),
        (OTHERS, (), 90_000, False, False),
        (HAND, (), 300, True, True),
        (HAND, (), 299, True, False),
        (OTHERS, (), 300, True, True),
        (BUY, (f"v-{BUY.key}",), 300, True, False),
    ],
)
def test_what_nobody_waits_for(
    wish: Any, named: Collection[str], seconds: float, whole_account: bool, goes: bool
) -> None:
    found = view([], [seen(wish)], seconds, named=named)
    ages = replace(AGES, whole_account=whole_account)
    assert planned(found, 0, ages) == ([("cancel_orphan", wish.key)] if goes else [])


def test_the_age_of_an_orphan_is_by_the_venue_clock() -> None:
    found = view([], [seen(BUY)], 5)
    assert planned(found, 90_000) == [], "our clock may be wrong; its key may be journaled this moment"


def test_a_known_order_in_flight_is_no_orphan() -> None:
    found = view([here(BUY, "in_flight")], [seen(BUY)], 400, named=())
    assert planned(found, 400) == [("settle", BUY.key)]


def test_an_order_is_planned_for_once() -> None:
    """A second live order of a cycle, which names the first, is stale before it is an orphan."""
    found = view([here(BUY)], [seen(BUY)], 400, named=())
    assert planned(found, 400) == [("buy_again", BUY.key)]


class TestSettling:
    def test_a_request_that_never_arrived_is_lost(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        def lose(wish: object) -> None:
            raise InDoubt("504")

        with monkeypatch.context() as patch:
            patch.setattr(bot.venue, "submit", lose)
            bot.act("20000")
        key = bot.store.read(lambda tx: tx.orders())[0].key
        bot.clock.move(GRACE_S - 1)
        assert bot.run(bot.order_manager()).planned == []
        bot.clock.move(1)
        assert repaired_once(bot, bot.order_manager()).mended == 1
        assert bot.order(key).status == "lost"

    def test_an_answer_that_got_lost_is_found(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        submit = bot.venue.submit

        def lose(wish: Any) -> None:
            submit(wish)
            raise InDoubt("504")

        with monkeypatch.context() as patch:
            patch.setattr(bot.venue, "submit", lose)
            bot.act("20000", deliver=False)
        bot.deaf()
        bot.clock.move(GRACE_S)
        assert repaired_once(bot, bot.order_manager()).mended == 1
        assert (bot.cycle.status, bot.cycle.quantity > 0) == ("watching", True)

    def test_a_fill_that_the_stream_lost_is_booked(self, bot: Bot) -> None:
        resting = bot.rest()
        assert resting.venue_id is not None
        bot.venue.fill(resting.venue_id)
        bot.deaf()
        bot.clock.move(GRACE_S)
        assert repaired_once(bot, bot.order_manager()).mended == 1
        assert bot.order(resting.key).status == "filled"
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL]

    def test_the_fee_of_a_buy_that_ended_is_measured(self, bot: Bot) -> None:
        resting = bot.rest()
        bot.venue.fill(resting.venue_id or "")
        bot.deaf()
        # The venue took less than the highest rate.
        bot.venue.coins[SYMBOL] += D("0.000001")
        bot.clock.move(GRACE_S)
        bot.run(bot.order_manager())
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL]

    def test_an_order_that_the_venue_forgot_is_canceled(self, bot: Bot) -> None:
        resting = bot.rest()
        bot.venue.orders.clear()
        bot.venue._keys.clear()
        bot.clock.move(GRACE_S)
        assert repaired_once(bot, bot.order_manager()).mended == 1
        assert (bot.order(resting.key).status, bot.cycle.status) == ("canceled", "watching")
        assert "knows it no more" in bot.order(resting.key).detail


class TestStale:
    def test_a_buy_that_rests_too_long_is_canceled(self, bot: Bot) -> None:
        resting = bot.rest()
        bot.clock.move(299)
        assert bot.run(bot.order_manager()).planned == []
        bot.clock.move(1)
        report = repaired_once(bot, bot.order_manager())
        assert [one.kind for one in report.planned] == ["buy_again"]
        assert (bot.order(resting.key).status, bot.cycle.status) == ("canceled", "watching")
        assert bot.events("replacement_cancel_sent") == ["the buy has rested for 300 s"]

    def test_without_a_streamer_nothing_is_bought_again(self, bot: Bot) -> None:
        resting = bot.rest()
        bot.clock.move(300)
        bot.price("20000")
        report = bot.run(bot.order_manager())
        assert report.notes == {resting.key: "nothing is bought now: the streamer does not run"}
        assert (bot.order(resting.key).status, len(bot.venue.submitted)) == ("canceled", 1)

    @pytest.mark.parametrize(("blocked", "sent"), [(None, 2), ("catching up with the venue", 1)])
    def test_with_a_streamer_that_may_buy_a_fresh_one_takes_its_place(
        self, bot: Bot, blocked: str | None, sent: int
    ) -> None:
        resting = bot.rest()
        bot.clock.move(300)
        bot.price("20100")
        beat = Heartbeat(name="streamer", at=bot.clock.now(), detail={"entries_blocked": blocked})
        bot.store.write(lambda tx: tx.beat(beat))
        bot.run(bot.order_manager())
        bot.deliver()
        assert bot.order(resting.key).status == "canceled"
        assert [wish.limit for wish in bot.venue.submitted] == [20_003, 20_103][:sent]

    def test_fills_before_the_end_are_kept(self, bot: Bot) -> None:
        resting = bot.rest()
        assert resting.venue_id is not None
        bot.venue.fill(resting.venue_id, "0.0004")
        bot.deaf()
        bot.clock.move(300)
        repaired_once(bot, bot.order_manager())
        assert bot.order(resting.key).status == "canceled"
        assert bot.cycle.quantity == D("0.0004") - D("0.000001")

    def test_a_fill_may_win(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        resting = bot.rest()
        assert resting.venue_id is not None
        bot.clock.move(300)
        cancel = bot.venue.cancel

        def beaten(venue_id: str) -> None:
            bot.venue.fill(venue_id)
            cancel(venue_id)

        monkeypatch.setattr(bot.venue, "cancel", beaten)
        report = repaired_once(bot, bot.order_manager())
        assert report.notes == {resting.key: "nothing makes way: the order is filled"}
        assert bot.order(resting.key).status == "filled"

    def test_a_cancel_that_never_ends_is_told_once(self, bot: Bot) -> None:
        resting = bot.rest()
        bot.venue.deaf = True
        bot.clock.move(300)
        bot.run(bot.order_manager())
        assert bot.messages() == {}, "it may take a while"
        bot.clock.move(600)
        bot.run(bot.order_manager())
        bot.run(bot.order_manager())
        assert list(bot.messages()) == [f"cancel_stuck:{resting.venue_id}"]
        assert bot.cycle.status == "buying", "it counts as live as long as the venue says so"


class TestOrphans:
    def ours(self, bot: Bot) -> str:
        key = order_key(bot.store.install, 99, Purpose.BASE, 0, 1)
        return bot.by_hand("buy", "0.001", "20000", key)

    def test_ours_that_no_cycle_waits_for_is_canceled(self, bot: Bot) -> None:
        bot.price("20000")
        orphan, person = self.ours(bot), bot.by_hand("buy", "0.001", "20000")
        other = bot.by_hand("buy", "0.001", "20000", "dcaffffffff-c1-base-0-1")
        bot.clock.move(300)
        report = repaired_once(bot, bot.order_manager())
        assert [one.kind for one in report.planned] == ["cancel_orphan"]
        status = {one: str(bot.venue.orders[one].status) for one in (orphan, person, other)}
        assert status == {orphan: "canceled", person: "open", other: "open"}
        assert len(bot.events("cancel_orphan")) == 1

    def test_where_the_account_is_the_bots_alone_everything_goes(self, bot: Bot) -> None:
        bot.price("20000")
        person = bot.by_hand("buy", "0.001", "20000")
        bot.clock.move(300)
        repaired_once(bot, bot.order_manager(whole_account=True))
        assert bot.venue.orders[person].status == "canceled"

    def test_one_that_a_cycle_waits_for_by_now_stays(self, bot: Bot) -> None:
        resting = bot.rest()
        bot.clock.move(300)
        manager = bot.order_manager(stale=timedelta(days=1))
        found = replace(manager.look(), named=(), live=())
        (work,) = manager.plan(found, bot.clock.now())
        assert manager.mend(work) == "a cycle waits for it by now"
        assert bot.venue.open_orders()[0].key == resting.key


class TestStuckSells:
    """The cycle bought at 20000, its sell at 21000 rests, and five minutes pass."""

    @pytest.fixture
    def bot(self) -> Bot:
        return Bot(MemoryStore())

    @pytest.fixture
    def first(self, bot: Bot) -> Order:
        bot.bought()
        first = bot.rest("21000")
        assert (bot.cycle.status, first.intent.side) == ("selling", "sell")
        bot.clock.move(300)
        bot.price("21000")
        return first

    def sells(self, bot: Bot) -> list[Order]:
        return [one for one in bot.store.read(lambda tx: tx.orders()) if one.intent.side == "sell"]

    def test_it_is_canceled_and_sold_again(self, bot: Bot, first: Order) -> None:
        report = bot.run(bot.order_manager())
        assert ([one.kind for one in report.planned], report.mended) == (["sell_again"], 1)
        bot.deliver()
        assert [str(one.status) for one in self.sells(bot)] == ["canceled", "filled"]
        assert self.sells(bot)[1].key.endswith("-take_profit-0-2")
        assert [str(one.status) for one in bot.cycles] == ["complete", "cooldown"]
        assert repaired_once(bot, bot.order_manager()).planned == []

    def test_only_what_is_left_is_sold_again(self, bot: Bot, first: Order) -> None:
        assert first.venue_id is not None
        bot.venue.fill(first.venue_id, "0.0004", "21000")
        bot.deaf()
        bot.run(bot.order_manager())
        bot.deliver()
        assert self.sells(bot)[1].intent.qty == first.intent.qty - D("0.0004")
        assert bot.venue.coins[SYMBOL] == 0

    def test_nothing_is_sold_at_a_loss(self, bot: Bot, first: Order) -> None:
        bot.price("20000")
        report = bot.run(bot.order_manager())
        note = report.notes[first.key]
        assert "below break-even" in note and "goes on watching" in note
        assert (bot.cycle.status, len(self.sells(bot))) == ("watching", 1)
        bot.price("21000")
        assert repaired_once(bot, bot.order_manager()).planned == [], "from here on the strategy decides"

    def test_what_a_person_closes_is_sold_at_any_price(self, bot: Bot) -> None:
        bot.bought()
        bot.venue.held = True
        wish = Sell(bot.cycle.quantity, "a person wants it", Purpose.CLOSE)
        bot.trader.carry_out(bot.brief(), wish, bot.price("20000"))
        bot.deliver()
        bot.venue.held = False
        bot.clock.move(300)
        bot.price("15000")
        bot.run(bot.order_manager())
        bot.deliver()
        assert [str(one.intent.purpose) for one in self.sells(bot)] == ["close", "close"]
        assert bot.cycles[0].status == "complete"

    def test_a_fill_may_win(self, bot: Bot, first: Order, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bot.venue, "cancel", lambda venue_id: bot.venue.fill(venue_id, None, "21000"))
        report = bot.run(bot.order_manager())
        assert report.notes == {first.key: "nothing makes way: the order is filled"}
        assert (len(self.sells(bot)), str(bot.cycles[0].status)) == (1, "complete")

    def test_the_streamer_may_sell_first(self, bot: Bot, first: Order) -> None:
        bot.venue.deaf = True
        bot.run(bot.order_manager())
        bot.venue.deaf = False
        bot.venue.cancel(first.venue_id or "")
        bot.deliver()
        second = bot.rest("21000")
        assert bot.run(bot.order_manager()).notes == {}
        assert len(self.sells(bot)) == 2
        done = bot.store.read(lambda tx: tx.replacement(first.key))
        assert done is not None and (done.stage, done.new_key) == ("submit_confirmed", second.key)

    @pytest.mark.parametrize("halt", ["asset", "all"])
    def test_a_halt_holds(self, bot: Bot, first: Order, halt: str) -> None:
        if halt == "asset":
            bot.recorder.halt(bot.asset.id, "a person must look")
        else:
            bot.store.write(lambda tx: tx.put_mode(restriction(Mode.HALTED)))
        assert repaired_once(bot, bot.order_manager()).planned == []
        assert bot.order(first.key).live

    def test_a_price_that_is_old_sells_nothing_yet(self, bot: Bot, first: Order) -> None:
        bot.clock.move(61)
        report = bot.run(bot.order_manager())
        assert "quote stale" in report.notes[first.key]
        bot.price("21000")
        assert bot.run(bot.order_manager()).mended == 1
        assert len(self.sells(bot)) == 2


def test_without_proof_of_the_end_nothing_is_sold_and_the_next_pass_goes_on(bot: Bot) -> None:
    bot.bought()
    first = bot.rest("21000")
    bot.clock.move(300)
    bot.price("21000")
    bot.venue.deaf = True
    report = bot.run(bot.order_manager())
    assert (report.result, report.notes[first.key]) == ("partly", "its cancellation is not confirmed yet")
    assert len(bot.venue.submitted) == 2
    # The stream tells of the end; the cycle watches again, and nothing shows that a sell was stuck.
    bot.venue.deaf = False
    bot.venue.cancel(first.venue_id or "")
    bot.deliver()
    assert bot.cycle.status == "watching"
    assert bot.run(bot.order_manager()).mended == 1
    bot.deliver()
    assert bot.cycles[0].status == "complete"


@pytest.mark.parametrize("read", ["open_orders", "time"])
def test_half_a_view_mends_nothing(read: str) -> None:
    """A stale buy and a sell in doubt, but the venue does not say everything."""
    bot = Bot(MemoryStore())
    bot.rest()
    bot.clock.move(400)
    rows = bot.rows()
    failing = Failing(bot.venue, read)
    report = bot.run(_manager(bot, failing))
    assert (report.result, report.exit_code, failing.failed) == ("unavailable", 75, 1)
    assert bot.rows() == rows
    assert len(bot.venue.open_orders()) == 1


def _manager(bot: Bot, broker: Any) -> OrderManager:
    return Bot(bot.store, bot.venue, broker=broker).order_manager()


@pytest.mark.parametrize("read", ["find", "executions"])
def test_an_order_that_cannot_be_asked_for_stays_as_it_is(read: str) -> None:
    bot = Bot(MemoryStore())
    resting = bot.rest()
    bot.venue.fill(resting.venue_id or "")
    bot.deaf()
    bot.clock.move(GRACE_S)
    before = bot.order(resting.key)
    report = bot.run(_manager(bot, Failing(bot.venue, read)))
    assert (report.result, report.exit_code) == ("partly", 75)
    assert bot.order(resting.key) == before
    assert repaired_once(bot, bot.order_manager()).mended == 1


@pytest.mark.parametrize("read", ["find", "latest_quote", "instruments"])
def test_a_stuck_sell_goes_on_when_the_venue_can_be_read_again(read: str) -> None:
    bot = Bot(MemoryStore())
    bot.bought()
    bot.rest("21000")
    bot.clock.move(300)
    bot.price("21000")
    assert bot.run(_manager(bot, Failing(bot.venue, read))).result == "partly"
    assert len(bot.venue.submitted) == 2, "nothing was sold on half the knowledge"
    assert bot.run(bot.order_manager()).exit_code == 0
    bot.deliver()
    assert bot.cycles[0].status == "complete"


def test_without_the_database_nothing_is_done(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    bot.rest()
    bot.clock.move(400)

    def away(work: Any) -> Any:
        raise StoreUnavailable("gone away")

    with monkeypatch.context() as patch:
        patch.setattr(bot.store, "read", away)
        assert bot.run(bot.order_manager()).exit_code == 75
    assert len(bot.venue.open_orders()) == 1
