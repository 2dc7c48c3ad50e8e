"""Sites and their routers; the migration brings a row of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r01"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "site",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("address", sa.Text),
    )
    op.create_table(
        "router",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("site_id", sa.Integer, sa.ForeignKey("site.id"), nullable=False),
        sa.Column("hostname", sa.String(80)),
        sa.Column("vendor", sa.String(40)),
        sa.Column("ports", sa.String(10)),
    )
    op.create_table(
        "setting", sa.Column("k", sa.String(40), primary_key=True), sa.Column("v", sa.Text)
    )
    op.execute("INSERT INTO setting VALUES ('greeting', 'from the migration')")
