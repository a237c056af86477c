"""Anomalies: what counts as one, and how the lookout restricts because of it."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from build import T0, at

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.domain.errors import Unavailable
from dca.domain.mode import Mode, in_force
from dca.domain.record import Event
from dca.risk.anomaly import latency, rejects, skew
from dca.service import operating
from dca.service.anomaly import CLOCK_S, LOOK_S, Lookout

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("minutes", "found"),
    [
        ([], False),
        ([0, 1], False),
        ([0, 1, 2], True),
        ([-8, 0, 2], True),
        ([-8.1, 0, 2], False),
        ([0, 1, 3], False),
    ],
    ids=["none", "two", "three", "just within", "too long ago", "one is yet to come"],
)
def test_three_refusals_within_ten_minutes(minutes: list[float], found: bool) -> None:
    anomaly = rejects([at(60 * one) for one in minutes], at(120))
    assert (anomaly is not None) is found
    if anomaly is not None:
        assert anomaly.until == at(120 + 15 * 60)
        assert anomaly.evidence == at(120).isoformat(), "the newest of them"


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ([9.0] * 9, False),
        ([2.0] * 10, False),
        ([2.1] * 10, True),
        ([0.1] * 9 + [20.0], True),
        ([0.1] * 9 + [19.0], False),
        ([9.0] * 5 + [0.1] * 10, False),
    ],
    ids=["too few", "two seconds", "more", "one hung", "one nearly", "it is over"],
)
def test_ten_requests_that_took_long(seconds: list[float], found: bool) -> None:
    assert (latency(seconds, T0) is not None) is found


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (10, None),
        (-10, None),
        (10.5, "10.5 s ahead of"),
        (-3600, "3600.0 s behind"),
    ],
)
def test_clocks_that_differ(ahead: float, words: str | None) -> None:
    found = skew(timedelta(seconds=ahead), T0, SECOND)
    assert found is None if words is None else words in (found.reason if found else "")


class Post:
    """A lookout whose guard says what the test wants."""

    def __init__(self) -> None:
        self.clock, self.store = ManualClock(T0), MemoryStore()
        self.took: list[float] = []
        self.ahead = 0.0
        self.tended = 0
        guard: Any = SimpleNamespace(time=self.time, tend=self.tend, forget_took=self.forget)
        guard.keys_refused_since = None
        self.lookout = Lookout(self.store, self.clock, guard)
        self.guard = guard

    def time(self) -> Any:
        return self.clock.now() + timedelta(seconds=self.ahead)

    def tend(self, symbols: object) -> None:
        self.tended += 1

    def forget(self) -> None:
        self.took = []

    def look(self, after: float = 0) -> dict[str, Any]:
        """What is in force after another look."""
        self.clock.move(after)
        self.guard.took = tuple(self.took)
        self.lookout.look(["BTC/USD"])
        return self.restrictions()

    def restrictions(self) -> dict[str, Any]:
        found = in_force(self.store.read(lambda tx: tx.modes()), self.clock.now())
        assert all(one.mode is Mode.REDUCE_ONLY for one in found)
        return {one.source: one.until for one in found}

    def refuse(self, times: int = 1) -> None:
        event = Event(name="order_rejected", at=self.clock.now())
        for _ in range(times):
            self.store.write(lambda tx: tx.add_event(event))

    def events(self, name: str = "anomaly") -> list[Event]:
        return self.store.read(lambda tx: tx.events(name=name))


def test_refusals_restrict_for_a_quarter_of_an_hour() -> None:
    post = Post()
    post.refuse(2)
    assert post.look() == {}
    post.refuse()
    assert post.look(LOOK_S) == {"anomaly:rejects": at(LOOK_S + 900)}
    (event,) = post.events()
    assert event.reason == "the venue refused 3 orders within 10 minutes"
    assert post.look(LOOK_S) == {"anomaly:rejects": at(LOOK_S + 900)}, "the same ones count once"
    post.refuse()
    assert post.look(LOOK_S) == {"anomaly:rejects": at(3 * LOOK_S + 900)}
    assert post.look(900) == {}
    assert len(post.events()) == 2


def test_what_an_operator_lifted_stays_lifted_until_something_new_happens() -> None:
    post = Post()
    post.refuse(3)
    assert post.look()
    operating.resume(post.store, post.clock, None)
    assert post.look(LOOK_S) == {}
    another = Lookout(post.store, post.clock, post.guard)
    another.look([])
    assert post.restrictions() == {}, "also after a restart"
    post.refuse()
    assert post.look(LOOK_S)


def test_slow_answers_restrict_for_five_minutes() -> None:
    post = Post()
    post.took = [3.0] * 10
    assert post.look() == {"anomaly:latency": at(300)}
    assert post.took == [], "ten new ones are needed"
    assert post.look(299)
    assert post.look(1) == {}


def test_clocks_that_differ_restrict_as_long_as_they_do() -> None:
    post = Post()
    post.ahead = 12
    assert post.look() == {"anomaly:clock": at(3 * CLOCK_S)}
    assert post.look(CLOCK_S) == {"anomaly:clock": at(4 * CLOCK_S)}
    post.ahead = 0
    assert post.look(CLOCK_S) == {}
    assert len(post.events()) == 1 and len(post.events("anomaly_over")) == 1


def test_a_clock_that_an_operator_allowed_stays_allowed() -> None:
    post = Post()
    post.ahead = 12
    post.look()
    operating.resume(post.store, post.clock, None)
    assert post.look(CLOCK_S) == {}
    post.ahead = 0
    post.look(CLOCK_S)
    post.ahead = -11
    assert post.look(CLOCK_S), "it was right in between"


def test_a_restriction_of_the_clock_is_lifted_after_a_restart_too() -> None:
    post = Post()
    post.ahead = 12
    post.look()
    post.ahead = 0
    Lookout(post.store, post.clock, post.guard).look([])
    assert post.restrictions() == {}


def test_a_person_hears_once_that_the_keys_are_refused() -> None:
    post = Post()
    post.guard.keys_refused_since = at(1)
    for _ in range(3):
        post.look(LOOK_S)
    (message,) = post.store.read(lambda tx: tx.messages())
    assert message.name == "keys_refused" and "APCA_API_KEY_ID" in message.text
    post.guard.keys_refused_since = None
    post.look(LOOK_S)
    post.guard.keys_refused_since = at(100)
    post.look(LOOK_S)
    assert len(post.store.read(lambda tx: tx.messages())) == 2


def test_an_answer_that_took_long_says_nothing_of_the_clock() -> None:
    post = Post()
    asked = post.clock.now

    def slow() -> Any:
        post.clock.move(20)
        return asked()

    post.guard.time = slow
    assert post.look() == {}


def test_a_venue_that_does_not_answer_is_asked_again_later() -> None:
    post = Post()
    calls = []

    def away() -> Any:
        calls.append(1)
        raise Unavailable("away")

    post.guard.time = away
    with pytest.raises(Unavailable):
        post.look()
    post.look(LOOK_S)
    assert len(calls) == 1 and post.tended == 2
