"""The tail of a table without a key: how often each row came and went.

Such changes commute, so their order does not matter. Invariant: what a tail takes away was there;
if not, the object contradicts itself and nothing is restored from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import SnapshotDamaged
from ..model import Mutation, Operation, Row, Table
from .frame import pack


class Multiset:
    """Rows to add to a table, and rows to take away."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}
        self._counts: dict[bytes, int] = {}

    def take(self, mutation: Mutation) -> None:
        """Count one mutation, which bears a row."""
        # Packed, because NaN is not equal to itself and 1 is equal to 1.0.
        packed = pack(mutation.row)
        self._rows[packed] = mutation.row or ()
        step = 1 if mutation.operation is Operation.INSERT else -1
        self._counts[packed] = self._counts.get(packed, 0) + step

    def counts(self) -> list[tuple[Row, int]]:
        """Each row that came more often than it went (positive), or the other way round."""
        return [(self._rows[packed], count) for packed, count in self._counts.items() if count]

    def copy(self) -> Multiset:
        """One to be used up."""
        other = Multiset()
        other._rows, other._counts = self._rows, dict(self._counts)
        return other

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """``rows`` without those that are to be taken away."""
        counts, kept = self._counts, list[Row]()
        for row in rows:
            packed = pack(row)
            if counts.get(packed, 0) < 0:
                counts[packed] += 1
            else:
                kept.append(row)
        return kept

    def rest(self, table: Table) -> Iterator[Row]:
        """The rows to be added. Raises `SnapshotDamaged` when some could not be taken away."""
        for packed, count in self._counts.items():
            if count < 0:
                raise SnapshotDamaged(
                    f"The tail takes away rows of table {table.name!r} that the object does not "
                    "hold. Use another copy or an earlier version of the object."
                )
            for _ in range(count):
                yield self._rows[packed]
