"""One transaction on the database, statement by statement."""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import ClauseElement
from sqlalchemy.exc import IntegrityError

from dca.adapters.db import rows
from dca.adapters.db import statements as s
from dca.adapters.db.direct import Direct
from dca.adapters.db.faults import is_duplicate
from dca.adapters.db.rows import R, Row, Values, raised
from dca.adapters.db.types import SQLITE
from dca.domain.account import Activity, Balance, Breaker, Budget, Funds, Stake
from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import StaleWrite
from dca.domain.mode import Restriction
from dca.domain.money import ZERO
from dca.domain.order import Order
from dca.domain.position import Fill, gross
from dca.domain.record import Decision, Event, Heartbeat, Lease, Message
from dca.domain.replacement import Replacement
from dca.ports import CycleRecord, Situation, Standing

IN_ONE_QUESTION = 500
"""Values that one statement asks for: SQLite takes no more than some thousands."""
_ASSET_WIDTH = len(rows.ASSET)
_CYCLE_WIDTH = len(s.CYCLE)
_FILL_START = _CYCLE_WIDTH + len(rows.ORDER)


def _journaled(row: Row) -> int:
    seq: int = row[-1]
    return seq


class SqlTx:
    """dca.ports.Tx on a connection that is inside a transaction.

    Errors of the driver leave as SQLAlchemy raises them; the store that runs the unit sorts them.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Direct) -> None:
        self._connection = connection

    def _all(self, query: ClauseElement, **values: Any) -> list[Any]:
        return self._connection.execute(query, values).all()

    def _one(self, query: ClauseElement, **values: Any) -> Any:
        return self._connection.execute(query, values).first()

    def _insert(self, statement: ClauseElement, values: Values) -> int | None:
        """How many rows were written; None when a unique constraint was in the way."""
        try:
            return self._connection.execute(statement, values).rowcount
        except IntegrityError as error:
            if is_duplicate(error):
                return None
            raise

    def _change(self, statement: ClauseElement, values: Values, row: int | str, read_version: int) -> None:
        """The row is as `values` say, its version raised. Raises StaleWrite."""
        values = {**values, "version": read_version + 1, "row": row, "read_version": read_version}
        if self._connection.execute(statement, values).rowcount != 1:
            raise StaleWrite(f"{row} is not at version {read_version} any more")

    def assets(self) -> list[Asset]:
        return [rows.asset_of(row) for row in self._all(s.ASSETS)]

    def asset_by_symbol(self, symbol: str) -> Asset | None:
        row = self._one(s.ASSET_BY_SYMBOL, symbol=symbol)
        return rows.asset_of(row) if row else None

    def insert_asset(self, symbol: str, rules: Rules, *, is_enabled: bool, at: datetime) -> Asset | None:
        asset = Asset(
            id=0, asset_symbol=symbol, is_enabled=is_enabled, rules=rules, created_at=at, updated_at=at
        )
        if self._insert(s.INSERT_ASSET, rows.asset_values(asset)) is None:
            return None
        return self.asset_by_symbol(symbol)

    def update_asset(self, asset: Asset) -> Asset:
        self._change(s.UPDATE_ASSET, rows.asset_values(asset), asset.id, asset.version)
        return raised(asset)

    def remove_asset(self, asset: Asset) -> bool:
        if self._one(s.HAS_ORDERS, row=asset.id):
            return False
        self._connection.execute(s.REMOVE_CYCLES, {"row": asset.id})
        removed = self._connection.execute(s.REMOVE_ASSET, {"row": asset.id, "read_version": asset.version})
        if removed.rowcount != 1:
            raise StaleWrite(f"{asset.asset_symbol} is not at version {asset.version} any more")
        return True

    def situation(self, asset_id: int) -> Situation | None:
        row = self._one(s.SITUATION, row=asset_id)
        return _situation(row) if row else None

    def situations(self) -> list[Situation]:
        return [_situation(row) for row in self._all(s.SITUATIONS)]

    def revision(self) -> dict[int, tuple[int, int, int]]:
        return {
            asset_id: (version, cycle_id or 0, cycle_version or 0)
            for asset_id, version, cycle_id, cycle_version in self._all(s.REVISION)
        }

    def standing(self, asset_id: int, now: datetime) -> Standing | None:
        row = self._one(s.STANDING, row=asset_id, now=now)
        if not row:
            return None
        asset_version, cycle_id, cycle_version, open_orders, halted, paused = row
        return Standing(asset_version, cycle_id or 0, cycle_version or 0, open_orders, halted, paused)

    def cycle(self, cycle_id: int) -> Cycle | None:
        row = self._one(s.CYCLE_BY_ID, row=cycle_id)
        return rows.cycle_of(row) if row else None

    def cycles(self) -> list[Cycle]:
        return [rows.cycle_of(row) for row in self._all(s.CYCLES)]

    def stray_cycles(self) -> list[Cycle]:
        return [rows.cycle_of(row) for row in self._all(s.STRAY_CYCLES)]

    def open_records(self) -> list[CycleRecord]:
        return self._records(s.OPEN_RECORDS)

    def closed_records(self, since: datetime, until: datetime) -> list[CycleRecord]:
        return self._records(s.CLOSED_RECORDS, since=since, until=until)

    def _records(self, queries: tuple[s.Query, s.Query, s.Query], **values: Any) -> list[CycleRecord]:
        cycles, orders, fills = (self._all(query, **values) for query in queries)
        records = {row[0]: CycleRecord(rows.cycle_of(row), [], []) for row in cycles}
        for order in map(rows.order_of, orders):
            records[order.intent.cycle_id].orders.append(order)
        for fill in map(rows.fill_of, fills):
            records[fill.cycle_id].fills.append(fill)
        return list(records.values())

    def insert_cycle(
        self, asset_id: int, status: CycleStatus, *, at: datetime, number: int | None = None
    ) -> Cycle | None:
        new = Cycle(id=0, asset_id=asset_id, status=status, created_at=at, updated_at=at)
        values = rows.cycle_values(new) if number is None else {**rows.cycle_values(new), "id": number}
        try:
            result = self._connection.execute(s.INSERT_CYCLE, values)
        except IntegrityError as error:
            if is_duplicate(error):
                return None
            raise
        return self.cycle(cast(int, result.lastrowid))

    def remove_cycle(self, cycle: Cycle) -> bool:
        if self.orders_of(cycle.id):
            return False
        removed = self._connection.execute(s.REMOVE_CYCLE, {"row": cycle.id, "read_version": cycle.version})
        if removed.rowcount != 1:
            raise StaleWrite(f"cycle {cycle.id} is not at version {cycle.version} any more")
        return True

    def update_cycle(self, cycle: Cycle) -> Cycle:
        values = rows.cycle_values(cycle)
        # A cycle never changes its asset, and one whose asset somebody deleted must still be ended.
        del values["asset_id"]
        try:
            self._change(s.UPDATE_CYCLE, values, cycle.id, cycle.version)
        except IntegrityError as error:
            if is_duplicate(error):
                raise StaleWrite(f"asset {cycle.asset_id} has another unfinished cycle") from error
            raise
        return raised(cycle)

    def owned(self, asset_id: int) -> Decimal:
        return sum((quantity for (quantity,) in self._all(s.OWNED, row=asset_id)), ZERO)

    def owned_by_asset(self) -> dict[int, Decimal]:
        owned: dict[int, Decimal] = {}
        for asset_id, quantity in self._all(s.OWNED_BY_ASSET):
            owned[asset_id] = owned.get(asset_id, ZERO) + quantity
        return owned

    def insert_order(self, order: Order) -> bool:
        values = {f"new_{name}": value for name, value in rows.order_values(order).items()}
        return self._insert(s.INSERT_ORDER, values) == 1

    def order(self, key: str) -> Order | None:
        row = self._one(s.ORDER, row=key)
        return rows.order_of(row) if row else None

    def cycle_record(self, key: str) -> CycleRecord | None:
        # A few rows are sorted faster here than by the server, which would need a table for it.
        found = sorted(self._all(s.CYCLE_RECORD, row=key), key=_journaled)
        if not found:
            return None
        orders: dict[str, Order] = {}
        for row in found:
            if row[_CYCLE_WIDTH] not in orders:
                orders[row[_CYCLE_WIDTH]] = rows.order_of(row[_CYCLE_WIDTH:_FILL_START])
        fills = [rows.fill_of(row[_FILL_START:-1]) for row in found if row[_FILL_START] is not None]
        cycle = next(rows.cycle_of(row) for row in found if row[0] is not None)
        return CycleRecord(cycle, list(orders.values()), fills)

    def orders_of(self, cycle_id: int) -> list[Order]:
        return [rows.order_of(row) for row in self._all(s.ORDERS_OF, cycle=cycle_id)]

    def orders(self) -> list[Order]:
        return [rows.order_of(row) for row in self._all(s.ORDERS)]

    def own_venue_ids(self, venue_ids: Collection[str]) -> set[str]:
        wanted = sorted(set(venue_ids))
        parts = (wanted[start : start + IN_ONE_QUESTION] for start in range(0, len(wanted), IN_ONE_QUESTION))
        return {found for part in parts for (found,) in self._all(s.OWN_VENUE_IDS, venue_ids=part)}

    def live_orders(self) -> list[Order]:
        return [rows.order_of(row) for row in self._all(s.LIVE_ORDERS)]

    def revive_order(self, order: Order) -> bool:
        if any(other.live for other in self.orders_of(order.intent.cycle_id) if other.key != order.key):
            return False
        try:
            self._change(s.UPDATE_ORDER, rows.fate_values(order), order.key, order.version)
        except IntegrityError as error:
            if is_duplicate(error):
                return False
            raise
        return True

    def update_order(self, order: Order) -> Order:
        values = rows.fate_values(order)
        try:
            self._change(s.UPDATE_ORDER, values, order.key, order.version)
        except IntegrityError as error:
            if not is_duplicate(error):
                raise
            # An order that was given up turned up while its successor is live. That is a fact and
            # must be written down; the slot stays with the successor, and `insert_order` sees both.
            self._change(s.UPDATE_ORDER, {**values, "live_slot": None}, order.key, order.version)
        return raised(order)

    def update_order_and_cycle(self, order: Order, cycle: Cycle) -> Order:
        if self._connection.dialect.name == "mysql" and self._both(order, cycle):
            return raised(order)
        written = self.update_order(order)
        self.update_cycle(cycle)
        return written

    def _both(self, order: Order, cycle: Cycle) -> bool:
        """One statement for both rows; False, and nothing written, when a unique slot is taken."""
        values = {f"order_{name}": value for name, value in rows.fate_values(order).items()}
        values |= {f"cycle_{name}": value for name, value in rows.cycle_values(cycle).items()}
        values |= {"order_version": order.version + 1, "order_read": order.version, "which_order": order.key}
        values |= {"cycle_version": cycle.version + 1, "cycle_read": cycle.version, "row": cycle.id}
        try:
            written = self._connection.execute(s.UPDATE_ORDER_AND_CYCLE, values).rowcount
        except IntegrityError as error:
            if is_duplicate(error):
                return False
            raise
        if written != 2:
            raise StaleWrite(f"{order.key} or cycle {cycle.id} is not at the version that was read any more")
        return True

    def insert_fill(self, fill: Fill) -> bool:
        return self._insert(s.INSERT_FILL, rows.fill_values(fill)) is not None

    def fills_of(self, cycle_id: int) -> list[Fill]:
        return [rows.fill_of(row) for row in self._all(s.FILLS_OF, cycle=cycle_id)]

    def fills(self) -> list[Fill]:
        return [rows.fill_of(row) for row in self._all(s.FILLS)]

    def fills_between(self, since: datetime, until: datetime) -> list[Fill]:
        return [rows.fill_of(row) for row in self._all(s.FILLS_BETWEEN, since=since, until=until)]

    def bought_between(self, since: datetime, until: datetime) -> Decimal:
        if self._connection.dialect.name == SQLITE:
            bought = self._all(s.BOUGHT_BETWEEN, since=since, until=until)
            return sum((qty * price for qty, price in bought), ZERO)
        (cost,) = self._one(s.COST_BETWEEN, since=since, until=until)
        return cost or ZERO

    def add_event(self, event: Event) -> bool:
        return self._insert(s.INSERT_EVENT, rows.event_values(event)) is not None

    def events(self, *, limit: int = 100, name: str | None = None) -> list[Event]:
        if name is None:
            found = self._all(s.EVENTS, most=limit)
        else:
            found = self._all(s.EVENTS_NAMED, most=limit, wanted=name)
        return [rows.event_of(row) for row in found]

    def add_decisions(self, decisions: Sequence[Decision]) -> None:
        if decisions:
            values = [rows.decision_values(decision) for decision in decisions]
            self._connection.execute(s.INSERT_DECISION, values)

    def decision_at(self, asset_id: int, at: datetime) -> Decision | None:
        row = self._one(s.DECISION_AT, asset=asset_id, instant=at)
        return rows.decision_of(row) if row else None

    def decision_after(self, asset_id: int, at: datetime) -> Decision | None:
        row = self._one(s.DECISION_AFTER, asset=asset_id, instant=at)
        return rows.decision_of(row) if row else None

    def decisions(self, asset_id: int, *, limit: int = 100) -> list[Decision]:
        return [rows.decision_of(row) for row in self._all(s.DECISIONS, asset=asset_id, most=limit)]

    def prune(self, before: datetime, *, limit: int) -> int:
        gone = 0
        for old, drop in s.BITES:
            chosen = [row[0] for row in self._all(old, before=before, most=limit)]
            if chosen:
                self._connection.execute(drop, {"chosen": chosen})
            gone += len(chosen)
        return gone

    def add_message(self, message: Message) -> bool:
        return self._insert(s.INSERT_MESSAGE, rows.message_values(message)) is not None

    def messages(self) -> list[Message]:
        return [rows.message_of(row) for row in self._all(s.MESSAGES)]

    def mark_sent(self, key: str, *, at: datetime) -> bool:
        """The message counts as sent. False when it already did, or is not there."""
        return self._connection.execute(s.MARK_SENT, {"row": key, "sent_at": at}).rowcount == 1

    def beat(self, heartbeat: Heartbeat) -> None:
        values = {"at": heartbeat.at, "detail": heartbeat.detail}
        self._put(s.UPDATE_HEARTBEAT, s.INSERT_HEARTBEAT, heartbeat.name, values)

    def heartbeats(self) -> list[Heartbeat]:
        return [rows.heartbeat_of(row) for row in self._all(s.HEARTBEATS)]

    def lease(self, name: str) -> Lease | None:
        row = self._one(s.LEASE, row=name)
        lease = rows.lease_of(row) if row else None
        return lease if lease and lease.holder else None

    def put_lease(self, lease: Lease) -> Lease:
        values = {"holder": lease.holder, "expires_at": lease.expires_at}
        if lease.version:
            self._change(s.UPDATE_LEASE, values, lease.name, lease.version)
            return raised(lease)
        if self._insert(s.INSERT_LEASE, {**values, "name": lease.name, "version": 1}) is not None:
            return raised(lease)
        freed = rows.lease_of(self._one(s.LEASE, row=lease.name))
        if freed.holder:
            raise StaleWrite(f"the lease {lease.name} is held")
        self._change(s.UPDATE_LEASE, values, lease.name, freed.version)
        return Lease(
            name=lease.name, holder=lease.holder, expires_at=lease.expires_at, version=freed.version + 1
        )

    def drop_lease(self, lease: Lease) -> None:
        """The lease is free, if it is still the one that was read.

        Its row stays, so that no version ever comes again: a holder that slept through a take-over
        and a release would otherwise find a stranger's lease at the version it remembers.
        """
        try:
            self._change(
                s.UPDATE_LEASE, {"holder": "", "expires_at": lease.expires_at}, lease.name, lease.version
            )
        except StaleWrite:
            return

    def flag(self, name: str) -> str | None:
        row = self._one(s.FLAG, row=name)
        return row[0] if row else None

    def flags(self) -> dict[str, str]:
        return {row[0]: row[1] for row in self._all(s.FLAGS)}

    def set_flag(self, name: str, value: str | None, *, at: datetime) -> None:
        self._put(s.UPDATE_FLAG, s.INSERT_FLAG, name, {"value": value, "updated_at": at})

    def modes(self) -> list[Restriction]:
        return [rows.mode_of(row) for row in self._all(s.MODES)]

    def put_mode(self, restriction: Restriction) -> None:
        values = rows.mode_values(restriction)
        changed = {**values, "row": restriction.source}
        if self._connection.execute(s.UPDATE_MODE, changed).rowcount:
            return
        if self._insert(s.INSERT_MODE, values) is None:
            self._connection.execute(s.UPDATE_MODE, changed)

    def drop_mode(self, source: str) -> bool:
        return self._connection.execute(s.DROP_MODE, {"row": source}).rowcount == 1

    def funds(self, *, lock: bool = False) -> Funds | None:
        row = self._one(s.FUNDS_LOCKED if lock else s.FUNDS)
        return rows.funds_of(row) if row else None

    def put_funds(self, funds: Funds) -> Funds:
        return self._put_row(
            s.UPDATE_FUNDS, s.INSERT_FUNDS, funds.account_id, funds, rows.funds_values(funds)
        )

    def stakes(self) -> list[Stake]:
        return [rows.stake_of(row, self._booked(row)) for row in self._all(s.STAKES)]

    def _booked(self, row: Row) -> Decimal:
        """Coins of the live buy whose fills are stored: what the venue has only counted is not in its
        cycle yet."""
        cycle_id, filled, key = row[1], row[7], row[-1]
        if not filled:
            return ZERO
        return gross(fill for fill in self.fills_of(cycle_id) if fill.order_key == key)

    def breakers(self) -> list[Breaker]:
        return [rows.breaker_of(row) for row in self._all(s.BREAKERS)]

    def put_breaker(self, breaker: Breaker) -> Breaker:
        values = rows.breaker_values(breaker)
        return self._put_row(s.UPDATE_BREAKER, s.INSERT_BREAKER, breaker.name, breaker, values)

    def budget(self, name: str) -> Budget | None:
        row = self._one(s.BUDGET, row=name)
        return rows.budget_of(row) if row else None

    def put_budget(self, budget: Budget) -> Budget:
        values = rows.budget_values(budget)
        return self._put_row(s.UPDATE_BUDGET, s.INSERT_BUDGET, budget.name, budget, values)

    def _put_row(self, change: ClauseElement, add: ClauseElement, key: str, row: R, values: Values) -> R:
        """The row as written, its version raised: inserted where it is at 0. Raises StaleWrite."""
        if row.version:
            self._change(change, values, key, row.version)
        elif self._insert(add, {**values, "version": 1}) is None:
            raise StaleWrite(f"{key} is there already")
        return raised(row)

    def replacements(self) -> list[Replacement]:
        return [rows.replacement_of(row) for row in self._all(s.REPLACEMENTS)]

    def replacement(self, old_key: str) -> Replacement | None:
        row = self._one(s.REPLACEMENT, row=old_key)
        return rows.replacement_of(row) if row else None

    def insert_replacement(self, replacement: Replacement) -> bool:
        return self._insert(s.INSERT_REPLACEMENT, rows.replacement_values(replacement)) is not None

    def update_replacement(self, replacement: Replacement) -> Replacement:
        values = rows.replacement_values(replacement)
        self._change(s.UPDATE_REPLACEMENT, values, replacement.old_key, replacement.version)
        return raised(replacement)

    def add_balance(self, balance: Balance) -> None:
        self._connection.execute(s.INSERT_BALANCE, rows.balance_values(balance))

    def balances(self, since: datetime, until: datetime) -> list[Balance]:
        return [rows.balance_of(row) for row in self._all(s.BALANCES, since=since, until=until)]

    def last_balance(self, until: datetime) -> Balance | None:
        row = self._one(s.LAST_BALANCE, until=until)
        return rows.balance_of(row) if row else None

    def first_balance(self, since: datetime) -> Balance | None:
        row = self._one(s.FIRST_BALANCE, since=since)
        return rows.balance_of(row) if row else None

    def add_activity(self, activity: Activity) -> bool:
        return self._insert(s.INSERT_ACTIVITY, rows.activity_values(activity)) is not None

    def activities(self, since: datetime, until: datetime) -> list[Activity]:
        return [rows.activity_of(row) for row in self._all(s.ACTIVITIES, since=since, until=until)]

    def _put(self, change: ClauseElement, add: ClauseElement, name: str, values: Values) -> None:
        """The row `name` holds `values`, whether it was there or not."""
        if self._connection.execute(change, {**values, "row": name}).rowcount:
            return
        if self._insert(add, {**values, "name": name}) is None:
            self._connection.execute(change, {**values, "row": name})


def _situation(row: Row) -> Situation:
    cycle = row[_ASSET_WIDTH:]
    return Situation(
        rows.asset_of(row[:_ASSET_WIDTH]), rows.cycle_of(cycle) if cycle[0] is not None else None
    )
