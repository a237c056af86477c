"""The circuit breaker: when it opens, who may find out, what closes it; and as processes share it."""

from datetime import timedelta
from typing import Any

import pytest
from build import T0, at

from dca.adapters.clock import ManualClock
from dca.adapters.db.store import SqlStore
from dca.adapters.memory import MemoryStore
from dca.domain.account import Breaker, BreakerState
from dca.domain.errors import StoreUnavailable, Unavailable
from dca.domain.mode import Mode
from dca.ports import Store
from dca.risk.breaker import (
    LONGEST_S,
    Passage,
    opened,
    passage,
    probing,
    reconciled,
    tripped,
    well,
)
from dca.service.breaker import TELL_S, Circuits, Group
from dca.service.shared import Shared

SECOND = timedelta(seconds=1)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
TRADING, ORDERS, MARKET = Group.TRADING, Group.ORDERS, Group.MARKET


def breaker(state: str = "closed", **changes: Any) -> Breaker:
    return Breaker(name="trading", state=BreakerState(state), **{"since": T0, **changes})


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ("", None),
        ("----", None),
        ("-----", "5 failures in a row"),
        ("+-----", "5 failures in a row"),
        ("-----+", None),
        ("--+--+-----", "5 failures in a row"),
        ("+-" * 10, None),
        ("+-" * 9 + "--", "11 of 20 requests failed"),
        ("+--" * 6, None),
        ("+--" * 7, "14 of 21 requests failed"),
    ],
)
def test_it_opens_after_failures_in_a_row_or_when_most_fail(calls: str, words: str | None) -> None:
    made = [(float(number), sign == "+") for number, sign in enumerate(calls)]
    reason = tripped(made, 30.0)
    assert reason is None if words is None else words in (reason or "")


def test_what_failed_a_minute_ago_does_not_count_as_most() -> None:
    made = [(float(number), number % 3 == 0) for number in range(20)]
    assert tripped(made, 50.0) is not None
    assert tripped(made, 70.0) is None


def open_now(row: Breaker, seconds: float = 0) -> Breaker:
    return opened(row, "HTTP 503", 5, at(seconds), first_s=30, second=SECOND)


def test_each_pause_is_twice_as_long_up_to_a_limit() -> None:
    row, pauses = breaker(), []
    for _ in range(8):
        row = open_now(probing(row, T0, SECOND) if pauses else row)
        pauses.append(row.pause_s)
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]
    assert open_now(row) is row, "an open one stays as it is"


def test_it_tells_since_when_it_is_not_closed() -> None:
    row = open_now(breaker(), 5)
    again = open_now(probing(row, at(35), SECOND), 36)
    assert (row.since, again.since, again.retry_at) == (at(5), at(5), at(96))


@pytest.mark.parametrize(
    ("row", "seconds", "knocked", "may"),
    [
        (breaker(), 0, False, Passage.FREE),
        (breaker("open", retry_at=at(30)), 29, False, Passage.SHUT),
        (breaker("open", retry_at=at(30)), 30, False, Passage.PROBE),
        (breaker("open", retry_at=at(30)), 1, True, Passage.PROBE),
        (breaker("half_open", retry_at=at(60)), 31, False, Passage.SHUT),
        (breaker("half_open", retry_at=at(60)), 31, True, Passage.SHUT),
        (breaker("half_open", retry_at=at(60)), 60, False, Passage.PROBE),
        (breaker("half_open", retry_at=at(60), good=1), 31, False, Passage.FREE),
        (breaker("open", retry_at=at(LONGEST_S + 100)), 0, False, Passage.PROBE),
    ],
    ids=[
        "closed", "in its pause", "after it", "the venue is back", "somebody finds out",
        "and nobody else", "he died", "he found it well", "a clock that was wrong",
    ],
)  # fmt: skip
def test_what_a_read_may_do(row: Breaker, seconds: float, knocked: bool, may: Passage) -> None:
    assert passage(row, at(seconds), SECOND, knocked=knocked) is may


def test_two_good_reads_and_a_reconciliation_close_it() -> None:
    row = probing(open_now(breaker()), at(30), SECOND)
    assert reconciled(row, at(31)) is row
    row = well(row)
    assert reconciled(row, at(31)) is row
    row = well(row)
    assert well(row) is row
    done = reconciled(row, at(32))
    assert done == breaker(since=at(32))
    assert reconciled(open_now(breaker()), at(99)).state is OPEN


# As processes share it


class World:
    def __init__(self, store: Store | None = None) -> None:
        self.clock = ManualClock(T0)
        self.store = store or MemoryStore()

    def process(self) -> Circuits:
        return Circuits(Shared(self.store, self.clock), self.clock, 30)

    def learn(self, *circuits: Circuits) -> None:
        rows = self.store.read(lambda tx: tx.breakers())
        for one in circuits:
            one.seen(rows)

    def events(self) -> list[tuple[str, str]]:
        found = reversed(self.store.read(lambda tx: tx.events()))
        return [(event.name, event.data["group"]) for event in found]

    def modes(self) -> dict[str, Mode]:
        return {one.source: one.mode for one in self.store.read(lambda tx: tx.modes())}


def fail(circuits: Circuits, group: Group, times: int = 5) -> None:
    for _ in range(times):
        circuits.failed(group, Unavailable("HTTP 503"))


def test_opening_is_a_row_an_event_and_a_restriction() -> None:
    world = World()
    here, there = world.process(), world.process()
    fail(here, TRADING, 4)
    assert world.events() == []
    fail(here, TRADING, 1)
    assert world.events() == [("breaker_open", "trading")]
    assert world.modes() == {"breaker:trading": Mode.REDUCE_ONLY}
    world.learn(there)
    for one in (here, there):
        assert "circuit open until 12:00:30" in (one.shut() or "")
        with pytest.raises(Unavailable, match=r"HTTP 503.*circuit open until 12:00:30"):
            one.admit(TRADING)
        one.admit(MARKET)
    fail(there, TRADING, 5)
    assert world.events() == [("breaker_open", "trading")]


def test_one_process_finds_out_for_all() -> None:
    world = World()
    here, there = world.process(), world.process()
    fail(here, TRADING)
    world.learn(there)
    world.clock.move(30)
    here.admit(TRADING)
    with pytest.raises(Unavailable, match="being tried again"):
        there.admit(TRADING)
    here.answered(TRADING)
    world.learn(there)
    there.admit(TRADING)
    there.answered(TRADING)
    assert there.shut() is not None, "nothing is bought before the books were compared"
    world.learn(here)
    here.reconciled()
    assert here.shut() is None
    assert world.modes() == {}
    assert [name for name, _ in world.events()] == ["breaker_open", "breaker_half_open", "breaker_closed"]
    assert world.store.read(lambda tx: tx.breakers())[0].pause_s == 0


def test_who_found_out_and_died_is_followed() -> None:
    world = World()
    dead, alive = world.process(), world.process()
    fail(dead, TRADING)
    world.clock.move(30)
    dead.admit(TRADING)
    world.learn(alive)
    world.clock.move(29)
    with pytest.raises(Unavailable):
        alive.admit(TRADING)
    world.clock.move(1)
    alive.admit(TRADING)


def test_a_probe_that_fails_doubles_the_pause() -> None:
    world = World()
    here = world.process()
    fail(here, TRADING)
    world.clock.move(30)
    here.admit(TRADING)
    fail(here, TRADING, 1)
    row = world.store.read(lambda tx: tx.breakers())[0]
    assert (row.state, row.pause_s, row.since) == (OPEN, 60, T0)
    with pytest.raises(Unavailable, match="12:01:30"):
        here.admit(TRADING)


def test_reads_show_whether_orders_can_be_sent_again() -> None:
    world = World()
    here = world.process()
    fail(here, ORDERS)
    assert "sending and canceling orders fails" in (here.shut() or "")
    here.admit(TRADING)
    here.answered(TRADING)
    world.clock.move(30)
    for _ in range(2):
        here.admit(TRADING)
        here.answered(TRADING)
    here.answered(ORDERS)
    here.reconciled()
    assert here.shut() is None
    assert world.events()[-1] == ("breaker_closed", "orders")


def test_an_exit_that_fails_while_it_is_half_open_opens_it_again() -> None:
    world = World()
    here = world.process()
    fail(here, ORDERS)
    world.clock.move(30)
    here.admit(TRADING)
    here.answered(TRADING)
    fail(here, ORDERS, 1)
    assert world.store.read(lambda tx: tx.breakers())[0].pause_s == 60


def test_a_stream_that_is_up_again_ends_the_pause_once() -> None:
    world = World()
    here = world.process()
    fail(here, TRADING)
    here.knock()
    here.admit(TRADING)
    fail(here, TRADING, 1)
    with pytest.raises(Unavailable):
        here.admit(TRADING)


def test_a_person_hears_of_one_that_stays_open_once() -> None:
    world = World()
    here, there = world.process(), world.process()
    fail(here, TRADING)
    world.learn(there)
    world.clock.move(TELL_S)
    here.tell()
    assert world.store.read(lambda tx: tx.messages()) == []
    world.clock.move(1)
    for one in (here, there, here):
        one.tell()
    (message,) = world.store.read(lambda tx: tx.messages())
    assert message.name == "circuit_open"
    assert "since 12:00 UTC, nothing is bought: 5 failures in a row, the last: HTTP 503" in message.text


def test_failures_before_it_closed_do_not_open_it_again() -> None:
    world = World()
    here = world.process()
    fail(here, TRADING)
    world.clock.move(30)
    for _ in range(2):
        here.admit(TRADING)
        here.answered(TRADING)
    here.reconciled()
    fail(here, TRADING, 4)
    assert here.shut() is None


def test_nor_do_those_of_a_minute_in_which_most_failed() -> None:
    world = World()
    here = world.process()
    for _ in range(7):
        here.answered(TRADING)
        fail(here, TRADING, 2)
    assert here.shut() is not None
    world.clock.move(30)
    for _ in range(2):
        here.admit(TRADING)
        here.answered(TRADING)
    here.reconciled()
    fail(here, TRADING, 1)
    assert here.shut() is None


def test_one_failure_does_not_open_what_others_closed_meanwhile() -> None:
    world = World()
    here, late = world.process(), world.process()
    fail(here, TRADING)
    world.clock.move(30)
    for _ in range(2):
        here.admit(TRADING)
        here.answered(TRADING)
    world.learn(late)
    here.reconciled()
    fail(late, TRADING, 1)
    assert world.events()[-1] == ("breaker_closed", "trading")
    assert late.shut() is None, "and it has learned that"


class Away(MemoryStore):
    """A database that does not answer."""

    def write(self, work: Any) -> Any:
        raise StoreUnavailable("away")


def test_without_the_database_each_process_has_its_own() -> None:
    world = World(Away())
    here = world.process()
    fail(here, TRADING)
    with pytest.raises(Unavailable, match="circuit open"):
        here.admit(TRADING)
    world.clock.move(30)
    for _ in range(2):
        here.admit(TRADING)
        here.answered(TRADING)
    here.reconciled()
    assert here.shut() is None


@pytest.mark.parametrize("kind", ["sqlite_url", "mariadb_url"])
def test_two_processes_that_claim_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    """The version of the row lets one of them."""
    store = SqlStore(request.getfixturevalue(kind))
    world = World(store)
    several = [world.process() for _ in range(3)]
    fail(several[0], TRADING)
    world.learn(*several)
    world.clock.move(30)
    let = 0
    for one in several:
        try:
            one.admit(TRADING)
            let += 1
        except Unavailable:
            pass
    assert let == 1
    row = store.read(lambda tx: tx.breakers())[0]
    assert (row.state, row.version) == (HALF_OPEN, 2)
    store.close()
