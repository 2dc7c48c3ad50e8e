"""One consistent view of the database: a read transaction, and what can be said of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial

from bequest.ancestry import origin_of
from bequest.model import Attributes, Catalog, Key, Memory, Mutation, Row, Table, Value

from . import journal, reading
from .connection import Location, translated
from .installation import Plan, Record, flaw, installed, make_plan, read_record, schema_version
from .remembering import read_identity
from .text import identifier

ATTRIBUTES = (
    "user_version",
    "application_id",
    "encoding",
    "page_size",
    "auto_vacuum",
    "journal_mode",
)


class SqliteCut:
    """`bequest.ports.Cut` on SQLite; the connection is in a read transaction all the while."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        location: Location,
        memory: Memory,
        known: tuple[Record, int, Plan] | None,
    ) -> None:
        self._connection = connection
        self._location = location
        self._since = journal.parse(memory.position)
        self._installed = installed(connection)
        self._record = read_record(connection)
        self.schema_version = schema_version(connection)
        if known is not None and known[:2] == (self._record, self.schema_version):
            self._plan = known[2]
            self._flaw = ""
        else:
            self._plan = make_plan(connection, self._record)
            self._flaw = flaw(connection, self._record, self._plan)
        self._position = self._newest()
        self._fault = self._find_fault(memory)
        self._shapes = {shape.name: shape for shape in self._plan.shapes}
        for shape in self._plan.shapes:
            reading.stand_in_for_collations(connection, shape)

    @property
    def position(self) -> str:
        """`Cut.position`; empty where capture is not whole, so that nothing can follow it."""
        return self._position

    @property
    def origin(self) -> str:
        """`Cut.origin`."""
        if self._flaw or not self._installed:
            return ""
        known = read_identity(self._connection).installations
        return origin_of(known, partial(journal.newest_rows, self._connection))

    @property
    def fault(self) -> str:
        """`Cut.fault`."""
        return self._fault

    @property
    def stale(self) -> bool:
        """`Cut.stale`."""
        return bool(self._flaw) or not self._installed

    @property
    def sound(self) -> tuple[Record, int, Plan] | None:
        """What the next cut need not find out again, unless capture is not whole."""
        return None if self._flaw else (self._record, self.schema_version, self._plan)

    def catalog(self) -> Catalog:
        """`Cut.catalog`."""
        return self._plan.catalog

    def attributes(self) -> Attributes:
        """`Cut.attributes`."""
        with translated(self._location):
            found: dict[str, Value] = {name: self._pragma(name) for name in ATTRIBUTES}
            has_sequences = self._connection.execute(
                "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'"
            ).fetchone()
            if has_sequences:
                for name, value in self._connection.execute(
                    "SELECT name, seq FROM sqlite_sequence"
                ):
                    if name in self._shapes:
                        found[f"sequence:{name}"] = value
            return found

    def revisions(self) -> tuple[str, ...]:
        """`Cut.revisions`."""
        with translated(self._location):
            listed = self._connection.execute(
                "SELECT 1 FROM pragma_table_info('alembic_version') WHERE name = 'version_num'"
            )
            if listed.fetchone() is None:
                return ()
            sql = "SELECT version_num FROM main.alembic_version ORDER BY 1"
            return tuple(str(row[0]) for row in self._connection.execute(sql).fetchall())

    def mutations(self) -> Iterator[Mutation]:
        """`Cut.mutations`."""
        tables = {table.id: table for table in self._plan.catalog.tables}
        with translated(self._location):
            if self._installed:
                yield from journal.mutations(self._connection, self._since, tables)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        """`Cut.lookup`."""
        with translated(self._location):
            shape = self._shapes.get(table.name)
            yield from reading.lookup(self._connection, table, shape, keys)

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """`Cut.scan`."""
        with translated(self._location):
            sql = reading.scan_sql(self._connection, table)
            yield from reading.blocks(self._connection, sql)

    def count(self, table: Table) -> int:
        """`Cut.count`."""
        with translated(self._location):
            sql = f"SELECT count(*) FROM main.{identifier(table.name)}"
            (rows,) = self._connection.execute(sql).fetchone()
            return int(rows)

    def _pragma(self, name: str) -> Value:
        (value,) = self._connection.execute(f"PRAGMA main.{name}").fetchone()
        if name == "journal_mode" and value != "wal":  # only WAL belongs to the file
            return "delete"
        return value if isinstance(value, int) else str(value)

    def _newest(self) -> str:
        if self._flaw or not self._installed:
            return ""
        return str(journal.newest(self._connection, self._record.generation))

    def _find_fault(self, memory: Memory) -> str:
        if not self._installed:
            return "capture is not installed"
        if self._flaw:
            return self._flaw
        if not memory.position:
            return "nothing was published from this database yet"
        if self._since.generation != self._record.generation:
            return "capture was installed or mended since the last publish"
        known = frozenset(self._plan.numbers.values())
        return journal.gap(self._connection, self._since, known)
