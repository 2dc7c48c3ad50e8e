"""A view, and rows derived from others."""

from __future__ import annotations

from alembic import op

revision = "r09"
down_revision = "r08"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE VIEW routers AS SELECT router.name, site.name AS site FROM router"
        " JOIN site ON site.id = router.site_id"
    )
    op.execute(
        "INSERT INTO setting SELECT 'count ' || site_id, count(*) FROM router GROUP BY site_id"
    )
