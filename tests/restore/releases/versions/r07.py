"""A table is split: addresses move out of the sites."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r07"
down_revision = "r06"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "address",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("site_id", sa.Integer, sa.ForeignKey("site.id"), nullable=False),
        sa.Column("street", sa.Text),
        sa.Column("city", sa.Text),
    )
    connection = op.get_bind()
    for number, address in connection.execute(
        sa.text("SELECT id, address FROM site WHERE address IS NOT NULL ORDER BY id")
    ).fetchall():
        street, _, city = address.partition("; ")
        connection.execute(
            sa.text("INSERT INTO address (site_id, street, city) VALUES (:site, :street, :city)"),
            {"site": number, "street": street, "city": city},
        )
    with op.batch_alter_table("site") as batch:
        batch.drop_column("address")
