"""Closing, canceling and adding funds on a simulated venue: what is sent, and what is said."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random

import pytest
from build import BTC, INSTALL, T0, quote, rules

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.errors import ConfigError, InDoubt, StoreUnavailable, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.order import Intent
from dca.matching.book import Terms as MatchTerms
from dca.risk.review import Limits
from dca.service import assets, operating
from dca.service.brief import Brief
from dca.service.catchup import CatchUp
from dca.service.operating import Desk, Done
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.strategy.dca import Terms

SYMBOL = "BTC/USD"
MINUTE = timedelta(seconds=60)


class Office:
    """An operator's desk beside a streamer that does what `meanwhile` says, whenever it may."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.venue = SimVenue(self.clock, {SYMBOL: BTC}, D(1000), Random(1), MatchTerms(partial_rate=0))
        self.store = MemoryStore(INSTALL)
        recorder = Recorder(self.store, self.clock, FeeRates())
        limits = Limits(max_open_orders=5, max_quote_age=MINUTE, min_notional=D(10))
        self.trader = Trader(
            self.store,
            self.venue,
            self.clock,
            recorder,
            limits,
            Terms(D("0.0025"), 5 * MINUTE),
            {SYMBOL: BTC},
        )
        self.catch_up = CatchUp(self.store, self.venue, self.clock, recorder, grace_s=60)
        self.meanwhile: Callable[[], object] = lambda: None
        self.desk = Desk(
            store=self.store,
            broker=self.venue,
            clock=self.clock,
            trader=self.trader,
            catch_up=self.catch_up,
            rest=self._rest,
        )
        assets.add(self.store, self.clock, SYMBOL, rules(cooldown_period=3600))

    def _rest(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.meanwhile()

    def brief(self) -> Brief:
        return self.desk.brief(SYMBOL)

    def buys(self, ask: str = "20003") -> None:
        """The streamer acts on a price that the market no longer has, or still has."""
        one = quote(str(D(ask) - 3), ask)._replace(at=self.clock.now())
        self.trader.act(self.brief(), one, before=one)
        self.catch_up.everything()

    def holding(self) -> "Office":
        self.venue.quote(quote("20000", "20003"))
        self.buys()
        return self

    def sent(self, side: str) -> list[Intent]:
        return [intent for intent in self.venue.submitted if intent.side == side]

    def close(self) -> Done:
        return operating.close(self.desk, SYMBOL)


@pytest.fixture
def office() -> Office:
    return Office()


def test_a_streamer_that_buys_again_at_once_does_not_keep_a_cycle_open(office: Office) -> None:
    office.holding().buys("19503")
    assert office.brief().busy, "the market left the safety order behind"
    office.meanwhile = lambda: office.buys("19503")
    done = office.close()
    assert done.ok and "is closed" in done.text
    assert len(office.sent("sell")) == 1


def test_the_pause_of_somebody_else_stays(office: Office) -> None:
    office.holding()
    operating.pause(office.store, office.clock, SYMBOL, "mine")
    assert office.close().ok
    assert office.brief().situation.asset.paused_reason == "mine"


def test_a_take_profit_that_is_faster_is_what_was_wanted(office: Office) -> None:
    office.holding()
    office.venue.quote(quote("20500", "20503"))
    selling: list[bool] = []

    def sells(intent: Intent) -> object:
        if not selling:
            selling.append(True)
            office.clock.move(1)
            one = quote("20500", "20503")._replace(at=office.clock.now())
            office.trader.act(office.brief(), one, before=one)
        return submit(intent)

    submit, office.venue.submit = office.venue.submit, sells  # type: ignore[method-assign]
    done = office.close()
    assert done.ok, done
    assert len(office.sent("sell")) == 1


def test_an_answer_that_was_lost_is_asked_for_and_nothing_is_sold_twice(office: Office) -> None:
    office.holding()

    def loses(intent: Intent) -> object:
        office.venue.submit = submit  # type: ignore[method-assign]
        submit(intent)
        raise InDoubt("504")

    submit, office.venue.submit = office.venue.submit, loses  # type: ignore[method-assign]
    assert office.close().ok
    assert len(office.sent("sell")) == 1


def test_the_true_coins_are_measured_before_they_are_sold(office: Office) -> None:
    """A fresh buy is booked with the highest fee; what it really cost shows in the position."""
    office.venue.quote(quote("20000", "20003"))
    one = quote("20000", "20003")
    office.trader.act(office.brief(), one, before=one)
    for update in office.venue.updates:
        office.trader.recorder.record(
            update.order, (update.execution,) if update.execution else (), source="a test"
        )
    office.venue.coins[SYMBOL] += D("0.000000900")
    assert office.brief().unmeasured_since() is not None
    assert office.close().ok
    assert office.venue.coins[SYMBOL] == 0


def test_a_venue_that_is_away_ends_it_with_words_and_no_sale(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.holding()

    def away(symbol: str) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr(office.venue, "latest_quote", away)
    done = office.close()
    assert not done.ok and "not closed yet: no route to host" in done.text
    assert office.sent("sell") == []
    assert office.brief().situation.asset.paused_reason is None


def test_a_database_that_dies_before_the_end_leaves_the_pause_and_says_so(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.holding()
    change = assets.change

    def dies(*args: object, name: str, **more: object) -> object:
        if name == "asset_resumed":
            raise StoreUnavailable("gone")
        return change(*args, name=name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(assets, "change", dies)
    done = office.close()
    assert done.ok and "still paused (gone): dca resume BTC/USD" in done.text


def test_an_order_whose_cancel_does_not_come_through_is_reported(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.holding().buys("19503")
    monkeypatch.setattr(office.venue, "cancel", lambda venue_id: None)
    done = operating.cancel_orders(office.desk, SYMBOL)
    assert not done.ok and "safety buy" in done.text and "open" in done.text
    assert "not closed yet" in office.close().text


def test_two_who_add_the_same_amount_at_once_each_get_their_own(office: Office) -> None:
    office.holding()
    asked, other = office.venue.latest_quote, []

    def hurried(symbol: str) -> object:
        """Somebody else adds as much, between what the first has read and what he sends."""
        office.venue.latest_quote = asked  # type: ignore[method-assign]
        office.clock.move(1)
        other.append(operating.add_funds(office.desk, SYMBOL, D(50)))
        return asked(symbol)

    office.venue.latest_quote = hurried  # type: ignore[method-assign, assignment]
    done = operating.add_funds(office.desk, SYMBOL, D(50))
    assert done.ok and other[0].ok
    assert [intent.purpose for intent in office.sent("buy")] == ["base", "add_funds", "add_funds"]
    assert [order.key for order in (*other[0].orders, *done.orders)] == [
        intent.key for intent in office.sent("buy")[1:]
    ]


def test_funds_come_on_top_of_the_ladder_but_not_of_a_limit_that_a_person_set(office: Office) -> None:
    office.holding()
    capped = rules(max_cycle_spend=D(100), cooldown_period=3600)
    assets.change(office.store, office.clock, SYMBOL, lambda asset: replace(asset, rules=capped), "a test")
    done = operating.add_funds(office.desk, SYMBOL, D(81))
    assert not done.ok and "nothing was bought: cycle spend" in done.text
    assert operating.add_funds(office.desk, SYMBOL, D(79)).ok


def test_funds_that_find_no_seller_are_reported_as_working(office: Office) -> None:
    office.holding()
    low = quote("19000", "19003")
    office.venue.latest_quote = lambda symbol: low._replace(at=office.clock.now())  # type: ignore[method-assign]
    done = operating.add_funds(office.desk, SYMBOL, D(50))
    assert not done.ok and "add funds buy" in done.text and ": open" in done.text


def test_nothing_is_added_while_an_order_is_live(office: Office) -> None:
    office.holding().buys("19503")
    with pytest.raises(ConfigError, match="cancel-orders BTC/USD"):
        operating.add_funds(office.desk, SYMBOL, D(50))
