"""One consistent view of the database: a read transaction, and what can be said of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from bequest.ancestry import origin_of
from bequest.model import Attributes, Catalog, Key, Memory, Mutation, Row, Table, Value
from bequest_schema.tables import JOURNAL, SETTINGS

from . import journal, reading
from .catalog import exists
from .connection import Location, translated
from .identity import read_identity
from .installation import Plan, flaw, make_plan
from .record import read_generation, read_record, schema_version
from .text import identifier

ATTRIBUTES = (
    "user_version",
    "application_id",
    "encoding",
    "page_size",
    "auto_vacuum",
    "journal_mode",
)


_SEQUENCES = "SELECT group_concat(name), group_concat(coalesce(seq, '')) FROM sqlite_sequence"


@dataclass(frozen=True, slots=True)
class _Seen:
    names: str = ""
    values: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    """One for each row of the table; empty for a row of no captured table."""
    found: Mapping[str, Value] = field(default_factory=dict[str, Value])


class Sequences:
    """The values of AUTOINCREMENT. Only those that changed are read again.

    The application may write to ``sqlite_sequence`` itself, which no trigger sees. So all of it is
    looked at in every cut, but joined to one text by SQLite, which takes a tenth of the time.
    """

    def __init__(self, tables: Collection[str]) -> None:
        self._tables = tables
        # Replaced as a whole, so that threads need no lock for it.
        self._seen = _Seen()

    def read(self, connection: sqlite3.Connection) -> Mapping[str, Value]:
        """The attribute of each table that has a value."""
        names, joined = connection.execute(_SEQUENCES).fetchone()
        seen, values = self._seen, tuple((joined or "").split(","))
        pairs = enumerate(zip(seen.values, values, strict=False))
        changed = [index for index, (before, now) in pairs if before != now]
        same_rows = names == seen.names and len(values) == len(seen.attributes)
        # A value that is no number was put there by hand: it may be of any type.
        if not same_rows or not all(values[index].isdecimal() for index in changed):
            seen = self._all(connection, names, values)
        elif changed:
            news = {seen.attributes[index]: int(values[index]) for index in changed}
            news.pop("", None)
            seen = replace(seen, values=values, found={**seen.found, **news})
        self._seen = seen
        return seen.found

    def _all(
        self, connection: sqlite3.Connection, names: str | None, values: tuple[str, ...]
    ) -> _Seen:
        rows = connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        attributes = tuple(f"sequence:{name}" if name in self._tables else "" for name, _ in rows)
        found = {name: row[1] for name, row in zip(attributes, rows, strict=True) if name}
        return _Seen(names or "", values, attributes, found)


@dataclass(frozen=True)
class Sound:
    """What a cut found out where capture was whole: good for every cut of the same schema and
    generation, so that none of them costs the number of tables."""

    schema_version: int
    generation: str
    plan: Plan
    sequences: Sequences


class SqliteCut:
    """`bequest.ports.Cut` on SQLite; the connection is in a read transaction all the while."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        location: Location,
        memory: Memory,
        known: Sound | None,
    ) -> None:
        self._connection = connection
        self._location = location
        self._since = journal.parse(memory.position)
        self._installed = exists(connection, SETTINGS)
        generation = read_generation(connection) if self._installed else ""
        version = schema_version(connection)
        if known is None or (known.schema_version, known.generation) != (version, generation):
            record = read_record(connection)
            plan = make_plan(connection, record)
            self._flaw = flaw(connection, record, plan)
            known = Sound(version, generation, plan, Sequences(plan.by_name.keys()))
        else:
            self._flaw = ""
        self._known = known
        self._plan = known.plan
        self._position = self._newest()
        self._is_another = (
            bool(memory.installation)
            and self._installed
            and (read_identity(connection).installation != memory.installation)
        )
        self._fault = self._find_fault(memory)
        reading.stand_in_for_collations(connection, self._plan.collations)

    @property
    def position(self) -> str:
        """`Cut.position`; empty where capture is not whole, so that nothing can follow it."""
        return self._position

    def origin(self, token: str) -> str:
        """`Cut.origin`: the newest journal rows; nothing of a publish is in the database."""
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
        """`Cut.stale`; also for another database than the one that ``memory`` is of."""
        return bool(self._flaw) or not self._installed or self._is_another

    @property
    def sound(self) -> Sound | None:
        """What the next cut need not find out again, unless capture is not whole."""
        return None if self._flaw else self._known

    def catalog(self) -> Catalog:
        """`Cut.catalog`."""
        return self._plan.catalog

    def attributes(self) -> Attributes:
        """`Cut.attributes`."""
        with translated(self._location):
            found: dict[str, Value] = {name: self._pragma(name) for name in ATTRIBUTES}
            if self._plan.schema.has_sequences:
                found.update(self._known.sequences.read(self._connection))
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
        with translated(self._location):
            if exists(self._connection, JOURNAL):
                yield from journal.mutations(self._connection, self._since, self._plan.by_number)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        """`Cut.lookup`."""
        with translated(self._location):
            shape = self._plan.by_name.get(table.name)
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
        return str(journal.newest(self._connection, self._known.generation))

    def _find_fault(self, memory: Memory) -> str:
        if not self._installed:
            return "capture is not installed"
        if self._flaw:
            return self._flaw
        if not memory.position:
            return "nothing was published from this database yet"
        if self._since.generation != self._known.generation:
            return "capture was installed or repaired since the last publish"
        return journal.gap(self._connection, self._since, self._plan.by_number.keys())
