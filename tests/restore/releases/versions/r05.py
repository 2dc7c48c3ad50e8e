"""A column gets another type."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r05"
down_revision = "r04"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("router") as batch:
        batch.alter_column(
            "ports",
            type_=sa.Integer,
            existing_type=sa.String(10),
            postgresql_using="ports::integer",
        )
