"""What operators and caretakers need: pausing an asset, an accepted difference, decision records."""

import sqlalchemy as sa

from dca.adapters.db.steps import OPTIONS, add_column, create_index, create_table
from dca.adapters.db.types import Exact, Id, Json, LongText, Utc

revision = "0002_caretakers"
down_revision = "0001_initial"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column("dca_assets", sa.Column("paused_reason", LongText, nullable=True))
    add_column("dca_assets", sa.Column("accepted_difference", Exact, nullable=True))
    create_table(
        "dca_decisions",
        sa.Column("seq", Id, nullable=False),
        sa.Column("asset_id", Id, nullable=False),
        sa.Column("cycle_id", Id, nullable=True),
        sa.Column("at", Utc, nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("bid", Exact, nullable=True),
        sa.Column("ask", Exact, nullable=True),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_dca_decisions"),
        **OPTIONS,
    )
    create_index("dca_decisions", "asset_id", "at")


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup")
