"""What a restore would change: two states compared, table by table and row by row.

A digest per table tells which tables differ; only the rows of those are looked at. They are set
aside in buckets by key, so memory is bounded by a bucket (about `BUCKET_ROWS` rows a side), not by
a table. Rows that no key identifies are compared as a multiset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Protocol

from .errors import Refused, UsageError
from .model import Attributes, Catalog, Key, Row, Selection, Table, TableDigest, Value
from .ports import Cut
from .recorded import without_attribute, without_table
from .report import DiffReport, RowChange
from .selecting import is_chosen
from .snapshot.digest import DigestBuilder
from .snapshot.fold import Snapshot, full_name
from .snapshot.frame import pack
from .spill import Spill, bucket_of, in_order
from .verify import as_followed, attribute_differences, schema_differences

BUCKET_ROWS: Final = 10_000
Listener = Callable[[RowChange], None]


class Side(Protocol):
    """One of the two states."""

    @property
    def name(self) -> str:
        """Its address."""
        ...

    @property
    def dialect(self) -> str:
        """Whose values these are."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Its tables and objects."""
        ...

    @property
    def attributes(self) -> Attributes:
        """Its attributes."""
        ...

    def rows(self, only: Collection[int]) -> Iterator[tuple[Table, Sequence[Row]]]:
        """The rows of these tables, block by block."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectSide:
    """A stored object."""

    name: str
    snapshot: Snapshot
    follows: bool = False
    """The other side is a warm copy, and has some definitions only when it is promoted."""
    files: bool = True
    """Whether files are compared: no database holds any."""

    @property
    def dialect(self) -> str:
        """`Side.dialect`."""
        return str(self.snapshot.header.get("dialect"))

    @property
    def catalog(self) -> Catalog:
        """`Side.catalog`."""
        catalog = self.snapshot.catalog
        catalog = catalog if self.files else without_table(catalog)
        return as_followed(catalog) if self.follows else catalog

    @property
    def attributes(self) -> Attributes:
        """`Side.attributes`."""
        return without_attribute(self.snapshot.attributes)

    def rows(self, only: Collection[int]) -> Iterator[tuple[Table, Sequence[Row]]]:
        """`Side.rows`."""
        return self.snapshot.rows(only)


@dataclass(frozen=True, slots=True)
class DatabaseSide:
    """A database, in one cut."""

    name: str
    dialect: str
    cut: Cut
    follows: bool = False

    @property
    def catalog(self) -> Catalog:
        """`Side.catalog`."""
        catalog = self.cut.catalog()
        return as_followed(catalog) if self.follows else catalog

    @property
    def attributes(self) -> Attributes:
        """`Side.attributes`."""
        return self.cut.attributes()

    def rows(self, only: Collection[int]) -> Iterator[tuple[Table, Sequence[Row]]]:
        """`Side.rows`."""
        for table in self.catalog.tables:
            if table.id in only:
                for block in self.cut.scan(table):
                    yield table, block


@dataclass(slots=True)
class _Pair:
    """One table on both sides; either may lack it."""

    name: str
    before: Table | None = None
    after: Table | None = None
    digests: list[TableDigest] = field(default_factory=list[TableDigest])
    counts: Counter[str] = field(default_factory=Counter[str])

    @property
    def differs(self) -> bool:
        if self.before is None or self.after is None:
            return True
        same_shape = [column.name for column in self.before.columns] == [
            column.name for column in self.after.columns
        ]
        return not same_shape or self.digests[0] != self.digests[1]

    @property
    def sides(self) -> str:
        """Which sides have it."""
        if self.before is not None and self.after is not None:
            return "both"
        return "after" if self.before is None else "before"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns by which rows are matched; empty when whole rows are compared."""
        if self.before is None or self.after is None:
            table = self.before or self.after
            return _key_names(table) if table is not None else ()
        names = _key_names(self.after)
        there = {column.name for column in self.before.columns}
        return names if _key_names(self.before) and there.issuperset(names) else ()

    @property
    def buckets(self) -> int:
        rows = max(digest.rows for digest in self.digests)
        return 1 + rows // BUCKET_ROWS


def compare(
    before: Side, after: Side, selection: Selection | None, listener: Listener | None
) -> DiffReport:
    """What leads from ``before`` to ``after``; ``listener`` hears of every row.

    Raises `Refused` for states of different dialects.
    """
    if before.dialect != after.dialect:
        # The seam for comparing across dialects: both sides would be brought into one form here.
        raise Refused(
            f"{before.name} is of {before.dialect} and {after.name} is of {after.dialect}. "
            "Nothing was compared row by row: this release does so within one kind of database. "
            "`bequest verify STORE --database URL` says whether the two are equal."
        )
    pairs = _pairs(before, after, selection)
    if selection is not None and not pairs:
        raise UsageError(
            f"No table of {before.name} or of {after.name} is chosen. Nothing was compared. "
            "Correct the names; `bequest inspect` lists an object's."
        )
    _digest(pairs, before, after)
    differing = [pair for pair in pairs if pair.differs]
    with Spill() as old, Spill() as new:
        _set_aside(differing, before, old, lambda pair: pair.before)
        _set_aside(differing, after, new, lambda pair: pair.after)
        for pair in differing:
            for change in _changes(pair, old, new):
                pair.counts[change.change] += 1
                if listener is not None:
                    listener(change)
    return _report(before, after, pairs, differing, selection)


def _pairs(before: Side, after: Side, selection: Selection | None) -> list[_Pair]:
    pairs: dict[str, _Pair] = {}
    for side in (after, before):
        for table in side.catalog.tables:
            if selection is None or is_chosen(table, selection):
                pair = pairs.setdefault(full_name(table), _Pair(full_name(table)))
                if side is after:
                    pair.after = table
                else:
                    pair.before = table
    return list(pairs.values())


def _digest(pairs: list[_Pair], before: Side, after: Side) -> None:
    for side in (before, after):
        wanted = {
            table.id: DigestBuilder()
            for pair in pairs
            if (table := pair.before if side is before else pair.after) is not None
        }
        for table, rows in side.rows(wanted):
            wanted[table.id].add(rows)
        for pair in pairs:
            table_of = pair.before if side is before else pair.after
            builder = DigestBuilder() if table_of is None else wanted[table_of.id]
            pair.digests.append(builder.result())


def _set_aside(
    pairs: list[_Pair], side: Side, spill: Spill, table_of: Callable[[_Pair], Table | None]
) -> None:
    by_number = {table.id: pair for pair in pairs if (table := table_of(pair)) is not None}
    for table, rows in side.rows(by_number):
        pair = by_number[table.id]
        match, buckets = _matcher(table, pair.key), pair.buckets
        for row in rows:
            spill.add(pair.name, bucket_of(match(row), buckets), row)


def _matcher(table: Table, key: tuple[str, ...]) -> Callable[[Row], Key]:
    if not key:
        return lambda row: (pack(list(row)),)
    names = [column.name for column in table.columns]
    indexes = [names.index(name) for name in key]
    return lambda row: tuple(row[index] for index in indexes)


def _changes(pair: _Pair, old: Spill, new: Spill) -> Iterator[RowChange]:
    for bucket in range(pair.buckets):
        left = _by_key(pair, pair.before, old.read(pair.name, bucket))
        right = _by_key(pair, pair.after, new.read(pair.name, bucket))
        for key in in_order([*left, *(key for key in right if key not in left)]):
            yield from _of_key(pair, left.get(key, []), right.get(key, []))


def _by_key(pair: _Pair, table: Table | None, rows: Iterator[Row]) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = {}
    if table is not None:
        match = _matcher(table, pair.key)
        for row in rows:
            found.setdefault(match(row), []).append(row)
    return found


def _of_key(pair: _Pair, old: list[Row], new: list[Row]) -> Iterator[RowChange]:
    both = min(len(old), len(new))
    for before, after in zip(old[:both], new[:both], strict=True):
        columns = _columns(_named(pair.before, before), _named(pair.after, after))
        if columns and pair.key:
            yield RowChange(pair.name, "changed", _key(pair, pair.after, after), columns, None)
        elif columns:  # as many bytes in other columns: the shapes differ
            yield from _single(pair, "removed", pair.before, before)
            yield from _single(pair, "added", pair.after, after)
    for row in old[both:]:
        yield from _single(pair, "removed", pair.before, row)
    for row in new[both:]:
        yield from _single(pair, "added", pair.after, row)


def _single(pair: _Pair, change: str, table: Table | None, row: Row) -> Iterator[RowChange]:
    yield RowChange(pair.name, change, _key(pair, table, row), None, _named(table, row))


def _key(pair: _Pair, table: Table | None, row: Row) -> dict[str, Value]:
    named = _named(table, row)
    return {name: named[name] for name in pair.key}


def _named(table: Table | None, row: Row) -> dict[str, Value]:
    columns = () if table is None else table.columns
    return {column.name: value for column, value in zip(columns, row, strict=True)}


def _columns(old: dict[str, Value], new: dict[str, Value]) -> dict[str, list[Any]]:
    """The columns that differ, each with its value before and after; a missing one has none."""
    return {
        name: [[side[name]] if name in side else [] for side in (old, new)]
        for name in dict.fromkeys(chain(new, old))
        if name not in old or name not in new or pack(old[name]) != pack(new[name])
    }


def _key_names(table: Table | None) -> tuple[str, ...]:
    return () if table is None else tuple(table.columns[index].name for index in table.key)


def _report(
    before: Side,
    after: Side,
    pairs: list[_Pair],
    differing: list[_Pair],
    selection: Selection | None,
) -> DiffReport:
    schema: list[str] = []
    attributes: list[str] = []
    if selection is None:
        schema = schema_differences(before.catalog, after.catalog)
        attributes = attribute_differences(before.attributes, after.attributes)
    return DiffReport(
        equal=not differing and not schema and not attributes,
        before=before.name,
        after=after.name,
        tables={
            pair.name: {
                "in": "both"
                if pair.before and pair.after
                else "before"
                if pair.before
                else "after",
                "rows_before": pair.digests[0].rows,
                "rows_after": pair.digests[1].rows,
                **{name: pair.counts[name] for name in ("added", "removed", "changed")},
            }
            for pair in differing
        },
        tables_equal=len(pairs) - len(differing),
        schema=tuple(schema),
        attributes=tuple(attributes),
    )
