"""What the services need from the outside, as protocols; adapters provide it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, TypeVar

from dca.domain.account import Activity, Balance, Breaker, Budget, Funds, Stake
from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Instrument, Quote
from dca.domain.mode import Restriction
from dca.domain.order import Execution, Intent, Order, TradeUpdate, VenueOrder
from dca.domain.position import Fill
from dca.domain.record import Decision, Event, Heartbeat, Lease, Message
from dca.domain.replacement import Replacement

T = TypeVar("T")
MAINTENANCE = "maintenance"
"""The flag that keeps the watchdog from starting the streamer; its value is the reason."""


class Clock(Protocol):
    """The time, which may run faster than the wall's. Ages and timestamps follow `now`.

    Network time does not: timeouts are counted on `monotonic`, and `span` says how far `now` moves
    in so many seconds of real time.
    """

    def now(self) -> datetime:
        """The instant it is, aware, in UTC."""

    def monotonic(self) -> float:
        """Real seconds since some fixed moment; never steps back."""

    def span(self, seconds: float) -> timedelta:
        """How far `now` moves while `seconds` of real time pass."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What the venue says we hold of a symbol; `available` is not reserved by open sells."""

    qty: Decimal
    available: Decimal


@dataclass(frozen=True, slots=True)
class Account:
    """The venue account. `spendable` is what crypto may spend (non-marginable buying power); `number` is
    what people know it by."""

    id: str
    cash: Decimal
    equity: Decimal
    spendable: Decimal
    blocked: bool
    number: str = ""


class Broker(Protocol):
    """The venue's REST side. Calls block, each with a timeout; none repeats itself.

    Every call raises Unauthorized when the venue refuses the keys. Of what is read, empty is a fact:
    a list that could not be read to its end raises Unavailable.
    """

    def submit(self, intent: Intent) -> VenueOrder:
        """The venue has the order. Raises Rejected (DuplicateKey, Unauthorized) only where the
        answer proves that it does not; InDoubt for everything else."""

    def cancel(self, venue_id: str) -> None:
        """The venue accepted the request to cancel; the order is not canceled yet.

        Raises Rejected when it says the order cannot be canceled, InDoubt otherwise. Whatever
        happened, the order's next status decides.
        """

    def find(self, key: str) -> VenueOrder | None:
        """The order under `key`. None: the venue said there is none. Raises Unavailable."""

    def open_orders(self) -> list[VenueOrder]:
        """Every order that is not over, the whole list. Raises Unavailable."""

    def orders_since(self, at: datetime) -> list[VenueOrder]:
        """Every order that was submitted after `at` by the venue's clock, over or not, the oldest first,
        the whole list. Raises Unavailable."""

    def executions(self, venue_id: str) -> list[Execution]:
        """What the venue's history shows of an order's executions; it may lag. Raises Unavailable."""

    def activities(self, since: datetime) -> list[Activity]:
        """The account's history from `since` on, everybody's executions and every transfer, each once and
        in any order; the newest may not be listed yet. Raises Unavailable."""

    def positions(self) -> dict[str, Holding]:
        """What is held, by symbol in the form BTC/USD; absent means none. Raises Unavailable."""

    def holding(self, symbol: str) -> Holding:
        """What is held of one symbol; zero when the venue says there is no position.

        Raises Unavailable."""

    def account(self) -> Account:
        """Raises Unavailable, Unauthorized."""

    def instruments(self) -> dict[str, Instrument]:
        """Every crypto instrument, by symbol. Raises Unavailable."""

    def latest_quote(self, symbol: str) -> Quote:
        """Raises Unavailable."""

    def latest_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """The newest quote of each, by symbol; one that the venue has none of is left out.

        Raises Unavailable."""

    def time(self) -> datetime:
        """What the venue's clock shows. Raises Unavailable."""


class Notifier(Protocol):
    """Tells people, by mail or messenger."""

    @property
    def addresses(self) -> Sequence[str]:
        """A name for each address that is configured, which tells no secret."""

    def send(self, title: str, text: str, *, to: str | None = None) -> None:
        """The address `to` (None: every one) took the message. Raises Unavailable when one did not."""


class Link(StrEnum):
    """The state of a stream, as its consumer must know it."""

    UP = "up"
    DOWN = "down"


LinkChange = Callable[[Link, str], None]


class MarketFeed(Protocol):
    """The stream of quotes. `run` reconnects by itself and returns only when cancelled."""

    async def run(
        self,
        symbols: Sequence[str],
        on_quotes: Callable[[Iterable[Quote]], None],
        on_link: LinkChange,
    ) -> None:
        """Calls `on_quotes` with the newest quote of each symbol in each frame.

        Raises ConfigError when the venue refuses the keys or the subscription for good.
        """


class TradeFeed(Protocol):
    """The stream of trade updates. `run` reconnects by itself and returns only when cancelled."""

    async def run(self, on_update: Callable[[TradeUpdate], None], on_link: LinkChange) -> None:
        """Calls `on_update` for every update and `on_link(UP)` once listening is acknowledged.

        Nothing that happened while the link was down is ever delivered. Raises ConfigError when
        the venue refuses the keys for good.
        """


@dataclass(frozen=True, slots=True)
class Situation:
    """An asset and its unfinished cycle (None when it has none), read together."""

    asset: Asset
    cycle: Cycle | None


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """A cycle, finished or not, with all its orders (in journal order) and fills.

    The cycle's `previous_completed_at` is not read: what fills make of a cycle does not ask for it.
    """

    cycle: Cycle
    orders: list[Order]
    fills: list[Fill]


@dataclass(frozen=True, slots=True)
class Standing:
    """How an asset stands at this moment, for whoever decided on what was read before.

    `cycle_id` and `cycle_version` are those of the unfinished cycle, 0 without one; `open_orders`
    counts the live orders of the whole account; `halted` is why the mode is HALTED, `paused` why it is
    REDUCE_ONLY, None when it is not.
    """

    asset_version: int
    cycle_id: int
    cycle_version: int
    open_orders: int
    halted: str | None
    paused: str | None = None


class Tx(Protocol):
    """One transaction's view of the database. Reads raise StoreUnavailable, never guess."""

    def assets(self) -> list[Asset]:
        """Every asset, by symbol."""

    def asset_by_symbol(self, symbol: str) -> Asset | None: ...

    def insert_asset(self, symbol: str, rules: Rules, *, is_enabled: bool, at: datetime) -> Asset | None:
        """The new asset; None when the symbol is there already."""

    def update_asset(self, asset: Asset) -> Asset:
        """The row as written, its version raised. Raises StaleWrite."""

    def remove_asset(self, asset: Asset) -> bool:
        """The asset is gone, and its cycles with it. False, and nothing written, when an order belongs
        to one of them. Raises StaleWrite."""

    def situation(self, asset_id: int) -> Situation | None: ...

    def situations(self) -> list[Situation]:
        """Every asset with its unfinished cycle, by symbol."""

    def revision(self) -> dict[int, tuple[int, int, int]]:
        """By asset id: asset version, id and version of the unfinished cycle (0, 0 without one)."""

    def standing(self, asset_id: int, now: datetime) -> Standing | None:
        """In one statement; None when there is no such asset. `now`: the modes in force then."""

    def cycle(self, cycle_id: int) -> Cycle | None: ...

    def cycles(self) -> list[Cycle]:
        """Every cycle there ever was, oldest first."""

    def stray_cycles(self) -> list[Cycle]:
        """Cycles that no program of ours leaves: unfinished ones beside an asset's unfinished cycle,
        finished ones in its place, and those whose asset is not there. Oldest first."""

    def open_records(self) -> list[CycleRecord]:
        """Every asset's unfinished cycle with its orders and fills, by cycle id.

        The number of statements does not depend on how many there are."""

    def closed_records(self, since: datetime, until: datetime) -> list[CycleRecord]:
        """Every cycle that was finished at or after `since` and before `until`, by cycle id."""

    def insert_cycle(
        self, asset_id: int, status: CycleStatus, *, at: datetime, number: int | None = None
    ) -> Cycle | None:
        """The new cycle; None when the asset has an unfinished one already.

        `number` is an id that the venue's keys already tell; later cycles get higher ones."""

    def remove_cycle(self, cycle: Cycle) -> bool:
        """The cycle is gone. False, and nothing written, when an order belongs to it. Raises
        StaleWrite."""

    def update_cycle(self, cycle: Cycle) -> Cycle:
        """The row as written, its version raised.

        Raises StaleWrite, also when it is unfinished and its asset has another unfinished cycle."""

    def owned(self, asset_id: int) -> Decimal:
        """What all cycles of an asset own together, the dust of finished ones included."""

    def owned_by_asset(self) -> dict[int, Decimal]:
        """The same of every asset that owns anything, by asset id."""

    def insert_order(self, order: Order) -> bool:
        """False, and nothing written, when the key exists or the cycle has a live order."""

    def order(self, key: str) -> Order | None: ...

    def cycle_record(self, key: str) -> CycleRecord | None:
        """What the order `key` belongs to, in one statement; None when there is no such order."""

    def orders_of(self, cycle_id: int) -> list[Order]:
        """The orders of a cycle in the order they were journaled."""

    def orders(self) -> list[Order]:
        """Every order there ever was, oldest first."""

    def live_orders(self) -> list[Order]:
        """Every order that is in flight, open or partly filled."""

    def own_venue_ids(self, venue_ids: Collection[str]) -> set[str]:
        """Those of them that belong to orders of the journal."""

    def revive_order(self, order: Order) -> bool:
        """The order that was over is live again. False, and nothing written, when its cycle has another
        live order. Raises StaleWrite."""

    def update_order(self, order: Order) -> Order:
        """The row as written, its version raised. Raises StaleWrite."""

    def update_order_and_cycle(self, order: Order, cycle: Cycle) -> Order:
        """The order as written, and its cycle with it. Raises StaleWrite for either.

        The same as one update after the other, in one question where the database can.
        """

    def insert_fill(self, fill: Fill) -> bool:
        """False, and nothing written, when the id, or (order, cum_qty), is there already."""

    def fills_of(self, cycle_id: int) -> list[Fill]:
        """The fills of a cycle in the order they were written."""

    def fills(self) -> list[Fill]:
        """Every fill there ever was."""

    def fills_between(self, since: datetime, until: datetime) -> list[Fill]:
        """Fills executed at or after `since` and before `until`, in the order they were written."""

    def bought_between(self, since: datetime, until: datetime) -> Decimal:
        """USD that the buys of those fills cost, before fees."""

    def add_event(self, event: Event) -> bool:
        """False, and nothing written, when an event with its `uid` is there already."""

    def events(self, *, limit: int = 100, name: str | None = None) -> list[Event]:
        """The newest events first."""

    def add_decisions(self, decisions: Sequence[Decision]) -> None: ...

    def decision_at(self, asset_id: int, at: datetime) -> Decision | None:
        """The decision that was in force at that instant: the newest one not after it."""

    def decision_after(self, asset_id: int, at: datetime) -> Decision | None:
        """The first decision that came after that instant."""

    def decisions(self, asset_id: int, *, limit: int = 100) -> list[Decision]:
        """The newest decisions of an asset first."""

    def prune(self, before: datetime, *, limit: int) -> int:
        """At most `limit` rows each of events, decisions, sent messages and heartbeats older than
        `before` are gone; how many were. Call it until that is 0: small bites hold no lock for long."""

    def add_message(self, message: Message) -> bool:
        """False, and nothing written, when the key is there already."""

    def mark_sent(self, key: str, *, at: datetime) -> bool:
        """The message counts as sent. False when it already did, or is not there."""

    def messages(self) -> list[Message]:
        """Messages that were not sent yet, oldest first."""

    def beat(self, heartbeat: Heartbeat) -> None: ...

    def heartbeats(self) -> list[Heartbeat]: ...

    def lease(self, name: str) -> Lease | None: ...

    def put_lease(self, lease: Lease) -> Lease:
        """The lease as written: inserted when `lease.version` is 0, else updated.

        Raises StaleWrite when somebody else inserted or changed it since it was read."""

    def drop_lease(self, lease: Lease) -> None:
        """The lease is free, if it is still the one that was read."""

    def flag(self, name: str) -> str | None:
        """A switch shared by every process, such as MAINTENANCE."""

    def flags(self) -> dict[str, str]:
        """Every switch that is set, with its value."""

    def set_flag(self, name: str, value: str | None, *, at: datetime) -> None: ...

    def modes(self) -> list[Restriction]:
        """Every restriction that was not lifted, by source; those that ran out included."""

    def put_mode(self, restriction: Restriction) -> None:
        """The restriction of its source is this one."""

    def drop_mode(self, source: str) -> bool:
        """The source restricts nothing any more. False when it did not."""

    def funds(self, *, lock: bool = False) -> Funds | None:
        """What the account had when it was last read; None when it never was.

        With `lock` nobody else who asks so gets an answer before this transaction ends: two that
        count on the same dollars come one after the other.
        """

    def put_funds(self, funds: Funds) -> Funds:
        """The row as written: inserted when its version is 0. Raises StaleWrite."""

    def stakes(self) -> list[Stake]:
        """Of every unfinished cycle that holds coins or has a live buy, by cycle id."""

    def breakers(self) -> list[Breaker]: ...

    def put_breaker(self, breaker: Breaker) -> Breaker:
        """The row as written: inserted when its version is 0. Raises StaleWrite."""

    def budget(self, name: str) -> Budget | None: ...

    def put_budget(self, budget: Budget) -> Budget:
        """The row as written: inserted when its version is 0. Raises StaleWrite."""

    def replacements(self) -> list[Replacement]:
        """Those that are not over, oldest first."""

    def replacement(self, old_key: str) -> Replacement | None: ...

    def insert_replacement(self, replacement: Replacement) -> bool:
        """False, and nothing written, when the order is being replaced already, or another one of its
        cycle is."""

    def update_replacement(self, replacement: Replacement) -> Replacement:
        """The row as written, its version raised. Raises StaleWrite."""

    def add_balance(self, balance: Balance) -> None: ...

    def balances(self, since: datetime, until: datetime) -> list[Balance]:
        """Those at or after `since` and before `until`, oldest first."""

    def last_balance(self, until: datetime) -> Balance | None:
        """The newest one before `until`."""

    def first_balance(self, since: datetime) -> Balance | None:
        """The oldest one at or after `since`."""

    def add_activity(self, activity: Activity) -> bool:
        """False, and nothing written, when its id is there already."""

    def activities(self, since: datetime, until: datetime) -> list[Activity]:
        """Those at or after `since` and before `until`, oldest first."""


class Store(Protocol):
    """The database."""

    @property
    def install(self) -> str:
        """Eight hex digits that name this database for ever; part of every key."""

    def read(self, work: Callable[[Tx], T]) -> T:
        """What `work` returns, on one consistent view. Raises StoreUnavailable."""

    def write(self, work: Callable[[Tx], T]) -> T:
        """What `work` returns, after everything it wrote was committed, together or not at all.

        After a deadlock, a lock timeout or a lost connection the whole of `work` is done again in
        a new transaction, so it must be repeatable: natural keys make the second time a no-op.
        Raises StoreUnavailable, and whatever `work` raises (then nothing is written).
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine that no other can be taken for; `age_s` is in real seconds."""

    pid: int
    identity: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Running:
    """Whether a streamer lives on this machine. `process` is None also when it lives, but is not
    what its pid file says."""

    lives: bool
    process: Process | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of the streamer. `at` is a reading of `Clock.monotonic`.

    `lived_s` is None while it may still live. `code` is its exit code, negative for a signal; None
    when nobody saw how it ended.
    """

    identity: str
    at: float
    lived_s: float | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What the watchdog of a machine remembers from pass to pass, also without a database.

    `told` says when, on `Clock.monotonic`, a person heard of something.
    """

    launches: tuple[Launch, ...] = ()
    told: Mapping[str, float] = field(default_factory=dict)


class Supervisor(Protocol):
    """The streamer as a process of this machine. Raises ConfigError when it may not be touched."""

    @property
    def machine(self) -> str:
        """The name of this machine."""

    def alone(self, *, patience_s: float = 0.0) -> AbstractContextManager[bool]:
        """While inside, nobody else on this machine starts or stops the streamer; False when
        somebody else is at it, after waiting `patience_s` for him."""

    def running(self) -> Running: ...

    def start(self) -> Launch:
        """A streamer was started, apart from this process. It holds the pid file, or ended before
        that, which `lived_s` shows, or is slow."""

    def stop(self, process: Process) -> str:
        """The process is gone; how it went. Whoever else has its process id by now is left alone."""

    def memory(self) -> Memory:
        """Empty after the machine was started anew; the newest launch shows how it ended."""

    def remember(self, memory: Memory) -> None: ...

    def maintenance(self) -> str | None:
        """Why this machine's streamer is to be left as it is, noted where no database is needed."""

    def set_maintenance(self, reason: str | None) -> None: ...

    def said(self) -> str:
        """The last lines that a streamer printed, without secrets."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the log `log`: still written to while `ended_at` is None, else put away then."""

    name: str
    log: str
    size: int
    ended_at: datetime | None = None
    compressed: bool = False


class LogFiles(Protocol):
    """The logs of this machine. Every change raises Unmended when the disk does not do it."""

    def found(self) -> list[LogFile]:
        """Each log's oldest first, the one in use last. Raises Unavailable."""

    def rotate(self, name: str, at: datetime) -> bool:
        """The log goes on in a new file; False when there was nothing to put away."""

    def compress(self, name: str) -> bool:
        """The file that was put away is compressed. False while a process may still write to it."""

    def delete(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of the whole database as it was at `at`."""

    name: str
    at: datetime
    size: int


class Backups(Protocol):
    """Copies of the database in a folder of this machine."""

    def found(self) -> list[Backup]:
        """Those of this database, the newest first. Raises Unavailable."""

    def is_whole(self, name: str) -> bool:
        """Whether the backup can still be read to its end."""

    def make(self, at: datetime) -> Backup:
        """A new one, read again after it was written.

        Raises Unmended when it cannot be done now, StoreUnavailable, ConfigError when a person must
        do something first.
        """

    def delete(self, name: str) -> None: ...
