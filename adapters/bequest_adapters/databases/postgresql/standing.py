"""The row that says what a database follows: who follows writes it, everybody else only looks."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from bequest.errors import Refused
from bequest_schema.tables import FOLLOWING, SCHEMA

TABLE: Final = f"{SCHEMA}.{FOLLOWING}"


def standing_row(connection: psycopg.Connection[Any], columns: str) -> tuple[Any, ...] | None:
    """Columns of the one row, ``None`` when nothing is followed here."""
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [TABLE]).fetchone()
    if found != (True,):
        return None
    return connection.execute(f"SELECT {columns} FROM {TABLE} WHERE id = 1".encode()).fetchone()


def refuse_following(connection: psycopg.Connection[Any]) -> None:
    """Raise `Refused` for a database that follows, and is not being promoted."""
    row = standing_row(connection, "promotion")
    if row is not None and row[0] is None:
        raise Refused(
            "This database follows the backup of another controller and is read-only until it is "
            "promoted. Nothing was changed or published. Run `bequest promote` to let it take "
            "over, or give the controller's own database."
        )
