"""A unique index, and another table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r03"
down_revision = "r02"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("router_hostname", "router", ["hostname"], unique=True)
    op.create_table(
        "tag",
        sa.Column("router_id", sa.Integer, sa.ForeignKey("router.id"), primary_key=True),
        sa.Column("word", sa.String(40), primary_key=True),
    )
