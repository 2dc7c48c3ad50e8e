"""How capture must look, what is wrong with the one that stands, and the steps that put it right.

The steps are an opening (our own tables, and what is wanted), one piece for each table whose
triggers are wrong, and a closing (that all is there). `install` makes them in one transaction of
the caller's; `installing` makes them in many short ones. After each step the database is sound:
what is not captured yet is known not to be, since the fingerprint comes last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

from sqlalchemy import StaticPool, create_engine
from sqlalchemy.exc import DBAPIError

from bequest.errors import Refused, UsageError
from bequest.model import Catalog, Selection, Table
from bequest_schema import ALL_TABLES, HEAD, VERSION_TABLE
from bequest_schema.tables import FOLLOWING, JOURNAL, KEY_COLUMNS, LIFTED, SETTINGS, metadata

from . import healing
from .catalog import IS_CAPTURING, IS_OUR_TRIGGER, Schema, TableShape, exists, read_schema
from .identity import Known, completed
from .record import Record, read_record, schema_version, write_begun, write_whole
from .text import fold, identifier
from .triggers import Trigger, key_of, limit_trigger, table_triggers

OWN_TABLES = frozenset(metadata.tables)
"""What an installation on SQLite consists of, beside triggers."""


@dataclass(frozen=True)
class Plan:
    """How capture must look for the schema as it is now."""

    schema: Schema
    selection: Selection
    numbers: dict[str, int]
    limit: int
    installation: str = ""

    @cached_property
    def shapes(self) -> tuple[TableShape, ...]:
        """The captured tables."""
        return self.schema.selected(self.selection)

    @cached_property
    def by_name(self) -> dict[str, TableShape]:
        """The captured tables by name."""
        return {shape.name: shape for shape in self.shapes}

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
    def by_number(self) -> dict[int, Table]:
        """The captured tables by the journal's number."""
        return {table.id: table for table in self.catalog.tables}

    @cached_property
    def collations(self) -> frozenset[str]:
        """The collations of the tables' own b-trees that only the application knows."""
        return frozenset(name for shape in self.shapes for name in shape.foreign_collations)

    @cached_property
    def triggers(self) -> dict[str, tuple[Trigger, ...]]:
        """The triggers of each table, oldest first."""
        return {
            shape.name: table_triggers(shape, self.numbers[shape.name], self.installation)
            for shape in self.shapes
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


@dataclass(frozen=True)
class Work:
    """What is to be done: ``pieces`` are statements that belong together."""

    plan: Plan
    record: Record
    pieces: tuple[tuple[str, ...], ...]
    seq: int

    def begin(self, connection: sqlite3.Connection) -> None:
        """Our tables, what is wanted, and that it is not there yet."""
        _migrate(connection)
        healing.widen(connection, self.plan.width)
        healing.continue_behind(connection, self.seq)
        write_begun(connection, self.record, self.plan.keys)

    def finish(self, connection: sqlite3.Connection) -> None:
        """That all is there."""
        connection.execute(f"DROP VIEW IF EXISTS {LIFTED}")
        if self.record.generation:
            healing.say_repaired(connection)
        write_whole(connection, self.plan.fingerprint)


def installed(connection: sqlite3.Connection) -> bool:
    """Whether capture stands here, in whatever shape."""
    return any(exists(connection, name) for name in (SETTINGS, JOURNAL)) or bool(
        connection.execute(f"SELECT 1 FROM sqlite_schema WHERE {IS_CAPTURING} LIMIT 1").fetchone()
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
    return Plan(schema, selection, numbers, record.limit, record.identity.first)


def flaw(connection: sqlite3.Connection, record: Record, plan: Plan) -> str:
    """What is wrong with the capture that stands, as a short clause; empty when it is whole."""
    if not all(exists(connection, name) for name in OWN_TABLES):
        return "a table of Bequest's is missing"
    if not (record.fingerprint and record.identity.installation):
        return "an installation did not finish"
    if plan.fingerprint != record.fingerprint:
        return "the schema changed"
    if plan.hidden_rowids and schema_version(connection) != record.schema_version:
        return "the schema changed or VACUUM ran, and some tables have no primary key of their own"
    if _wrong_tables(connection, plan):
        return "triggers are missing, changed, or not the newest of their tables"
    return ""


def look(
    connection: sqlite3.Connection,
    selection: Selection | None,
    limit: int | None,
    known: Known | None = None,
) -> Work | None:
    """What is to be done, or ``None``, in the caller's transaction; writes nothing.

    Raises `Refused` for a database that follows.
    """
    _refuse_following(connection)
    before = read_record(connection)
    if known is not None and not before.generation:
        selection = selection or known.selection
    identity = completed(connection, before.identity, known)
    wanted = replace(before, limit=limit or before.limit, identity=identity)
    plan = make_plan(connection, wanted, selection)
    wanted = replace(wanted, selection=plan.selection)
    whole = _revision(connection) == HEAD and not flaw(connection, before, plan)
    if whole and wanted == before:
        return None
    numbers = tuple(sorted(plan.numbers.items(), key=lambda item: item[1]))
    last = max([before.last_id, *plan.numbers.values()])
    record = replace(wanted, numbers=numbers, last_id=last)
    # A journal that is older than what was published was not lost: the database was rolled back.
    lost = known is not None and not exists(connection, JOURNAL)
    seq = known.seq if known is not None and lost else 0
    return Work(plan, record, tuple(_pieces(connection, plan)), seq)


def install(
    connection: sqlite3.Connection,
    selection: Selection | None,
    limit: int | None,
    known: Known | None = None,
) -> bool:
    """Make or repair everything inside the caller's write transaction; True when something was."""
    work = look(connection, selection, limit, known)
    if work is None:
        return False
    work.begin(connection)
    for piece in work.pieces:
        for statement in piece:
            connection.execute(statement)
    work.finish(connection)
    return True


def _refuse_following(connection: sqlite3.Connection) -> None:
    if not exists(connection, FOLLOWING):
        return
    row = connection.execute(f"SELECT promotion FROM {FOLLOWING} WHERE id = 1").fetchone()
    if row is not None and row[0] is None:
        raise Refused(
            "This database follows the backup of another controller and is read-only until it is "
            "promoted. Nothing was changed or published. Run `bequest promote` to let it take "
            "over, or give the controller's own database."
        )


def removal(connection: sqlite3.Connection) -> tuple[tuple[str, ...], ...]:
    """What drops every trigger that was ever made; `drop_tables` comes after it.

    Raises `Refused` for a database that follows: its own triggers are kept in our table.
    """
    _refuse_following(connection)
    return tuple((f"DROP TRIGGER {identifier(name)}",) for name, *_ in _our_triggers(connection))


def drop_tables(connection: sqlite3.Connection) -> None:
    """Drop every table that was ever made, in the caller's transaction."""
    connection.execute(f"DROP VIEW IF EXISTS {LIFTED}")
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


def _revision(connection: sqlite3.Connection) -> str:
    if not exists(connection, VERSION_TABLE):
        return ""
    found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
    return "" if found is None else str(found[0])


def _migrate(connection: sqlite3.Connection) -> None:
    if _revision(connection) == HEAD and all(exists(connection, name) for name in OWN_TABLES):
        return
    from bequest_schema.migrations import NewerInstallation, upgrade

    engine = create_engine("sqlite://", creator=lambda: _Lent(connection), poolclass=StaticPool)
    try:
        with engine.connect() as lent, lent.begin():
            upgrade(lent)
    except NewerInstallation as error:
        raise UsageError(
            f"Capture in this database was installed by a newer Bequest (revision {error}). "
            "Nothing is published by this one: use that version, or run its `bequest uninstall`."
        ) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise


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


def _pieces(connection: sqlite3.Connection, plan: Plan) -> Iterator[tuple[str, ...]]:
    """For each table with wrong triggers what makes them right; the journal's limit comes first."""
    wrong = _wrong_tables(connection, plan)
    wanted = {fold(table): triggers for table, triggers in plan.triggers.items()}
    standing: set[str] = set()
    of_table: dict[str, list[str]] = {}
    for name, table, _, _ in _our_triggers(connection):
        if fold(table) in wrong:
            standing.add(name)
            of_table.setdefault(fold(table), []).append(name)
    for table in sorted(wrong, key=lambda table: table != fold(JOURNAL)):
        making = wanted.get(table, ())
        # A name that is wanted here may still stand at a table that was called so before.
        going = standing.intersection((*of_table.get(table, ()), *(each.name for each in making)))
        standing -= going
        yield (
            *(f"DROP TRIGGER {identifier(name)}" for name in sorted(going)),
            *(each.sql for each in making),
        )
