"""A controller's own migrations, while capture is installed.

SQLite refuses to drop a column that a trigger names, and ours name the columns of unique indexes.
A migration that drops the index and then the column must not fail because of Bequest, so the
triggers are lifted for it. Nothing is missed: missing triggers are a fault at the next cut, and a
fault means a rewrite from the tables.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from . import installation
from .catalog import IS_OUR_TRIGGER
from .text import identifier

_BREAKS = re.compile(r"\s*ALTER\s+TABLE\b.*\b(DROP|RENAME)\b", re.IGNORECASE | re.DOTALL)


@contextmanager
def migration(connection: Connection) -> Generator[None]:
    """Lift capture from ``connection``'s database, and put it back in the same transaction.

    Does nothing where capture is not installed. Use it inside the migration's transaction.
    """
    cursor = connection.connection.cursor()
    lifted = _lift(cursor)
    cursor.close()
    yield
    driver = connection.connection.driver_connection
    # An asynchronous driver's connection cannot be used here; the next cut mends it then.
    if lifted and isinstance(driver, sqlite3.Connection):
        installation.install(driver, None, None)


def lift_on_alter(engine: Any) -> Callable[[], None]:
    """Lift capture when a column goes or gets a name through ``engine``; returns the undo."""
    listened = getattr(engine, "sync_engine", engine)

    def before(
        connection: object, cursor: Any, statement: str, parameters: object, *_: object
    ) -> None:
        if _BREAKS.match(statement):
            _lift(cursor)

    event.listen(listened, "before_cursor_execute", before)
    return lambda: event.remove(listened, "before_cursor_execute", before)


def _lift(cursor: Any) -> bool:
    cursor.execute(f"SELECT name FROM sqlite_master WHERE {IS_OUR_TRIGGER}")
    names = [row[0] for row in cursor.fetchall()]
    for name in names:
        cursor.execute(f"DROP TRIGGER IF EXISTS {identifier(name)}")
    return bool(names)
