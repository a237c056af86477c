"""The first schema.

Written out, not made from `tables.metadata`: it must give the same tables after those have changed.
"""

import sqlalchemy as sa

from dca.adapters.db.steps import OPTIONS, create_index, create_table
from dca.adapters.db.types import Exact, Id, Json, LongText, Utc

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _install()
    _assets()
    _cycles()
    _orders()
    _fills()
    _events()
    _outbox()
    _signs_of_life()


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup")


def _install() -> None:
    create_table(
        "dca_install",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("nonce", sa.String(8), nullable=False),
        sa.Column("created_at", Utc, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dca_install"),
        **OPTIONS,
    )


def _assets() -> None:
    create_table(
        "dca_assets",
        sa.Column("id", Id, nullable=False),
        sa.Column("asset_symbol", sa.String(32), nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("base_order_amount", Exact, nullable=False),
        sa.Column("safety_order_amount", Exact, nullable=False),
        sa.Column("max_safety_orders", sa.Integer, nullable=False),
        sa.Column("safety_order_deviation", Exact, nullable=False),
        sa.Column("take_profit_percent", Exact, nullable=False),
        sa.Column("safety_order_step_scale", Exact, nullable=False),
        sa.Column("safety_order_volume_scale", Exact, nullable=False),
        sa.Column("ttp_enabled", sa.Boolean, nullable=False),
        sa.Column("ttp_deviation_percent", Exact, nullable=False),
        sa.Column("take_profit_net_of_fees", sa.Boolean, nullable=False),
        sa.Column("buy_order_price_deviation_percent", Exact, nullable=False),
        sa.Column("cooldown_period", sa.Integer, nullable=False),
        sa.Column("max_cycle_spend", Exact),
        sa.Column("last_sell_price", Exact),
        sa.Column("halted_reason", LongText),
        sa.Column("created_at", Utc, nullable=False),
        sa.Column("updated_at", Utc, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dca_assets"),
        sa.UniqueConstraint("asset_symbol", name="uq_dca_assets_asset_symbol"),
        **OPTIONS,
    )


def _cycles() -> None:
    create_table(
        "dca_cycles",
        sa.Column("id", Id, nullable=False),
        sa.Column("asset_id", Id, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("quantity", Exact, nullable=False),
        sa.Column("average_purchase_price", Exact, nullable=False),
        sa.Column("safety_orders", sa.Integer, nullable=False),
        sa.Column("latest_order_id", sa.String(191)),
        sa.Column("latest_order_created_at", Utc),
        sa.Column("last_order_fill_price", Exact),
        sa.Column("highest_trailing_price", Exact),
        sa.Column("completed_at", Utc),
        sa.Column("sell_price", Exact),
        sa.Column("created_at", Utc, nullable=False),
        sa.Column("updated_at", Utc, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("open_slot", Id),
        sa.PrimaryKeyConstraint("id", name="pk_dca_cycles"),
        sa.UniqueConstraint("open_slot", name="uq_dca_cycles_open_slot"),
        sa.ForeignKeyConstraint(["asset_id"], ["dca_assets.id"], name="fk_dca_cycles_asset_id"),
        **OPTIONS,
    )
    create_index("dca_cycles", "asset_id", "completed_at")


def _orders() -> None:
    create_table(
        "dca_orders",
        sa.Column("seq", Id, nullable=False),
        sa.Column("key", sa.String(191), nullable=False),
        sa.Column("cycle_id", Id, nullable=False),
        sa.Column("symbol", sa.String(32), nullable=False),
        sa.Column("side", sa.String(8), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("qty", Exact, nullable=False),
        sa.Column("limit", Exact),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", Utc, nullable=False),
        sa.Column("updated_at", Utc, nullable=False),
        sa.Column("filled_qty", Exact, nullable=False),
        sa.Column("filled_avg_price", Exact),
        sa.Column("venue_id", sa.String(191)),
        sa.Column("unclear", sa.Boolean, nullable=False),
        sa.Column("detail", LongText, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("live_slot", Id),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_orders"),
        sa.UniqueConstraint("key", name="uq_dca_orders_key"),
        sa.UniqueConstraint("live_slot", name="uq_dca_orders_live_slot"),
        sa.ForeignKeyConstraint(["cycle_id"], ["dca_cycles.id"], name="fk_dca_orders_cycle_id"),
        **OPTIONS,
    )
    create_index("dca_orders", "cycle_id")
    create_index("dca_orders", "status")


def _fills() -> None:
    create_table(
        "dca_fills",
        sa.Column("seq", Id, nullable=False),
        sa.Column("id", sa.String(191), nullable=False),
        sa.Column("order_key", sa.String(191), nullable=False),
        sa.Column("cycle_id", Id, nullable=False),
        sa.Column("side", sa.String(8), nullable=False),
        sa.Column("qty", Exact, nullable=False),
        sa.Column("price", Exact, nullable=False),
        sa.Column("fee", Exact, nullable=False),
        sa.Column("cum_qty", Exact, nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_fills"),
        sa.UniqueConstraint("id", name="uq_dca_fills_id"),
        sa.UniqueConstraint("order_key", "cum_qty", name="uq_dca_fills_order_key_cum_qty"),
        sa.ForeignKeyConstraint(["order_key"], ["dca_orders.key"], name="fk_dca_fills_order_key"),
        **OPTIONS,
    )
    create_index("dca_fills", "cycle_id")


def _events() -> None:
    create_table(
        "dca_events",
        sa.Column("seq", Id, nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("asset_id", Id),
        sa.Column("cycle_id", Id),
        sa.Column("order_key", sa.String(191)),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_events"),
        **OPTIONS,
    )
    create_index("dca_events", "name")
    create_index("dca_events", "cycle_id")


def _outbox() -> None:
    create_table(
        "dca_outbox",
        sa.Column("seq", Id, nullable=False),
        sa.Column("key", sa.String(191), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("text", LongText, nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.Column("sent_at", Utc),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_outbox"),
        sa.UniqueConstraint("key", name="uq_dca_outbox_key"),
        **OPTIONS,
    )
    create_index("dca_outbox", "sent_at")


def _signs_of_life() -> None:
    create_table(
        "dca_heartbeats",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dca_heartbeats"),
        **OPTIONS,
    )
    create_table(
        "dca_leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("expires_at", Utc, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dca_leases"),
        **OPTIONS,
    )
    create_table(
        "dca_flags",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", LongText),
        sa.Column("updated_at", Utc, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dca_flags"),
        **OPTIONS,
    )
