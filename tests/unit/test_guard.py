"""The guard: what is asked once and what again, who may ask at all, and that nobody waits for long."""

import time as wall
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from alpaca_servers import KEY, SECRET, reply
from alpaca_servers import fault_server as faulty
from build import T0, at, intent, seen

from dca.adapters.clock import ManualClock, SystemClock
from dca.adapters.memory import MemoryStore
from dca.adapters.venues.alpaca import AlpacaBroker
from dca.domain.account import BreakerState, Budget
from dca.domain.errors import (
    InDoubt,
    RateLimited,
    Rejected,
    TooMany,
    Unauthorized,
    Unavailable,
    VenueError,
)
from dca.domain.order import Side
from dca.paper.config import PaperConfig, Switches
from dca.paper.serve import Running, running
from dca.ports import Broker, Clock, Store
from dca.service.breaker import Circuits
from dca.service.budget import NAME, RateBudget
from dca.service.guard import FRESH_S, PATIENCE_S, GuardedBroker
from dca.service.shared import Shared

BUY, SELL = intent("base"), intent("take_profit")


def guarded(
    inner: Broker, store: Store | None, clock: Clock, rest: Callable[[float], object], per_minute: int = 180
) -> GuardedBroker:
    shared = Shared(store, clock)
    return GuardedBroker(
        inner,
        shared,
        clock,
        RateBudget(shared, clock, per_minute, rest),
        Circuits(shared, clock, 30),
        rest=rest,
        chance=lambda: 0.5,
    )


class Scripted:
    """A venue that gives the answers it was told to, and then `last` for ever; each takes `takes_s`."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.answers: list[Any] = []
        self.last: Any = None
        self.takes_s = 0.0
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def ask(*given: object) -> Any:
            self.asked.append(name)
            self.clock.move(self.takes_s)
            answer = self.answers.pop(0) if self.answers else self.last
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask


class Bench:
    def __init__(self) -> None:
        self.clock, self.store = ManualClock(T0), MemoryStore()
        self.venue: Any = Scripted(self.clock)
        self.waits: list[float] = []
        self.guard = self.process()

    def process(self) -> GuardedBroker:
        return guarded(self.venue, self.store, self.clock, self.rest)

    def rest(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.move(seconds)

    def tokens(self, left: int) -> None:
        def set_them(tx: Any) -> None:
            before = tx.budget(NAME)
            version = 0 if before is None else before.version
            tx.put_budget(Budget(name=NAME, tokens=left, at=self.clock.now(), version=version))

        self.store.write(set_them)

    def open(self, *, reading: bool = True) -> None:
        """The circuit of reads, or of orders, is open."""
        self.venue.last = Unavailable("HTTP 503") if reading else InDoubt("HTTP 503")
        for _ in range(5):
            with pytest.raises(VenueError):
                self.guard.find("k") if reading else self.guard.submit(SELL)
            if self.guard.states()["trading" if reading else "orders"] == "open":
                break
        self.venue.last, self.venue.asked = None, []


@pytest.fixture
def bench() -> Bench:
    return Bench()


def limited(error: VenueError, **said: Any) -> VenueError:
    error.too_many = TooMany(**said)
    return error


# Retries


def test_a_read_is_repeated_after_growing_pauses(bench: Bench) -> None:
    bench.venue.answers = [Unavailable("reset"), Unavailable("HTTP 503", status=503), []]
    assert bench.guard.open_orders() == []
    assert bench.venue.asked == ["open_orders"] * 3
    assert bench.waits == [0.25, 0.75]


def test_a_read_that_keeps_failing_says_why(bench: Bench) -> None:
    bench.venue.last = Unavailable("HTTP 503", status=503)
    with pytest.raises(Unavailable, match="HTTP 503"):
        bench.guard.positions()
    assert len(bench.venue.asked) == 3


def test_no_try_begins_when_patience_is_over(bench: Bench) -> None:
    bench.venue.last, bench.venue.takes_s = Unavailable("timeout"), PATIENCE_S
    with pytest.raises(Unavailable, match="timeout"):
        bench.guard.account()
    assert len(bench.venue.asked) == 1


@pytest.mark.parametrize(
    "error",
    [Unauthorized("HTTP 401"), Unavailable("HTTP 404", status=404), Unavailable("HTTP 403", status=403)],
)
def test_what_the_venue_refuses_is_not_asked_again(bench: Bench, error: VenueError) -> None:
    bench.venue.last = error
    with pytest.raises(type(error)):
        bench.guard.find("k")
    assert len(bench.venue.asked) == 1


@pytest.mark.parametrize("error", [InDoubt("reset"), Rejected("HTTP 403", status=403), Unauthorized("401")])
@pytest.mark.parametrize("write", ["submit", "cancel"])
def test_what_changes_something_is_sent_once(bench: Bench, write: str, error: VenueError) -> None:
    bench.venue.last = error
    with pytest.raises(type(error)):
        bench.guard.submit(BUY) if write == "submit" else bench.guard.cancel("v-1")
    assert bench.venue.asked == [write]
    assert bench.waits == []


READS: dict[str, tuple[Any, ...]] = {
    "find": ("k",), "open_orders": (), "orders_since": (T0,), "executions": ("v",), "activities": (T0,),
    "positions": (), "holding": ("BTC/USD",), "account": (), "instruments": (), "time": (),
    "latest_quote": ("BTC/USD",), "latest_quotes": (["BTC/USD"],),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_every_read_is_repeated_and_counted(bench: Bench, name: str) -> None:
    bench.venue.answers = [Unavailable("reset"), "the answer"]
    assert getattr(bench.guard, name)(*READS[name]) == "the answer"
    assert bench.venue.asked == [name] * 2
    assert len(bench.guard.took) == 2


def test_the_guard_has_every_call_of_the_port() -> None:
    calls = {name for name in vars(Broker) if not name.startswith("_")}
    assert calls == {*READS, "submit", "cancel"}


# Too many requests


def test_after_429_nothing_is_sent_before_the_venue_allows_it(bench: Bench) -> None:
    other = bench.process()
    bench.venue.answers = [limited(RateLimited("HTTP 429"), reset_at=at(20))]
    with pytest.raises(RateLimited, match="no request before 12:00:20"):
        bench.guard.open_orders()
    for one in (bench.guard, other):
        assert "12:00:20" in (one.refusal(Side.SELL) or "")
        with pytest.raises(RateLimited):
            one.find("k")
        with pytest.raises(Rejected, match="not sent"):
            one.submit(BUY)
        with pytest.raises(InDoubt, match="not sent"):
            one.cancel("v-1")
    assert bench.venue.asked == ["open_orders"]
    bench.clock.move(21)
    other.submit(SELL)
    assert other.find("k") is None


def test_a_process_with_requests_in_hand_learns_of_a_ban_within_seconds(bench: Bench) -> None:
    other = bench.process()
    other.find("k")
    bench.venue.answers = [limited(RateLimited("HTTP 429"), retry_after_s=60)]
    with pytest.raises(RateLimited):
        bench.guard.find("k")
    bench.clock.move(FRESH_S)
    with pytest.raises(RateLimited):
        other.find("k")
    assert "12:01:00" in (other.refusal(Side.SELL) or "")


def test_a_short_wait_for_the_venue_is_waited(bench: Bench) -> None:
    bench.venue.answers = [limited(RateLimited("HTTP 429"), retry_after_s=1.5), []]
    assert bench.guard.open_orders() == []
    assert sum(bench.waits) == pytest.approx(1.5)


def test_429_to_an_order_closes_the_budget_too(bench: Bench) -> None:
    bench.venue.answers = [limited(Rejected("HTTP 429", status=429), retry_after_s=30)]
    with pytest.raises(Rejected, match="HTTP 429"):
        bench.guard.submit(BUY)
    assert "12:00:30" in (bench.guard.refusal(Side.SELL) or "")
    assert bench.guard.states()["orders"] == "closed", "that is not a failure"


def test_reads_stop_first_then_entries_and_exits_never(bench: Bench) -> None:
    bench.tokens(30)
    assert bench.guard.refusal(Side.BUY) is None
    bench.tokens(15)
    assert "used up" in (bench.guard.refusal(Side.BUY) or "")
    assert bench.guard.refusal(Side.SELL) is None
    with pytest.raises(RateLimited, match="used up"):
        bench.guard.find("k")
    for _ in range(7):
        bench.guard.submit(SELL)
        bench.guard.cancel("v-1")
    assert len(bench.venue.asked) == 14


# Circuits


def test_an_open_circuit_lets_exits_out_and_nothing_else(bench: Bench) -> None:
    bench.open()
    with pytest.raises(Unavailable, match="circuit open until"):
        bench.guard.find("k")
    assert "circuit open" in (bench.guard.refusal(Side.BUY) or "")
    assert bench.guard.refusal(Side.SELL) is None
    bench.guard.submit(SELL)
    bench.guard.cancel("v-1")
    assert bench.venue.asked == ["submit", "cancel"]


def test_refusals_open_no_circuit(bench: Bench) -> None:
    bench.venue.last = Rejected("HTTP 403", status=403)
    for _ in range(9):
        with pytest.raises(Rejected):
            bench.guard.submit(BUY)
    bench.venue.last = Unavailable("HTTP 404", status=404)
    for _ in range(9):
        with pytest.raises(Unavailable):
            bench.guard.latest_quote("BTC/USD")
    assert set(bench.guard.states().values()) == {"closed"}


def test_a_circuit_closes_after_good_reads_and_a_reconciliation(bench: Bench) -> None:
    bench.open(reading=False)
    bench.clock.move(31)
    bench.guard.open_orders()
    bench.guard.find("k")
    assert bench.guard.refusal(Side.BUY) is not None
    bench.guard.reconciled()
    assert bench.guard.refusal(Side.BUY) is None


def test_other_processes_learn_of_it_within_seconds(bench: Bench) -> None:
    other = bench.process()
    other.find("k")
    bench.open()
    other.find("k")
    bench.clock.move(FRESH_S)
    with pytest.raises(Unavailable, match="circuit open"):
        other.find("k")
    assert bench.process().refusal(Side.BUY) is not None


def test_prices_are_asked_for_where_nobody_else_would_find_out(bench: Bench) -> None:
    bench.venue.last = Unavailable("HTTP 503")
    for _ in range(2):
        with pytest.raises(Unavailable):
            bench.guard.latest_quote("BTC/USD")
    bench.venue.last, bench.venue.asked = {}, []
    bench.guard.tend(["BTC/USD", "ETH/USD"])
    assert bench.venue.asked == []
    bench.clock.move(31)
    for _ in range(5):
        bench.guard.tend(["BTC/USD", "ETH/USD"])
    assert bench.venue.asked == ["latest_quotes"] * 2, "as often as it takes to be sure, and no more"
    bench.guard.reconciled()
    assert bench.guard.states()["market_data"] == "closed"


def test_wrong_keys_are_shown_twice_a_minute_at_most(bench: Bench) -> None:
    bench.venue.last = Unauthorized("HTTP 401", status=401)
    for _ in range(100):
        with pytest.raises(Unauthorized, match="401"):
            bench.guard.account()
        bench.clock.move(1)
    assert len(bench.venue.asked) == 4
    assert "refused the keys" in (bench.guard.refusal(Side.SELL) or "")
    assert bench.guard.keys_refused_since == T0
    bench.venue.last = None
    bench.clock.move(30)
    assert bench.guard.keys_refused_since == T0, "nobody knows yet"
    bench.guard.account()
    assert bench.guard.refusal(Side.BUY) is None and bench.guard.keys_refused_since is None


def test_a_guarded_order_costs_no_transaction_while_all_is_well(bench: Bench) -> None:
    bench.guard.tend([])

    def forbidden(work: Any) -> Any:
        raise AssertionError("the database was asked")

    bench.store.write = bench.store.read = forbidden  # type: ignore[method-assign]
    assert bench.guard.refusal(Side.BUY) is None
    bench.guard.submit(BUY)


# With the adapter and an exchange


@pytest.fixture(scope="module")
def exchange() -> Iterator[Running]:
    switches = Switches(partial_rate=0.0, event_before_response=0.0)
    with running(PaperConfig(key=KEY, secret=SECRET, switches=switches), SystemClock()) as found:
        found.control.quote("BTC/USD", "20100", "20110")
        yield found


class Real:
    """A guard around the adapter, at the exchange; it does not really wait."""

    def __init__(self, exchange: Running) -> None:
        self.exchange, self.waits = exchange, list[float]()
        self.clock, self.store = SystemClock(), MemoryStore()
        url = exchange.base_url
        self.adapter = AlpacaBroker(KEY, SECRET, base_url=url, data_url=url, timeout_s=5)
        self.guard = guarded(self.adapter, self.store, self.clock, self.waits.append)

    def posts(self) -> int:
        return sum(row.get("method") == "POST" for row in self.exchange.control.log())


@pytest.fixture
def real(exchange: Running) -> Iterator[Real]:
    made = Real(exchange)
    yield made
    exchange.control.lift_faults()
    made.guard.close()


def test_a_read_survives_answers_that_fail(real: Real) -> None:
    real.exchange.control.fault(method="GET", path="/v2/orders", effect=503, times=2)
    assert real.guard.open_orders() == []
    assert len(real.waits) == 2


def test_an_order_is_posted_once_whatever_comes_back(real: Real) -> None:
    before = real.posts()
    real.exchange.control.fault(method="POST", path="/v2/orders", effect=503)
    with pytest.raises(InDoubt):
        real.guard.submit(intent("base", attempt=1))
    assert real.posts() == before + 1


def test_the_exchange_says_when_it_wants_to_be_asked_again(real: Real) -> None:
    real.exchange.control.fault(method="GET", path="/v2/account", effect=429, retry_after=40, times=1)
    with pytest.raises(RateLimited):
        real.guard.account()
    budget = real.store.read(lambda tx: tx.budget(NAME))
    assert budget is not None
    assert timedelta(seconds=35) < budget.at - real.clock.now() <= timedelta(seconds=40)
    with pytest.raises(Rejected, match="not sent"):
        real.guard.submit(intent("base", attempt=2))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Retry_After": "7"}, TooMany(retry_after_s=7)),
        ({"Retry_After": "Thu, 09 Mar 2023 12:00:20 GMT"}, TooMany(reset_at=at(20))),
        ({"X_RateLimit_Reset": str(int(at(30).timestamp()))}, TooMany(reset_at=at(30))),
        ({"Retry_After": "soon"}, TooMany()),
        ({"X_RateLimit_Reset": "9" * 30}, TooMany()),
        ({}, TooMany()),
    ],
    ids=["seconds", "date", "reset", "nonsense", "absurd", "nothing"],
)
def test_what_429_says(headers: dict[str, str], said: TooMany) -> None:
    with faulty() as server:
        broker = AlpacaBroker(KEY, SECRET, base_url=server.url, data_url=server.url, timeout_s=5)
        body = {"code": 42910000, "message": "rate limit exceeded"}
        server.will(reply(429, body, **headers))
        with pytest.raises(RateLimited) as read:
            broker.account()
        with pytest.raises(Rejected) as write:
            broker.submit(BUY)
        assert read.value.too_many == write.value.too_many == said
        broker.close()


def test_five_failures_open_the_circuit_for_every_process(real: Real) -> None:
    real.exchange.control.fault(method="GET", path="/v2/", effect="reset")
    for _ in range(2):
        with pytest.raises(Unavailable):
            real.guard.positions()
    (row,) = real.store.read(lambda tx: tx.breakers())
    assert (row.state, row.failures) == (BreakerState.OPEN, 5)
    real.exchange.control.lift_faults()
    other = guarded(real.adapter, real.store, real.clock, real.waits.append)
    with pytest.raises(Unavailable, match="circuit open"):
        other.account()


def test_the_guard_takes_microseconds(bench: Bench) -> None:
    """Loose, because tests share the machine: a transaction or a lock that waits would show."""
    clock = SystemClock()

    class Instant:
        def submit(self, wish: Any) -> Any:
            return answer

    answer = seen(BUY)
    inner: Any = Instant()
    guard = guarded(inner, MemoryStore(), clock, lambda seconds: None, per_minute=2_000_000)
    best = min(_seconds(guard) for _ in range(300))
    assert best < 0.0002


def _seconds(guard: GuardedBroker) -> float:
    guard.refusal(Side.BUY)
    begun = wall.perf_counter()
    guard.submit(BUY)
    return wall.perf_counter() - begun


def test_in_a_dry_run_nothing_leaves_whoever_asks() -> None:
    bench = Bench()
    shared = Shared(bench.store, bench.clock)
    dry = GuardedBroker(
        bench.venue,
        shared,
        bench.clock,
        RateBudget(shared, bench.clock, 180, bench.rest),
        Circuits(shared, bench.clock, 30),
        rest=bench.rest,
        chance=lambda: 0.5,
        sends=False,
    )
    for write in (lambda: dry.submit(BUY), lambda: dry.cancel("v-1")):
        with pytest.raises(Rejected, match="DRY_RUN"):
            write()
    dry.time()
    assert bench.venue.asked == ["time"]
