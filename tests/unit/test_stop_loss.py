"""The stop: where it stands, when it sells, what it leaves behind."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any, get_args

import pytest
from build import T0, asset, at, cycle, quote, restriction, rules
from caretakers import SYMBOL, Bot

from dca.adapters.memory import MemoryStore
from dca.domain.cycle import Cycle
from dca.domain.mode import Mode
from dca.domain.order import Order, Purpose
from dca.domain.record import Heartbeat
from dca.ports import Store
from dca.service import assets
from dca.service.trader import switched
from dca.service.verdicts import CODES
from dca.strategy.dca import (
    Action,
    Buy,
    Cancel,
    ClearStop,
    MoveStop,
    Sell,
    StartStop,
    StopTrailing,
    Terms,
    Trail,
    Wait,
    decide,
)
from dca.strategy.exits import floor_price

FEE = D("0.0025")
TERMS = Terms(FEE, timedelta(seconds=300))
STOP: dict[str, Any] = {"stop_loss_percent": D(10)}
TRAILING_STOP = {**STOP, "stop_loss_trailing": True}
BREAK_EVEN = {**STOP, "break_even_percent": D(1)}
WAITS = {**STOP, "stop_loss_timeout": 60}
HELD: dict[str, Any] = {
    "quantity": D("0.004"),
    "average_purchase_price": D(20_000),
    "last_order_fill_price": D(20_000),
    "safety_orders": 3,
}
WORKING = {"latest_order_id": "v-1", "latest_order_created_at": T0}


def wanted(state: Cycle, bid: str, seconds: float = 0, old_s: float = 0, **rules: Any) -> Action | Wait:
    """What is decided `seconds` after noon at a quote that is `old_s` seconds old."""
    return decide(state, asset(**rules), quote(bid, seconds=seconds - old_s), at(seconds), TERMS)


class TestWhereItStands:
    @pytest.mark.parametrize(
        ("words", "state", "bid", "kind"),
        [
            ("it is its percentage below the average", {}, "18000", Sell),
            ("not before", {}, "18000.01", Wait),
            ("a gap through it sells at what there is", {}, "9000", Sell),
            ("where it was moved up to, it stays", {"stop_price": D(19_000)}, "19000", Sell),
            ("a stored stop below the rule's does not lower it", {"stop_price": D(17_000)}, "17999", Sell),
        ],
    )
    def test_it_sells_all_there_is(
        self, words: str, state: dict[str, Any], bid: str, kind: type[object]
    ) -> None:
        action = wanted(cycle(**{**HELD, **state}), bid, **STOP)
        assert isinstance(action, kind), words
        if isinstance(action, Sell):
            assert (action.qty, action.purpose) == (D("0.004"), Purpose.STOP_LOSS), words

    def test_without_one_a_fall_is_waited_out(self) -> None:
        assert isinstance(wanted(cycle(**HELD), "1"), Wait)
        assert isinstance(wanted(cycle(**HELD, stop_price=D(19_000)), "1"), Wait), "it was switched off"

    def test_what_owns_nothing_has_none(self) -> None:
        assert isinstance(wanted(cycle(stop_price=D(30_000)), "20000", **STOP), Buy)

    @pytest.mark.parametrize("changes", [{"is_enabled": False}, {}])
    def test_disabled_and_paused_assets_have_theirs(self, changes: dict[str, Any]) -> None:
        off = replace(asset(**changes, **STOP), paused_reason=None if changes else "news")
        assert isinstance(decide(cycle(**HELD), off, quote("18000"), T0, TERMS), Sell)

    def test_reducing_lets_it_pass_and_halting_does_not(self) -> None:
        sale = wanted(cycle(**HELD), "18000", **STOP)
        assert switched(sale, Mode.REDUCE_ONLY) is sale
        assert switched(sale, Mode.HALTED) == Wait("trading_halted")
        halted = decide(cycle(**HELD), asset(halted_reason="fire", **STOP), quote("18000"), T0, TERMS)
        assert halted == Wait("asset_halted")

    @pytest.mark.parametrize("status", ["selling", "complete", "error", "cooldown"])
    def test_it_is_not_looked_at_where_nothing_is_to_be_sold(self, status: str) -> None:
        assert isinstance(wanted(cycle(status, **HELD), "1", **STOP), Wait)


class TestWhatComesFirst:
    def test_no_safety_order_is_bought_where_it_is_hit(self) -> None:
        held = cycle(**{**HELD, "safety_orders": 0})
        assert isinstance(wanted(held, "19000", **STOP), Buy)
        assert isinstance(wanted(held, "18000", **STOP), Sell)
        assert isinstance(wanted(held, "18000", **WAITS), StartStop)
        assert isinstance(wanted(replace(held, stop_since=T0), "18000", 5, **WAITS), Wait)

    def test_it_comes_before_the_take_profit_where_it_has_risen_above_it(self) -> None:
        action = wanted(cycle(**HELD, stop_price=D(21_000)), "20500", **TRAILING_STOP)
        assert isinstance(action, Sell) and action.purpose is Purpose.STOP_LOSS

    def test_its_rise_comes_before_a_sale_that_may_be_denied(self) -> None:
        action = wanted(cycle(**HELD), "20300", **TRAILING_STOP)
        assert isinstance(action, MoveStop)
        action = wanted(cycle(**HELD, stop_price=action.price), "20300", **TRAILING_STOP)
        assert isinstance(action, Sell) and action.purpose is Purpose.TAKE_PROFIT

    def test_it_ends_the_trailing_of_a_take_profit(self) -> None:
        trailing = {"ttp_enabled": True, "ttp_deviation_percent": D(1)}
        state = cycle("trailing", **HELD, highest_trailing_price=D(20_300))
        assert isinstance(wanted(state, "18000.01", **STOP, **trailing), StopTrailing)
        assert isinstance(wanted(state, "18000", **STOP, **trailing), Sell)
        peak = wanted(replace(state, stop_price=D(19_000)), "20310", **STOP, **trailing)
        assert isinstance(peak, Trail), "the peak is followed while the stop stays"

    def test_a_working_buy_makes_way_for_the_sale(self) -> None:
        buying = cycle("buying", **HELD, **WORKING)
        action = wanted(buying, "18000", **STOP)
        assert isinstance(action, Cancel) and action.venue_id == "v-1"
        assert isinstance(wanted(buying, "18000.01", **STOP), Wait)
        assert isinstance(wanted(replace(buying, latest_order_id=None), "18000", **STOP), Wait)

    def test_a_working_buy_makes_way_as_soon_as_it_is_hit(self) -> None:
        buying = cycle("buying", **HELD, **WORKING)
        assert isinstance(wanted(buying, "18000", **WAITS), StartStop)
        assert isinstance(wanted(replace(buying, stop_since=T0), "18000", 1, **WAITS), Cancel)


class TestTimeout:
    state = cycle(**HELD, stop_since=T0)

    def test_the_time_begins_with_the_first_quote_there(self) -> None:
        action = wanted(cycle(**HELD), "18000", 7, **WAITS)
        assert isinstance(action, StartStop) and action.since == at(7)

    @pytest.mark.parametrize(
        ("words", "bid", "seconds", "old_s", "kind"),
        [
            ("before its end nothing is sold", "17000", 59.9, 0, Wait),
            ("at its end everything is", "18000", 60, 0, Sell),
            ("after a silence the next quote decides: still there", "18000", 3600, 0, Sell),
            ("recovered", "18000.01", 3600, 0, ClearStop),
            ("an old quote proves nothing of the time since", "17000", 3600, 3541, Wait),
            ("a quote from the future neither", "17000", 59, -3600, Wait),
        ],
    )
    def test_the_price_must_stay_there(
        self, words: str, bid: str, seconds: float, old_s: float, kind: type[object]
    ) -> None:
        assert isinstance(wanted(self.state, bid, seconds, old_s, **WAITS), kind), words

    def test_a_recovery_is_noted_before_anything_else(self) -> None:
        assert isinstance(wanted(self.state, "20300", 5, **WAITS), ClearStop)
        assert isinstance(wanted(self.state, "20300", 5), ClearStop), "also where the stop was switched off"

    def test_the_reason_says_what_is_waited_for(self) -> None:
        waiting = wanted(self.state, "17900", 5, **WAITS)
        assert waiting.reason == "bid 17900 is at or below the stop 18000: sold unless it recovers in time"


class TestRising:
    @pytest.mark.parametrize(
        ("words", "stored", "bid", "moved"),
        [
            ("it follows the bid by its percentage", None, "20100", D("18090")),
            ("not for less than a thousandth of itself", None, "20019.99", None),
            ("from a thousandth on", None, "20020", D("18018")),
            ("a thousandth of where it stands", D(18_090), "20110", None),
            ("never down", D(18_090), "19900", None),
        ],
    )
    def test_a_trailing_stop(self, words: str, stored: D | None, bid: str, moved: D | None) -> None:
        action = wanted(cycle(**HELD, stop_price=stored), bid, **TRAILING_STOP)
        if moved is None:
            assert isinstance(action, Wait), words
        else:
            assert isinstance(action, MoveStop) and action.price == moved, words

    def test_a_stop_that_does_not_trail_stays(self) -> None:
        assert isinstance(wanted(cycle(**HELD), "20299", **STOP), Wait)

    def test_break_even_pays_the_fee_of_the_sale_too(self) -> None:
        assert isinstance(wanted(cycle(**HELD), "20199.99", **BREAK_EVEN), Wait)
        action = wanted(cycle(**HELD), "20200", **BREAK_EVEN)
        assert isinstance(action, MoveStop)
        assert 0 <= action.price - floor_price(D(20_000), FEE) < D("1e-12")
        assert action.price * (1 - FEE) >= 20_000, "rounded so that nothing is lost"
        moved = cycle(**HELD, stop_price=action.price)
        assert isinstance(wanted(moved, "20250", **BREAK_EVEN), Wait), "once"
        assert isinstance(wanted(moved, "20060", **BREAK_EVEN), Wait)
        assert isinstance(wanted(moved, "20050", **BREAK_EVEN), Sell)

    def test_the_higher_of_both_counts(self) -> None:
        both = {**BREAK_EVEN, "stop_loss_trailing": True, "take_profit_percent": D(50)}
        low, high = wanted(cycle(**HELD), "20200", **both), wanted(cycle(**HELD), "25000", **both)
        assert isinstance(low, MoveStop) and low.price == D("20050.125313283209")
        assert isinstance(high, MoveStop) and high.price == 22_500

    def test_it_never_moves_above_the_market(self) -> None:
        """As it would after the fee was raised."""
        dear = replace(TERMS, taker_fee=D("0.02"))
        action = decide(cycle(**HELD), asset(**BREAK_EVEN), quote("20200"), T0, dear)
        assert isinstance(action, Wait)

    def test_it_rises_while_a_buy_is_working_and_while_the_take_profit_trails(self) -> None:
        assert isinstance(wanted(cycle("buying", **HELD, **WORKING), "20200", **TRAILING_STOP), MoveStop)
        trailing = cycle("trailing", **HELD, highest_trailing_price=D(22_000))
        both = {**TRAILING_STOP, "ttp_enabled": True, "ttp_deviation_percent": D(5)}
        assert isinstance(wanted(trailing, "21900", **both), MoveStop)
        peak = wanted(trailing, "22500", **both)
        assert isinstance(peak, MoveStop), "the stop protects more than the peak does"
        assert isinstance(wanted(replace(trailing, stop_price=peak.price), "22500", **both), Trail)


RESTS: dict[str, Any] = {**STOP, "stop_loss_cooldown_period": 600, "cooldown_period": 60}


class TestRestAfterwards:
    rests = cycle("cooldown", previous_completed_at=T0)

    def rest_ends(self, seconds: float, ask: str = "20000", **changes: Any) -> bool:
        stopped = replace(asset(**{**RESTS, **changes}), stopped_out=True)
        return not isinstance(decide(self.rests, stopped, quote(ask), at(seconds), TERMS), Wait)

    def test_it_may_be_longer(self) -> None:
        assert not self.rest_ends(599.9)
        assert self.rest_ends(600)

    def test_without_a_length_of_its_own_it_is_as_long_as_ever(self) -> None:
        assert self.rest_ends(60, stop_loss_cooldown_period=None)
        assert not self.rest_ends(0, stop_loss_cooldown_period=None)
        assert self.rest_ends(0, stop_loss_cooldown_period=0), "0 is a length"

    def test_a_lower_price_does_not_end_it(self) -> None:
        early = {"last_sell_price": D(20_000), "buy_order_price_deviation_percent": D(1)}
        assert not self.rest_ends(5, "15000", **early)
        usual = asset(**{**RESTS, **early})
        assert not isinstance(decide(self.rests, usual, quote("15000"), at(5), TERMS), Wait)


# A whole life

LIFE: dict[str, Any] = {
    **STOP,
    "max_safety_orders": 2,
    "cooldown_period": 60,
    "stop_loss_cooldown_period": 600,
    "buy_order_price_deviation_percent": D(1),
}


def a_bot(**changes: Any) -> Bot:
    """With its ladder used: an average of about 19600."""
    bot = Bot(MemoryStore(), **{**LIFE, **changes})
    for bid in ("20000", "19500", "19000"):
        bot.act(bid)
        bot.clock.move(10)
    assert bot.cycle.safety_orders == 2
    return bot


def sold(bot: Bot) -> list[Order]:
    return [one for one in bot.store.read(lambda tx: tx.orders()) if one.intent.side == "sell"]


def test_the_price_falls_through_the_stop_and_the_loss_is_booked() -> None:
    bot = a_bot()
    first = bot.cycle
    bot.act("17700")
    assert not sold(bot)
    bot.act("17500")
    (sale,) = sold(bot)
    assert sale.key.endswith("-stop_loss-0-1") and sale.status == "filled"
    assert bot.venue.coins[SYMBOL] == 0
    done, fresh = bot.cycles
    assert (done.status, fresh.status, bot.asset.stopped_out) == ("complete", "cooldown", True)
    (event,) = bot.store.read(lambda tx: tx.events(name="cycle_completed"))
    assert event.data["stopped"] is True
    loss = D(event.data["profit_usd"])
    assert loss == pytest.approx(first.quantity * D(17_500) * (1 - FEE) - D(60), abs=D("0.01"))
    told = [one for one in bot.store.read(lambda tx: tx.messages()) if one.name == "stop_loss"]
    assert [one.text for one in told] == [f"BTC/USD: cycle 1 stopped, {loss:+.2f} USD"]
    bot.clock.move(300)
    bot.act("15000")
    assert bot.cycle.status == "cooldown", "neither the usual time nor a fall ends the rest"
    bot.clock.move(301)
    bot.act("15000")
    bot.act("15000")
    assert bot.cycle.quantity > 0


def test_a_take_profit_afterwards_ends_what_the_stop_began() -> None:
    bot = a_bot()
    bot.act("17500")
    bot.clock.move(601)
    for bid in ("15000", "15000", "16000"):
        bot.act(bid)
    assert (bot.cycle.status, bot.asset.stopped_out) == ("cooldown", False)
    bot.clock.move(61)
    bot.act("16000")
    assert bot.cycle.status == "watching"


def test_the_timeout_goes_on_counting_in_another_process() -> None:
    bot = a_bot(stop_loss_timeout=60)
    bot.act("17500")
    assert bot.cycle.stop_since == bot.clock.now() and not sold(bot)
    bot.clock.move(30)
    bot.act("18000")
    assert bot.cycle.stop_since is None, "it recovered"
    bot.act("17500")
    bot.clock.move(59)
    again = Bot(bot.store, bot.venue)
    rows = again.rows()
    again.act("17400")
    assert again.rows() == rows, "a quote that changes nothing writes nothing"
    bot.clock.move(1)
    again.act("17500")
    assert len(sold(again)) == 1 and again.cycle.status == "cooldown"


def test_a_trailing_stop_is_stored_before_it_is_used_and_begins_anew_with_a_buy() -> None:
    bot = Bot(MemoryStore(), **{**LIFE, "stop_loss_trailing": True, "take_profit_percent": D(50)})
    bot.act("20000")
    bot.act("22000")
    assert bot.cycle.stop_price == 19_800
    rows = bot.rows()
    bot.act("22010")
    bot.act("21000")
    assert bot.rows() == rows
    bot.act("19801")
    assert bot.cycle.safety_orders == 0
    lower = rules(**{**LIFE, "safety_order_deviation": D("0.5"), "stop_loss_trailing": True})
    bot.store.write(lambda tx: tx.update_asset(replace(bot.asset, rules=lower)))
    bot.act("19801")
    assert (bot.cycle.safety_orders, bot.cycle.stop_price) == (1, None), "the average is another one"
    bot.act("19700")
    assert not sold(bot)


def test_a_stop_at_break_even_is_read_back_as_it_was_stored(any_store: Store) -> None:
    bot = Bot(any_store, **{**LIFE, "break_even_percent": D("0.7"), "take_profit_percent": D(50)})
    bot.act("20000.01")
    bot.act("20300")
    moved = bot.cycle.stop_price
    assert moved is not None and 0 <= moved - floor_price(bot.cycle.average_purchase_price, FEE) < D("1e-12")
    rows = bot.rows()
    bot.act("20300")
    assert bot.rows() == rows, "it would be moved for ever"


def test_every_decision_to_act_has_a_name_on_record() -> None:
    assert set(CODES) == set(get_args(Action))


def test_measuring_the_fee_of_a_buy_leaves_a_stop_that_has_risen() -> None:
    bot = Bot(MemoryStore(), **{**LIFE, "stop_loss_trailing": True, "take_profit_percent": D(50)})
    quote = bot.price("20000")
    bot.trader.act(bot.brief(), quote, before=quote)
    for update in bot.venue.updates:
        bot.recorder.record(update.order, () if update.execution is None else (update.execution,), source="")
    bot.venue.updates.clear()
    bot.act("22000")
    assert bot.cycle.stop_price == 19_800
    bot.venue.coins[SYMBOL] -= D("0.0000001")
    bot.catch_up.fees(bot.cycle.id)
    assert bot.brief().unmeasured_since() is None
    assert bot.cycle.stop_price == 19_800


def test_the_working_buy_is_canceled_before_the_sale() -> None:
    bot = Bot(MemoryStore(), **LIFE)
    bot.act("20000")
    bot.clock.move(10)
    resting = bot.rest("19500")
    assert bot.cycle.status == "buying"
    held = bot.cycle.quantity
    bot.venue.held = True
    bot.act("17500")
    bot.venue.held = False
    assert bot.order(resting.key).status == "canceled" and not sold(bot)
    bot.act("17500")
    (sale,) = sold(bot)
    assert (sale.status, sale.intent.purpose) == ("filled", Purpose.STOP_LOSS)
    assert 0 <= held - sale.filled_qty < D("1e-8")


def test_a_wild_tick_does_not_move_the_stop() -> None:
    bot = Bot(MemoryStore(), **{**LIFE, "stop_loss_trailing": True, "take_profit_percent": D(500)})
    bot.act("20000")
    calm = bot.price("20000")
    wild = replace_price(calm, "40000")
    assert "is not confirmed" in bot.trader.act(bot.brief(), wild, before=calm).reason
    assert bot.cycle.stop_price is None


def replace_price(one: Any, bid: str) -> Any:
    return one._replace(bid=D(bid), ask=D(bid) + 3)


def test_changed_rules_put_the_stop_back_to_where_they_want_it() -> None:
    bot = Bot(MemoryStore(), **{**LIFE, "stop_loss_trailing": True, "take_profit_percent": D(50)})
    bot.act("20000")
    bot.act("22000")

    def change(**changes: Any) -> None:
        assets.change(
            bot.store, bot.clock, SYMBOL, lambda one: replace(one, rules=replace(one.rules, **changes)), "t"
        )

    change(stop_loss_timeout=5)
    assert bot.cycle.stop_price == 19_800, "how long it waits says nothing of where it stands"
    change(stop_loss_percent=D(20))
    assert bot.cycle.stop_price is None


def test_a_halt_keeps_it_and_a_pause_does_not() -> None:
    bot = a_bot()
    bot.trader.restrictions = [restriction(Mode.HALTED)]
    bot.act("17500")
    assert not sold(bot)
    bot.trader.restrictions = [restriction(Mode.REDUCE_ONLY)]
    bot.act("17500")
    assert len(sold(bot)) == 1


def test_a_stopping_sale_that_is_stuck_is_sold_again_at_any_price() -> None:
    bot = a_bot()
    stuck = bot.rest("17500")
    assert bot.cycle.status == "selling"
    bot.clock.move(301)
    bot.price("16000")
    bot.run(bot.order_manager())
    bot.deliver()
    again = sold(bot)[-1]
    assert again.key != stuck.key and again.intent.purpose is Purpose.STOP_LOSS
    assert bot.asset.stopped_out


def test_a_stale_buy_is_not_made_anew_where_the_stop_is_hit() -> None:
    bot = Bot(MemoryStore(), **LIFE)
    bot.act("20000")
    bot.clock.move(10)
    resting = bot.rest("19500")
    bot.clock.move(301)
    beat = Heartbeat(name="streamer", at=bot.clock.now())
    bot.store.write(lambda tx: tx.beat(beat))
    bot.venue.held = True
    bot.price("17500")
    bot.run(bot.order_manager())
    bot.venue.held = False
    (blocked,) = bot.events("replacement_blocked")
    assert blocked.startswith("bid 17500 is at or below the stop")
    bot.deliver()
    orders = bot.store.read(lambda tx: tx.orders())
    assert orders[-1].key == resting.key, "it was bought anew at the price of the stop"
    assert orders[-1].status == "canceled"
    bot.act("17500")
    assert len(sold(bot)) == 1
