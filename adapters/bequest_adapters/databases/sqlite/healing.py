"""Give triggers their journal back, before anything else is done.

SQLite cannot compile a statement that fires a trigger whose table is missing: where somebody
dropped the journal, every write of the controller fails until there is one again. So that comes
first, in one transaction that does nothing else; all the rest can wait for `installing`. It waits
for no good moment (`turns`) either: whom it could make fail fails without it.
"""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.schema import CreateTable

from bequest_schema.tables import JOURNAL, KEY_COLUMNS, journal

from .catalog import IS_CAPTURING, exists

_TOUCHED = "t"
_NO_TABLE = 0
_FIELDS = re.compile(rf"\b{JOURNAL}\(at, tab, op((?:, k\d+)*)\)")


def is_needed(connection: sqlite3.Connection) -> bool:
    """Whether triggers stand without a journal. One look into the schema as long as all is well."""
    return not exists(connection, JOURNAL) and bool(_orphans(connection))


def heal(connection: sqlite3.Connection, seq: int = 0) -> bool:
    """Make the journal again if triggers stand without it; True when it had to be made.

    ``seq``: the last row that was ever published; the new journal goes on behind it.
    ``connection`` is in no transaction.
    """
    if not is_needed(connection):
        return False
    connection.execute("BEGIN IMMEDIATE")
    made = False
    if not exists(connection, JOURNAL):
        make_journal(connection)
        continue_behind(connection, seq)
        made = True
    connection.execute("COMMIT")
    return made


def make_journal(connection: sqlite3.Connection) -> None:
    """Make the table, as wide as the triggers that stand want it."""
    connection.execute(str(CreateTable(journal).compile(dialect=dialect())))
    widen(connection, max([0, *map(_width, _orphans(connection))]))


def widen(connection: sqlite3.Connection, width: int) -> None:
    """Give the journal room for keys of ``width`` columns."""
    columns = connection.execute(f"PRAGMA main.table_info({JOURNAL})").fetchall()
    for index in range(len(columns) - len(journal.columns) + KEY_COLUMNS, width):
        connection.execute(f"ALTER TABLE {JOURNAL} ADD COLUMN k{index}")


def continue_behind(connection: sqlite3.Connection, seq: int) -> None:
    """Let the journal go on after row ``seq``, with a row that names no table."""
    if seq > 0:
        connection.execute(
            f"INSERT INTO {JOURNAL}(seq, at, tab, op) SELECT ?1, julianday('now'), ?2, ?3"
            f" WHERE NOT EXISTS (SELECT 1 FROM {JOURNAL} WHERE seq >= ?1 - 1)",
            (seq + 1, _NO_TABLE, _TOUCHED),
        )


def _orphans(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(f"SELECT sql FROM sqlite_schema WHERE {IS_CAPTURING}")
    return [row[0] for row in found.fetchall()]


def _width(trigger: str) -> int:
    return max((found[1].count("k") for found in _FIELDS.finditer(trigger)), default=0)
