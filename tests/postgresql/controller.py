"""A controller's PostgreSQL database with capture in it, and the smallest fold.

`Controller.check` is the promise itself: what was scanned at the last check, changed by what the
journal says since (with the rows looked up at the new cut), is what a scan at the new cut gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgpack
import psycopg
import pytest
from sqlalchemy import URL

from bequest.model import Catalog, Key, Memory, Mutation, Selection, Table, Value
from bequest.ports import Cut
from bequest_adapters.databases.postgresql import open_source
from tests.servers.postgresql import connect

Rows = dict[str, Counter[bytes]]


def packed(values: Iterable[Value]) -> bytes:
    """A row to the last byte."""
    return msgpack.packb(list(values), unicode_errors="surrogateescape")


def name_of(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def scanned(cut: Cut) -> Rows:
    """All rows of all tables, as multisets."""
    return {
        name_of(table): Counter(packed(row) for block in cut.scan(table) for row in block)
        for table in cut.catalog().tables
    }


def folded(base: Rows, cut: Cut) -> Rows:
    """``base`` with the journal since applied, as the engine does it."""
    tables = {table.id: table for table in cut.catalog().tables}
    touched: dict[int, set[Key]] = {}
    images: dict[int, Counter[bytes]] = {}
    whole: set[int] = set()
    for mutation in cut.mutations():
        table = tables[mutation.table]
        if mutation.key:
            touched.setdefault(table.id, set()).add(mutation.key)
        elif not table.key and mutation.row is not None:
            change = 1 if mutation.operation == "i" else -1
            images.setdefault(table.id, Counter())[packed(mutation.row)] += change
        else:
            whole.add(table.id)
    result = {name: Counter(rows) for name, rows in base.items()}
    for number, counts in images.items():
        rows = result[name_of(tables[number])]
        rows.update(counts)
        assert number in whole or min(rows.values(), default=0) >= 0
        result[name_of(tables[number])] = +rows
    for number, keys in touched.items():
        table = tables[number]
        rows = result[name_of(table)]
        now = {table.key_of(row): row for row in cut.lookup(table, list(keys))}
        for each in list(rows):
            if table.key_of(msgpack.unpackb(each, unicode_errors="surrogateescape")) in keys:
                del rows[each]
        rows.update(packed(row) for key, row in now.items() if key in keys)
    for number in whole:
        table = tables[number]
        rows = Counter(packed(row) for block in cut.scan(table) for row in block)
        result[name_of(table)] = rows
    return result


class Controller:
    """A database, a connection that writes to it, and its source."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.db = connect(url)
        self.source = open_source(url)
        self.memory = Memory()
        self.base: Rows = {}

    def begin(self, script: str, **options: int | Selection) -> None:
        """Make the application's schema and install capture."""
        if script:
            self.db.execute(script)
        limit = options.get("journal_limit")
        self.source = open_source(self.url, journal_limit=limit if isinstance(limit, int) else None)
        selection = options.get("selection")
        self.source.install(selection if isinstance(selection, Selection) else None)
        self.rebase()

    def __call__(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        cursor = self.db.execute(sql, tuple(parameters) or None)
        return cursor.fetchall() if cursor.description else []

    def another(self, **options: str) -> psycopg.Connection:
        """One more connection, in autocommit mode."""
        return connect(self.url, **options)

    def rebase(self) -> None:
        """As a rewrite does: all rows from a cut, and on from there."""
        with self.source.cut(Memory()) as cut:
            assert not cut.stale
            self.base = scanned(cut)
            self.memory = Memory(position=cut.position)

    def fault(self) -> str:
        """What the next cut would say."""
        with self.source.cut(self.memory) as cut:
            return cut.fault

    def mutations(self) -> list[Mutation]:
        """The journal since the last check."""
        with self.source.cut(self.memory) as cut:
            return list(cut.mutations())

    def touched(self) -> list[tuple[str, str, Key]]:
        """The same, told shortly: operation, table, key."""
        names = {table.id: table.name for table in self.catalog().tables}
        return [(str(m.operation), names[m.table], m.key) for m in self.mutations()]

    def catalog(self) -> Catalog:
        """As the next cut sees it."""
        with self.source.cut(self.memory) as cut:
            return cut.catalog()

    def check(self) -> None:
        """The fold equals the tables; then go on from there."""
        with self.source.cut(self.memory) as cut:
            assert cut.fault == ""
            got, want = folded(self.base, cut), scanned(cut)
            wrong = {
                name: (got[name] - want[name], want[name] - got[name])
                for name in want
                if got[name] != want[name]
            }
            assert not wrong, wrong
            self.base = want
            self.memory = Memory(position=cut.position)

    def mend(self) -> None:
        """What the engine does when a cut reports a fault."""
        self.source.install()
        self.rebase()

    def close(self) -> None:
        self.source.close()
        self.db.close()


Make = Callable[..., Controller]


@pytest.fixture
def controller(postgresql_database: URL) -> Iterator[Make]:
    """Makes controllers on one new database, and closes them at the end."""
    made: list[Controller] = []

    def make(script: str = "", **options: int | Selection) -> Controller:
        made.append(Controller(postgresql_database))
        made[-1].begin(script, **options)
        return made[-1]

    yield make
    for each in made:
        each.close()
