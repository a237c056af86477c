"""The statements, built once: SQLAlchemy then compiles each once per dialect and finds it again.

Every read of the hot paths is one statement.
"""

from typing import Any

from sqlalchemy import (
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)

from dca.adapters.db import rows
from dca.adapters.db import tables as t
from dca.domain.money import ZERO
from dca.domain.order import LIVE
from dca.ports import HALTED

Query = Select[Any]

_LIVE = sorted(status.value for status in LIVE)


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

STANDING: Query = (
    select(
        t.assets.c.version,
        t.cycles.c.id,
        t.cycles.c.version,
        select(func.count()).select_from(t.orders).where(t.orders.c.status.in_(_LIVE)).scalar_subquery(),
        select(t.flags.c.value).where(t.flags.c.name == HALTED).scalar_subquery(),
    )
    .select_from(_with_open_cycle)
    .where(t.assets.c.id == bindparam("row"))
)

CYCLES: Query = select(*CYCLE).order_by(t.cycles.c.id)
CYCLE_BY_ID: Query = select(*CYCLE).where(t.cycles.c.id == bindparam("row"))
INSERT_CYCLE: Insert = insert(t.cycles)
UPDATE_CYCLE = _changed(t.cycles, "id")
OWNED: Query = select(t.cycles.c.quantity).where(
    t.cycles.c.asset_id == bindparam("row"), t.cycles.c.quantity != ZERO
)

ORDERS: Query = select(*rows.ORDER).order_by(t.orders.c.seq)
ORDER: Query = select(*rows.ORDER).where(t.orders.c.key == bindparam("row"))
ORDERS_OF: Query = (
    select(*rows.ORDER).where(t.orders.c.cycle_id == bindparam("cycle")).order_by(t.orders.c.seq)
)
# By status, not by slot: an order that turned up late may be live without a slot.
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
INSERT_FILL: Insert = insert(t.fills)

INSERT_EVENT: Insert = insert(t.events)
EVENTS: Query = select(*rows.EVENT).order_by(t.events.c.seq.desc()).limit(bindparam("most"))
EVENTS_NAMED: Query = EVENTS.where(t.events.c.name == bindparam("wanted"))

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
INSERT_FLAG: Insert = insert(t.flags)
UPDATE_FLAG = update(t.flags).where(t.flags.c.name == bindparam("row"))
