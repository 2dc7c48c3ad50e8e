"""A column is added, with a default for the rows that are there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r02"
down_revision = "r01"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("router", sa.Column("mtu", sa.Integer, server_default="1500", nullable=False))
