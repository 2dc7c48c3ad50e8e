"""Put capture into a database, see whether it is still whole, and take it out again.

Invariants: ``generation`` changes whenever anything had to be made or mended, so a journal position
from before a mend is never trusted after. The fingerprint is written down only from a snapshot in
which every trigger was seen to be right. Each relation is locked in a transaction of its own and
for a moment only: a writer waits for no more than `LOCK_SECONDS`, and no two locks can cross.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import Final

import psycopg

from bequest.errors import Unreachable
from bequest.model import Memory, Selection
from bequest_schema import HEAD, VERSION_TABLE
from bequest_schema.tables import CAPTURE, JOURNAL, MEMORY, SCHEMA, SETTINGS

from . import grants
from .brief_locks import BEGIN, BriefLocks
from .connection import Connection
from .fingerprint import FINGERPRINT
from .naming import identifier
from .relations import Relation, Standing, read_names, read_relations, read_triggers
from .remembering import installations, write
from .shapes import TableShape, read_shapes
from .triggers import (
    Function,
    Trigger,
    functions,
    key_columns,
    limit_function,
    triggers,
)

LOCK_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 30.0
ATTEMPTS: Final = 10
JOURNAL_LIMIT: Final = 1_000_000
"""Rows that the journal may grow to when nothing is published; then history is dropped."""

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """What the last install wrote about itself."""

    selection: Selection = field(default_factory=Selection)
    limit: int = JOURNAL_LIMIT
    fingerprint: str = ""
    generation: str = ""
    last_id: int = 0
    numbers: Mapping[Name, int] = field(default_factory=dict[Name, int])


@dataclass(frozen=True)
class Plan:
    """How capture must look for the schema as it is in one snapshot, and how it looks."""

    selection: Selection
    limit: int
    shapes: tuple[TableShape, ...]
    relations: tuple[Relation, ...]
    numbers: Mapping[Name, int]
    standing: Mapping[int, tuple[Standing, ...]]
    bodies: Mapping[str, tuple[str, tuple[str, ...], bool]]

    def number(self, root: int) -> int:
        """The journal's number for a table."""
        return self._by_root[root]

    @cached_property
    def _by_root(self) -> dict[int, int]:
        return {shape.oid: self.numbers[shape.schema, shape.name] for shape in self.shapes}

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All functions."""
        modes: dict[int, set[str]] = {}
        for relation in self.relations:
            modes.setdefault(relation.root, set()).add(relation.mode)
        of_tables = (
            functions(shape, self._by_root[shape.oid], frozenset(modes.get(shape.oid, ())))
            for shape in self.shapes
        )
        return (limit_function(self.limit), *chain.from_iterable(of_tables))

    @cached_property
    def wrong_functions(self) -> tuple[Function, ...]:
        """Those that are missing or differ."""
        return tuple(
            function
            for function in self.functions
            if self.bodies.get(function.name) != (function.body, function.settings, True)
        )

    @cached_property
    def wrong_relations(self) -> tuple[Relation, ...]:
        """Those whose triggers are not exactly ours."""
        return tuple(
            relation
            for relation in self.relations
            if {_identity(each) for each in self.wanted(relation)}
            != {
                _identity(each.trigger) if each.sound else ()
                for each in self.standing.get(relation.oid, ())
            }
        )

    @cached_property
    def forsaken(self) -> tuple[int, ...]:
        """Relations that bear our triggers and should not."""
        return tuple(set(self.standing) - {relation.oid for relation in self.relations})

    @property
    def whole(self) -> bool:
        """Whether nothing is to be mended."""
        return not (self.wrong_functions or self.wrong_relations or self.forsaken)

    def wanted(self, relation: Relation) -> tuple[Trigger, ...]:
        """The triggers of one relation."""
        return triggers(self._by_root[relation.root], relation.mode)


def _identity(trigger: Trigger) -> tuple[object, ...]:
    return (trigger.name, trigger.function, trigger.kind, trigger.tables)


def installed(connection: Connection) -> bool:
    """Whether capture stands here, in whatever shape."""
    found = connection.execute(
        f"SELECT to_regclass('bequest.{SETTINGS}') IS NOT NULL", prepare=True
    )
    return found.fetchone() == (True,)


def read_record(connection: Connection) -> Record:
    """What the last install wrote; a blank record when there was none."""
    if not installed(connection):
        return Record()
    found: dict[str, str] = dict(
        connection.execute(f"SELECT name, value FROM bequest.{SETTINGS}").fetchall()
    )
    if "generation" not in found:
        return Record()
    rows = connection.execute(f"SELECT name, id FROM bequest.{CAPTURE} ORDER BY id").fetchall()
    return Record(
        Selection(tuple(json.loads(found["include"])), tuple(json.loads(found["exclude"]))),
        int(found["journal_limit"]),
        found["fingerprint"],
        found["generation"],
        int(found["last_id"]),
        {
            (schema, name): number
            for (schema, name), number in ((json.loads(n), i) for n, i in rows)
        },
    )


def installed_at(connection: Connection) -> float | None:
    """When capture came here first, seconds since the epoch."""
    found = connection.execute(
        f"SELECT value FROM bequest.{SETTINGS} WHERE name = 'installed_at'"
    ).fetchone()
    return None if found is None else float(found[0])


def read_fingerprint(connection: Connection) -> str:
    """The schema's fingerprint in the caller's transaction."""
    row = connection.execute(FINGERPRINT.encode(), prepare=True).fetchone()
    assert row is not None
    return str(row[0])


def install(
    connection: Connection,
    fresh: Callable[[], AbstractContextManager[Connection]],
    name: str,
    selection: Selection | None,
    limit: int | None,
) -> bool:
    """Make or mend everything; True when something was. ``fresh`` opens another connection.

    Raises `Denied`, `UsageError`, `Unreachable`, and psycopg's errors.
    """
    grants.check_server(connection, name)
    changed = _migrate(connection, fresh, name)
    for _ in range(ATTEMPTS):
        plan, fingerprint, before = _look(connection, selection, limit)
        grants.check_tables(connection, plan.relations, name)
        if plan.whole:
            return _write(connection, before, plan, fingerprint, changed) or changed
        changed = True
        _mend(connection, plan, name)
    raise Unreachable(
        f"The schema of {name} changed {ATTEMPTS} times while capture was installed. Nothing is "
        "published yet; it will be tried again."
    )


def uninstall(connection: Connection, name: str) -> None:
    """Drop every trigger, function and table that `install` ever made."""
    for relation in read_names(connection, read_triggers(connection)).values():
        _locked(connection, relation, name, partial(_drop_all, connection, relation))
    connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())


def _look(
    connection: Connection, selection: Selection | None, limit: int | None
) -> tuple[Plan, str, Record]:
    """How things are and should be, in one snapshot."""

    def look() -> tuple[Plan, str, Record]:
        before = read_record(connection)
        plan = make_plan(connection, before, selection, limit)
        return plan, read_fingerprint(connection), before

    connection.execute(BEGIN.encode())
    try:
        # The server locks partitions to name them.
        return BriefLocks(connection, PATIENCE_SECONDS).hold(look)
    finally:
        connection.execute("ROLLBACK")


def make_plan(
    connection: Connection,
    record: Record,
    selection: Selection | None = None,
    limit: int | None = None,
) -> Plan:
    """Tables not seen before get numbers never used before."""
    selection = selection or record.selection
    shapes = read_shapes(connection, selection)
    numbers: dict[Name, int] = {}
    last = record.last_id
    for shape in shapes:
        name = (shape.schema, shape.name)
        if name not in record.numbers:
            last += 1
        numbers[name] = record.numbers.get(name, last)
    relations = read_relations(connection, shapes)
    return Plan(
        selection,
        limit or record.limit,
        shapes,
        relations,
        numbers,
        read_triggers(connection),
        _read_bodies(connection),
    )


def _read_bodies(
    connection: Connection,
) -> Mapping[str, tuple[str, tuple[str, ...], bool]]:
    rows = connection.execute(
        "SELECT p.proname, p.prosrc, coalesce(p.proconfig, '{}'), p.prosecdef"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'bequest'"
    ).fetchall()
    return {name: (body, tuple(config), definer) for name, body, config, definer in rows}


def install_within(connection: Connection) -> None:
    """Make everything in the caller's transaction, in which the tables were made: nobody waits.

    Bequest's own tables are there already. Raises psycopg's errors.
    """
    before = read_record(connection)
    plan = make_plan(connection, before)
    _make_functions(connection, plan)
    for relation in plan.wrong_relations:
        _make_triggers(connection, relation, plan.wanted(relation), plan.standing)
    _write_record(connection, plan, read_fingerprint(connection))


def _mend(connection: Connection, plan: Plan, name: str) -> None:
    connection.execute("BEGIN")
    _make_functions(connection, plan)
    connection.execute("COMMIT")
    for relation in plan.wrong_relations:
        wanted = plan.wanted(relation)
        _locked(
            connection,
            relation.sql,
            name,
            partial(_make_triggers, connection, relation, wanted, plan.standing),
        )
    for forsaken in read_names(connection, plan.forsaken).values():
        _locked(connection, forsaken, name, partial(_drop_all, connection, forsaken))


def _make_functions(connection: Connection, plan: Plan) -> None:
    for function in plan.wrong_functions:
        connection.execute(function.sql.encode())
        connection.execute(
            f"REVOKE ALL ON FUNCTION bequest.{identifier(function.name)}() FROM PUBLIC".encode()
        )


def _make_triggers(
    connection: Connection,
    relation: Relation,
    wanted: Sequence[Trigger],
    standing: Mapping[int, tuple[Standing, ...]],
) -> None:
    keep = {trigger.name for trigger in wanted}
    for each in standing.get(relation.oid, ()):
        if each.trigger.name not in keep:
            connection.execute(
                f"DROP TRIGGER {identifier(each.trigger.name)} ON {relation.sql}".encode()
            )
    for trigger in wanted:
        connection.execute(trigger.sql(relation.sql).encode())
        # Also for sessions that apply changes of elsewhere.
        connection.execute(
            f"ALTER TABLE ONLY {relation.sql} ENABLE ALWAYS TRIGGER {trigger.name}".encode()
        )


def _drop_all(connection: Connection, relation: str) -> None:
    found = connection.execute(
        "SELECT t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = 'bequest' AND t.tgrelid = %s::regclass AND t.tgparentid = 0",
        [relation],
    ).fetchall()
    for (trigger,) in found:
        connection.execute(f"DROP TRIGGER {identifier(trigger)} ON {relation}".encode())


# A relation may go, or change its kind, between the look and the lock: then the next look tells.
_GONE: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.WrongObjectType,
)


def _locked(connection: Connection, relation: str, name: str, work: Callable[[], None]) -> None:
    """Do ``work`` in a transaction that waits for the relation's lock only briefly, often."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = 0.01
    while True:
        try:
            connection.execute(
                f"BEGIN; SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}".encode()
            )
            work()
            connection.execute("COMMIT")
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            connection.execute("ROLLBACK")
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"The table {relation} of {name} was locked for {PATIENCE_SECONDS:g} s, so "
                    "capture could not be installed on it. Nothing is published yet; it will be "
                    "tried again. Look for a transaction that is never ended."
                ) from error
            # As long as others were kept waiting, they have their turn.
            time.sleep(pause)
            pause = min(pause * 2, LOCK_SECONDS)
        except _GONE:
            connection.execute("ROLLBACK")
            return
        else:
            return


def _migrate(
    connection: Connection, fresh: Callable[[], AbstractContextManager[Connection]], name: str
) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM unnest(%s::text[]) AS t(name)"
        " WHERE to_regclass('bequest.' || t.name) IS NOT NULL",
        [[JOURNAL, MEMORY, CAPTURE, SETTINGS, VERSION_TABLE]],
    ).fetchone()
    if found == (5,):
        version = connection.execute(f"SELECT version_num FROM bequest.{VERSION_TABLE}").fetchone()
        if version == (HEAD,):
            return False
    from .migrating import migrate

    with fresh() as lent:
        return migrate(lent, name)


def _write(
    connection: Connection, before: Record, plan: Plan, fingerprint: str, changed: bool
) -> bool:
    after = Record(
        plan.selection,
        plan.limit,
        fingerprint,
        before.generation,
        max([before.last_id, *plan.numbers.values()]),
        plan.numbers,
    )
    if after == before and not changed and installations(connection):
        return False
    connection.execute("BEGIN")
    _write_record(connection, plan, fingerprint)
    connection.execute("COMMIT")
    return True


def _write_record(connection: Connection, plan: Plan, fingerprint: str) -> None:
    last = read_record(connection).last_id
    values = {
        "include": json.dumps(plan.selection.include),
        "exclude": json.dumps(plan.selection.exclude),
        "journal_limit": str(plan.limit),
        "fingerprint": fingerprint,
        "generation": secrets.token_hex(8),
        "last_id": str(max([last, *plan.numbers.values()])),
    }
    keys = {(shape.schema, shape.name): key_columns(shape) for shape in plan.shapes}
    if not installations(connection):
        blank = Memory(installation=uuid.uuid4().hex, lineage=str(uuid.uuid4()), epoch=1)
        write(connection, blank)
    for setting, value in values.items():
        connection.execute(
            f"INSERT INTO bequest.{SETTINGS} VALUES (%s, %s)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [setting, value],
        )
    connection.execute(
        f"INSERT INTO bequest.{SETTINGS} VALUES ('installed_at',"
        " extract(epoch FROM clock_timestamp())::text) ON CONFLICT (name) DO NOTHING"
    )
    connection.execute(f"DELETE FROM bequest.{CAPTURE}")
    for name, number in plan.numbers.items():
        connection.execute(
            f"INSERT INTO bequest.{CAPTURE} VALUES (%s, %s, %s)",
            [number, json.dumps(name), json.dumps(keys[name])],
        )
