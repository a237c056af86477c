"""What the complete pipeline keeps: modes, funds, breakers, budgets, replacements, the account's history."""

import sqlalchemy as sa
from alembic import op

from dca.adapters.db.steps import OPTIONS, add_column, create_index, create_table
from dca.adapters.db.types import Exact, Id, Json, LongText, Utc

revision = "0003_pipeline"
down_revision = "0002_caretakers"
branch_labels = None
depends_on = None

KEY = sa.String(191)


def upgrade() -> None:
    _columns()
    _modes()
    _venue()
    _replacements()
    _history()
    _switches()


def _columns() -> None:
    add_column("dca_assets", sa.Column("stop_loss_percent", Exact))
    add_column("dca_assets", sa.Column("stop_loss_timeout", sa.Integer))
    add_column("dca_assets", sa.Column("stop_loss_trailing", sa.Boolean))
    add_column("dca_assets", sa.Column("break_even_percent", Exact))
    add_column("dca_assets", sa.Column("stop_loss_cooldown_period", sa.Integer))
    add_column("dca_assets", sa.Column("stopped_out", sa.Boolean))
    add_column("dca_cycles", sa.Column("stop_price", Exact))
    add_column("dca_cycles", sa.Column("stop_since", Utc))
    add_column("dca_orders", sa.Column("time_in_force", sa.String(8)))
    add_column("dca_orders", sa.Column("sent_at", Utc))
    add_column("dca_events", sa.Column("uid", KEY))
    create_index("dca_events", "uid", unique=True)
    create_index("dca_fills", "at")


def _modes() -> None:
    create_table(
        "dca_modes",
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("since", Utc, nullable=False),
        sa.Column("until", Utc),
        sa.PrimaryKeyConstraint("source", name="pk_dca_modes"),
        **OPTIONS,
    )
    create_table(
        "dca_funds",
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("read_at", Utc, nullable=False),
        sa.Column("cash", Exact, nullable=False),
        sa.Column("equity", Exact, nullable=False),
        sa.Column("spendable", Exact, nullable=False),
        sa.Column("peak_equity", Exact, nullable=False),
        sa.Column("peak_at", Utc, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_dca_funds"),
        **OPTIONS,
    )


def _venue() -> None:
    create_table(
        "dca_breakers",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", Utc, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("good", sa.Integer, nullable=False),
        sa.Column("pause_s", sa.Integer, nullable=False),
        sa.Column("retry_at", Utc),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dca_breakers"),
        **OPTIONS,
    )
    create_table(
        "dca_budgets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dca_budgets"),
        **OPTIONS,
    )


def _replacements() -> None:
    create_table(
        "dca_replacements",
        sa.Column("seq", Id, nullable=False),
        sa.Column("old_key", KEY, nullable=False),
        sa.Column("cycle_id", Id, nullable=False),
        sa.Column("stage", sa.String(32), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("created_at", Utc, nullable=False),
        sa.Column("updated_at", Utc, nullable=False),
        sa.Column("new_key", KEY),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("open_slot", Id),
        sa.Column("limit", Exact),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_replacements"),
        sa.UniqueConstraint("old_key", name="uq_dca_replacements_old_key"),
        sa.UniqueConstraint("open_slot", name="uq_dca_replacements_open_slot"),
        **OPTIONS,
    )


def _history() -> None:
    create_table(
        "dca_balances",
        sa.Column("seq", Id, nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.Column("cash", Exact, nullable=False),
        sa.Column("coins", Json, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_balances"),
        **OPTIONS,
    )
    create_index("dca_balances", "at")
    create_table(
        "dca_activities",
        sa.Column("seq", Id, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", Utc, nullable=False),
        sa.Column("symbol", sa.String(32)),
        sa.Column("qty", Exact),
        sa.Column("price", Exact),
        sa.Column("net", Exact),
        sa.Column("order_id", KEY),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_activities"),
        sa.UniqueConstraint("id", name="uq_dca_activities_id"),
        **OPTIONS,
    )
    create_index("dca_activities", "at")


def _switches() -> None:
    """What operators had halted or paused stays so, under one name. All of it may run twice."""
    bind = op.get_bind()
    flags = sa.table("dca_flags", *map(sa.column, ("name", "value", "updated_at")))
    modes = sa.table("dca_modes", *map(sa.column, ("source", "mode", "reason", "since")))
    for flag, mode in (("paused", "reduce_only"), ("halted", "halted")):
        was = sa.select(flags.c.value, flags.c.updated_at).where(
            flags.c.name == flag, flags.c.value.is_not(None)
        )
        found = bind.execute(was).first()
        if found is not None:
            bind.execute(sa.delete(modes).where(modes.c.source == "operator"))
            row = {"source": "operator", "mode": mode, "reason": found[0], "since": found[1]}
            bind.execute(sa.insert(modes).values(row))
    bind.execute(sa.delete(flags).where(flags.c.name.in_(("paused", "halted"))))


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup")
