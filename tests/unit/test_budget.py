"""The rate budget: what a bucket gives to whom, and what several processes make of one."""

import threading
from bisect import bisect_left
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from build import T0, at

from dca.adapters.clock import ManualClock
from dca.adapters.db.store import SqlStore
from dca.adapters.memory import MemoryStore
from dca.domain.account import Budget
from dca.domain.errors import RateLimited, StoreUnavailable, TooMany
from dca.ports import Store
from dca.risk.budget import (
    BATCH,
    LONGEST_BAN_S,
    Priority,
    Rate,
    banned,
    banned_until,
    drawn,
    free_at,
    full,
    refilled,
)
from dca.service.budget import KEEP_S, NAME, RateBudget
from dca.service.shared import BLIND_S, Shared

RATE = Rate(180, timedelta(seconds=1))
READ, ENTRY, EXIT = Priority.READ, Priority.ENTRY, Priority.EXIT


def bucket(tokens: int, seconds: float = 0) -> Budget:
    return Budget(name=NAME, tokens=tokens, at=at(seconds))


def test_half_of_the_rate_may_come_at_once_and_half_refills() -> None:
    assert RATE.burst == 90
    assert RATE.interval == timedelta(seconds=60) / 90
    assert [RATE.floor(one) for one in Priority] == [30, 15, 0]


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        (bucket(10), 0, bucket(10)),
        (bucket(10), 0.6, bucket(10)),
        (bucket(10), 1, bucket(11, 2 / 3)),
        (bucket(0), 30.001, bucket(45, 30)),
        (bucket(89), 5, bucket(90, 5)),
        (bucket(0), 3600, bucket(90, 3600)),
        (bucket(7, 100), 0, bucket(7, 100)),
        (bucket(7, 3600), 0, bucket(7, 0)),
    ],
    ids=[
        "nothing yet", "not a whole one", "the rest stays in its instant", "half a minute", "never too full",
        "after a long night", "a ban stands", "a clock that was wrong bans nobody",
    ],
)  # fmt: skip
def test_a_bucket_refills(before: Budget, now: float, after: Budget) -> None:
    found = refilled(before, at(now), RATE)
    assert (found.tokens, abs(found.at - after.at) < timedelta(milliseconds=1)) == (after.tokens, True)


@pytest.mark.parametrize(
    ("tokens", "priority", "taken"),
    [
        (90, READ, BATCH),
        (33, READ, 3),
        (31, READ, 1),
        (30, READ, 0),
        (90, ENTRY, BATCH),
        (30, ENTRY, 1),
        (16, ENTRY, 1),
        (15, ENTRY, 0),
        (15, EXIT, 1),
        (1, EXIT, 1),
        (0, EXIT, 0),
    ],
)
def test_who_matters_more_may_take_the_last(tokens: int, priority: Priority, taken: int) -> None:
    left, found = drawn(bucket(tokens), priority, T0, RATE)
    assert (found, left.tokens) == (taken, tokens - taken)


@pytest.mark.parametrize(
    ("tokens", "priority", "seconds"),
    [(31, READ, 0), (30, READ, 2 / 3), (0, READ, 31 * 2 / 3), (0, ENTRY, 16 * 2 / 3), (0, EXIT, 2 / 3)],
)
def test_when_there_will_be_one(tokens: int, priority: Priority, seconds: float) -> None:
    ready = free_at(bucket(tokens), priority, T0, RATE)
    assert abs((ready - at(seconds)).total_seconds()) < 0.001
    assert drawn(bucket(tokens), priority, ready, RATE)[1] >= 1
    if seconds:
        assert drawn(bucket(tokens), priority, ready - timedelta(milliseconds=1), RATE)[1] == 0


def test_a_ban_empties_the_bucket_for_everybody_until_it_ends() -> None:
    shut = banned(bucket(90), at(20), T0, RATE)
    assert banned_until(shut, at(19), RATE) == at(20)
    assert all(drawn(shut, one, at(19.9), RATE)[1] == 0 for one in Priority)
    assert free_at(shut, EXIT, at(5), RATE) == at(20)
    assert banned_until(shut, at(20), RATE) is None
    assert drawn(shut, READ, at(20), RATE)[1] == 1, "one looks whether it is over, no burst"


def test_a_ban_is_never_shortened_and_never_endless() -> None:
    shut = banned(bucket(90), at(20), T0, RATE)
    assert banned(shut, at(10), at(1), RATE) is shut
    assert banned(shut, at(30), at(1), RATE).at == at(30)
    assert banned(bucket(90), at(86_400), T0, RATE).at == at(LONGEST_BAN_S)


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_sees_more_than_the_rate(seed: int) -> None:
    """Whoever takes at whatever times: what was taken within 60 s is at most the rate."""
    random, budget, now, taken = Random(seed), full(NAME, RATE, T0), T0, []
    for _ in range(800):
        now += timedelta(seconds=random.choice((0, 0, 0.01, 0.3, 1, 20)))
        budget, found = drawn(budget, random.choice(list(Priority)), now, RATE)
        taken += [now] * found
    minute = timedelta(seconds=60)
    busiest = max(bisect_left(taken, start + minute) - number for number, start in enumerate(taken))
    assert 100 < busiest <= 180


# As a process spends it


class Sleeper:
    """Time passes only while somebody waits."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.waits: list[float] = []

    def rest(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.move(seconds)


def spender(store: Store | None, sleeper: Sleeper, per_minute: int = 180) -> RateBudget:
    return RateBudget(Shared(store, sleeper.clock), sleeper.clock, per_minute, sleeper.rest)


def row(store: Store) -> Budget:
    found = store.read(lambda tx: tx.budget(NAME))
    assert found is not None
    return found


def counted(store: Store) -> list[str]:
    """The units of work that were written from now on."""
    written: list[str] = []
    write = store.write

    def noting(work: Any) -> Any:
        written.append(work.__qualname__)
        return write(work)

    store.write = noting  # type: ignore[method-assign]
    return written


def test_a_batch_costs_one_transaction() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    budget, written = spender(store, sleeper), counted(store)
    for _ in range(BATCH):
        budget.take(READ)
    assert (len(written), row(store).tokens) == (1, 90 - BATCH)
    budget.take(EXIT)
    assert (len(written), row(store).tokens) == (2, 90 - 2 * BATCH)


def test_a_batch_that_was_not_used_is_forgotten() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    budget, written = spender(store, sleeper), counted(store)
    budget.take(READ)
    sleeper.clock.move(KEEP_S + 0.1)
    budget.take(READ)
    assert len(written) == 2


def test_a_read_waits_for_a_while_then_says_so() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    store.write(lambda tx: tx.put_budget(bucket(30)))
    budget = spender(store, sleeper)
    budget.take(READ, patience_s=2)
    assert sleeper.waits == [pytest.approx(2 / 3, abs=0.01)]
    store.write(lambda tx: tx.put_budget(Budget(name=NAME, tokens=0, at=sleeper.clock.now(), version=2)))
    with pytest.raises(RateLimited, match=r"budget is used up: 180 a minute.*REQUESTS_PER_MINUTE") as error:
        budget.take(READ, patience_s=2)
    assert error.value.retry_after_s == pytest.approx(31 * 2 / 3, abs=0.1)
    budget.take(EXIT, patience_s=2)


def test_what_is_in_hand_anybody_may_use_and_the_last_ones_only_who_took_them() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    store.write(lambda tx: tx.put_budget(bucket(20)))
    budget = spender(store, sleeper)
    assert budget.lacking(ENTRY) is None and budget.lacking(EXIT) is None
    assert "used up" in (budget.lacking(READ) or "")
    assert row(store).tokens == 20, "asking takes nothing that reads may not have"
    for _ in range(5):
        budget.take(ENTRY)
    assert row(store).tokens == 15
    assert "used up" in (budget.lacking(ENTRY) or "") and budget.lacking(EXIT) is None
    budget.take(EXIT)


def test_asking_first_takes_a_batch_that_is_there_when_it_is_needed() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    budget, written = spender(store, sleeper), counted(store)
    assert budget.lacking(ENTRY) is None
    budget.take(ENTRY)
    assert len(written) == 1


def test_an_order_does_not_wait_for_the_row_when_there_is_stock() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    budget, written = spender(store, sleeper), counted(store)
    budget.stock()
    assert len(written) == 1
    budget.stock()
    assert len(written) == 1, "it is still there"
    budget.take(EXIT)
    assert budget.lacking(ENTRY) is None and len(written) == 1
    sleeper.clock.move(KEEP_S - 1)
    budget.stock()
    sleeper.clock.move(2)
    budget.take(EXIT)
    assert len(written) == 2, "it was renewed before it was forgotten"


def test_a_bucket_that_was_found_empty_is_not_asked_with_every_quote() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    store.write(lambda tx: tx.put_budget(bucket(0)))
    budget, written = spender(store, sleeper), counted(store)
    assert {budget.lacking(ENTRY) for _ in range(50)} == {budget.lacking(ENTRY)}
    assert len(written) == 1
    sleeper.clock.move(12)
    assert budget.lacking(ENTRY) is None


def test_a_ban_counts_at_once_here_and_with_the_next_look_there() -> None:
    store, sleeper = MemoryStore(), Sleeper()
    here, there, later = (spender(store, sleeper) for _ in range(3))
    here.take(READ)
    there.take(READ)
    here.ban(TooMany(reset_at=at(20)))
    for priority in Priority:
        assert "wants no request before 12:00:20" in (here.lacking(priority) or "")
        assert "wants no request before 12:00:20" in (later.lacking(priority) or "")
    assert there.lacking(EXIT) is None, "the batch in hand"
    there.seen(row(store))
    assert there.lacking(EXIT) is not None
    sleeper.clock.move(20)
    here.take(READ)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (TooMany(retry_after_s=7), 7),
        (TooMany(reset_at=at(9)), 9),
        (TooMany(), 10),
        (TooMany(reset_at=at(-5)), 1),
        (TooMany(retry_after_s=1e6), LONGEST_BAN_S),
    ],
    ids=["retry-after", "reset", "neither", "in the past", "absurd"],
)
def test_how_long_a_ban_lasts(said: TooMany, seconds: float) -> None:
    store, sleeper = MemoryStore(), Sleeper()
    budget = spender(store, sleeper)
    budget.ban(said)
    assert row(store).at == at(seconds)
    sleeper.clock.move(seconds - 0.1)
    assert budget.lacking(EXIT) is not None
    sleeper.clock.move(0.1)
    assert budget.lacking(EXIT) is None


class Away(MemoryStore):
    """A database that does not answer."""

    asked = 0

    def write(self, work: Any) -> Any:
        self.asked += 1
        raise StoreUnavailable("away")


def test_without_the_database_each_process_has_its_own_part() -> None:
    store, sleeper = Away(), Sleeper()
    budget = spender(store, sleeper)
    taken = 0
    while budget.lacking(EXIT) is None:
        budget.take(EXIT)
        taken += 1
    assert (taken, store.asked) == (30, 1), "it is not asked again at once"
    budget.ban(TooMany(retry_after_s=3))
    assert "wants no request" in (budget.lacking(EXIT) or "")
    sleeper.clock.move(BLIND_S + 1)
    assert budget.lacking(EXIT) is None
    assert store.asked == 2


def test_processes_share_one_bucket(mariadb_url: str) -> None:
    """Eight at once, each as fast as it can: together never more than the bucket holds."""
    stores = [SqlStore(mariadb_url) for _ in range(4)]
    clock, taken, lock = ManualClock(T0), [0], threading.Lock()

    def process(store: Store) -> None:
        budget = RateBudget(Shared(store, clock), clock, 120, lambda seconds: None)
        while budget.lacking(READ) is None:
            budget.take(READ)
            with lock:
                taken[0] += 1

    threads = [threading.Thread(target=process, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert taken[0] == 40, "of sixty at once reads leave twenty"
    assert row(stores[0]).tokens == 20
    for store in stores:
        store.close()
