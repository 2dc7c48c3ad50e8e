"""What an installation writes down about itself, in ``bequest_settings`` and ``bequest_capture``.

Invariants:
* ``fingerprint`` is empty from the first step of an installation to its last: a database in which
  one did not finish is never taken for whole.
* ``generation`` changes whenever anything had to be made or repaired. A journal position bears the
  generation under which it was read, so a position from before a repair is never trusted after it.
* The number of a table is written down before a trigger bears it.

Either table may be gone: what it said is read from the triggers where they know it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bequest.model import Selection
from bequest_schema.tables import CAPTURE, SETTINGS

from .catalog import exists
from .identity import Identity, parse, settings_of

JOURNAL_LIMIT = 100_000
"""Rows that the journal keeps. Between two publishes hardly ever are more; if so, the next one is a
rewrite, which a tail of that length is close to anyway. They take about 3 MB."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the last installation wrote down."""

    selection: Selection = field(default_factory=Selection)
    limit: int = JOURNAL_LIMIT
    schema_version: int = -1
    fingerprint: str = ""
    generation: str = ""
    last_id: int = 0
    numbers: tuple[tuple[str, int], ...] = ()
    identity: Identity = field(default_factory=Identity)


def schema_version(connection: sqlite3.Connection) -> int:
    """SQLite's own count of schema changes (and VACUUMs)."""
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    return int(version)


def read_generation(connection: sqlite3.Connection) -> str:
    """The present generation; empty where there is none. The settings must exist."""
    found = connection.execute(f"SELECT value FROM {SETTINGS} WHERE name = 'generation'").fetchone()
    return "" if found is None else str(found[0])


def read_record(connection: sqlite3.Connection) -> Record:
    """What the last installation wrote; a blank record when there was none."""
    found: dict[str, str] = {}
    if exists(connection, SETTINGS):
        found = dict(connection.execute(f"SELECT name, value FROM {SETTINGS}").fetchall())
    numbers = _numbers(connection)
    return Record(
        Selection(
            tuple(json.loads(found.get("include", '["*"]'))),
            tuple(json.loads(found.get("exclude", "[]"))),
        ),
        int(found.get("journal_limit", JOURNAL_LIMIT)),
        int(found.get("schema_version", -1)),
        found.get("fingerprint", ""),
        found.get("generation", ""),
        max([int(found.get("last_id", 0)), *(number for _, number in numbers)]),
        tuple(numbers),
        parse(found),
    )


def _numbers(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    if exists(connection, CAPTURE):
        sql = f"SELECT name, id FROM {CAPTURE} ORDER BY id"
        return connection.execute(sql).fetchall()
    return connection.execute(
        "SELECT tbl_name, CAST(substr(name, 9) AS INTEGER) FROM sqlite_schema"
        " WHERE type = 'trigger' AND name GLOB 'bequest_[0-9]*_ai' ORDER BY 2"
    ).fetchall()


def installed_at(connection: sqlite3.Connection) -> float | None:
    """When capture came here first, seconds since the epoch."""
    if not exists(connection, SETTINGS):
        return None
    found = connection.execute(f"SELECT value FROM {SETTINGS} WHERE name = 'installed_at'")
    row = found.fetchone()
    return None if row is None else float(row[0])


def write_begun(
    connection: sqlite3.Connection, record: Record, keys: Mapping[str, Sequence[str]]
) -> None:
    """Write down what is wanted, and that it is not there yet. ``keys``: of each captured table."""
    values = {
        "include": json.dumps(record.selection.include),
        "exclude": json.dumps(record.selection.exclude),
        "journal_limit": str(record.limit),
        "schema_version": "-1",
        "fingerprint": "",
        "generation": secrets.token_hex(8),
        "last_id": str(record.last_id),
        **settings_of(record.identity),
    }
    _put(connection, values)
    connection.execute(
        f"INSERT OR IGNORE INTO {SETTINGS}"
        " VALUES ('installed_at', (julianday('now') - 2440587.5) * 86400.0)"
    )
    connection.execute(f"DELETE FROM {CAPTURE}")
    connection.executemany(
        f"INSERT INTO {CAPTURE} VALUES (?, ?, ?)",
        [(number, name, json.dumps(keys[name])) for name, number in record.numbers],
    )


def write_whole(connection: sqlite3.Connection, fingerprint: str) -> None:
    """Write down that all is there, for the schema as it is in this transaction."""
    version = str(schema_version(connection))
    _put(connection, {"schema_version": version, "fingerprint": fingerprint})


def _put(connection: sqlite3.Connection, values: dict[str, str]) -> None:
    connection.executemany(f"INSERT OR REPLACE INTO {SETTINGS} VALUES (?, ?)", values.items())
