"""Put capture into a database, see whether it is still whole, and take it out again.

Invariant: ``generation`` changes whenever anything had to be made or mended. A journal position
bears the generation it was read under, so a position from before a mend is never trusted after.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

from sqlalchemy import StaticPool, create_engine
from sqlalchemy.exc import DBAPIError

from bequest.errors import Refused, UsageError
from bequest.model import Catalog, Selection, Table
from bequest_schema import ALL_TABLES, HEAD, TABLES, VERSION_TABLE
from bequest_schema.tables import CAPTURE, FOLLOWING, JOURNAL, KEY_COLUMNS, SETTINGS

from .catalog import IS_OUR_TRIGGER, Schema, TableShape, read_schema
from .remembering import Identity, read_identity, write_identity
from .text import fold, identifier
from .triggers import Trigger, key_of, limit_trigger, table_triggers

JOURNAL_LIMIT = 1_000_000
"""Rows that the journal may grow to when nothing is published; then history is dropped."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the last install wrote down about itself."""

    selection: Selection = field(default_factory=Selection)
    limit: int = JOURNAL_LIMIT
    schema_version: int = -1
    fingerprint: str = ""
    generation: str = ""
    last_id: int = 0
    numbers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Plan:
    """How capture must look for the schema as it is now."""

    schema: Schema
    selection: Selection
    numbers: dict[str, int]
    limit: int

    @cached_property
    def shapes(self) -> tuple[TableShape, ...]:
        """The captured tables."""
        return self.schema.selected(self.selection)

    @cached_property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """The journalled key of each captured table."""
        return {shape.name: key_of(shape) for shape in self.shapes}

    @cached_property
    def catalog(self) -> Catalog:
        """What the engine is told."""
        found = self.schema.catalog(self.selection, self.numbers)
        return replace(found, tables=tuple(self._opaque(table) for table in found.tables))

    @cached_property
    def triggers(self) -> dict[str, tuple[Trigger, ...]]:
        """The triggers of each table, oldest first."""
        return {
            shape.name: table_triggers(shape, self.numbers[shape.name]) for shape in self.shapes
        } | {JOURNAL: (limit_trigger(self.limit),)}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when anything changes that the snapshot's schema or our keys depend on."""
        # What is not covered may come and go: ANALYZE makes a table of its own.
        catalog = replace(self.catalog, not_covered=())
        said = repr((self.selection, catalog, sorted(self.keys.items())))
        return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @cached_property
    def hidden_rowids(self) -> bool:
        """Whether VACUUM may change some table's keys."""
        return any(shape.keyed_by_hidden_rowid for shape in self.shapes)

    @cached_property
    def width(self) -> int:
        """Key columns that the journal needs."""
        return max([KEY_COLUMNS, *map(len, self.keys.values())])

    def _opaque(self, table: Table) -> Table:
        return table if self.keys[table.name] else replace(table, key=())


def installed(connection: sqlite3.Connection) -> bool:
    """Whether capture stands here, in whatever shape."""
    return _exists(connection, SETTINGS)


def read_record(connection: sqlite3.Connection) -> Record:
    """What the last install wrote; a blank record when there was none."""
    if not installed(connection):
        return Record()
    found: dict[str, str] = dict(connection.execute(f"SELECT name, value FROM {SETTINGS}"))
    if "generation" not in found:
        return Record()
    numbers = connection.execute(f"SELECT name, id FROM {CAPTURE} ORDER BY id").fetchall()
    return Record(
        Selection(tuple(json.loads(found["include"])), tuple(json.loads(found["exclude"]))),
        int(found["journal_limit"]),
        int(found["schema_version"]),
        found["fingerprint"],
        found["generation"],
        int(found["last_id"]),
        tuple(numbers),
    )


def make_plan(
    connection: sqlite3.Connection, record: Record, selection: Selection | None = None
) -> Plan:
    """How capture must look now. Tables not seen before get numbers never used before."""
    schema = read_schema(connection)
    selection = selection or record.selection
    known = dict(record.numbers)
    numbers: dict[str, int] = {}
    last = record.last_id
    for shape in schema.selected(selection):
        if shape.name not in known:
            last += 1
        numbers[shape.name] = known.get(shape.name, last)
    return Plan(schema, selection, numbers, record.limit)


def installed_at(connection: sqlite3.Connection) -> float | None:
    """When capture came here first, seconds since the epoch."""
    found = connection.execute(f"SELECT value FROM {SETTINGS} WHERE name = 'installed_at'")
    row = found.fetchone()
    return None if row is None else float(row[0])


def schema_version(connection: sqlite3.Connection) -> int:
    """SQLite's own count of schema changes (and VACUUMs)."""
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    return int(version)


def flaw(connection: sqlite3.Connection, record: Record, plan: Plan) -> str:
    """What is wrong with the capture that stands, as a short clause; empty when it is whole."""
    if plan.fingerprint != record.fingerprint:
        return "the schema changed"
    if plan.hidden_rowids and schema_version(connection) != record.schema_version:
        return "the schema changed or VACUUM ran, and some tables have no primary key of their own"
    if _wrong_tables(connection, plan):
        return "triggers are missing, changed, or not the newest of their tables"
    return ""


def install(
    connection: sqlite3.Connection,
    selection: Selection | None,
    limit: int | None,
    identity: Identity | None = None,
) -> bool:
    """Make or repair everything inside the caller's write transaction; True when something was.

    A database that does not say who it is becomes ``identity``.
    """
    _refuse_following(connection)
    migrated = _migrate(connection)
    before = read_record(connection)
    wanted = replace(before, limit=limit or before.limit)
    plan = make_plan(connection, wanted, selection)
    changed = migrated or bool(flaw(connection, before, plan))
    changed = changed or before != replace(wanted, selection=plan.selection)
    if changed:
        _widen(connection, plan.width)
        _mend(connection, plan)
    if identity is not None and not read_identity(connection).installation:
        write_identity(connection, identity)
        changed = True
    _write(connection, before, plan, changed)
    return changed


def _refuse_following(connection: sqlite3.Connection) -> None:
    if not _exists(connection, FOLLOWING):
        return
    row = connection.execute(f"SELECT promotion FROM {FOLLOWING} WHERE id = 1").fetchone()
    if row is not None and row[0] is None:
        raise Refused(
            "This database follows the backup of another controller and is read-only until it is "
            "promoted. Nothing was changed or published. Run `bequest promote` to let it take "
            "over, or give the controller's own database."
        )


def uninstall(connection: sqlite3.Connection) -> None:
    """Drop every trigger and table that `install` ever made, in the caller's transaction.

    Raises `Refused` for a database that follows: its own triggers are kept in our table.
    """
    _refuse_following(connection)
    for name, _, _, _ in _our_triggers(connection):
        connection.execute(f"DROP TRIGGER {identifier(name)}")
    for name in sorted(ALL_TABLES):
        connection.execute(f"DROP TABLE IF EXISTS {identifier(name)}")


class _Lent:
    """A connection lent to SQLAlchemy, which must not end the transaction that it is in."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def commit(self) -> None:
        """Not theirs to do."""

    rollback = close = commit


def _migrate(connection: sqlite3.Connection) -> bool:
    if _exists(connection, VERSION_TABLE):
        found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        if found == (HEAD,) and all(_exists(connection, name) for name in TABLES):
            return False
    from bequest_schema.migrations import NewerInstallation, upgrade

    engine = create_engine("sqlite://", creator=lambda: _Lent(connection), poolclass=StaticPool)
    try:
        with engine.connect() as lent, lent.begin():
            return upgrade(lent)
    except NewerInstallation as error:
        raise UsageError(
            f"Capture in this database was installed by a newer Bequest (revision {error}). "
            "Nothing is published by this one: use that version, or run its `bequest uninstall`."
        ) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)
    )
    return found.fetchone() is not None


def _our_triggers(connection: sqlite3.Connection) -> list[tuple[str, str, str, int]]:
    return connection.execute(
        "SELECT name, tbl_name, sql, rowid FROM sqlite_schema"
        f" WHERE {IS_OUR_TRIGGER} ORDER BY rowid"
    ).fetchall()


def _wrong_tables(connection: sqlite3.Connection, plan: Plan) -> set[str]:
    """The tables (lower case) whose triggers are not exactly ours, in order, and the newest."""
    wanted = {
        fold(table): [(each.name, each.sql) for each in triggers]
        for table, triggers in plan.triggers.items()
    }
    actual: dict[str, list[tuple[str, str]]] = {}
    oldest: dict[str, int] = {}
    for name, table, sql, rowid in _our_triggers(connection):
        actual.setdefault(fold(table), []).append((name, sql))
        oldest.setdefault(fold(table), rowid)
    tables = wanted.keys() | actual.keys()
    wrong = {table for table in tables if wanted.get(table) != actual.get(table)}
    for table, rowid in _newest_of_others(connection):
        if fold(table) in oldest and rowid > oldest[fold(table)]:
            wrong.add(fold(table))
    return wrong


def _newest_of_others(connection: sqlite3.Connection) -> Iterable[tuple[str, int]]:
    return connection.execute(
        "SELECT tbl_name, max(rowid) FROM sqlite_schema"
        f" WHERE type = 'trigger' AND NOT {IS_OUR_TRIGGER} GROUP BY tbl_name"
    ).fetchall()


def _mend(connection: sqlite3.Connection, plan: Plan) -> None:
    wrong = _wrong_tables(connection, plan)
    for name, table, _, _ in _our_triggers(connection):
        if fold(table) in wrong:
            connection.execute(f"DROP TRIGGER {identifier(name)}")
    for table, triggers in plan.triggers.items():
        if fold(table) in wrong:
            for trigger in triggers:
                connection.execute(trigger.sql)


def _widen(connection: sqlite3.Connection, width: int) -> None:
    columns = connection.execute(f"PRAGMA main.table_info({JOURNAL})").fetchall()
    for index in range(len(columns) - 4, width):
        connection.execute(f"ALTER TABLE {JOURNAL} ADD COLUMN k{index}")


def _write(connection: sqlite3.Connection, before: Record, plan: Plan, changed: bool) -> None:
    version = schema_version(connection)
    if not changed and version == before.schema_version:
        return
    values = {
        "include": json.dumps(plan.selection.include),
        "exclude": json.dumps(plan.selection.exclude),
        "journal_limit": str(plan.limit),
        "schema_version": str(version),
        "fingerprint": plan.fingerprint,
        "generation": secrets.token_hex(8) if changed else before.generation,
        "last_id": str(max([before.last_id, *plan.numbers.values()])),
    }
    connection.executemany(f"INSERT OR REPLACE INTO {SETTINGS} VALUES (?, ?)", values.items())
    connection.execute(
        f"INSERT OR IGNORE INTO {SETTINGS}"
        " VALUES ('installed_at', (julianday('now') - 2440587.5) * 86400.0)"
    )
    connection.execute(f"DELETE FROM {CAPTURE}")
    connection.executemany(
        f"INSERT INTO {CAPTURE} VALUES (?, ?, ?)",
        [(plan.numbers[name], name, json.dumps(key)) for name, key in plan.keys.items()],
    )
