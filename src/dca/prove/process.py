"""A process of a life: it reaches the database and the venue only through doors that know whether it
still lives."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from dca import boundaries
from dca.domain.account import Activity
from dca.domain.errors import (
    InDoubt,
    RateLimited,
    Rejected,
    StoreUnavailable,
    TooMany,
    Unavailable,
    VenueError,
)
from dca.domain.market import Instrument, Quote
from dca.domain.order import Execution, Intent, TradeUpdate, VenueOrder
from dca.ports import Account, Holding, Link, LinkChange, Store, Tx
from dca.prove.exchange import Executed
from dca.prove.fates import LONGEST_S
from dca.prove.loop import pause

if TYPE_CHECKING:
    from dca.prove.world import World

T = TypeVar("T")
FLASHES = (Decimal("0.1"), Decimal("0.9"), Decimal("1.1"), Decimal(10))
TIMEOUT_S = 10.0
MANY_TASKS = 40
acting_in: ContextVar["Process | None"] = ContextVar("acting_in", default=None)


class Death(BaseException):
    """The process was killed here. No `except Exception` sees it, and what follows has no effect."""


@dataclass(eq=False)
class Process:
    """`name` is its program, `identity` names it in leases and heartbeats."""

    name: str
    identity: str
    dead: bool = False
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)
    asked: dict[str, float] = field(default_factory=dict)
    """When it last asked the venue for a quote, and got one."""

    def owns(self, task: "asyncio.Task[Any]") -> None:
        """The task ends with the process."""
        if len(self.tasks) > MANY_TASKS:
            self.tasks = [one for one in self.tasks if not one.done()]
        self.tasks.append(task)

    def check(self) -> None:
        if self.dead:
            raise Death(self.identity)

    def kill(self) -> None:
        """Whatever it does from now on has no effect."""
        self.dead = True
        for task in self.tasks:
            task.cancel()


def adopted_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> "asyncio.Task[Any]":
    """A task factory: each task belongs to the process that made it."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **more)
    process = acting_in.get()
    if process is not None:
        process.owns(task)
    return task


class StoreDoor:
    """dca.ports.Store for one process. Nothing pauses while a transaction is open."""

    def __init__(self, world: "World", process: Process, store: Store) -> None:
        self._world, self._process, self._store = world, process, store

    @property
    def install(self) -> str:
        return self._store.install

    def read(self, work: Callable[[Tx], T]) -> T:
        self._begin()
        return self._store.read(work)

    def write(self, work: Callable[[Tx], T]) -> T:
        self._begin()
        with self._world.acts(self._process):
            result = self._store.write(work)
        if self._world.fates.happens("store_after"):
            raise StoreUnavailable("the connection was lost while committing")
        self._rest()
        return result

    def _begin(self) -> None:
        self._process.check()
        self._rest()
        if self._world.fates.happens("store_before"):
            raise StoreUnavailable("the database does not answer")

    def _rest(self) -> None:
        if self._world.fates.happens("store_slow"):
            pause(self._world.fates.between(0.001, 0.3))
            self._process.check()

    def close(self) -> None: ...


class BrokerDoor:
    """dca.ports.Broker for one process: a way to the venue on which everything may get lost.

    A request that is on its way arrives, whether or not its sender still lives.
    """

    def __init__(self, world: "World", process: Process) -> None:
        self._world, self._process = world, process
        self._venue = world.exchange

    def submit(self, intent: Intent) -> VenueOrder:
        lag = self._lag()
        self._world.sent(self._process, intent)
        seen = self._write("submit", lambda: self._venue.accept(intent, lag))
        order = self._venue.by_key[intent.key]
        if order.told_fill:
            self._world.fates.happened["fill_before_answer"] += 1
        return seen

    def cancel(self, venue_id: str) -> None:
        self._write("cancel", lambda: self._venue.withdraw(venue_id))

    def find(self, key: str) -> VenueOrder | None:
        seen = self._read("find", lambda: self._venue.find(key))
        if seen is None and key in self._venue.by_key:
            self._world.fates.happened["looked_too_early"] += 1
        return seen

    def open_orders(self) -> list[VenueOrder]:
        return self._read("open_orders", self._venue.open)

    def orders_since(self, at: datetime) -> list[VenueOrder]:
        return self._read("orders_since", lambda: self._venue.since(at))

    def activities(self, since: datetime) -> list[Activity]:
        return self._read("activities", lambda: self._venue.activities(since))

    def executions(self, venue_id: str) -> list[Execution]:
        return self._read("executions", lambda: self._venue.history(venue_id))

    def holding(self, symbol: str) -> Holding:
        return self._read("holding", lambda: self._holding(symbol))

    def _holding(self, symbol: str) -> Holding:
        return Holding(self._venue.coins[symbol], self._venue.available(symbol))

    def positions(self) -> dict[str, Holding]:
        def held() -> dict[str, Holding]:
            return {symbol: self._holding(symbol) for symbol, qty in self._venue.coins.items() if qty > 0}

        return self._read("positions", held)

    def account(self) -> Account:
        def shown() -> Account:
            venue = self._venue
            worth = sum((qty * venue.quotes[name].bid for name, qty in venue.coins.items()), venue.cash)
            blocked = self._world.loop.time() < venue.blocked_until
            return Account("sim", venue.cash, worth, venue.spendable(), blocked=blocked)

        return self._read("account", shown)

    def instruments(self) -> dict[str, Instrument]:
        return self._read("instruments", lambda: dict(self._venue.instruments))

    def latest_quote(self, symbol: str) -> Quote:
        return self._quotes("latest_quote", [symbol])[symbol]

    def latest_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return self._quotes("latest_quotes", symbols)

    def _quotes(self, name: str, symbols: Sequence[str]) -> dict[str, Quote]:
        found = self._read(name, lambda: {one: self._venue.quotes[one] for one in symbols})
        self._process.asked.update(dict.fromkeys(symbols, self._world.loop.time()))
        return found

    def time(self) -> datetime:
        return self._read("time", self._world.clock.true)

    # The way there and back

    def _lag(self) -> float:
        fates = self._world.fates
        return fates.between(0.2, 30) if fates.happens("read_lag") else 0.0

    def _cross(self, before: bool, name: str) -> None:
        self._process.check()
        with self._world.acts(self._process):
            (boundaries.before if before else boundaries.after)(name)

    def _write(self, name: str, effect: Callable[[], T]) -> T:
        self._cross(True, name)
        try:
            result = self._written(name, effect)
        except VenueError as error:
            self._answered(name, type(error).__name__)
            raise
        self._answered(name, "done")
        return result

    def _written(self, name: str, effect: Callable[[], T]) -> T:
        fates = self._world.fates
        if self._world.is_down() or fates.happens("lost_request"):
            pause(fates.random.choice((0.05, TIMEOUT_S)))
            raise InDoubt("the request was lost")
        if fates.happens("error_not_taken"):
            pause(0.1)
            raise InDoubt("HTTP 503, not taken")
        if fates.happens("too_many_requests"):
            pause(0.05)
            refused = Rejected("HTTP 429 42910000: rate limit exceeded", status=429, code=42910000)
            refused.too_many = self._too_many()
            raise refused
        if fates.happens("late_request"):
            return self._late(name, effect, fates.between(TIMEOUT_S + 5, LONGEST_S))
        if name == "submit" and fates.happens("very_late_request"):
            # Past the grace: only the key can save us, because the order is sent again under it.
            return self._late(name, effect, fates.between(LONGEST_S + 20, LONGEST_S + 60))
        pause(self._latency())
        result = effect()
        if fates.happens("lost_answer"):
            pause(TIMEOUT_S)
            raise InDoubt("the answer was lost")
        if fates.happens("error_taken"):
            pause(0.1)
            raise InDoubt("HTTP 504, but taken")
        pause(self._latency())
        return result

    def _late(self, name: str, effect: Callable[[], T], delay: float) -> T:
        """The client gives up, and the request arrives all the same."""
        self._world.loop.call_later(delay, self._arrives, name, effect, delay)
        pause(TIMEOUT_S)
        raise InDoubt("no answer yet")

    def _arrives(self, name: str, effect: Callable[[], Any], after_s: float) -> None:
        if after_s > 30:
            self._world.fates.happened["arrived_after_30_s"] += 1
        try:
            with self._world.oracle.arriving(after_s):
                found = effect()
        except Rejected as error:
            self._world.tell(self._process.identity, f"late {name}", str(error))
            return
        if isinstance(found, VenueOrder):
            # Whatever else reads lag behind: a late order is seen before the grace is over.
            placed = self._venue.by_key[found.key]
            placed.visible_at = min(placed.visible_at, placed.at + max(0.0, LONGEST_S + 5 - after_s))

    def _read(self, name: str, look: Callable[[], T]) -> T:
        self._cross(True, name)
        fates = self._world.fates
        if self._world.is_down() or fates.happens("read_failed"):
            pause(fates.random.choice((0.05, 0.05, TIMEOUT_S)))
            self._answered(name, "Unavailable")
            raise Unavailable(f"{name}: HTTP 500", status=500)
        if fates.happens("too_many_requests"):
            pause(0.05)
            self._answered(name, "RateLimited")
            limited = RateLimited(f"{name}: HTTP 429")
            limited.too_many = self._too_many()
            raise limited
        pause(self._latency())
        result = look()
        pause(self._latency())
        self._answered(name, "read")
        return result

    def _too_many(self) -> TooMany:
        """What the venue says of how long that lasts: some seconds, an instant, or nothing."""
        seconds = self._world.fates.random.choice((1, 5, 20))
        instant = self._world.clock.true() + self._world.clock.span(seconds)
        said = (TooMany(), TooMany(retry_after_s=seconds), TooMany(reset_at=instant))
        return self._world.fates.random.choice(said)

    def _answered(self, name: str, how: str) -> None:
        self._cross(False, name)
        self._world.note(self._process, f"{name} {how}")

    def _latency(self) -> float:
        fates = self._world.fates
        if fates.happens("slow_request"):
            return fates.between(0.5, 4.0)
        return fates.random.choice((0.01, 0.02, 0.05, 0.15))


class TradesDoor:
    """dca.ports.TradeFeed for one process: updates get lost, doubled, late and swapped."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world, self._process = world, process
        self._down = asyncio.Event()
        self._session = 0
        self.muted_until = -1.0
        self.up = False
        self.down_since = world.loop.time()

    async def run(self, on_update: Callable[[TradeUpdate], None], on_link: LinkChange) -> None:
        self._world.trades.append(self)
        self._on_update = on_update
        try:
            while True:
                await asyncio.sleep(0.2)
                self._down.clear()
                self._session += 1
                self.up = True
                on_link(Link.UP, "listening")
                await self._down.wait()
                self.up, self.down_since = False, self._world.loop.time()
                on_link(Link.DOWN, "dropped")
                away = self._world.fates.random.choice(((1, 20), (20, 60), (60, 300)))
                await asyncio.sleep(self._world.fates.between(*away))
        finally:
            self.up = False
            self._world.trades.remove(self)

    def belongs_to(self, process: Process) -> bool:
        return self._process is process

    def drop(self) -> None:
        self._down.set()

    def deliver(self, update: TradeUpdate, execution: Executed | None) -> None:
        """The venue sends an update on this connection; whether and when it arrives is fate's."""
        fates, now = self._world.fates, self._world.loop.time()
        if not self.up or now < self.muted_until or fates.happens("update_lost"):
            return
        delay = 0.03
        if fates.happens("update_late"):
            delay = fates.random.choice((2.0, 12.0, 60.0, 400.0))
        elif fates.happens("update_reordered"):
            delay = fates.between(0.031, 1.5)
        for copy in range(2 if fates.happens("update_doubled") else 1):
            self._world.loop.call_later(delay + 0.01 * copy, self._told, self._session, update, execution)

    def _told(self, session: int, update: TradeUpdate, execution: Executed | None) -> None:
        if session != self._session or not self.up or self._process.dead:
            return
        if execution is not None:
            execution.order.told_fill = True
            self._world.delivered(self._process, execution)
        self._on_update(update)


class MarketDoor:
    """dca.ports.MarketFeed for one process."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world, self._process = world, process
        self._down = asyncio.Event()
        self.muted_until = -1.0
        self.up = False
        self.newest: dict[str, float] = {}

    async def run(
        self,
        symbols: Sequence[str],
        on_quotes: Callable[[Iterable[Quote]], None],
        on_link: LinkChange,
    ) -> None:
        self._world.markets.append(self)
        self._on_quotes, self._symbols = on_quotes, symbols
        try:
            while True:
                await asyncio.sleep(0.2)
                self._down.clear()
                self.up = True
                on_link(Link.UP, "subscribed")
                await self._down.wait()
                self.up = False
                on_link(Link.DOWN, "dropped")
                await asyncio.sleep(self._world.fates.between(1, 60))
        finally:
            self.up = False
            self._world.markets.remove(self)

    def belongs_to(self, process: Process) -> bool:
        return self._process is process

    def drop(self) -> None:
        self._down.set()

    def show(self, quote: Quote) -> None:
        """The stream shows a quote, or a lie; what no decoder lets through never arrives."""
        fates, now = self._world.fates, self._world.loop.time()
        if not self.up or now < self.muted_until or quote.symbol not in self._symbols:
            return
        if fates.happens("quote_unusable"):
            return
        if fates.happens("quote_flash"):
            factor = fates.random.choice(FLASHES)
            quote = quote._replace(bid=quote.bid * factor, ask=quote.ask * factor)
        elif fates.happens("quote_stale"):
            quote = self._world.old_quote(quote)
        at = (quote.at - self._world.start).total_seconds()
        self.newest[quote.symbol] = max(self.newest.get(quote.symbol, at), at)
        if not self._process.dead:
            self._on_quotes([quote])
