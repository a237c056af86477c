"""What the venue showed against what the journal says, as a table; and catching up by it."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from build import INSTALL, at, intent, order, seen
from caretakers import GRACE_S, SYMBOL, Bot

from dca.adapters.memory import MemoryStore
from dca.domain.errors import InDoubt, Unavailable
from dca.domain.order import Execution, Order, Purpose, VenueOrder, order_key
from dca.ports import Store
from dca.service.reconcile import (
    CLOCK_SLACK,
    Journal,
    Lose,
    Record,
    Repair,
    Seen,
    Sweep,
    Unknown,
    Vanish,
    reconcile,
    sweep_from,
    to_ask,
    to_fetch,
)

GRACE = timedelta(seconds=60)
BUY = intent("base")
KEY = BUY.key
SHOWN = seen(BUY)
AN_EXECUTION = Execution(id="x1", qty=D("0.0004"), price=D(20_000), cum_qty=D("0.0004"), at=at(1))


def journal(*orders: Order, stored: str = "0") -> Journal:
    return Journal(INSTALL, {one.key: one for one in orders}, {one.key: D(stored) for one in orders})


def sweep(since_s: float = 0, *orders: VenueOrder) -> Sweep:
    return Sweep(at(since_s) - CLOCK_SLACK, orders)


def found(books: Journal, *shown: VenueOrder, seconds: float = 60, **more: Any) -> list[Repair]:
    view = Seen(at=at(seconds), shown={one.key: one for one in shown}, **more)
    return reconcile(books, view, GRACE)


@pytest.mark.parametrize(
    ("status", "stored", "shown", "news"),
    [
        ("in_flight", "0", seen(BUY), True),
        ("open", "0", replace(SHOWN, venue_id="v-1"), False),
        ("open", "0", seen(BUY, "partial", "0.0004", venue_id="v-1"), True),
        ("open", "0", seen(BUY, "canceled", venue_id="v-1"), True),
        ("canceled", "0", seen(BUY, "canceled", venue_id="v-1"), False),
        # The stream lost a fill that came after the end.
        ("canceled", "0", seen(BUY, "canceled", "0.0004", venue_id="v-1"), True),
        ("lost", "0", seen(BUY), True),
        ("rejected", "0", seen(BUY), False),
        ("rejected", "0", seen(BUY, "filled", "0.001"), True),
        # The key of another order, which only a database from a backup makes.
        ("canceled", "0", seen(BUY, "canceled", symbol="ETH/USD"), True),
    ],
)
def test_what_the_venue_shows_is_recorded_where_it_is_news(
    status: str, stored: str, shown: VenueOrder, news: bool
) -> None:
    fills = (AN_EXECUTION,) if shown.filled_qty else ()
    repairs = found(journal(order(status, BUY), stored=stored), shown, executions={KEY: fills})
    assert repairs == ([Record(KEY, shown, fills)] if news else [])


def test_an_order_that_is_whole_here_is_no_news() -> None:
    whole = order("filled", BUY, filled_qty=BUY.qty, filled_avg_price=D(20_000))
    shown = seen(BUY, "filled", str(BUY.qty), venue_id="v-1")
    assert found(journal(whole, stored=str(BUY.qty)), shown) == []


@pytest.mark.parametrize("status", ["in_flight", "open", "partial"])
@pytest.mark.parametrize(
    ("seconds", "unknown", "swept", "given_up"),
    [
        (60, [KEY], sweep(), True),
        (59, [KEY], sweep(), False),
        # A lookup that says nothing, or was not made, proves nothing.
        (60, [], sweep(), False),
        (60, [KEY], None, False),
        # A list that begins too late could have missed it.
        (60, [KEY], sweep(1), False),
        (60, [KEY], sweep(0, SHOWN), False),
        (60, [KEY], sweep(0, replace(SHOWN, key="other")), True),
    ],
)
def test_an_order_is_given_up_only_on_every_proof(
    status: str, seconds: float, unknown: list[str], swept: Sweep | None, given_up: bool
) -> None:
    live = order(status, BUY)
    repairs = found(journal(live), seconds=seconds, unknown=unknown, sweep=swept)
    if not given_up:
        assert repairs == []
    elif status == "in_flight":
        assert repairs == [Lose(KEY, live.version, "the venue does not know it after the grace time")]
    else:
        assert repairs == [Vanish(KEY, "the venue had it open and knows it no more")]


def test_the_grace_begins_when_it_was_last_sent() -> None:
    again = order("in_flight", BUY, sent_at=at(30))
    early, late = sweep(), sweep(30)
    assert found(journal(again), seconds=89, unknown=[KEY], sweep=early) == []
    assert len(found(journal(again), seconds=90, unknown=[KEY], sweep=late)) == 1


@pytest.mark.parametrize("status", ["canceled", "lost", "filled", "rejected"])
def test_what_is_over_is_never_given_up(status: str) -> None:
    assert found(journal(order(status, BUY)), unknown=[KEY], sweep=sweep()) == []


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (SHOWN, True),
        (seen(BUY, "canceled", "0.0004"), True),
        (seen(BUY, "canceled"), False),
        (seen(BUY, "rejected"), False),
        (replace(SHOWN, key="by-hand"), False),
        (replace(SHOWN, key="dcaffffffff-c7-base-0-1"), False),
    ],
)
def test_an_order_of_ours_that_the_journal_lacks(shown: VenueOrder, told: bool) -> None:
    assert found(journal(), shown) == ([Unknown(shown.key, shown)] if told else [])


def test_what_is_asked_for() -> None:
    live, over = order("open", BUY), order("canceled", intent("base", attempt=2))
    books = journal(live, over)
    assert to_ask(books, ()) == [KEY]
    assert to_ask(books, {KEY}) == []
    partly = seen(BUY, "partial", "0.0004")
    assert to_fetch(books, {KEY: partly}) == [partly]
    assert to_fetch(books, {KEY: SHOWN, "another": partly}) == []
    assert to_fetch(journal(live, stored="0.0004"), {KEY: partly}) == []
    assert sweep_from(books, [KEY], at(59), GRACE) is None
    assert sweep_from(books, [KEY], at(60), GRACE) == at(0) - CLOCK_SLACK
    assert sweep_from(books, [], at(60), GRACE) is None


# Catching up by it


class Asked:
    """A venue that notes what it is asked."""

    def __init__(self, venue: Any) -> None:
        self._venue = venue
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.names.append(name)
        return getattr(self._venue, name)


@pytest.fixture
def bot() -> Bot:
    made = Bot(MemoryStore())
    made.catch_up.everything()
    return made


def lost_on_the_way(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of an order in flight that never arrived."""

    def lose(wish: object) -> None:
        raise InDoubt("504")

    with monkeypatch.context() as patch:
        patch.setattr(bot.venue, "submit", lose)
        bot.act("20000")
    return bot.store.read(lambda tx: tx.orders())[0].key


def test_a_request_that_never_arrived_is_lost_and_sent_again_under_its_key(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lost_on_the_way(bot, monkeypatch)
    bot.clock.move(GRACE_S - 1)
    bot.catch_up.everything()
    assert bot.order(key).status == "in_flight"
    bot.clock.move(1)
    bot.catch_up.everything()
    assert bot.order(key).status == "lost"
    bot.act("20000")
    assert [wish.key for wish in bot.venue.submitted] == [key]
    assert (bot.order(key).status, len(bot.store.read(lambda tx: tx.orders()))) == ("filled", 1)


def test_a_resend_between_the_look_and_the_verdict_is_not_given_up(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lost_on_the_way(bot, monkeypatch)
    bot.clock.move(GRACE_S)
    listed = bot.venue.orders_since

    def later(since: Any) -> Any:
        order = bot.order(key)
        bot.store.write(lambda tx: tx.update_order(replace(order, sent_at=bot.clock.now())))
        return listed(since)

    with monkeypatch.context() as patch:
        patch.setattr(bot.venue, "orders_since", later)
        bot.catch_up.everything()
    assert bot.order(key).status == "in_flight"


@pytest.mark.parametrize("read", ["find", "orders_since", "open_orders"])
def test_half_a_view_gives_up_nothing(bot: Bot, monkeypatch: pytest.MonkeyPatch, read: str) -> None:
    key = lost_on_the_way(bot, monkeypatch)
    bot.clock.move(GRACE_S)

    def fail(*_: object) -> None:
        raise Unavailable("500")

    with monkeypatch.context() as patch:
        patch.setattr(bot.venue, read, fail)
        with pytest.raises(Unavailable):
            bot.catch_up.everything()
    assert bot.order(key).status == "in_flight"


def test_a_sweep_fills_what_the_stream_lost_after_the_end(bot: Bot) -> None:
    resting = bot.rest()
    assert resting.venue_id is not None
    bot.clock.move(3600)
    bot.venue.cancel(resting.venue_id)
    bot.deliver()
    assert bot.order(resting.key).status == "canceled"
    bot.catch_up.everything()
    bot.venue.fill(resting.venue_id, "0.0004")
    bot.venue.orders[resting.venue_id] = replace(
        bot.venue.orders[resting.venue_id], status=bot.order(resting.key).status
    )
    bot.deaf()
    bot.catch_up.everything()
    assert bot.cycle.quantity == 0, "swept a moment ago"
    bot.clock.move(900)
    bot.catch_up.everything()
    assert bot.cycle.quantity == bot.venue.coins[SYMBOL] > 0


def test_a_sweep_is_due_every_quarter_of_an_hour_and_when_it_is_wanted(bot: Bot) -> None:
    asked = Asked(bot.venue)
    other = Bot(bot.store, bot.venue, broker=asked)  # type: ignore[arg-type]
    other.catch_up.everything()
    assert asked.names.count("orders_since") == 1, "the first time of a process"
    other.catch_up.everything()
    bot.clock.move(899)
    other.catch_up.everything()
    assert asked.names.count("orders_since") == 1
    other.catch_up.everything(sweep=True)
    assert asked.names.count("orders_since") == 2
    bot.clock.move(900)
    other.catch_up.everything()
    assert asked.names.count("orders_since") == 3
    (beat,) = bot.store.read(lambda tx: tx.heartbeats())
    assert (beat.name, beat.at) == ("sweep", bot.clock.now())


def test_a_listed_order_is_not_asked_for_again(bot: Bot) -> None:
    bot.rest()
    asked = Asked(bot.venue)
    other = Bot(bot.store, bot.venue, broker=asked)  # type: ignore[arg-type]
    asked.names.clear()
    other.catch_up.everything()
    assert asked.names == ["open_orders", "orders_since"]


def test_an_order_that_the_journal_forgot_is_booked_in_its_cycle(any_store: Store) -> None:
    bot = Bot(any_store)
    key = order_key(any_store.install, bot.cycle.id, Purpose.BASE, 0, 1)
    bot.price("20000")
    venue_id = bot.by_hand("buy", "0.001", "20000", key)
    bot.catch_up.everything()
    assert (bot.order(key).status, bot.cycle.status) == ("open", "buying")
    bot.venue.fill(venue_id)
    bot.deaf()
    bot.catch_up.everything()
    assert bot.cycle.quantity == bot.venue.coins[SYMBOL]
    assert bot.messages() == {f"started:c{bot.cycle.id}": bot.messages()[f"started:c{bot.cycle.id}"]}


def test_one_of_a_cycle_that_nobody_knows_is_told_once(any_store: Store) -> None:
    bot = Bot(any_store)
    key = order_key(any_store.install, 99, Purpose.BASE, 0, 1)
    bot.price("20000")
    venue_id = bot.by_hand("buy", "0.001", "20000", key)
    bot.venue.fill(venue_id, "0.0004")
    for _ in range(2):
        bot.catch_up.everything(sweep=True)
    assert len(bot.events("order_unknown")) == 1
    assert "dca rebuild --from venue --dry-run" in bot.messages()[f"unknown:{key}"]
    assert bot.store.read(lambda tx: tx.orders()) == []


def test_every_transition_has_a_name_of_its_own(any_store: Store) -> None:
    bot = Bot(any_store)
    resting = bot.rest()
    assert resting.venue_id is not None
    for part in ("0.0002", "0.0003"):
        bot.venue.fill(resting.venue_id, part)
        bot.deliver()
    bot.venue.cancel(resting.venue_id)
    bot.deliver()
    events = [one for one in bot.store.read(lambda tx: tx.events()) if one.order_key == resting.key]
    names = [one.uid for one in reversed(events)]
    assert names == [f"{resting.key}#{version}" for version in (2, 3, 4, 5)]
    assert bot.order(resting.key).version == 5
