"""Alembic's entry: always on the caller's connection, in the caller's transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from bequest_schema.tables import VERSION_TABLE, metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
