"""A column gets another name, and its index with it."""

from __future__ import annotations

from alembic import op

revision = "r04"
down_revision = "r03"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("router_hostname", "router")
    with op.batch_alter_table("router") as batch:
        batch.alter_column("hostname", new_column_name="name")
    op.create_index("router_name", "router", ["name"], unique=True)
