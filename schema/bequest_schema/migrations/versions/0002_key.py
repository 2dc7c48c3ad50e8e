"""The memory knows the key that the object is under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    column = sa.Column("key_id", sa.Text, nullable=False, server_default="")
    op.add_column("bequest_memory", column)


def downgrade(op: Operations) -> None:
    op.drop_column("bequest_memory", "key_id")
