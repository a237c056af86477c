"""The tables. The migrations write the same ones out; a test demands that both agree."""

from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, UniqueConstraint

from dca.adapters.db.types import Exact, Id, Json, LongText, Utc

REVISION = "0003_pipeline"
"""The newest revision of the schema, the only one this program works on."""

VERSION_TABLE = "dca_schema"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# utf8mb4_bin is in MySQL and in MariaDB, and compares keys byte by byte as SQLite does.
OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
    # A number that was used once is never given again: cycle ids are part of the venue's keys.
    "sqlite_autoincrement": True,
}
KEY = String(191)


def _table(name: str, *parts: Any) -> Table:
    return Table(name, metadata, *parts, **OPTIONS)


def _required(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _counted() -> Column[Any]:
    """The row number, which keeps the order of writing whatever the clock did."""
    return Column("seq", Id, primary_key=True)


install = _table(
    "dca_install",
    Column("id", Integer, primary_key=True, autoincrement=False),
    _required("nonce", String(8)),
    _required("created_at", Utc),
)

assets = _table(
    "dca_assets",
    Column("id", Id, primary_key=True),
    _required("asset_symbol", String(32)),
    _required("is_enabled", Boolean),
    _required("base_order_amount", Exact),
    _required("safety_order_amount", Exact),
    _required("max_safety_orders", Integer),
    _required("safety_order_deviation", Exact),
    _required("take_profit_percent", Exact),
    _required("safety_order_step_scale", Exact),
    _required("safety_order_volume_scale", Exact),
    _required("ttp_enabled", Boolean),
    _required("ttp_deviation_percent", Exact),
    _required("take_profit_net_of_fees", Boolean),
    _required("buy_order_price_deviation_percent", Exact),
    _required("cooldown_period", Integer),
    Column("max_cycle_spend", Exact),
    Column("last_sell_price", Exact),
    Column("halted_reason", LongText),
    _required("created_at", Utc),
    _required("updated_at", Utc),
    _required("version", Integer),
    Column("paused_reason", LongText),
    Column("accepted_difference", Exact),
    Column("stop_loss_percent", Exact),
    Column("stop_loss_timeout", Integer),
    Column("stop_loss_trailing", Boolean),
    Column("break_even_percent", Exact),
    Column("stop_loss_cooldown_period", Integer),
    Column("stopped_out", Boolean),
    UniqueConstraint("asset_symbol"),
)

cycles = _table(
    "dca_cycles",
    Column("id", Id, primary_key=True),
    Column("asset_id", Id, ForeignKey("dca_assets.id"), nullable=False),
    _required("status", String(16)),
    _required("quantity", Exact),
    _required("average_purchase_price", Exact),
    _required("safety_orders", Integer),
    Column("latest_order_id", KEY),
    Column("latest_order_created_at", Utc),
    Column("last_order_fill_price", Exact),
    Column("highest_trailing_price", Exact),
    Column("completed_at", Utc),
    Column("sell_price", Exact),
    _required("created_at", Utc),
    _required("updated_at", Utc),
    _required("version", Integer),
    # The asset's id until the cycle is finished, then NULL: one unfinished cycle per asset.
    Column("open_slot", Id),
    Column("stop_price", Exact),
    Column("stop_since", Utc),
    UniqueConstraint("open_slot"),
    Index(None, "asset_id", "completed_at"),
)

orders = _table(
    "dca_orders",
    _counted(),
    _required("key", KEY),
    Column("cycle_id", Id, ForeignKey("dca_cycles.id"), nullable=False),
    _required("symbol", String(32)),
    _required("side", String(8)),
    _required("purpose", String(16)),
    _required("step", Integer),
    _required("qty", Exact),
    Column("limit", Exact),
    _required("reason", LongText),
    _required("status", String(16)),
    _required("created_at", Utc),
    _required("updated_at", Utc),
    _required("filled_qty", Exact),
    Column("filled_avg_price", Exact),
    Column("venue_id", KEY),
    _required("unclear", Boolean),
    _required("detail", LongText),
    _required("version", Integer),
    # The cycle's id while the order is live, then NULL: one live order per cycle.
    Column("live_slot", Id),
    Column("time_in_force", String(8)),
    Column("sent_at", Utc),
    UniqueConstraint("key"),
    UniqueConstraint("live_slot"),
    Index(None, "cycle_id"),
    Index(None, "status"),
)

fills = _table(
    "dca_fills",
    _counted(),
    _required("id", KEY),
    Column("order_key", KEY, ForeignKey("dca_orders.key"), nullable=False),
    _required("cycle_id", Id),
    _required("side", String(8)),
    _required("qty", Exact),
    _required("price", Exact),
    _required("fee", Exact),
    # Corrections (`fee:<order key>`) have 0 here: their id makes them one per order, and no
    # execution has it, because each leaves its order filled to more than 0.
    _required("cum_qty", Exact),
    _required("at", Utc),
    UniqueConstraint("id"),
    UniqueConstraint("order_key", "cum_qty"),
    Index(None, "cycle_id"),
    Index(None, "at"),
)

events = _table(
    "dca_events",
    _counted(),
    _required("at", Utc),
    _required("name", String(64)),
    _required("reason", LongText),
    # No foreign keys: the log says what happened even about a row it cannot find.
    Column("asset_id", Id),
    Column("cycle_id", Id),
    Column("order_key", KEY),
    _required("data", Json),
    Column("uid", KEY),
    Index(None, "name"),
    Index(None, "uid", unique=True),
    Index(None, "cycle_id"),
)

decisions = _table(
    "dca_decisions",
    _counted(),
    _required("asset_id", Id),
    Column("cycle_id", Id),
    _required("at", Utc),
    _required("code", String(64)),
    _required("reason", LongText),
    Column("bid", Exact),
    Column("ask", Exact),
    _required("data", Json),
    Index(None, "asset_id", "at"),
)

outbox = _table(
    "dca_outbox",
    _counted(),
    _required("key", KEY),
    _required("name", String(64)),
    _required("text", LongText),
    _required("at", Utc),
    Column("sent_at", Utc),
    UniqueConstraint("key"),
    Index(None, "sent_at"),
)

heartbeats = _table(
    "dca_heartbeats",
    Column("name", String(64), primary_key=True),
    _required("at", Utc),
    _required("detail", Json),
)

leases = _table(
    "dca_leases",
    Column("name", String(64), primary_key=True),
    # Empty once the lease was given back: the row stays so that its version never starts again.
    _required("holder", String(255)),
    _required("expires_at", Utc),
    _required("version", Integer),
)

flags = _table(
    "dca_flags",
    Column("name", String(64), primary_key=True),
    Column("value", LongText),
    _required("updated_at", Utc),
)

modes = _table(
    "dca_modes",
    Column("source", String(64), primary_key=True),
    _required("mode", String(16)),
    _required("reason", LongText),
    _required("since", Utc),
    Column("until", Utc),
)

funds = _table(
    "dca_funds",
    Column("account_id", String(64), primary_key=True),
    _required("read_at", Utc),
    _required("cash", Exact),
    _required("equity", Exact),
    _required("spendable", Exact),
    _required("peak_equity", Exact),
    _required("peak_at", Utc),
    _required("version", Integer),
)

breakers = _table(
    "dca_breakers",
    Column("name", String(64), primary_key=True),
    _required("state", String(16)),
    _required("since", Utc),
    _required("failures", Integer),
    _required("good", Integer),
    _required("pause_s", Integer),
    Column("retry_at", Utc),
    _required("reason", LongText),
    _required("version", Integer),
)

budgets = _table(
    "dca_budgets",
    Column("name", String(64), primary_key=True),
    _required("tokens", Integer),
    _required("at", Utc),
    _required("version", Integer),
)

replacements = _table(
    "dca_replacements",
    _counted(),
    _required("old_key", KEY),
    _required("cycle_id", Id),
    _required("stage", String(32)),
    _required("reason", LongText),
    _required("created_at", Utc),
    _required("updated_at", Utc),
    Column("new_key", KEY),
    _required("version", Integer),
    # The cycle's id until the replacement is over, then NULL: one of them per cycle.
    Column("open_slot", Id),
    Column("limit", Exact),
    UniqueConstraint("old_key"),
    UniqueConstraint("open_slot"),
)

balances = _table(
    "dca_balances",
    _counted(),
    _required("at", Utc),
    _required("cash", Exact),
    _required("coins", Json),
    Index(None, "at"),
)

activities = _table(
    "dca_activities",
    _counted(),
    _required("id", KEY),
    _required("kind", String(16)),
    _required("at", Utc),
    Column("symbol", String(32)),
    Column("qty", Exact),
    Column("price", Exact),
    Column("net", Exact),
    Column("order_id", KEY),
    _required("data", Json),
    UniqueConstraint("id"),
    Index(None, "at"),
)
