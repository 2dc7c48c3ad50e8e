"""Folding: base and tail of one object to the state they describe.

`Snapshot.open` reads the whole object once, checks every frame, and keeps the tail; nothing is
handed out before that. `rows` then reads the base again and applies the tail as it passes, so that
memory is bounded by one frame and the tail (which compaction bounds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, BinaryIO

from ..errors import SnapshotDamaged
from ..model import Catalog, Key, Mark, Mutation, Operation, Row, Table, TableDigest, Value
from .catalog import from_plain
from .digest import DigestBuilder
from .extent import lineage_of, mark_of
from .frame import ROWS, SCHEMA, TAIL, Frame, content, outline
from .multiset import Multiset
from .reader import FrameReader

_HELP = "Use another copy or an earlier version of the object."
# An enumeration looks its members up in Python: a tenth of what a long tail costs.
_OPERATIONS = {operation.value: operation for operation in Operation}


@dataclass(slots=True)
class Publish:
    """One publish that the object still tells of."""

    mark: Mark
    at: float
    end: int
    mutations: list[Mutation] = field(default_factory=list[Mutation])


class Snapshot:
    """One object, verified."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.header: dict[str, Any] = {}
        self.catalog = Catalog(())
        self.attributes: dict[str, Value] = {}
        self.publishes: list[Publish] = []
        self.size_bytes = 0
        self.base_bytes = 0
        self.unfinished_bytes = 0
        self.chain = b""
        self.stored_bytes: dict[int, int] = {}
        self._tables: dict[int, Table] = {}
        self._tail: dict[int, dict[Key, Row | None]] = {}
        self._bags: dict[int, Multiset] = {}
        self._begin: dict[int, int] = {}

    @classmethod
    def open(cls, stream: BinaryIO) -> Snapshot:
        """Read and verify the seekable ``stream``. Raises `SnapshotDamaged`."""
        snapshot = cls(stream)
        snapshot._verify()
        return snapshot

    @property
    def mark(self) -> Mark:
        """The last publish's mark."""
        return self.publishes[-1].mark

    @property
    def at(self) -> float:
        """When the last published cut was taken, seconds since the epoch."""
        return self.publishes[-1].at

    def rows(self) -> Iterator[tuple[Table, list[Row]]]:
        """The state, in blocks of one table's rows; every table comes in one piece."""
        left = {number: dict(changes) for number, changes in self._tail.items()}
        bags = {number: bag.copy() for number, bag in self._bags.items()}
        done: set[int] = set()
        current: Table | None = None
        self._stream.seek(0)
        for index, frame in enumerate(FrameReader(self._stream)):
            if frame.kind != ROWS:
                continue
            table, rows, _ = self._rows_of(frame)
            if index < self._begin.get(table.id, 0):
                continue
            if current is not None and table.id != current.id:
                yield from _remaining(current, left, bags)
                done.add(current.id)
            current = table
            if changes := left.get(table.id):
                rows = _apply(table, rows, changes)
            elif bag := bags.get(table.id):
                rows = bag.apply(rows)
            yield table, rows
        for table in self.catalog.tables:
            if table.id not in done:
                yield from _remaining(table, left, bags)

    def digests(self) -> dict[str, TableDigest]:
        """Rows and digest of every table, by its full name."""
        builders = {table.id: DigestBuilder() for table in self.catalog.tables}
        for table, rows in self.rows():
            builders[table.id].add(rows)
        return {full_name(table): builders[table.id].result() for table in self.catalog.tables}

    def _verify(self) -> None:
        self._stream.seek(0)
        reader = FrameReader(self._stream)
        lineage = ""
        mutations: list[Mutation] = []
        for index, frame in enumerate(reader):
            if not lineage:
                lineage = lineage_of(frame)
                self.header = content(frame)
            mutations += self._take(index, frame)
            if frame.seal is not None:
                self._seal(lineage, frame, reader.end, mutations)
                mutations = []
        self.size_bytes, self.unfinished_bytes = reader.end, reader.unfinished_bytes

    def _seal(self, lineage: str, frame: Frame, end: int, mutations: list[Mutation]) -> None:
        at: Any = (frame.seal or {}).get("at")
        if type(at) not in (int, float):
            raise SnapshotDamaged(f"A seal of the snapshot bears no time. {_HELP}")
        self.publishes.append(Publish(mark_of(lineage, frame), float(at), end, mutations))
        self.base_bytes = self.base_bytes or end
        self.chain = frame.digest

    def _take(self, index: int, frame: Frame) -> list[Mutation]:
        if frame.kind == SCHEMA:
            self.catalog, self.attributes = from_plain(content(frame))
            self._tables = {table.id: table for table in self.catalog.tables}
        elif frame.kind == ROWS:
            table, reset = self._outline(frame)
            if reset:
                self._begin[table.id] = index
                self._tail.pop(table.id, None)
                self._bags.pop(table.id, None)
                self.stored_bytes[table.id] = 0
            self.stored_bytes[table.id] = self.stored_bytes.get(table.id, 0) + len(frame.payload)
        elif frame.kind == TAIL:
            return self._fold(content(frame, lists=False))
        return []

    def _fold(self, plain: Any) -> list[Mutation]:
        try:
            changes, attributes = plain
            mutations = [self._mutation(*item) for item in changes]
            changed = dict(attributes)
        except (TypeError, ValueError, KeyError) as error:
            raise SnapshotDamaged(f"A tail frame cannot be read ({error!r}). {_HELP}") from error
        for mutation in mutations:
            if mutation.key:
                self._tail.setdefault(mutation.table, {})[mutation.key] = mutation.row
            else:
                self._bags.setdefault(mutation.table, Multiset()).take(mutation)
        for name, value in changed.items():
            if value is None:
                self.attributes.pop(name, None)
            else:
                self.attributes[name] = value
        return mutations

    def _mutation(self, number: int, operation: str, key: Any, row: Any, at: float) -> Mutation:
        table = self._tables[number]
        if len(key) != len(table.key) or not (row is None or len(row) == len(table.columns)):
            raise ValueError(f"a mutation of table {table.name!r} has not its shape")
        state = None if row is None else tuple(row)
        if not key and (state is None or operation not in ("i", "d")):
            raise ValueError(f"a mutation of table {table.name!r} has neither key nor row")
        return Mutation(number, _OPERATIONS[operation], tuple(key), state, float(at))

    def _outline(self, frame: Frame) -> tuple[Table, bool]:
        """What a rows frame belongs to, without making its rows: `rows` will look at them."""
        try:
            number, columns, reset = outline(frame)
            table = self._tables[number]
            if columns != len(table.columns):
                raise ValueError(f"{columns} columns for table {table.name!r}")
            return table, reset
        except (TypeError, ValueError, KeyError) as error:
            raise _unreadable_rows(error) from error

    def _rows_of(self, frame: Frame) -> tuple[Table, list[Row], bool]:
        try:
            number, columns, reset = content(frame)
            table = self._tables[number]
            if len(columns) != len(table.columns):
                raise ValueError(f"{len(columns)} columns for table {table.name!r}")
            return table, list(zip(*columns, strict=True)), bool(reset)
        except (TypeError, ValueError, KeyError) as error:
            raise _unreadable_rows(error) from error


def full_name(table: Table) -> str:
    """A table's name as reports show it."""
    return table.name if table.schema is None else f"{table.schema}.{table.name}"


def _unreadable_rows(error: Exception) -> SnapshotDamaged:
    return SnapshotDamaged(f"A rows frame cannot be read ({error!r}). {_HELP}")


def _apply(table: Table, rows: list[Row], changes: dict[Key, Row | None]) -> list[Row]:
    keys = list(zip(*(map(itemgetter(index), rows) for index in table.key), strict=True))
    if changes.keys().isdisjoint(keys):
        return rows
    result: list[Row] = []
    for key, row in zip(keys, rows, strict=True):
        if key not in changes:
            result.append(row)
        elif (changed := changes.pop(key)) is not None:
            result.append(changed)
    return result


def _remaining(
    table: Table, left: dict[int, dict[Key, Row | None]], bags: dict[int, Multiset]
) -> Iterator[tuple[Table, list[Row]]]:
    changes = left.pop(table.id, {})
    rows = [row for row in changes.values() if row is not None]
    if table.id in bags:
        rows += bags.pop(table.id).rest(table)
    if rows:
        yield table, rows
