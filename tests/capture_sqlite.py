"""A controller's database with capture in it, and the smallest fold: what the tests of capture use.

`Controller.check` is the promise itself: what was scanned at the last check, changed by what the
journal says since (with the rows looked up at the new cut), is what a scan at the new cut gives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgpack
import pytest
from sqlalchemy import URL

from bequest.model import Catalog, Key, Memory, Mutation, Row, Selection, Table, Value
from bequest.ports import Cut
from bequest_adapters.databases.sqlite import open_source

Rows = dict[str, dict[bytes, Row]]


def packed(values: Iterable[Value]) -> bytes:
    """A key or row to the last byte: 1 is not 1.0, text is not bytes."""
    return msgpack.packb(list(values), unicode_errors="surrogateescape")


def scanned(cut: Cut) -> Rows:
    """All rows of all tables, by key; opaque tables by the whole row."""
    found: Rows = {}
    for table in cut.catalog().tables:
        rows = [row for block in cut.scan(table) for row in block]
        found[table.name] = {packed(table.key_of(row) if table.key else row): row for row in rows}
        assert len(found[table.name]) == len(rows) or not table.key
    return found


def folded(base: Rows, cut: Cut) -> Rows:
    """``base`` with the journal since applied."""
    tables = {table.id: table for table in cut.catalog().tables}
    touched: dict[int, dict[bytes, Key]] = {}
    for mutation in cut.mutations():
        touched.setdefault(mutation.table, {})[packed(mutation.key)] = mutation.key
    result = {name: dict(rows) for name, rows in base.items()}
    for number, keys in touched.items():
        table = tables[number]
        rows = list(cut.lookup(table, list(keys.values())))
        if not table.key:
            result[table.name] = {packed(row): row for row in rows}
            continue
        for key in keys:
            result[table.name].pop(key, None)
        for row in rows:
            key = packed(table.key_of(row))
            assert key in keys or any(value in (1, 1.0) for value in table.key_of(row))
            result[table.name][key] = row
    return result


class Controller:
    """A database file, a connection that writes to it, and its source."""

    def __init__(self, path: Path, script: str = "", **options: int | Selection) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        if script:
            self.db.executescript(script)
        limit = options.get("journal_limit")
        self.source = open_source(
            URL.create("sqlite", database=str(path)),
            journal_limit=limit if isinstance(limit, int) else None,
        )
        selection = options.get("selection")
        self.source.install(selection if isinstance(selection, Selection) else None)
        self.memory = Memory()
        self.base: Rows = {}
        self.rebase()

    def __call__(self, sql: str, parameters: Iterable[Value] = ()) -> list[Row]:
        return self.db.execute(sql, tuple(parameters)).fetchall()

    def rebase(self) -> None:
        """As a rewrite does: all rows from a cut, and on from there."""
        with self.source.cut(self.memory) as cut:
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

    def catalog(self) -> Catalog:
        """As the next cut sees it."""
        with self.source.cut(self.memory) as cut:
            return cut.catalog()

    def table(self, name: str) -> Table:
        """One table of it."""
        return next(table for table in self.catalog().tables if table.name == name)

    def check(self) -> None:
        """The fold equals the tables; then go on from there."""
        with self.source.cut(self.memory) as cut:
            assert cut.fault == ""
            got, want = folded(self.base, cut), scanned(cut)
            assert as_bytes(got) == as_bytes(want)
            self.base = want
            self.memory = Memory(position=cut.position)

    def close(self) -> None:
        self.source.close()
        self.db.close()


Make = Callable[..., Controller]


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Make]:
    """Makes controllers, and closes them at the end."""
    made: list[Controller] = []

    def make(script: str = "", name: str = "app.db", **options: int | Selection) -> Controller:
        made.append(Controller(tmp_path / name, script, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def as_bytes(rows: Rows) -> dict[str, dict[bytes, bytes]]:
    """For comparison to the last byte."""
    return {name: {key: packed(row) for key, row in found.items()} for name, found in rows.items()}
