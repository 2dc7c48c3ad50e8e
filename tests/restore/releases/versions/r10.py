"""A table gets another name, and a column that must have a value."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r10"
down_revision = "r09"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rename_table("tag", "label")
    with op.batch_alter_table("label") as batch:
        batch.add_column(sa.Column("colour", sa.String(10), nullable=False, server_default="grey"))
