"""A column is dropped."""

from __future__ import annotations

from alembic import op

revision = "r06"
down_revision = "r05"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("router") as batch:
        batch.drop_column("vendor")
