"""A controller's own migrations, while capture is installed.

SQLite refuses to drop a column that a trigger names, and ours name the columns of unique indexes;
and it compiles no statement that fires a trigger whose table is missing. A migration that drops the
index and then the column, or every table that it finds, must not fail because of Bequest. So the
triggers in question are lifted right before such a statement, in its transaction. Nothing is
missed: missing triggers are a flaw at the next cut, and that means a rewrite from the tables.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from bequest_schema.tables import JOURNAL, LIFTED

from ...autogenerate import hidden
from . import installation
from .catalog import IS_OUR_TRIGGER, exists
from .identity import STAMPED, Known, installation_in, read_identity, stamp
from .record import read_record
from .text import Token, fold, identifier, literal, tokens

_STARTS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:ALTER|DROP)\b", re.IGNORECASE | re.DOTALL)


@contextmanager
def migration(connection: Connection) -> Generator[None]:
    """Lift what is in the way of each statement on ``connection``, and put all back at the end.

    Use it inside the migration's transaction. Where capture is not installed nothing is done, but
    that autogenerate does not see Bequest's tables.
    """
    driver = connection.connection.driver_connection
    # An asynchronous driver's connection cannot be used here; the next cut repairs it then.
    known = _known(driver) if isinstance(driver, sqlite3.Connection) else None
    undo = _lift_before(connection)
    try:
        with hidden():
            yield
    finally:
        undo()
    if known is not None and isinstance(driver, sqlite3.Connection):
        installation.install(driver, None, None, known)


def _known(connection: sqlite3.Connection) -> Known | None:
    """Who the database is and how far its journal goes, in case that is lost; ``None``: nobody."""
    identity = read_identity(connection)
    if not identity.installation:
        return None
    last = 0
    if exists(connection, JOURNAL):
        (last,) = connection.execute(f"SELECT max(seq) FROM {JOURNAL}").fetchone()
    return Known(identity, last or 0, read_record(connection).selection)


def attend(engine: Any) -> Callable[[], None]:
    """Lift what is in the way of each statement through ``engine``; returns the undo."""
    return _lift_before(getattr(engine, "sync_engine", engine))


def _lift_before(listened: Any) -> Callable[[], None]:
    def before(_: object, cursor: Any, statement: str, *__: object) -> None:
        table = broken_by(statement)
        if table is not None:
            _lift(cursor, table)

    event.listen(listened, "before_cursor_execute", before)
    return lambda: event.remove(listened, "before_cursor_execute", before)


def broken_by(statement: str) -> str | None:
    """The table whose triggers must go before ``statement``: empty for all of them, or ``None``."""
    if not _STARTS.match(statement):
        return None
    verb, kind, *rest = [*tokens(statement), _END, _END]
    if kind.name != "table":
        return None
    if [token.name for token in rest[:2]] == ["if", "exists"]:
        rest = rest[2:]
    qualified = len(rest) > 2 and rest[1].text == "."
    table = _plain(rest[2 if qualified else 0])
    if verb.name == "drop":
        return "" if fold(table) == JOURNAL else None
    return table if any(token.name in ("drop", "rename") for token in rest[1:]) else None


_END = Token("mark", "", 0, 0)


def _plain(token: Token) -> str:
    if token.kind == "word":
        return token.text
    closing = token.text[-1:]
    return token.text[1:-1].replace(closing * 2, closing)


def _standing(cursor: Any, table: str) -> list[str]:
    """Our triggers of ``table``, or all: also where an ALTER would trip over a missing journal."""
    of_table = ""
    if table:
        of_table = (
            f" AND (tbl_name = {literal(table)} COLLATE NOCASE OR NOT EXISTS"
            f" (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{JOURNAL}'))"
        )
    cursor.execute(f"SELECT name FROM sqlite_master WHERE {IS_OUR_TRIGGER}{of_table}")
    return [row[0] for row in cursor.fetchall()]


def _stand_in(cursor: Any, named: str) -> None:
    """Who drops the journal drops the settings, too: leave a view that names the installation."""
    cursor.execute(f"DROP VIEW IF EXISTS {LIFTED}")
    cursor.execute(f"CREATE VIEW {LIFTED} AS {stamp(named)}SELECT 'lifted' AS state")


def _lift(cursor: Any, table: str) -> None:
    names = _standing(cursor, table)
    if not names:
        return
    stamped: list[str] = []
    if not table:
        cursor.execute(STAMPED)
        stamped = [row[0] for row in cursor.fetchall()]
    # One transaction also where the controller is in none; else each trigger is one of its own.
    cursor.execute("SAVEPOINT bequest_lift")
    try:
        for name in names:
            cursor.execute(f"DROP TRIGGER IF EXISTS {identifier(name)}")
        if stamped:
            _stand_in(cursor, installation_in(stamped[0]))
    except BaseException:
        cursor.execute("ROLLBACK TO bequest_lift")
        raise
    finally:
        cursor.execute("RELEASE bequest_lift")
