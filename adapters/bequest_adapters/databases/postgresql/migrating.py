"""Bequest's own tables by their migrations, on a connection of ours lent to SQLAlchemy."""

from __future__ import annotations

import psycopg
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import StaticPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from bequest.errors import UsageError
from bequest_schema.migrations import NewerInstallation, upgrade
from bequest_schema.tables import SCHEMA

from .connection import Connection


def migrate(connection: Connection, name: str) -> bool:
    """Make or lead on the schema ``bequest``, in one transaction; ``connection`` is used up.

    Raises `UsageError`, and psycopg's errors.
    """
    connection.autocommit = False
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connection,
        poolclass=StaticPool,
        use_native_hstore=False,
    )
    try:
        with engine.begin() as lent:
            return make_tables(lent)
    except NewerInstallation as error:
        raise UsageError(
            f"Capture in {name} was installed by a newer Bequest (revision {error}). Nothing is "
            "published by this one: use that version, or run its `bequest uninstall`."
        ) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from error
        raise


def make_tables(connection: SqlConnection) -> bool:
    """The same within the caller's transaction, whose search path is changed."""
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    connection.execute(text(f"SET LOCAL search_path = {SCHEMA}"))
    return upgrade(connection)
