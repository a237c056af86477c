"""The statements, built once: SQLAlchemy then compiles each once per dialect and finds it again.

Every read of the hot paths is one statement.
"""

from typing import Any

from sqlalchemy import (
    Delete,
    Insert,
    Numeric,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    type_coerce,
    update,
)

from dca.adapters.db import rows
from dca.adapters.db import tables as t
from dca.adapters.db.types import Exact
from dca.domain.cycle import UNFINISHED, CycleStatus
from dca.domain.mode import Mode
from dca.domain.money import ZERO
from dca.domain.order import LIVE, Side

Query = Select[Any]

# Each a parameter of its own: a list would be spelled out anew at every execution.
_LIVE = [literal(name) for name in sorted(status.value for status in LIVE)]
_UNFINISHED = [literal(name) for name in sorted(status.value for status in UNFINISHED)]


def _previous_completed_at() -> Any:
    """When the cycle before the row's ended: one look at the end of the index."""
    before = t.cycles.alias("before")
    return (
        select(before.c.completed_at)
        .where(
            before.c.asset_id == t.cycles.c.asset_id,
            before.c.id < t.cycles.c.id,
            before.c.completed_at.is_not(None),
        )
        .order_by(before.c.completed_at.desc())
        .limit(1)
        .scalar_subquery()
    )


def _changed(table: Table, key: str) -> Update:
    """The update of the one row that is still as it was read."""
    return update(table).where(
        table.c[key] == bindparam("row"),
        table.c.version == bindparam("read_version"),
    )


CYCLE = [*rows.CYCLE, _previous_completed_at()]

ASSETS: Query = select(*rows.ASSET).order_by(t.assets.c.asset_symbol)
ASSET: Query = select(*rows.ASSET).where(t.assets.c.id == bindparam("row"))
ASSET_BY_SYMBOL: Query = select(*rows.ASSET).where(t.assets.c.asset_symbol == bindparam("symbol"))
INSERT_ASSET: Insert = insert(t.assets)
UPDATE_ASSET = _changed(t.assets, "id")
_traded: Query = (
    select(literal_column("1"))
    .select_from(t.orders.join(t.cycles, t.cycles.c.id == t.orders.c.cycle_id))
    .where(t.cycles.c.asset_id == bindparam("row"))
)
HAS_ORDERS: Query = _traded.limit(1)
REMOVE_CYCLE: Delete = delete(t.cycles).where(
    t.cycles.c.id == bindparam("row"), t.cycles.c.version == bindparam("read_version")
)
REMOVE_CYCLES: Delete = delete(t.cycles).where(t.cycles.c.asset_id == bindparam("row"))
REMOVE_ASSET: Delete = delete(t.assets).where(
    t.assets.c.id == bindparam("row"), t.assets.c.version == bindparam("read_version")
)

_with_open_cycle = t.assets.outerjoin(t.cycles, t.cycles.c.open_slot == t.assets.c.id)
SITUATIONS: Query = (
    select(*rows.ASSET, *CYCLE).select_from(_with_open_cycle).order_by(t.assets.c.asset_symbol)
)
SITUATION: Query = (
    select(*rows.ASSET, *CYCLE).select_from(_with_open_cycle).where(t.assets.c.id == bindparam("row"))
)
REVISION: Query = select(t.assets.c.id, t.assets.c.version, t.cycles.c.id, t.cycles.c.version).select_from(
    _with_open_cycle
)


def _because(mode: Mode) -> Any:
    """Why `mode` is in force at `now`, by its oldest source; NULL when it is not."""
    holds = t.modes.c.until.is_(null()) | (t.modes.c.until > bindparam("now"))
    return (
        select(t.modes.c.reason)
        .where(t.modes.c.mode == mode.value, holds)
        .order_by(t.modes.c.since)
        .limit(1)
        .scalar_subquery()
    )


STANDING: Query = (
    select(
        t.assets.c.version,
        t.cycles.c.id,
        t.cycles.c.version,
        select(func.count()).select_from(t.orders).where(t.orders.c.status.in_(_LIVE)).scalar_subquery(),
        _because(Mode.HALTED),
        _because(Mode.REDUCE_ONLY),
    )
    .select_from(_with_open_cycle)
    .where(t.assets.c.id == bindparam("row"))
)

CYCLES: Query = select(*CYCLE).order_by(t.cycles.c.id)
CYCLE_BY_ID: Query = select(*CYCLE).where(t.cycles.c.id == bindparam("row"))
_unfinished = t.cycles.c.status.in_(_UNFINISHED)
_in_its_slot = t.cycles.c.open_slot.is_not(None) & (t.cycles.c.open_slot == t.cycles.c.asset_id)
STRAY_CYCLES: Query = (
    select(*CYCLE)
    .select_from(t.cycles.outerjoin(t.assets, t.assets.c.id == t.cycles.c.asset_id))
    .where(
        or_(
            _unfinished & (t.cycles.c.open_slot.is_(null()) | (t.cycles.c.open_slot != t.cycles.c.asset_id)),
            ~_unfinished & t.cycles.c.open_slot.is_not(None),
            _unfinished & t.assets.c.id.is_(null()),
        )
    )
    .order_by(t.cycles.c.id)
)


def _of_cycles(columns: list[Any], table: Table, chosen: Any) -> Query:
    """The rows of `table` that belong to the `chosen` cycles, in the order they were written."""
    ids = select(t.cycles.c.id).where(chosen)
    return select(*columns).where(table.c.cycle_id.in_(ids)).order_by(table.c.seq)


def _records(chosen: Any) -> tuple[Query, Query, Query]:
    """Cycles, their orders and their fills: three statements however many there are."""
    cycles: Query = select(*CYCLE).where(chosen).order_by(t.cycles.c.id)
    return cycles, _of_cycles(rows.ORDER, t.orders, chosen), _of_cycles(rows.FILL, t.fills, chosen)


OPEN_RECORDS = _records(_in_its_slot & _unfinished)
CLOSED_RECORDS = _records(
    ~_unfinished
    & (t.cycles.c.completed_at >= bindparam("since"))
    & (t.cycles.c.completed_at < bindparam("until"))
)
INSERT_CYCLE: Insert = insert(t.cycles)
UPDATE_CYCLE = _changed(t.cycles, "id")
# As Cycle.owned: the coins of a cycle in error are gone.
_owns = (t.cycles.c.quantity != ZERO) & (t.cycles.c.status != CycleStatus.ERROR.value)
OWNED: Query = select(t.cycles.c.quantity).where(t.cycles.c.asset_id == bindparam("row"), _owns)
OWNED_BY_ASSET: Query = select(t.cycles.c.asset_id, t.cycles.c.quantity).where(_owns)

ORDERS: Query = select(*rows.ORDER).order_by(t.orders.c.seq)
ORDER: Query = select(*rows.ORDER).where(t.orders.c.key == bindparam("row"))
ORDERS_OF: Query = (
    select(*rows.ORDER).where(t.orders.c.cycle_id == bindparam("cycle")).order_by(t.orders.c.seq)
)
# By status, not by slot: an order that turned up late may be live without a slot.
OWN_VENUE_IDS: Query = select(t.orders.c.venue_id).where(
    t.orders.c.venue_id.in_(bindparam("venue_ids", expanding=True))
)
LIVE_ORDERS: Query = select(*rows.ORDER).where(t.orders.c.status.in_(_LIVE)).order_by(t.orders.c.seq)
_mine = t.orders.alias("mine")
# Orders by fills, with the cycle beside its own order only (else it is read over and over): one wide
# answer is cheaper than three questions.
CYCLE_RECORD: Query = (
    select(*rows.CYCLE, null().label("previous"), *rows.ORDER, *rows.FILL, t.orders.c.seq)
    .select_from(
        _mine.join(t.orders, t.orders.c.cycle_id == _mine.c.cycle_id)
        .outerjoin(t.cycles, (t.cycles.c.id == _mine.c.cycle_id) & (t.orders.c.key == _mine.c.key))
        .outerjoin(t.fills, t.fills.c.order_key == t.orders.c.key)
    )
    .where(_mine.c.key == bindparam("row"))
)
UPDATE_ORDER = _changed(t.orders, "key")


def _order_and_cycle() -> Update:
    """Both rows in one statement: MySQL and MariaDB only."""
    values = {
        table.c[name]: bindparam(f"{prefix}_{name}", type_=table.c[name].type)
        for prefix, table, names in (
            ("order", t.orders, rows.FATE_NAMES),
            ("cycle", t.cycles, rows.CYCLE_NAMES),
        )
        for name in names
    }
    return (
        update(t.orders)
        .values(values)
        .where(
            t.orders.c.key == bindparam("which_order"),
            t.orders.c.cycle_id == t.cycles.c.id,
            t.orders.c.version == bindparam("order_read"),
            t.cycles.c.id == bindparam("row"),
            t.cycles.c.version == bindparam("cycle_read"),
        )
    )


UPDATE_ORDER_AND_CYCLE = _order_and_cycle()


def _insert_order() -> Insert:
    """Inserts unless the cycle has a live order.

    The unique slot decides a race; the condition sees what the slot cannot, a live order that found
    the slot taken.
    """
    names = [column.name for column in t.orders.columns if column.name != "seq"]
    values = [bindparam(f"new_{name}", type_=t.orders.c[name].type) for name in names]
    other = t.orders.alias("other")
    live = exists(select(literal_column("1")).select_from(other)).where(
        other.c.cycle_id == bindparam("new_cycle_id"), other.c.status.in_(_LIVE)
    )
    statement = insert(t.orders).from_select(names, select(*values).where(~live), include_defaults=False)
    return statement.execution_options(preserve_rowcount=True)


INSERT_ORDER = _insert_order()

FILLS: Query = select(*rows.FILL).order_by(t.fills.c.seq)
FILLS_OF: Query = select(*rows.FILL).where(t.fills.c.cycle_id == bindparam("cycle")).order_by(t.fills.c.seq)
FILLS_BETWEEN: Query = (
    select(*rows.FILL)
    .where(t.fills.c.at >= bindparam("since"), t.fills.c.at < bindparam("until"))
    .order_by(t.fills.c.seq)
)
_bought_between = (
    t.fills.c.at >= bindparam("since"),
    t.fills.c.at < bindparam("until"),
    t.fills.c.side == Side.BUY.value,
)
BOUGHT_BETWEEN: Query = select(t.fills.c.qty, t.fills.c.price).where(*_bought_between)
# For databases that multiply exactly; SQLite would make floats of them.
_qty, _price = (type_coerce(column, Numeric()) for column in (t.fills.c.qty, t.fills.c.price))
COST_BETWEEN: Query = select(func.sum(_qty * _price, type_=Exact)).where(*_bought_between)
INSERT_FILL: Insert = insert(t.fills)

INSERT_EVENT: Insert = insert(t.events)
EVENTS: Query = select(*rows.EVENT).order_by(t.events.c.seq.desc()).limit(bindparam("most"))
EVENTS_NAMED: Query = EVENTS.where(t.events.c.name == bindparam("wanted"))

INSERT_DECISION: Insert = insert(t.decisions)
DECISIONS: Query = (
    select(*rows.DECISION)
    .where(t.decisions.c.asset_id == bindparam("asset"))
    .order_by(t.decisions.c.seq.desc())
    .limit(bindparam("most"))
)
DECISION_AT: Query = (
    select(*rows.DECISION)
    .where(t.decisions.c.asset_id == bindparam("asset"), t.decisions.c.at <= bindparam("instant"))
    .order_by(t.decisions.c.at.desc(), t.decisions.c.seq.desc())
    .limit(1)
)
DECISION_AFTER: Query = (
    select(*rows.DECISION)
    .where(t.decisions.c.asset_id == bindparam("asset"), t.decisions.c.at > bindparam("instant"))
    .order_by(t.decisions.c.at, t.decisions.c.seq)
    .limit(1)
)


def _bite(table: Table, *more: Any, key: str = "seq") -> tuple[Query, Delete]:
    """The oldest rows older than `before`, and the statement that deletes the ones it is given."""
    old: Query = (
        select(table.c[key])
        .where(table.c.at < bindparam("before"), *more)
        .order_by(table.c[key])
        .limit(bindparam("most"))
    )
    return old, delete(table).where(table.c[key].in_(bindparam("chosen", expanding=True)))


_newest = t.decisions.alias("newest")
_in_force = select(func.max(_newest.c.seq)).group_by(_newest.c.asset_id)
BITES = [
    _bite(t.events),
    _bite(t.outbox, t.outbox.c.sent_at.is_not(null())),
    _bite(t.decisions, t.decisions.c.seq.not_in(_in_force)),
    _bite(t.heartbeats, key="name"),
]

INSERT_MESSAGE: Insert = insert(t.outbox)
MESSAGES: Query = select(*rows.MESSAGE).where(t.outbox.c.sent_at.is_(null())).order_by(t.outbox.c.seq)
MARK_SENT = update(t.outbox).where(t.outbox.c.key == bindparam("row"), t.outbox.c.sent_at.is_(null()))

HEARTBEATS: Query = select(*rows.HEARTBEAT).order_by(t.heartbeats.c.name)
INSERT_HEARTBEAT: Insert = insert(t.heartbeats)
UPDATE_HEARTBEAT = update(t.heartbeats).where(t.heartbeats.c.name == bindparam("row"))

LEASE: Query = select(*rows.LEASE).where(t.leases.c.name == bindparam("row"))
INSERT_LEASE: Insert = insert(t.leases)
UPDATE_LEASE = _changed(t.leases, "name")

FLAG: Query = select(t.flags.c.value).where(t.flags.c.name == bindparam("row"))
FLAGS: Query = select(t.flags.c.name, t.flags.c.value).where(t.flags.c.value.is_not(null()))
INSERT_FLAG: Insert = insert(t.flags)
UPDATE_FLAG = update(t.flags).where(t.flags.c.name == bindparam("row"))

MODES: Query = select(*rows.MODE).order_by(t.modes.c.source)
INSERT_MODE: Insert = insert(t.modes)
UPDATE_MODE = update(t.modes).where(t.modes.c.source == bindparam("row"))
DROP_MODE = delete(t.modes).where(t.modes.c.source == bindparam("row"))

# The one row that every review of a buy locks: so two processes never count the same dollars as free.
FUNDS: Query = select(*rows.FUNDS).order_by(t.funds.c.read_at.desc()).limit(1)
FUNDS_LOCKED: Query = FUNDS.with_for_update()
INSERT_FUNDS: Insert = insert(t.funds)
UPDATE_FUNDS = _changed(t.funds, "account_id")

_live_buy = (
    (t.orders.c.cycle_id == t.cycles.c.id)
    & t.orders.c.status.in_(_LIVE)
    & (t.orders.c.side == Side.BUY.value)
)
STAKES: Query = (
    select(
        t.cycles.c.asset_id,
        t.cycles.c.id,
        t.cycles.c.quantity,
        t.cycles.c.average_purchase_price,
        t.cycles.c.safety_orders,
        t.orders.c.step,
        t.orders.c.qty,
        t.orders.c.filled_qty,
        t.orders.c.limit,
        t.orders.c.created_at,
        t.orders.c.sent_at,
        t.orders.c.status,
        t.orders.c.key,
    )
    .select_from(t.cycles.outerjoin(t.orders, _live_buy))
    .where(t.cycles.c.open_slot.is_not(null()), (t.cycles.c.quantity != ZERO) | t.orders.c.key.is_not(null()))
    .order_by(t.cycles.c.id)
)

BREAKERS: Query = select(*rows.BREAKER).order_by(t.breakers.c.name)
INSERT_BREAKER: Insert = insert(t.breakers)
UPDATE_BREAKER = _changed(t.breakers, "name")

BUDGET: Query = select(*rows.BUDGET).where(t.budgets.c.name == bindparam("row"))
INSERT_BUDGET: Insert = insert(t.budgets)
UPDATE_BUDGET = _changed(t.budgets, "name")

REPLACEMENTS: Query = (
    select(*rows.REPLACEMENT).where(t.replacements.c.open_slot.is_not(null())).order_by(t.replacements.c.seq)
)
REPLACEMENT: Query = select(*rows.REPLACEMENT).where(t.replacements.c.old_key == bindparam("row"))
INSERT_REPLACEMENT: Insert = insert(t.replacements)
UPDATE_REPLACEMENT = _changed(t.replacements, "old_key")

BALANCES: Query = (
    select(*rows.BALANCE)
    .where(t.balances.c.at >= bindparam("since"), t.balances.c.at < bindparam("until"))
    .order_by(t.balances.c.seq)
)
LAST_BALANCE: Query = (
    select(*rows.BALANCE)
    .where(t.balances.c.at < bindparam("until"))
    .order_by(t.balances.c.at.desc())
    .limit(1)
)
FIRST_BALANCE: Query = (
    select(*rows.BALANCE).where(t.balances.c.at >= bindparam("since")).order_by(t.balances.c.at).limit(1)
)
INSERT_BALANCE: Insert = insert(t.balances)

ACTIVITIES: Query = (
    select(*rows.ACTIVITY)
    .where(t.activities.c.at >= bindparam("since"), t.activities.c.at < bindparam("until"))
    .order_by(t.activities.c.at, t.activities.c.seq)
)
INSERT_ACTIVITY: Insert = insert(t.activities)
