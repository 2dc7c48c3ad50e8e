"""One consistent view: a REPEATABLE READ transaction, and what can be said of it.

The snapshot comes first and no table stays locked: each read has locks of its own, which end with
it (`brief_locks`). What a snapshot does not protect from, such as TRUNCATE and ALTER TABLE, each
read looks for before it gives up its lock (`members`). Definitions, which the server always shows
as they are now, are compared by the fingerprint. A read that was overtaken raises `Overtaken`, and
nothing of the cut may be used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg

from bequest.ancestry import origin_of
from bequest.errors import Overtaken, Unreachable
from bequest.model import Attributes, Catalog, Key, Memory, Mutation, Row, Table, Value
from bequest_schema.tables import JOURNAL, SETTINGS

from . import journal, reading
from .brief_locks import BEGIN, BriefLocks
from .catalog import read_catalog
from .connection import SCHEMA_MOVED, Address, Connection, translated
from .fingerprint import FINGERPRINT
from .installation import Record, installed, read_fingerprint, read_record
from .journal import Position
from .members import Family, Member, families, is_unchanged
from .naming import literal, qualified
from .ranges import RelationReader
from .remembering import installations, witness_of
from .shapes import NOT_OURS, read_shapes

ATTEMPTS: Final = 5
EARLY_BYTES: Final = 32 * 1024 * 1024
"""What is read at the beginning of a cut and kept, at most."""

_FACTS: Final = f"""
SELECT pg_current_snapshot()::text, ({FINGERPRINT}),
  (SELECT value FROM bequest.{SETTINGS} WHERE name = 'generation'),
  (SELECT value FROM bequest.{SETTINGS} WHERE name = 'fingerprint'
    AND to_regclass('bequest.{JOURNAL}') IS NOT NULL)
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
    catalog: Catalog | None = None
    sequences: str | None = None


class PostgresCut:
    """`bequest.ports.Cut` on PostgreSQL; the connection is in a transaction all the while."""

    def __init__(
        self,
        connection: Connection,
        another: Callable[[], Connection],
        address: Address,
        memory: Memory,
        known: Known | None,
        remember: Callable[[Known], None],
        restless: set[str],
    ) -> None:
        """``another`` gives a second connection, outside any transaction, once it is needed.

        ``restless`` are the tables that overtook earlier cuts; this one adds its own.
        """
        self._connection = connection
        self._another = another
        self._witness: Connection | None = None
        self._address = address
        self._since = journal.parse(memory.position)
        self._anew = not memory.position
        self._known, self._snapshot, stored, self._locks = _open(connection, address, known)
        self._families: dict[int, Family] = {}
        self._restless = restless
        self._early: dict[int, list[list[Row]]] | None = None
        self._installed = bool(self._known.generation)
        self._stale = not self._installed or stored != self._known.fingerprint
        if not self._stale:
            remember(self._known)

    def close(self) -> None:
        """Let nothing use the connection any more. Raises nothing."""
        self._locks.close()

    @property
    def position(self) -> str:
        """`Cut.position`; empty where capture is not whole, so that nothing can follow it."""
        if self._stale:
            return ""
        return str(Position(self._snapshot, self._known.fingerprint, self._known.generation))

    def origin(self, token: str) -> str:
        """`Cut.origin`: the witness of the publish, which is written down with its intent."""
        if self._stale:
            return ""
        with self._watched():
            known = self._locks.hold(lambda: installations(self._connection))
        return origin_of(known[:1], partial(witness_of, token))

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
            with self._watched():
                catalog = self._locks.hold(self._read_catalog)
                if self._overtaken():
                    raise self._void("Definitions")
            self._known.catalog = catalog
        return self._known.catalog

    def _read_catalog(self) -> Catalog:
        record = self._known.record
        return read_catalog(self._connection, record.numbers, record.selection)

    def count(self, table: Table) -> int:
        """`Cut.count`."""
        with self._watched():
            return sum(self._reader(table, member).count() for member in self._stored(table))

    def attributes(self) -> Attributes:
        """`Cut.attributes`: the sequences, which no snapshot of the server's holds still."""
        with self._watched():
            return self._locks.hold(self._read_sequences)

    def _read_sequences(self) -> Attributes:
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
        with self._watched():
            return self._locks.hold(self._read_revisions)

    def _read_revisions(self) -> tuple[str, ...]:
        found = self._connection.execute(_REVISIONS).fetchone()
        if found is None:
            return ()
        table = Table(0, "alembic_version", (), (), "", found[0])
        (before,) = families(self._connection, [table]).values()
        rows = self._connection.execute(
            f"SELECT version_num::text FROM {before[0].sql} ORDER BY 1".encode()
        ).fetchall()
        self._check(table, before[0])
        return tuple(row[0] for row in rows)

    def mutations(self) -> Iterator[Mutation]:
        """`Cut.mutations`."""
        tables = {table.id: table for table in self.catalog().tables}
        with self._watched():
            self._locks.settle()
            if self._since.snapshot and self._installed:
                yield from journal.mutations(self._connection, self._since, tables)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        """`Cut.lookup`."""
        if not table.key:
            yield from (row for block in self.scan(table) for row in block)
        elif not reading.askable(keys):
            wanted = set(keys)
            rows = (row for block in self.scan(table) for row in block)
            yield from (row for row in rows if table.key_of(row) in wanted)
        else:
            with self._watched():
                yield from self._locks.hold(lambda: self._look_up(table, keys))

    def _look_up(self, table: Table, keys: Sequence[Key]) -> list[Row]:
        family = self._family(table)
        rows = list(reading.lookup(self._connection, table, keys))
        if len(family) == 1:
            self._check(table, family[0])
        elif families(self._watch(), [table]) != {table.id: family}:  # one may be new
            raise self._void(f"The table {family[0].sql}")
        return rows

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """`Cut.scan`."""
        with self._watched():
            if self._early is None:
                self._early = dict(self._read_early())
            early = self._early.pop(table.id, None)
            if early is not None:
                yield from early
                return
            for member in self._stored(table):
                if member.heap:
                    yield from self._reader(table, member).blocks()
                else:
                    yield from self._at_once(table, member)

    def _read_early(self) -> Iterator[tuple[int, list[list[Row]]]]:
        """Small tables that are truncated all the time, before that happens again.

        Otherwise no rewrite that takes longer than from one TRUNCATE to the next would succeed.
        """
        room = EARLY_BYTES
        for table in self.catalog().tables if self._restless else ():
            if f"{table.schema}.{table.name}" in self._restless:
                readers = [self._reader(table, each) for each in self._stored(table) if each.heap]
                room -= (size := sum(reader.size_bytes() for reader in readers))
                if room >= 0:
                    yield table.id, [block for reader in readers for block in reader.blocks()]
                else:
                    room += size

    def _at_once(self, table: Table, member: Member) -> Iterator[Sequence[Row]]:
        """A relation that is not kept as a heap: its rows' addresses may mean anything."""
        with self._locks.held():
            yield from reading.scan(self._connection, table, f"ONLY {member.sql}")
            self._check(table, member)

    def _reader(self, table: Table, member: Member) -> RelationReader:
        check = partial(self._check, table, member)
        return RelationReader(self._connection, self._locks, table, member, check)

    def _stored(self, table: Table) -> Sequence[Member]:
        if table.id not in self._families:
            self._locks.hold(partial(self._family, table))
        return [member for member in self._families[table.id] if member.stored]

    def _family(self, table: Table) -> Family:
        """As of the snapshot. Who asks for many gets them in few queries."""
        if table.id not in self._families:
            others = (each for each in self.catalog().tables if each.id not in self._families)
            ahead = [table, *(each for each in others if each.id != table.id)]
            some = ahead[: 1 + len(self._families)]
            self._families.update(families(self._connection, some))
        return self._families[table.id]

    def _check(self, table: Table, member: Member) -> None:
        """Under the lock of what was read."""
        if not is_unchanged(self._watch(), member):
            self._restless.add(f"{table.schema}.{table.name}")
            raise self._void(f"The table {member.sql}")

    def _watch(self) -> Connection:
        """A connection that sees the database as it is now, not as of the snapshot."""
        if self._witness is None:
            self._witness = self._another()
        return self._witness

    def _overtaken(self) -> bool:
        return read_fingerprint(self._watch()) != self._known.fingerprint

    def _void(self, what: str) -> Overtaken:
        return Overtaken(
            f"{what} of {self._address.name} changed while it was read: it was altered, truncated, "
            "rewritten or dropped. Nothing was published from this reading, and the last published "
            "snapshot is untouched. Try again, after the migration if there is one."
        )

    @contextmanager
    def _watched(self) -> Generator[None]:
        """Errors as `translated` makes them, but for those that a change of the schema explains."""
        with translated(self._address):
            try:
                yield
            except psycopg.Error as error:
                if error.sqlstate in SCHEMA_MOVED and self._overtaken():
                    raise self._void("The schema") from error
                raise


def _open(
    connection: Connection, address: Address, known: Known | None
) -> tuple[Known, str, str | None, BriefLocks]:
    """Begin, so that what is known is what the snapshot has."""
    for _ in range(ATTEMPTS):
        known = known or _find_out(connection)
        connection.execute(BEGIN.encode())
        locks = BriefLocks(connection)
        # All of ours may be gone since.
        with suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            facts = locks.hold(partial(_facts, connection, known))
            snapshot, fingerprint, generation, stored = facts
            if (fingerprint, generation) == (known.fingerprint, known.generation):
                return known, snapshot, stored, locks
        connection.execute("ROLLBACK")
        known = None
    raise Unreachable(
        f"The schema of {address.name} changed {ATTEMPTS} times while a cut was taken. Nothing is "
        "lost; the next publish tries again."
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
    connection.execute(BEGIN.encode())
    try:
        return BriefLocks(connection).hold(partial(_read_known, connection))
    finally:
        connection.execute("ROLLBACK")


def _read_known(connection: Connection) -> Known:
    record = read_record(connection)
    numbers = record.numbers or {
        (shape.schema, shape.name): number
        for number, shape in enumerate(read_shapes(connection, record.selection), 1)
    }
    return Known(
        read_fingerprint(connection), record.generation, Record(record.selection, numbers=numbers)
    )
