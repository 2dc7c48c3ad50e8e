"""Proof that a database holds what was loaded: its rows, read back, add up to the same sums.

Where a database gives its rows back in the order in which they were loaded, the order is part of
the sum, which is then a third as dear. Invariant: order alone never makes a difference. Sums that
do not agree are made once more without it, from the object and from the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from .errors import Different
from .model import Row, Table
from .ports import Loading, Provable
from .preflight import Ready, Straight
from .snapshot.digest import RowRun, RowSum, Sum
from .snapshot.fold import full_name

Told = Callable[[int], None]
"""Is called with the number of rows of each block that was read back."""


class Proof:
    """The sums of one restore."""

    def __init__(self, ready: Ready, loading: Loading) -> None:
        self._ready = ready
        self._loading = loading
        self._targets = {table.id: table for table in ready.crossing.catalog.tables}
        ordered = _ordered(ready, loading, self._targets.values())
        self._expected: dict[int, Sum] = {
            number: RowRun() if number in ordered else RowSum() for number in self._targets
        }

    def expect(self, table: Table, rows: Sequence[Row]) -> None:
        """Take in rows as they were loaded."""
        self._expected[table.id].add(rows)

    def verified(self, told: Told) -> Mapping[int, Sum]:
        """The sums of all tables, once they are those of the rows read back. Raises `Different`."""
        for table in self._ready.part.catalog.tables:
            self._verify(table, told)
        return self._expected

    def _verify(self, table: Table, told: Told) -> None:
        expected = self._expected[table.id]
        if isinstance(expected, RowRun):
            if self._found(table) == (expected.rows, expected.digest):
                told(expected.rows)
                return
            run = RowRun()
            self._read(table, run, told)
            if run == expected:
                return
            if run.rows != expected.rows:
                raise _different(table)
            expected, told = self._without_order(table), _silent
        found = RowSum()
        self._read(table, found, told)
        if found != expected:
            raise _different(table)
        self._expected[table.id] = expected

    def _found(self, table: Table) -> tuple[int, bytes] | None:
        """What the target has read back by itself."""
        if not isinstance(self._loading, Provable):
            return None
        return self._loading.found(self._targets[table.id])

    def _read(self, table: Table, found: Sum, told: Told) -> None:
        for block in self._loading.scan(self._targets[table.id]):
            found.add(self._ready.crossing.canonical(table, block))
            told(len(block))

    def _without_order(self, table: Table) -> RowSum:
        expected = RowSum()
        for _, rows in self._ready.snapshot.rows({table.id}):
            expected.add(self._ready.crossing.convert(table, rows))
        return expected


def _silent(rows: int) -> None:
    """The rows were told of already."""


def _different(table: Table) -> Different:
    return Different(
        f"Table {full_name(table)!r} does not read back as it was written. The restore was undone "
        "and the target is as it was. Please report this, with `bequest inspect`."
    )


def _ordered(ready: Ready, loading: Loading, tables: Iterable[Table]) -> set[int]:
    if not isinstance(loading, Provable) or not isinstance(ready.crossing, Straight):
        return set()
    grown = ready.snapshot.grown()
    return {table.id for table in tables if table.id not in grown and loading.keeps_order(table)}


def finishing(loading: Loading) -> AbstractContextManager[None]:
    """The end of the loading, inside of which the rows can be read back."""
    if isinstance(loading, Provable):
        return loading.finishing()
    loading.finish()
    return nullcontext()
