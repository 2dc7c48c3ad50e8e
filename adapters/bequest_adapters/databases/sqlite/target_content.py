"""What a database at the destination holds: rows, or definitions only.

A controller's start script often makes the tables (``create_all``, ``alembic upgrade``) before it
restores. Such a database holds nothing that a restore could lose.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from .text import identifier

VERSION_TABLE: Final = "alembic_version"
"""Alembic's own; its row tells of definitions, not of data."""
_DEFINITIONS: Final = (
    "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE substr(lower(tbl_name), 1, 8) <> 'bequest_'"
    " AND substr(lower(name), 1, 7) <> 'sqlite_')"
)
# The parts of a virtual table have rows even when it is empty.
_TABLES: Final = (
    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')"
    " AND substr(lower(name), 1, 8) <> 'bequest_' AND substr(lower(name), 1, 7) <> 'sqlite_'"
    f" AND lower(name) <> '{VERSION_TABLE}'"
)


def has_definitions(connection: sqlite3.Connection) -> bool:
    """Whether there is anything of an application's, be it an empty table."""
    return bool(connection.execute(_DEFINITIONS).fetchone()[0])


def has_rows(connection: sqlite3.Connection) -> bool:
    """Whether a table of the application's has a row, or cannot be looked into."""
    tables = [str(row[0]) for row in connection.execute(_TABLES)]
    return any(_has_row(connection, table) for table in tables)


def _has_row(connection: sqlite3.Connection, table: str) -> bool:
    statement = f"SELECT EXISTS (SELECT 1 FROM main.{identifier(table)})"
    try:
        return bool(connection.execute(statement).fetchone()[0])
    except sqlite3.OperationalError:  # such as the module of a virtual table that is not loaded
        return True
