"""What a crossing is made of: tables on both sides, and the functions between their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from bequest.model import Attributes, Catalog, Row, Table

from .bonds import Change

Rows: TypeAlias = Callable[[], Iterable[tuple[Table, Sequence[Row]]]]
"""The state, block by block; may be called more than once."""
RowChange: TypeAlias = Callable[[Row], Row]


@dataclass(frozen=True, slots=True)
class Strand:
    """One column: its place in the source's row, and the functions; ``None`` changes nothing."""

    source: int
    convert: Change | None
    canonical_source: Change | None
    canonical_target: Change | None
    target: int = -1
    """Its place in the target's row; -1 where that is the place of the strand itself."""
    form: str = ""
    """``json`` where PostgreSQL writes a value otherwise than it was given."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """One table on both sides."""

    source: Table
    target: Table
    strands: tuple[Strand, ...]

    def convert(self, rows: Sequence[Row]) -> Sequence[Row]:
        """A block of the source's rows as the target's, column by column."""
        if not rows:
            return rows
        columns = list(zip(*rows, strict=True))
        if not self.strands:
            return [()] * len(rows)
        changed = [_changed(columns[each.source], each.convert) for each in self.strands]
        return list(zip(*changed, strict=True))

    def canonical_source(self) -> RowChange:
        """What brings a row of the source to the canonical form."""
        return _row_change([(each.source, each.canonical_source) for each in self.strands])

    def canonical_target(self) -> RowChange:
        """What brings a row of the target to the canonical form."""
        return _row_change(
            [
                (index if each.target < 0 else each.target, each.canonical_target)
                for index, each in enumerate(self.strands)
            ]
        )


def _changed(column: Sequence[Any], change: Change | None) -> Sequence[Any]:
    if change is None:
        return column
    return [None if value is None else change(value) for value in column]


def _row_change(parts: list[tuple[int, Change | None]]) -> RowChange:
    if all(index == at and change is None for at, (index, change) in enumerate(parts)):
        width = len(parts)
        return lambda row: row if len(row) == width else row[:width]

    def canonical(row: Row) -> Row:
        found: list[Any] = []
        for index, change in parts:
            value = row[index]
            found.append(value if value is None or change is None else change(value))
        return cast(Row, tuple(found))

    return canonical


@dataclass(frozen=True)
class SnapshotCrossing:
    """A `bequest.ports.Crossing`: a snapshot as a database of another kind will hold it."""

    catalog: Catalog
    attributes: Attributes
    losses: tuple[tuple[str, str], ...]
    bridges: dict[int, Bridge]

    def convert(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """`Crossing.convert`."""
        return self.bridges[table.id].convert(rows)

    def canonical(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """`Crossing.canonical`: rows read back, as `convert` gave them.

        Only JSON comes back otherwise than it went: `convert` writes it in its canonical form.
        """
        strands = self.bridges[table.id].strands
        if not rows or all(each.form != "json" for each in strands):
            return rows
        columns = list(zip(*rows, strict=True))
        turned = [
            _changed(column, each.canonical_target if each.form == "json" else None)
            for column, each in zip(columns, strands, strict=True)
        ]
        return list(zip(*turned, strict=True))

    def canonical_source(self, table: Table) -> RowChange:
        """What brings a row of the snapshot to the canonical form."""
        return self.bridges[table.id].canonical_source()

    def canonical_target(self, table: Table) -> RowChange:
        """What brings a row of the target to the canonical form."""
        return self.bridges[table.id].canonical_target()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the survey of a column stopped: the row's key, and the reason."""

    key: str
    reason: str


def key_text(table: Table, row: Row) -> str:
    """A row's key for a message; the number of its key column names it, no other value does."""
    if not table.key:
        return "a row without a key"
    parts = [f"{table.columns[index].name} = {row[index]!a}" for index in table.key]
    return f"the row with {', '.join(parts)}"
