"""Data only: names are written in one way. The schema stays."""

from __future__ import annotations

from alembic import op

revision = "r08"
down_revision = "r07"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE site SET name = upper(name)")
    op.execute("UPDATE setting SET v = 'changed by the migration' WHERE k = 'greeting'")
