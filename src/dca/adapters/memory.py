"""The store in memory: the same rules as the database's, for backtests and tests of services."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from threading import RLock
from typing import Any, TypeVar

from sqlalchemy import Column

from dca import boundaries
from dca.adapters.db import rows
from dca.adapters.db.types import Exact, Utc, exact_text, json_text, utc
from dca.domain.account import Activity, Balance, Breaker, Budget, Funds, Stake
from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import StaleWrite, StoreError
from dca.domain.mode import Mode, Restriction, in_force
from dca.domain.money import ZERO
from dca.domain.order import Order, OrderStatus, Side
from dca.domain.position import Fill, fold, gross
from dca.domain.record import Decision, Event, Heartbeat, Lease, Message
from dca.domain.replacement import Replacement
from dca.ports import CycleRecord, Situation, Standing, Tx

T = TypeVar("T")
V = TypeVar("V", Funds, Breaker, Budget)
_ABSENT = object()


def _checks(columns: list[Column[Any]]) -> list[tuple[str, Callable[[object], object]]]:
    """What the columns demand of a value before they take it, by name."""
    kinds: list[tuple[type, Callable[[object], object]]] = [(Exact, exact_text), (Utc, utc)]
    return [
        (column.name, check) for column in columns for kind, check in kinds if isinstance(column.type, kind)
    ]


_RULES = _checks([column for column in rows.ASSET if column.name in Rules.__dataclass_fields__])
_ASSET = _checks([column for column in rows.ASSET if column.name in Asset.__dataclass_fields__])
_CYCLE = _checks(rows.CYCLE)
_INTENT = _checks([column for column in rows.ORDER if column.name in ("qty", "limit")])
_ORDER = _checks([column for column in rows.ORDER if column.name in Order.__dataclass_fields__])
_FILL = _checks(rows.FILL)
_FUNDS = _checks(rows.FUNDS)
_BALANCE = _checks(rows.BALANCE)
_ACTIVITY = _checks(rows.ACTIVITY)


def _check(row: object, checks: list[tuple[str, Callable[[object], object]]]) -> None:
    """Raises ValueError where the database would."""
    for name, check in checks:
        value = getattr(row, name)
        if value is not None:
            check(value)


class _Tables:
    """The rows, and for each way of looking them up an index. Rows are never changed, only replaced."""

    def __init__(self) -> None:
        self.assets: dict[int, Asset] = {}
        self.asset_ids: dict[str, int] = {}
        self.cycles: dict[int, Cycle] = {}
        self.cycle_ids: dict[int, tuple[int, ...]] = {}
        self.open_cycles: dict[int, int] = {}
        self.owned: dict[int, Decimal] = {}
        self.orders: dict[str, Order] = {}
        self.order_keys: dict[int, tuple[str, ...]] = {}
        self.order_numbers: dict[str, int] = {}
        self.live: dict[str, int] = {}
        self.fills: dict[str, Fill] = {}
        self.executions: dict[tuple[str, Decimal], str] = {}
        self.fills_of: dict[int, tuple[Fill, ...]] = {}
        self.events: dict[int, Event] = {}
        self.decisions: dict[int, Decision] = {}
        self.messages: dict[str, Message] = {}
        self.sent: dict[str, datetime] = {}
        self.heartbeats: dict[str, Heartbeat] = {}
        self.leases: dict[str, Lease] = {}
        self.flags: dict[str, str | None] = {}
        self.uids: dict[str, int] = {}
        self.modes: dict[str, Restriction] = {}
        self.funds: dict[str, Funds] = {}
        self.breakers: dict[str, Breaker] = {}
        self.budgets: dict[str, Budget] = {}
        self.replacements: dict[str, Replacement] = {}
        self.balances: dict[int, Balance] = {}
        self.activities: dict[str, Activity] = {}
        self.last: dict[str, int] = {}
        """The highest number ever given: none is given again."""


class MemoryStore:
    """dca.ports.Store without a database. Threads may share it.

    A unit that fails is undone from a log of what it replaced, so a unit costs what it changes.
    """

    def __init__(self, install: str = "00000000") -> None:
        self._install = install
        self._tables = _Tables()
        self._lock = RLock()
        self._writing = False

    @property
    def install(self) -> str:
        return self._install

    def read(self, work: Callable[[Tx], T]) -> T:
        with self._lock:
            return work(MemoryTx(self._tables, None))

    def write(self, work: Callable[[Tx], T]) -> T:
        with self._lock:
            if self._writing:
                raise StoreError("a unit of work inside another")
            self._writing = True
            log: _Log = []
            try:
                result = work(MemoryTx(self._tables, log))
                boundaries.before(work)
            except BaseException:
                _undo(log)
                raise
            finally:
                self._writing = False
            boundaries.after(work)
            return result

    def close(self) -> None:
        """Nothing to let go of."""


_Log = list[tuple[dict[Any, Any], Any, Any]]


def _undo(log: _Log) -> None:
    """Every table is as it was before the first entry of `log`."""
    for table, key, before in reversed(log):
        if before is _ABSENT:
            del table[key]
        else:
            table[key] = before


class MemoryTx:
    """dca.ports.Tx on the tables of a MemoryStore."""

    __slots__ = ("_log", "_t")

    def __init__(self, tables: _Tables, log: _Log | None) -> None:
        self._t = tables
        self._log = log

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if self._log is None:
            raise StoreError("a read must not write")
        self._log.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    def _unset(self, table: dict[Any, Any], key: Any) -> None:
        if key in table:
            self._set(table, key, None)
            del table[key]

    def assets(self) -> list[Asset]:
        return sorted(self._t.assets.values(), key=_symbol)

    def asset_by_symbol(self, symbol: str) -> Asset | None:
        found = self._t.asset_ids.get(symbol)
        return None if found is None else self._t.assets[found]

    def insert_asset(self, symbol: str, rules: Rules, *, is_enabled: bool, at: datetime) -> Asset | None:
        asset = Asset(
            id=self._t.last.get("asset", 0) + 1,
            asset_symbol=symbol,
            is_enabled=is_enabled,
            rules=rules,
            created_at=at,
            updated_at=at,
        )
        _check(rules, _RULES)
        _check(asset, _ASSET)
        if symbol in self._t.asset_ids:
            return None
        self._set(self._t.last, "asset", asset.id)
        self._set(self._t.assets, asset.id, asset)
        self._set(self._t.asset_ids, symbol, asset.id)
        return asset

    def update_asset(self, asset: Asset) -> Asset:
        _check(asset.rules, _RULES)
        _check(asset, _ASSET)
        written: Asset = self._replaced(self._t.assets, asset.id, asset)
        return written

    def remove_asset(self, asset: Asset) -> bool:
        held = self._t.cycle_ids.get(asset.id, ())
        if any(self._t.order_keys.get(cycle_id) for cycle_id in held):
            return False
        stored = self._t.assets.get(asset.id)
        if stored is None or stored.version != asset.version:
            raise StaleWrite(f"{asset.asset_symbol} is not at version {asset.version} any more")
        for cycle_id in held:
            self._unset(self._t.cycles, cycle_id)
        for table, key in (
            (self._t.cycle_ids, asset.id),
            (self._t.open_cycles, asset.id),
            (self._t.asset_ids, asset.asset_symbol),
            (self._t.assets, asset.id),
        ):
            self._unset(table, key)
        return True

    def _replaced(self, table: dict[Any, Any], key: int | str, row: Any) -> Any:
        """The row as written, its version raised. Raises StaleWrite."""
        before = table.get(key)
        if before is None or before.version != row.version:
            raise StaleWrite(f"{key} is not at version {row.version} any more")
        written = replace(row, version=row.version + 1)
        self._set(table, key, written)
        return written

    def situation(self, asset_id: int) -> Situation | None:
        asset = self._t.assets.get(asset_id)
        return None if asset is None else Situation(asset, self._open_cycle(asset_id))

    def _open_cycle(self, asset_id: int) -> Cycle | None:
        found = self._t.open_cycles.get(asset_id)
        return None if found is None else self._t.cycles[found]

    def situations(self) -> list[Situation]:
        return [Situation(asset, self._open_cycle(asset.id)) for asset in self.assets()]

    def revision(self) -> dict[int, tuple[int, int, int]]:
        found = {}
        for asset in self._t.assets.values():
            cycle = self._open_cycle(asset.id)
            found[asset.id] = (asset.version, cycle.id, cycle.version) if cycle else (asset.version, 0, 0)
        return found

    def standing(self, asset_id: int, now: datetime) -> Standing | None:
        utc(now)
        situation = self.situation(asset_id)
        if situation is None:
            return None
        cycle = situation.cycle
        return Standing(
            situation.asset.version,
            cycle.id if cycle else 0,
            cycle.version if cycle else 0,
            len(self.live_orders()),
            self._because(Mode.HALTED, now),
            self._because(Mode.REDUCE_ONLY, now),
        )

    def _because(self, mode: Mode, now: datetime) -> str | None:
        return next((one.reason for one in in_force(self.modes(), now) if one.mode is mode), None)

    def cycle(self, cycle_id: int) -> Cycle | None:
        return self._t.cycles.get(cycle_id)

    def cycles(self) -> list[Cycle]:
        return [self._t.cycles[number] for number in sorted(self._t.cycles)]

    def stray_cycles(self) -> list[Cycle]:
        """None: this store lets nobody past its own rules."""
        return []

    def open_records(self) -> list[CycleRecord]:
        return [self._record(cycle_id) for cycle_id in sorted(self._t.open_cycles.values())]

    def closed_records(self, since: datetime, until: datetime) -> list[CycleRecord]:
        utc(since), utc(until)
        return [
            self._record(cycle.id)
            for cycle in self._t.cycles.values()
            if cycle.finished and cycle.completed_at is not None and since <= cycle.completed_at < until
        ]

    def _record(self, cycle_id: int) -> CycleRecord:
        return CycleRecord(self._t.cycles[cycle_id], self.orders_of(cycle_id), self.fills_of(cycle_id))

    def insert_cycle(
        self, asset_id: int, status: CycleStatus, *, at: datetime, number: int | None = None
    ) -> Cycle | None:
        utc(at)
        if asset_id not in self._t.assets:
            raise StoreError(f"no asset {asset_id}")
        last = self._t.last.get("cycle", 0)
        number = last + 1 if number is None else number
        held = self._t.cycle_ids.get(asset_id, ())
        earlier = tuple(one for one in held if one < number)
        cycle = Cycle(
            id=number,
            asset_id=asset_id,
            status=status,
            created_at=at,
            updated_at=at,
            previous_completed_at=self._ended_before(earlier),
        )
        if number in self._t.cycles or (not cycle.finished and asset_id in self._t.open_cycles):
            return None
        self._set(self._t.last, "cycle", max(last, number))
        self._set(self._t.cycles, cycle.id, cycle)
        self._set(self._t.cycle_ids, asset_id, tuple(sorted((*held, number))))
        self._occupy(cycle)
        return cycle

    def remove_cycle(self, cycle: Cycle) -> bool:
        if self._t.order_keys.get(cycle.id):
            return False
        stored = self._t.cycles.get(cycle.id)
        if stored is None or stored.version != cycle.version:
            raise StaleWrite(f"cycle {cycle.id} is not at version {cycle.version} any more")
        self._unset(self._t.cycles, cycle.id)
        ids = tuple(one for one in self._t.cycle_ids[cycle.asset_id] if one != cycle.id)
        self._set(self._t.cycle_ids, cycle.asset_id, ids)
        if self._t.open_cycles.get(cycle.asset_id) == cycle.id:
            self._unset(self._t.open_cycles, cycle.asset_id)
        return True

    def _ended_before(self, earlier: tuple[int, ...]) -> datetime | None:
        """When the newest of these cycles, or one before it, ended."""
        if not earlier:
            return None
        last = self._t.cycles[earlier[-1]]
        return max(filter(None, (last.previous_completed_at, last.completed_at)), default=None)

    def _occupy(self, cycle: Cycle) -> None:
        """The asset has this cycle as its unfinished one, or has none if it is finished."""
        if not cycle.finished:
            self._set(self._t.open_cycles, cycle.asset_id, cycle.id)
        elif self._t.open_cycles.get(cycle.asset_id) == cycle.id:
            self._unset(self._t.open_cycles, cycle.asset_id)

    def update_cycle(self, cycle: Cycle) -> Cycle:
        _check(cycle, _CYCLE)
        before = self._t.cycles.get(cycle.id)
        if not cycle.finished and self._t.open_cycles.get(cycle.asset_id, cycle.id) != cycle.id:
            raise StaleWrite(f"asset {cycle.asset_id} has another unfinished cycle")
        written: Cycle = self._replaced(self._t.cycles, cycle.id, cycle)
        self._occupy(written)
        if before is not None:
            gained = written.owned - before.owned
            self._set(self._t.owned, cycle.asset_id, self.owned(cycle.asset_id) + gained)
            if (
                written.completed_at != before.completed_at
                and self._t.cycle_ids[cycle.asset_id][-1] != cycle.id
            ):
                self._tell_later_cycles(written)
        return written

    def _tell_later_cycles(self, cycle: Cycle) -> None:
        """Every later cycle of the asset knows when the ones before it ended."""
        ids = self._t.cycle_ids[cycle.asset_id]
        for index in range(ids.index(cycle.id) + 1, len(ids)):
            later = self._t.cycles[ids[index]]
            ended = self._ended_before(ids[:index])
            self._set(self._t.cycles, later.id, replace(later, previous_completed_at=ended))

    def owned(self, asset_id: int) -> Decimal:
        return self._t.owned.get(asset_id, ZERO)

    def owned_by_asset(self) -> dict[int, Decimal]:
        return {asset_id: owned for asset_id, owned in self._t.owned.items() if owned}

    def insert_order(self, order: Order) -> bool:
        _check(order.intent, _INTENT)
        _check(order, _ORDER)
        cycle_id = order.intent.cycle_id
        if order.key in self._t.orders or cycle_id in self._t.live.values():
            return False
        if cycle_id not in self._t.cycles:
            raise StoreError(f"no cycle {cycle_id}")
        self._set(self._t.order_numbers, order.key, len(self._t.orders))
        self._set(self._t.orders, order.key, order)
        self._set(self._t.order_keys, cycle_id, (*self._t.order_keys.get(cycle_id, ()), order.key))
        self._follow(order)
        return True

    def _follow(self, order: Order) -> None:
        """The order is known to be live, or not."""
        if order.live:
            self._set(self._t.live, order.key, order.intent.cycle_id)
        else:
            self._unset(self._t.live, order.key)

    def order(self, key: str) -> Order | None:
        return self._t.orders.get(key)

    def cycle_record(self, key: str) -> CycleRecord | None:
        order = self._t.orders.get(key)
        if order is None:
            return None
        cycle_id = order.intent.cycle_id
        return CycleRecord(self._t.cycles[cycle_id], self.orders_of(cycle_id), self.fills_of(cycle_id))

    def orders_of(self, cycle_id: int) -> list[Order]:
        return [self._t.orders[key] for key in self._t.order_keys.get(cycle_id, ())]

    def orders(self) -> list[Order]:
        return list(self._t.orders.values())

    def own_venue_ids(self, venue_ids: Collection[str]) -> set[str]:
        known = {order.venue_id for order in self._t.orders.values()}
        return {venue_id for venue_id in venue_ids if venue_id in known}

    def live_orders(self) -> list[Order]:
        return [self._t.orders[key] for key in sorted(self._t.live, key=self._t.order_numbers.__getitem__)]

    def revive_order(self, order: Order) -> bool:
        if any(other.live for other in self.orders_of(order.intent.cycle_id) if other.key != order.key):
            return False
        self.update_order(order)
        return True

    def update_order(self, order: Order) -> Order:
        _check(order, _ORDER)
        written: Order = self._replaced(self._t.orders, order.key, order)
        self._follow(written)
        return written

    def update_order_and_cycle(self, order: Order, cycle: Cycle) -> Order:
        written = self.update_order(order)
        self.update_cycle(cycle)
        return written

    def insert_fill(self, fill: Fill) -> bool:
        _check(fill, _FILL)
        execution = (fill.order_key, fill.cum_qty)
        if fill.id in self._t.fills or execution in self._t.executions:
            return False
        if fill.order_key not in self._t.orders:
            raise StoreError(f"no order {fill.order_key}")
        self._set(self._t.fills, fill.id, fill)
        self._set(self._t.executions, execution, fill.id)
        self._set(self._t.fills_of, fill.cycle_id, (*self._t.fills_of.get(fill.cycle_id, ()), fill))
        return True

    def fills_of(self, cycle_id: int) -> list[Fill]:
        return list(self._t.fills_of.get(cycle_id, ()))

    def fills(self) -> list[Fill]:
        return list(self._t.fills.values())

    def fills_between(self, since: datetime, until: datetime) -> list[Fill]:
        utc(since), utc(until)
        return [fill for fill in self._t.fills.values() if since <= fill.at < until]

    def bought_between(self, since: datetime, until: datetime) -> Decimal:
        return fold(self.fills_between(since, until)).cost

    def add_event(self, event: Event) -> bool:
        utc(event.at)
        json_text(event.data)
        if event.uid is not None and self._t.uids.get(event.uid) in self._t.events:
            return False
        number = self._append(self._t.events, event)
        if event.uid is not None:
            self._set(self._t.uids, event.uid, number)
        return True

    def _append(self, table: dict[int, Any], row: Any) -> int:
        """The row is the newest; its number is above every number there is, so the order stays."""
        number: int = next(reversed(table), 0) + 1
        self._set(table, number, row)
        return number

    def events(self, *, limit: int = 100, name: str | None = None) -> list[Event]:
        newest_first = reversed(self._t.events.values())
        found: list[Event] = []
        for event in newest_first:
            if len(found) >= limit:
                break
            if name is None or event.name == name:
                found.append(event)
        return found

    def add_decisions(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            utc(decision.at)
            json_text(decision.data)
            self._append(self._t.decisions, decision)

    def decision_at(self, asset_id: int, at: datetime) -> Decision | None:
        known = [one for one in self._t.decisions.values() if one.asset_id == asset_id and one.at <= at]
        return max(reversed(known), key=_instant, default=None)

    def decision_after(self, asset_id: int, at: datetime) -> Decision | None:
        later = [one for one in self._t.decisions.values() if one.asset_id == asset_id and one.at > at]
        return min(later, key=_instant, default=None)

    def decisions(self, asset_id: int, *, limit: int = 100) -> list[Decision]:
        newest_first = reversed(self._t.decisions.values())
        return list(islice((one for one in newest_first if one.asset_id == asset_id), limit))

    def prune(self, before: datetime, *, limit: int) -> int:
        in_force = {one.asset_id: number for number, one in self._t.decisions.items()}.values()
        events = [number for number, event in self._t.events.items() if event.at < before]
        sent = [
            key for key, message in self._t.messages.items() if key in self._t.sent and message.at < before
        ]
        decided = [
            number
            for number, decision in self._t.decisions.items()
            if decision.at < before and number not in in_force
        ]
        silent = [name for name, beat in sorted(self._t.heartbeats.items()) if beat.at < before]
        gone = 0
        for table, old in (
            (self._t.events, events),
            (self._t.messages, sent),
            (self._t.decisions, decided),
            (self._t.heartbeats, silent),
        ):
            for key in old[:limit]:
                self._unset(table, key)
                gone += 1
        return gone

    def add_message(self, message: Message) -> bool:
        utc(message.at)
        if message.key in self._t.messages:
            return False
        self._set(self._t.messages, message.key, message)
        return True

    def messages(self) -> list[Message]:
        return [message for key, message in self._t.messages.items() if key not in self._t.sent]

    def mark_sent(self, key: str, *, at: datetime) -> bool:
        """The message counts as sent. False when it already did, or is not there."""
        utc(at)
        if key not in self._t.messages or key in self._t.sent:
            return False
        self._set(self._t.sent, key, at)
        return True

    def beat(self, heartbeat: Heartbeat) -> None:
        utc(heartbeat.at)
        json_text(heartbeat.detail)
        self._set(self._t.heartbeats, heartbeat.name, heartbeat)

    def heartbeats(self) -> list[Heartbeat]:
        return [beat for _, beat in sorted(self._t.heartbeats.items())]

    def lease(self, name: str) -> Lease | None:
        lease = self._t.leases.get(name)
        return lease if lease is not None and lease.holder else None

    def put_lease(self, lease: Lease) -> Lease:
        utc(lease.expires_at)
        before = self._t.leases.get(lease.name)
        if lease.version == 0 and before is not None and not before.holder:
            lease = replace(lease, version=before.version)
        if lease.version != (before.version if before is not None else 0):
            raise StaleWrite(f"the lease {lease.name} is not at version {lease.version} any more")
        written = replace(lease, version=lease.version + 1)
        self._set(self._t.leases, lease.name, written)
        return written

    def drop_lease(self, lease: Lease) -> None:
        """The lease is free, if it is still the one that was read. Its version is never used again."""
        before = self._t.leases.get(lease.name)
        if before is not None and before.version == lease.version:
            self._set(self._t.leases, lease.name, replace(before, holder="", version=before.version + 1))

    def flag(self, name: str) -> str | None:
        return self._t.flags.get(name)

    def flags(self) -> dict[str, str]:
        return {name: value for name, value in self._t.flags.items() if value is not None}

    def set_flag(self, name: str, value: str | None, *, at: datetime) -> None:
        utc(at)
        self._set(self._t.flags, name, value)

    def modes(self) -> list[Restriction]:
        return [restriction for _, restriction in sorted(self._t.modes.items())]

    def put_mode(self, restriction: Restriction) -> None:
        utc(restriction.since)
        if restriction.until is not None:
            utc(restriction.until)
        self._set(self._t.modes, restriction.source, restriction)

    def drop_mode(self, source: str) -> bool:
        there = source in self._t.modes
        self._unset(self._t.modes, source)
        return there

    def funds(self, *, lock: bool = False) -> Funds | None:
        return max(self._t.funds.values(), key=lambda one: one.read_at, default=None)

    def put_funds(self, funds: Funds) -> Funds:
        _check(funds, _FUNDS)
        return self._put_row(self._t.funds, funds.account_id, funds)

    def _put_row(self, table: dict[str, V], key: str, row: V) -> V:
        """The row as written, its version raised. Raises StaleWrite."""
        before = table.get(key)
        if row.version != (0 if before is None else before.version):
            raise StaleWrite(f"{key} is not at version {row.version} any more")
        written = replace(row, version=row.version + 1)
        self._set(table, key, written)
        return written

    def stakes(self) -> list[Stake]:
        found = []
        for cycle_id in sorted(self._t.open_cycles.values()):
            cycle = self._t.cycles[cycle_id]
            live = [one for one in self.orders_of(cycle_id) if one.live and one.intent.side is Side.BUY]
            fills = self.fills_of(cycle_id)
            found += [
                _stake(cycle, order, gross(fill for fill in fills if fill.order_key == order.key))
                for order in live
            ]
            if cycle.quantity and not live:
                found.append(_stake(cycle, None, ZERO))
        return found

    def breakers(self) -> list[Breaker]:
        return [breaker for _, breaker in sorted(self._t.breakers.items())]

    def put_breaker(self, breaker: Breaker) -> Breaker:
        utc(breaker.since)
        return self._put_row(self._t.breakers, breaker.name, breaker)

    def budget(self, name: str) -> Budget | None:
        return self._t.budgets.get(name)

    def put_budget(self, budget: Budget) -> Budget:
        utc(budget.at)
        return self._put_row(self._t.budgets, budget.name, budget)

    def replacements(self) -> list[Replacement]:
        return [one for one in self._t.replacements.values() if not one.over]

    def replacement(self, old_key: str) -> Replacement | None:
        return self._t.replacements.get(old_key)

    def insert_replacement(self, replacement: Replacement) -> bool:
        utc(replacement.created_at), utc(replacement.updated_at)
        busy = any(one.cycle_id == replacement.cycle_id for one in self.replacements())
        if replacement.old_key in self._t.replacements or busy:
            return False
        self._set(self._t.replacements, replacement.old_key, replacement)
        return True

    def update_replacement(self, replacement: Replacement) -> Replacement:
        utc(replacement.updated_at)
        written: Replacement = self._replaced(self._t.replacements, replacement.old_key, replacement)
        return written

    def add_balance(self, balance: Balance) -> None:
        _check(balance, _BALANCE)
        json_text(balance.coins)
        self._append(self._t.balances, balance)

    def balances(self, since: datetime, until: datetime) -> list[Balance]:
        utc(since), utc(until)
        return [one for one in self._t.balances.values() if since <= one.at < until]

    def last_balance(self, until: datetime) -> Balance | None:
        utc(until)
        earlier = [one for one in self._t.balances.values() if one.at < until]
        return max(earlier, key=lambda one: one.at, default=None)

    def first_balance(self, since: datetime) -> Balance | None:
        utc(since)
        later = [one for one in self._t.balances.values() if one.at >= since]
        return min(later, key=lambda one: one.at, default=None)

    def add_activity(self, activity: Activity) -> bool:
        _check(activity, _ACTIVITY)
        json_text(activity.data)
        if activity.id in self._t.activities:
            return False
        self._set(self._t.activities, activity.id, activity)
        return True

    def activities(self, since: datetime, until: datetime) -> list[Activity]:
        utc(since), utc(until)
        found = [one for one in self._t.activities.values() if since <= one.at < until]
        return sorted(found, key=lambda one: one.at)


def _stake(cycle: Cycle, order: Order | None, booked: Decimal) -> Stake:
    owned_cost = cycle.quantity * cycle.average_purchase_price
    if order is None:
        return Stake(cycle.asset_id, cycle.id, owned_cost, ZERO, cycle.safety_orders)
    intent = order.intent
    return Stake(
        asset_id=cycle.asset_id,
        cycle_id=cycle.id,
        owned_cost=owned_cost,
        resting=ZERO if intent.limit is None else (intent.qty - booked) * intent.limit,
        steps=cycle.safety_orders,
        working=intent.step,
        asked_at=order.asked_at,
        in_flight=order.status is OrderStatus.IN_FLIGHT,
    )


def _instant(decision: Decision) -> datetime:
    return decision.at


def _symbol(asset: Asset) -> str:
    return asset.asset_symbol
