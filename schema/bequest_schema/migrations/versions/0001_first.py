"""The first shape: journal, memory, capture, settings.

The columns are written out, not taken from ``tables.py``: a migration stays as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from bequest_schema.tables import KEPT_SMALL, Native, Untyped

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    if op.get_context().dialect.name == "sqlite":
        _sqlite_journal(op)
    else:
        _postgresql_journal(op)
        _memory(op)
    op.create_table(
        "bequest_capture",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
    )
    op.create_table(
        "bequest_settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    if op.get_context().dialect.name != "sqlite":
        _kept_small(op)


def _memory(op: Operations) -> None:
    op.create_table(
        "bequest_memory",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("serial", sa.Integer, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("base_bytes", sa.BigInteger, nullable=False),
        sa.Column("tail_bytes", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.Column("intents", sa.LargeBinary, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("last_success", sa.Float(53)),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("last_rewrite", sa.Float(53)),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("inherited", sa.Text, nullable=False),
        sa.Column("installation", sa.Text, nullable=False),
        sa.Column("witnesses", sa.Text, nullable=False),
        sa.Column("earlier_installations", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
    )


def _sqlite_journal(op: Operations) -> None:
    op.create_table(
        "bequest_journal",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("tab", sa.Integer, nullable=False),
        sa.Column("op", Untyped(), nullable=False),
        *(sa.Column(f"k{index}", Untyped()) for index in range(4)),
    )


def _postgresql_journal(op: Operations) -> None:
    op.create_table(
        "bequest_journal",
        sa.Column("txid", Native("xid8"), nullable=False),
        sa.Column("at", Native("timestamptz"), nullable=False),
        sa.Column("tab", Native("int4"), nullable=False),
        sa.Column("op", Native('"char"'), nullable=False),
        sa.Column("keys", Native("text[]")),
    )


def _kept_small(op: Operations) -> None:
    for name in ("bequest_journal", "bequest_memory"):
        op.execute(KEPT_SMALL.format(name))


def downgrade(op: Operations) -> None:
    for name in ("bequest_settings", "bequest_capture", "bequest_memory", "bequest_journal"):
        op.execute(f"DROP TABLE IF EXISTS {name}")
