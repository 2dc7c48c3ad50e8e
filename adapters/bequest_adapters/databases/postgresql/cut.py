"""One consistent view: a REPEATABLE READ transaction, and what can be said of it.

All captured tables are locked (ACCESS SHARE, as any reader does) *before* the snapshot is taken.
TRUNCATE and ALTER TABLE are not bound to snapshots; they wait for this cut, or this cut sees what
they did. Whether the locked tables are the right ones the fingerprint tells, in the same snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg

from bequest.ancestry import origin_of
from bequest.errors import Unreachable
from bequest.model import Attributes, Catalog, Key, Memory, Mutation, Row, Table, Value
from bequest_schema.tables import SETTINGS

from . import journal, reading
from .catalog import read_catalog
from .connection import Address, Connection, translated
from .fingerprint import FINGERPRINT
from .installation import Record, installed, read_fingerprint, read_record
from .journal import Position
from .naming import literal, qualified
from .remembering import installations
from .shapes import NOT_OURS, read_shapes

PATIENCE_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = (0.005, 0.1)
WAIT_MILLISECONDS: Final = 10
"""For what is read besides the tables. Shorter than any deadlock_timeout: see `_begin`."""
ATTEMPTS: Final = 5

_FACTS: Final = f"""
SELECT pg_current_snapshot()::text, ({FINGERPRINT}),
  (SELECT value FROM bequest.{SETTINGS} WHERE name = 'generation'),
  (SELECT value FROM bequest.{SETTINGS} WHERE name = 'fingerprint')
"""

_SEQUENCES: Final = f"""
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND c.oid >= 16384 AND {NOT_OURS}
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""

_REVISIONS: Final = f"""
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num'
WHERE c.relname = 'alembic_version' AND c.relkind = 'r' AND c.relpersistence <> 't' AND {NOT_OURS}
ORDER BY n.nspname <> 'public', n.nspname LIMIT 1
"""


@dataclass
class Known:
    """What a schema with this fingerprint is like, so that the next cut need not find out."""

    fingerprint: str
    generation: str
    record: Record
    tables: tuple[str, ...]
    catalog: Catalog | None = None
    sequences: str | None = None


class PostgresCut:
    """`bequest.ports.Cut` on PostgreSQL; the connection is in a transaction all the while."""

    def __init__(
        self,
        connection: Connection,
        address: Address,
        memory: Memory,
        known: Known | None,
        remember: Callable[[Known], None],
    ) -> None:
        self._connection = connection
        self._address = address
        self._since = journal.parse(memory.position)
        self._anew = not memory.position
        self._known, self._snapshot, stored = _open(connection, address, known)
        self._installed = bool(self._known.generation)
        self._stale = not self._installed or stored != self._known.fingerprint
        if not self._stale:
            remember(self._known)

    @property
    def position(self) -> str:
        """`Cut.position`; empty where capture is not whole, so that nothing can follow it."""
        if self._stale:
            return ""
        return str(Position(self._snapshot, self._known.fingerprint, self._known.generation))

    @property
    def origin(self) -> str:
        """`Cut.origin`."""
        if self._stale:
            return ""
        with translated(self._address):
            rows = partial(journal.newest_rows, self._connection, self._known.generation)
            return origin_of(installations(self._connection), rows)

    @property
    def fault(self) -> str:
        """`Cut.fault`."""
        if not self._installed:
            return "capture is not installed"
        if self._stale:
            return "the schema changed"
        if self._anew:
            return "nothing was published from this database yet"
        if self._since.generation != self._known.generation:
            return "capture was installed or mended, or history dropped, since the last publish"
        if self._since.fingerprint != self._known.fingerprint:
            return "the schema changed"
        if self._since.xmax > Position(self._snapshot).xmax:
            return "the database is older than the last publish"
        return ""

    @property
    def stale(self) -> bool:
        """`Cut.stale`."""
        return self._stale

    def catalog(self) -> Catalog:
        """`Cut.catalog`."""
        if self._known.catalog is None:
            record = self._known.record
            with translated(self._address):
                self._known.catalog = read_catalog(
                    self._connection, record.numbers, record.selection
                )
        return self._known.catalog

    def count(self, table: Table) -> int:
        """`Cut.count`."""
        with translated(self._address):
            sql = f"SELECT count(*) FROM {reading.source(table)} AS t"
            row = self._connection.execute(sql.encode()).fetchone()
            assert row is not None
            return int(row[0])

    def attributes(self) -> Attributes:
        """`Cut.attributes`: the sequences, which no snapshot of the server's holds still."""
        with translated(self._address):
            if self._known.sequences is None:
                found = self._connection.execute(_SEQUENCES).fetchall()
                self._known.sequences = " UNION ALL ".join(
                    f"SELECT {literal(f'sequence {schema}.{name}')}, last_value, is_called"
                    f" FROM {qualified(schema, name)}"
                    for schema, name in found
                )
            if not self._known.sequences:
                return {}
            rows = self._connection.execute(self._known.sequences.encode()).fetchall()
            values: dict[str, Value] = {
                name: f"{last} {str(called).lower()}" for name, last, called in rows
            }
            return values

    def revisions(self) -> tuple[str, ...]:
        """`Cut.revisions`."""
        with translated(self._address):
            found = self._connection.execute(_REVISIONS).fetchone()
            if found is None:
                return ()
            table = qualified(found[0], "alembic_version")
            rows = self._connection.execute(
                f"SELECT version_num::text FROM {table} ORDER BY 1".encode()
            ).fetchall()
            return tuple(row[0] for row in rows)

    def mutations(self) -> Iterator[Mutation]:
        """`Cut.mutations`."""
        tables = {table.id: table for table in self.catalog().tables}
        with translated(self._address):
            if self._since.snapshot and self._installed:
                yield from journal.mutations(self._connection, self._since, tables)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        """`Cut.lookup`."""
        with translated(self._address):
            if table.key:
                yield from reading.lookup(self._connection, table, keys)
            else:
                for block in reading.scan(self._connection, table):
                    yield from block

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """`Cut.scan`."""
        with translated(self._address):
            yield from reading.scan(self._connection, table)


def _open(
    connection: Connection, address: Address, known: Known | None
) -> tuple[Known, str, str | None]:
    """Begin, so that the tables that were locked are those of the snapshot."""
    for _ in range(ATTEMPTS):
        known = known or _find_out(connection)
        # A table or all of ours may be gone since.
        with suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            _lock(connection, known)
            snapshot, fingerprint, generation, stored = _facts(connection, known)
            if (fingerprint, generation) == (known.fingerprint, known.generation):
                return known, snapshot, stored
        connection.execute("ROLLBACK")
        known = None
    raise Unreachable(
        f"The schema of {address.name} changed {ATTEMPTS} times while a cut was taken. Nothing is "
        "lost; the next publish tries again."
    )


def _lock(connection: Connection, known: Known) -> None:
    """Begin with all tables locked. Raises psycopg's `LockNotAvailable` when that takes long.

    Never waits for one table while it holds another: a controller that changes two tables in the
    other order would be in a deadlock with us, and the server may end its transaction for ours.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause, longest = PAUSE_SECONDS
    while True:
        try:
            connection.execute(_begin(known).encode())
        except psycopg.errors.LockNotAvailable:
            connection.execute("ROLLBACK")
            if time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(2 * pause, longest)
        else:
            return


def _begin(known: Known) -> str:
    tables = ", ".join(known.tables)
    lock = f"; LOCK TABLE {tables} IN ACCESS SHARE MODE NOWAIT" if tables else ""
    return (
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
        f" SET LOCAL lock_timeout = {WAIT_MILLISECONDS}{lock}"
    )


def _facts(connection: Connection, known: Known) -> tuple[str, str, str, str | None]:
    if known.generation:
        row = connection.execute(_FACTS.encode(), prepare=True).fetchone()
        assert row is not None
        return row[0], row[1], row[2] or "", row[3]
    row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    assert row is not None
    generation = read_record(connection).generation if installed(connection) else ""
    return row[0], read_fingerprint(connection), generation, None


def _find_out(connection: Connection) -> Known:
    """The schema of this moment, in a transaction of its own."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        record = read_record(connection)
        shapes = read_shapes(connection, record.selection)
        numbers = record.numbers or {
            (shape.schema, shape.name): number for number, shape in enumerate(shapes, 1)
        }
        return Known(
            read_fingerprint(connection),
            record.generation,
            Record(record.selection, numbers=numbers),
            tuple(
                ("" if shape.partitioned else "ONLY ") + qualified(shape.schema, shape.name)
                for shape in shapes
            ),
        )
    finally:
        connection.execute("ROLLBACK")
