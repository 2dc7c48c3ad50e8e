"""For Alembic's own commands, such as ``alembic history``; `upgrade` does not come this way."""

from __future__ import annotations

from alembic import context
from alembic.operations import Operations
from sqlalchemy import Connection

from bequest_schema.tables import VERSION_TABLE, metadata_for

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata_for(connection.dialect.name),
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations(op=Operations(context.get_context()))
