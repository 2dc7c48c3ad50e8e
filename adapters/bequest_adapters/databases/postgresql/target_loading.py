"""Filling the database, inside the restore's one transaction.

Invariants: nothing fires, and nothing but types is checked, while rows are loaded, for keys, checks
and triggers are made afterwards (session_replication_role would need a superuser); what a missing
role or right makes impossible (a grant, a policy, a comment on what is not ours) is left out and
named, everything else must succeed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import errors as server_errors
from psycopg.rows import tuple_row
from sqlalchemy import URL
from sqlalchemy import Connection as Lent

from bequest.errors import BequestError
from bequest.model import Attributes, Catalog, Memory, Row, SchemaObject, Table

from . import reading
from .behind import Behind
from .copying import Copying, copying
from .definitions_items import BEFORE_ROWS
from .installation import install_within
from .migrating import make_tables
from .naming import qualified
from .remembering import write
from .shapes import BASES
from .target_faults import said
from .target_lending import lent
from .target_occupying import Occupied, occupy
from .target_place import check_extensions, drop_ours, put_aside

_SEQUENCE: Final = "sequence "
_SETTINGS: Final = (
    "SET LOCAL check_function_bodies = off",
    "SET LOCAL lock_timeout = '10s'",
    "SET LOCAL maintenance_work_mem = '256MB'",
    # A tenth of the sample for a fifth of the time; autovacuum takes its own within a minute.
    "SET LOCAL default_statistics_target = 10",
    "SET LOCAL default_tablespace = ''",
    "SET LOCAL default_table_access_method = 'heap'",
    # Bodies of functions may rely on it; all that we say ourselves is named in full.
    'SET LOCAL search_path = "$user", public',
)
_NAMED_IN_FULL: Final = "SET LOCAL search_path = ''"
_AS_THE_APPLICATION: Final = 'SET LOCAL search_path = "$user", public'
_FOR_ROLES: Final = ("grant", "default privilege", "policy", "comment")
_ROW_SECURITY: Final = "row security"
_TYPES: Final = f"""
WITH RECURSIVE {BASES}
SELECT a.attname, b.base, t.typtype = 'e' FROM pg_attribute a JOIN bases b ON b.oid = a.atttypid
JOIN pg_type t ON t.oid = b.base
WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""
_EITHER_WAY: Final = "DO "
"""A crossing's constraints: they are added valid, or not valid where rows are in the way."""
_NOT_VALID: Final = """
SELECT c.conrelid::regclass::text, c.conname FROM pg_catalog.pg_constraint c
WHERE NOT c.convalidated AND c.conrelid >= 16384 ORDER BY 1, 2
"""
_SEQUENCES: Final = """
SELECT n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'
"""


class PostgresLoading:
    """A `bequest.ports.Loading`. ``left_out`` names what could not be made for want of a role."""

    def __init__(
        self, connection: psycopg.Connection[Any], url: URL, name: str, *, force: bool
    ) -> None:
        self.kept: str | None = None
        self.left_out: list[tuple[str, str]] = []
        self._connection = connection
        self._url = url
        self._name = name
        self._force = force
        self._begun = False
        self._fresh = True
        self._catalog = Catalog(())
        self._attributes: Attributes = {}
        self._copying: dict[int, Copying] = {}
        self._rest: tuple[SchemaObject, ...] = ()
        self._finished = False
        self._behind = Behind(connection)

    def create(self, catalog: Catalog, attributes: Attributes) -> None:
        """Make the tables. Raises `Refused` when this server cannot."""
        self._start(catalog, attributes)
        self._make_all(*_before_rows(catalog))
        self._be_ready()

    def _start(self, catalog: Catalog, attributes: Attributes) -> None:
        self._catalog, self._attributes = catalog, attributes
        with said(self._name, "asking for the extensions"):
            check_extensions(self._connection, self._name, catalog)
        self._begin()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        with said(self._name, "preparing the transaction"):
            for setting in _SETTINGS:
                self._execute(setting)
            self._execute(_NAMED_IN_FULL)
        with said(self._name, "putting the old data aside"):
            drop_ours(self._connection)
            self.kept = put_aside(self._connection, self._name, force=self._force)

    def _be_ready(self) -> None:
        for table in self._catalog.tables:
            self._copying[table.id] = self._prepare(table)
        with said(self._name, "preparing the load"):
            self._execute(_AS_THE_APPLICATION)

    @contextmanager
    def lend(self, attributes: Attributes) -> Generator[Lent]:
        """`bequest.ports.Migratable.lend`: what is committed there is a savepoint here."""
        self._begin()
        if self._finished:
            self._secure()
        with said(self._name, "running the migrations"):
            with lent(self._connection, self._url, self._name) as connection:
                yield connection
            self._execute(_NAMED_IN_FULL)

    def occupy(self, catalog: Catalog, attributes: Attributes) -> None:
        """`bequest.ports.Migratable.occupy`."""
        self._start(catalog, attributes)
        with said(self._name, "emptying what the migrations filled"):
            occupied = occupy(self._connection, catalog, self._name)
        objects, rest = _before_rows(catalog)
        self._make_all(objects, _missing(rest, occupied), occupied)
        self._rest = (*self._rest, *occupied.afterwards, *occupied.security)
        self._be_ready()

    def _make_all(
        self,
        objects: Sequence[SchemaObject],
        rest: Sequence[SchemaObject],
        occupied: Occupied | None = None,
    ) -> None:
        self._rest = tuple(rest)
        tables = sorted(self._catalog.tables, key=lambda table: _turn(table, len(objects)))
        made = 0
        for table in tables:
            place = _turn(table, len(objects))[0]
            self._build(_missing(objects[made:place], occupied))
            made = max(made, place)
            if occupied is not None and (table.schema, table.name) in occupied.tables:
                continue
            with said(self._name, f"making table {table.name!r}"):
                self._execute(table.sql)
        self._build(_missing(objects[made:], occupied))

    def _prepare(self, table: Table) -> Copying:
        with said(self._name, f"looking at table {table.name!r}"):
            cursor = psycopg.RawCursor(self._connection, row_factory=tuple_row)
            name = qualified(table.schema, table.name)
            rows = cursor.execute(_TYPES.encode(), [name]).fetchall()
        raw = self._connection.info.parameter_status("server_encoding") == "SQL_ASCII"
        enums = {name for name, _, is_enum in rows if is_enum}
        bases = {row[0]: row[1] for row in rows}
        return copying(table, bases, enums, raw=raw, fresh=self._fresh)

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """Add ``rows`` while the caller makes the next ones ready.

        Raises `Refused` when the server did not take one of those before; the next call, or
        `finish`, tells of these.
        """
        self._behind.begin(lambda: self.copy(table, rows))

    def copy(self, table: Table, rows: Iterable[Row]) -> None:
        """Add ``rows`` now. Raises `Refused` when the server does not take one."""
        with said(self._name, f"loading table {table.name!r}"):
            self._copying[table.id].run(self._connection.cursor(), rows)

    def finish(self) -> None:
        """Add keys, indexes, views, triggers and the rest; set the sequences; gather statistics."""
        self._behind.settle()
        with said(self._name, "setting the sequences"):
            self._set_sequences(self._attributes)
            self._execute(_NAMED_IN_FULL)
        for table in self._catalog.tables:
            # An index over an expression can fail to be analysed; the planner does without.
            with suppress(psycopg.errors.DatabaseError), self._connection.transaction():
                self._execute(f"ANALYZE {qualified(table.schema, table.name)}")
        # Forced upon the owner it would hide the rows that are still to be read back.
        self._build(item for item in self._rest if item.type != _ROW_SECURITY)
        self._tell_broken()
        self._finished = True

    def _tell_broken(self) -> None:
        """Name the constraints that the rows of another engine do not satisfy."""
        if not any(item.sql.startswith(_EITHER_WAY) for item in self._catalog.objects):
            return
        with said(self._name, "looking for constraints that do not hold"):
            rows = self._connection.execute(_NOT_VALID).fetchall()
        self.left_out += [
            (f"{table}.{name}", "rows do not satisfy it: it is NOT VALID, and holds for new rows")
            for table, name in rows
        ]

    def _set_sequences(self, attributes: Attributes) -> None:
        cursor = self._connection.cursor(row_factory=tuple_row)
        there: dict[str, str] = dict(cursor.execute(_SEQUENCES).fetchall())
        for name, value in attributes.items():
            sequence = there.get(name.removeprefix(_SEQUENCE))
            if not name.startswith(_SEQUENCE) or sequence is None:
                continue
            last, called = str(value).split()
            cursor.execute(
                "SELECT pg_catalog.setval(%s::regclass, %s, %s)",
                [sequence, int(last), called.lower().startswith("t")],
            )

    def _build(self, objects: Iterable[SchemaObject]) -> None:
        for item in objects:
            with said(self._name, f"making {item.type} {item.name!r}"):
                self._make(item)

    def _make(self, item: SchemaObject) -> None:
        try:
            with self._connection.transaction():
                self._execute(item.sql)
        except (server_errors.UndefinedObject, server_errors.InsufficientPrivilege) as error:
            if item.type not in _FOR_ROLES:
                raise
            self.left_out.append((f"{item.type} {item.name}", _reason(error)))
        except (server_errors.UndefinedTable, server_errors.UndefinedFunction):
            # A function that it calls relies on the application's search path.
            with self._connection.transaction():
                self._execute(_AS_THE_APPLICATION)
                self._execute(item.sql)
                self._execute(_NAMED_IN_FULL)

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """Read the loaded rows back."""
        with said(self._name, f"reading table {table.name!r} back"):
            yield from reading.scan(self._connection, table)

    def inherit(self, memory: Memory) -> None:
        """`bequest.ports.Heir.inherit`, with capture, before anybody else can write."""
        self._secure()
        with said(self._name, "writing down what it inherits"):
            with lent(self._connection, self._url, self._name) as connection:
                make_tables(connection)
            self._execute(_NAMED_IN_FULL)
            install_within(self._connection)
            write(self._connection, memory)

    def commit(self) -> None:
        """End the transaction."""
        if not self._finished:
            raise BequestError(
                f"The restore ended before everything was loaded. {self._name} is as it was. "
                "Please report this."
            )
        self._secure()
        with said(self._name, "committing"):
            self._execute("COMMIT")

    def close(self) -> None:
        """Wait for a block that is under way, or end it: the connection is the caller's again."""
        self._behind.close()

    def _secure(self) -> None:
        self._build(item for item in self._rest if item.type == _ROW_SECURITY)
        self._rest = ()

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement.encode("utf-8", "surrogateescape"))


def _before_rows(
    catalog: Catalog,
) -> tuple[Sequence[SchemaObject], Sequence[SchemaObject]]:
    """Objects that come before the rows, and the rest; by their kinds where no number tells."""
    objects = catalog.objects
    number = next((table.options.get("before_rows") for table in catalog.tables), None)
    if isinstance(number, int):
        return objects[:number], objects[number:]
    first = [item for item in objects if item.type in BEFORE_ROWS]
    return first, [item for item in objects if item.type not in BEFORE_ROWS]


def _missing(objects: Sequence[SchemaObject], occupied: Occupied | None) -> Sequence[SchemaObject]:
    if occupied is None:
        return objects
    return [item for item in objects if (item.type, item.name) not in occupied.there]


def _turn(table: Table, objects: int) -> tuple[int, int]:
    """How many objects precede ``table``, and its place among the tables there."""
    return min(table.options.get("place", objects), objects), table.options.get("turn", 0)


def _reason(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [""])[0]
