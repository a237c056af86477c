"""The bookkeeper counts at quiet instants, keeps the history, and tells once what nothing explains."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from build import T0, at
from caretakers import SYMBOL, Bot, Failing, repaired_once

from dca import boundaries
from dca.adapters.memory import MemoryStore
from dca.domain.account import Activity, Balance, day_of
from dca.ports import Store, Tx
from dca.service.caretakers.bookkeeper import END, PATIENCE, UNEXPLAINED, Bookkeeper
from dca.service.ledger import MOMENT, Line, statement

DAY = day_of(T0)
HOUR = 3600.0


def bookkeeper(bot: Bot, rest: Callable[[float], Any] | None = None) -> Bookkeeper:
    grace = timedelta(seconds=60)
    return Bookkeeper(bot.store, bot.broker, bot.clock, grace, rest or (lambda seconds: None))


@pytest.fixture
def bot(any_store: Store) -> Bot:
    return Bot(any_store)


def balances(bot: Bot) -> list[Balance]:
    return bot.store.read(lambda tx: tx.balances(DAY[0], END))


def history(bot: Bot) -> list[Activity]:
    return bot.store.read(lambda tx: tx.activities(DAY[0] - timedelta(days=9), END))


def count(bot: Bot) -> list[str]:
    """What one pass found to do; a second later."""
    report = bot.run(bookkeeper(bot))
    assert (report.exit_code, report.failed) == (0, 0), report.notes
    bot.clock.move(1)
    return [repair.kind for repair in report.planned]


def test_cash_and_coins_are_counted_and_the_history_is_kept(bot: Bot) -> None:
    repaired_once(bot, bookkeeper(bot))
    bot.clock.move(1)
    bot.bought()
    bot.venue.transfer(D(100))
    bot.clock.move(HOUR)
    assert repaired_once(bot, bookkeeper(bot)).mended == 2
    first, last = balances(bot)
    assert (first.cash, first.coins) == (D(10_000), {})
    held = bot.venue.coins[SYMBOL]
    assert (last.cash, last.coins) == (bot.venue.cash, {SYMBOL: f"{held.normalize():f}"})
    assert sorted(one.kind for one in history(bot)) == ["CSD", "FILL"]
    found = bot.store.read(lambda tx: statement(tx, *DAY))
    assert found is not None
    assert (found.unexplained, found.cash.lines[Line.TRANSFERS]) == (D("0.00"), D("100.00"))
    assert found.cash.lines[Line.BUYS] == -(first.cash + 100 - last.cash).quantize(D("0.01"))


def test_the_same_count_is_not_written_again_at_once_but_within_the_hour(bot: Bot) -> None:
    assert count(bot) == ["count"]
    bot.clock.move(29 * 60)
    assert count(bot) == []
    bot.clock.move(58)
    assert count(bot) == ["count"]
    bot.venue.transfer(D(-1))
    assert count(bot) == ["note", "count"]


def test_while_an_order_is_at_work_it_only_keeps_the_history(bot: Bot) -> None:
    count(bot)
    bot.rest()
    bot.venue.transfer(D(5))
    bot.clock.move(HOUR)
    assert count(bot) == ["note"]
    bot.clock.move(PATIENCE.total_seconds() - HOUR)
    [work] = bookkeeper(bot).plan(bookkeeper(bot).look(), bot.clock.now())
    assert work.kind == "count" and "is at work" in work.reason


def test_right_after_an_order_it_waits(bot: Bot) -> None:
    count(bot)
    bot.act("20000")
    bot.catch_up.everything()
    bot.clock.move(59)
    assert count(bot) == ["note"]
    assert count(bot) == ["count"]


def test_a_fee_that_is_yet_to_be_measured_is_waited_for_an_hour(bot: Bot) -> None:
    count(bot)
    bot.venue.held = True
    order = bot.rest()
    bot.venue.held = False
    bot.venue.fill(order.venue_id or "")
    update = bot.venue.updates[-1]
    assert update.execution is not None
    bot.recorder.record(update.order, [update.execution], source="test")
    bot.venue.updates.clear()
    bot.clock.move(HOUR - 1)
    assert count(bot) == ["note"]
    assert count(bot) == ["count"]
    assert bot.events(UNEXPLAINED) == []


class Restless:
    """A way to a venue where the account is another one each time it is read, so many times."""

    def __init__(self, bot: Bot, times: int) -> None:
        self._venue = bot.venue
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    def activities(self, since: datetime) -> list[Activity]:
        if self.times:
            self.times -= 1
            self._venue.cash += 1
        return self._venue.activities(since)


@pytest.mark.parametrize(("times", "counted"), [(1, 1), (2, 0)])
def test_an_account_that_changes_while_it_is_read_is_read_again(times: int, counted: int) -> None:
    bot = Bot(MemoryStore())
    bot.broker = Restless(bot, times)  # type: ignore[assignment]
    rests: list[float] = []
    report = bot.run(bookkeeper(bot, rests.append))
    assert (report.exit_code, len(balances(bot)), rests) == (0, counted, [5.0])


class Lagging(Restless):
    """Its history tells of a transfer a moment after the money has moved."""

    def activities(self, since: datetime) -> list[Activity]:
        self.times -= 1
        return [] if self.times >= 0 else self._venue.activities(since)


@pytest.mark.parametrize(("times", "told"), [(1, 0), (2, 1)])
def test_a_history_that_lags_is_looked_at_again(times: int, told: int) -> None:
    bot = Bot(MemoryStore())
    count(bot)
    bot.clock.move(HOUR)
    bot.venue.transfer(D(-50))
    bot.broker = Lagging(bot, times)  # type: ignore[assignment]
    bot.run(bookkeeper(bot, bot.clock.move))
    assert len(bot.events(UNEXPLAINED)) == told


def test_what_nothing_explains_is_told_once_a_day(bot: Bot) -> None:
    count(bot)
    bot.clock.move(HOUR)
    bot.venue.cash -= 5
    assert count(bot) == ["count", "tell"]
    [words] = bot.events(UNEXPLAINED)
    assert "5.00 USD missing" in words and "dca report statement --day 2023-03-09" in words
    assert words in bot.messages().values()
    bot.venue.cash -= 7
    bot.clock.move(HOUR)
    assert count(bot) == ["count"]
    bot.clock.move(24 * HOUR)
    assert count(bot) == ["count"], "what was missing yesterday is not missing today"
    bot.price("20000")
    bot.venue.coins[SYMBOL] = D("0.5")
    assert count(bot) == ["count", "tell"]
    assert "0.5 BTC/USD too much" in bot.events(UNEXPLAINED)[-1]


def test_the_event_has_the_numbers(bot: Bot) -> None:
    count(bot)
    bot.clock.move(HOUR)
    bot.venue.cash -= 5
    count(bot)
    [event] = bot.store.read(lambda tx: tx.events(name=UNEXPLAINED))
    assert event.data["unexplained_usd"] == event.data["cash"]["unexplained"] == "-5.00"
    assert event.uid == "statement_unexplained:2023-03-09"


def test_a_transfer_that_tells_its_day_only_came_after_the_last_count(bot: Bot) -> None:
    count(bot)
    bot.clock.move(HOUR)
    bot.venue.transfer(D(100))
    bot.venue.transfers[0] = replace(bot.venue.transfers[0], at=DAY[0])
    assert count(bot) == ["note", "count"]
    assert history(bot)[0].at == T0 + MOMENT
    # What came before the first count was seen by it.
    early = Bot(MemoryStore())
    early.venue.transfers.append(Activity(id="t1", kind="CSD", at=DAY[0], net=D(100)))
    assert count(early) == ["note", "count"]
    assert history(early)[0].at == DAY[0]


@pytest.mark.parametrize("read", ["account", "positions", "activities"])
def test_half_a_view_writes_nothing(read: str) -> None:
    bot = Bot(MemoryStore())
    bot.broker = Failing(bot.venue, read)  # type: ignore[assignment]
    assert bot.run(bookkeeper(bot)).exit_code == 75
    assert (balances(bot), history(bot)) == ([], [])


def test_a_dry_run_says_what_it_would_do(bot: Bot) -> None:
    count(bot)
    bot.clock.move(HOUR)
    bot.venue.cash -= 5
    report = bot.run(bookkeeper(bot), dry_run=True)
    assert [repair.kind for repair in report.planned] == ["count", "tell"]
    assert (len(balances(bot)), bot.events(UNEXPLAINED)) == (1, [])


class Death(BaseException):
    """The process was killed."""


def lived(death: int) -> tuple[bool, list[Any]]:
    """What is in the books after a pass that was killed at that boundary, and another one."""
    bot = Bot(MemoryStore())
    count(bot)
    bot.bought()
    bot.venue.transfer(D(-20))
    bot.venue.cash -= 5
    crossed = 0

    def hook(name: str) -> None:
        nonlocal crossed
        crossed += 1
        if crossed == death:
            raise Death(name)

    boundaries.install(hook)
    try:
        bot.run(bookkeeper(bot))
    except Death:
        pass
    finally:
        boundaries.install(None)
    count(bot)

    def read(tx: Tx) -> list[Any]:
        return [
            tx.balances(DAY[0], END),
            tx.activities(DAY[0], END),
            tx.messages(),
            tx.events(name=UNEXPLAINED),
        ]

    return crossed >= death, bot.store.read(read)


def test_a_pass_that_was_killed_anywhere_and_one_more_are_one_pass() -> None:
    _, wanted = lived(0)
    assert [len(rows) for rows in wanted] == [2, 2, 2, 1]
    deaths = 0
    while True:
        deaths += 1
        killed, found = lived(deaths)
        assert found == wanted, f"killed at boundary {deaths}"
        if not killed:
            break
    assert deaths > 10


def test_a_count_finds_what_was_lost_overnight_on_the_day_that_found_it(bot: Bot) -> None:
    count(bot)
    bot.clock.move(11.9 * HOUR)
    bot.venue.transfer(D(30))
    count(bot)
    bot.venue.cash -= 5
    bot.clock.move(HOUR)
    count(bot)
    yesterday, today = (
        bot.store.read(lambda tx, day=day: statement(tx, *day)) for day in (DAY, day_of(DAY[1]))
    )  # type: ignore[misc]
    assert yesterday is not None and yesterday.explained and yesterday.until == DAY[1]
    assert today is not None and today.unexplained == D("-5.00")
    assert today.cash.opening == yesterday.cash.closing == D("10030.00")
    assert at(12 * HOUR) == DAY[1]
