"""What the services need from the outside, as protocols; adapters provide it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, TypeVar

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Instrument, Quote
from dca.domain.order import Execution, Intent, Order, TradeUpdate, VenueOrder
from dca.domain.position import Fill
from dca.domain.record import Decision, Event, Heartbeat, Lease, Message

T = TypeVar("T")
HALTED = "halted"
"""The flag that keeps every process from sending orders; its value is the reason."""
PAUSED = "paused"
"""The flag that keeps every process from buying; what is held is still sold by its rules."""
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
    """The venue account. `spendable` is what crypto may spend (non-marginable buying power)."""

    id: str
    cash: Decimal
    equity: Decimal
    spendable: Decimal
    blocked: bool


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

    def executions(self, venue_id: str) -> list[Execution]:
        """What the venue's history shows of an order's executions; it may lag. Raises Unavailable."""

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
    """Tells a person, by mail or messenger."""

    def send(self, title: str, text: str) -> None:
        """Every address that is configured took the message. Raises Unavailable when one did not."""


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
    counts the live orders of the whole account; `halted` and `paused` are the reasons of the flags.
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

    def situation(self, asset_id: int) -> Situation | None: ...

    def situations(self) -> list[Situation]:
        """Every asset with its unfinished cycle, by symbol."""

    def revision(self) -> dict[int, tuple[int, int, int]]:
        """By asset id: asset version, id and version of the unfinished cycle (0, 0 without one)."""

    def standing(self, asset_id: int) -> Standing | None:
        """In one statement; None when there is no such asset."""

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

    def insert_cycle(self, asset_id: int, status: CycleStatus, *, at: datetime) -> Cycle | None:
        """The new cycle; None when the asset has an unfinished one already."""

    def update_cycle(self, cycle: Cycle) -> Cycle:
        """The row as written, its version raised. Raises StaleWrite."""

    def owned(self, asset_id: int) -> Decimal:
        """What all cycles of an asset own together, the dust of finished ones included."""

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

    def add_event(self, event: Event) -> None: ...

    def events(self, *, limit: int = 100, name: str | None = None) -> list[Event]:
        """The newest events first."""

    def add_decisions(self, decisions: Sequence[Decision]) -> None: ...

    def decision_at(self, asset_id: int, at: datetime) -> Decision | None:
        """The decision that was in force at that instant: the newest one not after it."""

    def decisions(self, asset_id: int, *, limit: int = 100) -> list[Decision]:
        """The newest decisions of an asset first."""

    def prune(self, before: datetime, *, limit: int) -> int:
        """At most `limit` rows each of events, decisions and sent messages older than `before` are
        gone; how many were. Call it until that is 0: small bites hold no lock for long."""

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
        """A switch shared by every process, such as HALTED."""

    def flags(self) -> dict[str, str]:
        """Every switch that is set, with its value."""

    def set_flag(self, name: str, value: str | None, *, at: datetime) -> None: ...


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
