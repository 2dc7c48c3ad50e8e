"""Folding: base and tail of one object to the state they describe.

`Snapshot.open` reads the whole object once, checks every frame, and keeps the tail; nothing is
handed out before that. `rows` then reads the base again and applies the tail as it passes, so that
memory is bounded by one frame and the tail (which compaction bounds). `Snapshot.as_of` is the same
object at an earlier publish of its tail: whole as well, and folded only so far.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from ..errors import SnapshotDamaged
from ..model import Author, Catalog, Key, Mark, Mutation, Operation, Row, Table, TableDigest, Value
from .catalog import facts, from_plain
from .digest import DigestBuilder
from .extent import author_of, lineage_of, mark_of
from .frame import ROWS, SCHEMA, SEAL, TAIL, Frame, content, content_bytes, outline
from .multiset import Multiset
from .reader import FrameReader
from .soundness import moment, scalars, texts

if TYPE_CHECKING:
    from ..ports import Cipher

_HELP = "Use another copy or an earlier version of the object."
# An enumeration looks its members up in Python: a tenth of what a long tail costs.
_OPERATIONS = {operation.value: operation for operation in Operation}


@dataclass(frozen=True, slots=True)
class Reset:
    """From frame ``index`` on a table is told whole again; ``after`` mutations of its publish."""

    table: int
    index: int
    after: int


@dataclass(slots=True)
class Publish:
    """One publish that the object still tells of. ``attributes``: those it changed, nil: gone.

    ``by`` is who made it, ``None`` when the object does not say.
    """

    mark: Mark
    at: float
    end: int
    mutations: list[Mutation] = field(default_factory=list[Mutation])
    resets: list[Reset] = field(default_factory=list[Reset])
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])
    adopted: bool = False
    by: Author | None = None


class Snapshot:
    """One object, verified, as of one of its publishes (the last, unless `as_of` says another)."""

    def __init__(self, stream: BinaryIO, cipher: Cipher | None = None) -> None:
        self._stream = stream
        self._cipher = cipher
        self.key_id = ""
        """Of the key that the object is under; empty for none."""
        self.header: dict[str, Any] = {}
        self.catalog = Catalog(())
        self.attributes: dict[str, Value] = {}
        self.history: list[Publish] = []
        """Every publish that the object tells of, also those after the chosen one."""
        self.publishes: list[Publish] = []
        """Those up to the chosen one."""
        self.size_bytes = 0
        self.base_bytes = 0
        self.unfinished_bytes = 0
        self.chain = b""
        self.stored_bytes: dict[int, int] = {}
        self.unpacked_bytes = 0
        """About what all rows weigh, unpacked: at least as much as the state does."""
        self.row_count = 0
        """At least as many rows as the state has."""
        self._tables: dict[int, Table] = {}
        self._tail: dict[int, dict[Key, Row | None]] = {}
        self._bags: dict[int, Multiset] = {}
        self._begin: dict[int, int] = {}
        self._first_attributes: dict[str, Value] = {}

    @classmethod
    def open(cls, stream: BinaryIO, cipher: Cipher | None = None) -> Snapshot:
        """Read and verify the seekable ``stream``. Raises `SnapshotDamaged`, `KeyMissing`."""
        snapshot = cls(stream, cipher)
        snapshot._verify()
        return snapshot

    @property
    def mark(self) -> Mark:
        """The chosen publish's mark."""
        return self.publishes[-1].mark

    @property
    def newest(self) -> Mark:
        """The mark that the object as a whole bears."""
        return self.history[-1].mark

    @property
    def at(self) -> float:
        """When the chosen publish's cut was taken, seconds since the epoch."""
        return self.publishes[-1].at

    @property
    def later(self) -> Sequence[Publish]:
        """The publishes after the chosen one."""
        return self.history[len(self.publishes) :]

    def as_of(self, publish: Publish) -> Self:
        """The same object at ``publish``, one of its `history`."""
        earlier = copy.copy(self)
        earlier._fold(self.history.index(publish) + 1)
        return earlier

    def rows(self, only: Container[int] | None = None) -> Iterator[tuple[Table, list[Row]]]:
        """The state, in blocks of one table's rows; every table comes in one piece.

        ``only``: the numbers of the tables that are wanted.
        """
        left = {number: dict(changes) for number, changes in self._tail.items()}
        bags = {number: bag.copy() for number, bag in self._bags.items()}
        done: set[int] = set()
        current: Table | None = None
        for table, rows in self._stored(only):
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
            if table.id not in done and (only is None or table.id in only):
                yield from _remaining(table, left, bags)

    def _stored(self, only: Container[int] | None) -> Iterator[tuple[Table, list[Row]]]:
        self._stream.seek(0)
        for index, frame in enumerate(FrameReader(self._stream, self._cipher)):
            if frame.serial > self.mark.serial:
                return
            if frame.kind != ROWS:
                continue
            table, _, _ = self._outline(frame)
            if index >= self._begin.get(table.id, 0) and (only is None or table.id in only):
                yield table, self._rows_of(frame)[1]

    def grown(self) -> set[int]:
        """Numbers of the tables whose new rows `rows` gives behind all others.

        What the tail changes and takes away, it changes where the row stands.
        """
        stay = (Operation.UPDATE, Operation.DELETE)
        return {
            mutation.table
            for publish in self.publishes
            for mutation in publish.mutations
            if mutation.operation not in stay
        }

    def revisions(self) -> tuple[str, ...]:
        """The controller's Alembic revisions: by its own table if that is here, else the header's.

        The header tells those of the base; a migration of data only may have come since.
        """
        for table in self.catalog.tables:
            names = [column.name for column in table.columns]
            if table.name == "alembic_version" and "version_num" in names:
                index = names.index("version_num")
                return tuple(sorted(str(row[index]) for _, rows in self.rows({table.id})
                                    for row in rows))  # fmt: skip
        return tuple(self.header.get("revisions", ()))

    def digests(self) -> dict[str, TableDigest]:
        """Rows and digest of every table, by its full name."""
        builders = {table.id: DigestBuilder() for table in self.catalog.tables}
        for table, rows in self.rows():
            builders[table.id].add(rows)
        return {full_name(table): builders[table.id].result() for table in self.catalog.tables}

    def _verify(self) -> None:
        self._stream.seek(0)
        reader = FrameReader(self._stream, self._cipher)
        lineage = ""
        publish = _blank()
        for index, frame in enumerate(reader):
            if not lineage:
                lineage = lineage_of(frame)
                self.header = header_of(content(frame))
            self._take(index, frame, publish)
            if frame.seal is not None:
                self._seal(lineage, frame, reader.end, publish)
                publish = _blank()
        self.size_bytes, self.unfinished_bytes = reader.end, reader.unfinished_bytes
        self.key_id = reader.key_id
        self._fold(len(self.history))

    def _seal(self, lineage: str, frame: Frame, end: int, publish: Publish) -> None:
        publish.mark, publish.at, publish.end = mark_of(lineage, frame), moment_of(frame), end
        publish.by = author_of(frame)
        self.history.append(publish)
        self.base_bytes = self.base_bytes or end
        self.chain = frame.digest

    def _take(self, index: int, frame: Frame, publish: Publish) -> None:
        if frame.kind == SCHEMA:
            self.catalog, self._first_attributes = from_plain(content(frame))
            self._tables = {table.id: table for table in self.catalog.tables}
        elif frame.kind == ROWS:
            table, rows, reset = self._outline(frame)
            if reset:
                publish.resets.append(Reset(table.id, index, len(publish.mutations)))
                self.stored_bytes[table.id] = 0
            self.stored_bytes[table.id] = self.stored_bytes.get(table.id, 0) + len(frame.payload)
            self._weigh(frame, rows)
        elif frame.kind == TAIL:
            self._read_tail(frame, publish)
        elif frame.kind == SEAL:
            told = content(frame)
            publish.adopted = isinstance(told, dict) and bool(told.get("adopted"))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]

    def _weigh(self, frame: Frame, rows: int) -> None:
        self.unpacked_bytes += content_bytes(frame)
        self.row_count += rows

    def _read_tail(self, frame: Frame, publish: Publish) -> None:
        try:
            changes, attributes = content(frame, lists=False)
            publish.mutations += self._mutations(changes)
            publish.attributes |= facts(attributes)
        except (TypeError, ValueError, KeyError) as error:
            raise SnapshotDamaged(f"A tail frame cannot be read ({error!r}). {_HELP}") from error
        self._weigh(frame, len(changes))

    def _fold(self, count: int) -> None:
        """Make this the state after the first ``count`` publishes."""
        self.publishes = self.history[:count]
        self.attributes = dict(self._first_attributes)
        self._tail, self._bags, self._begin = {}, {}, {}
        for publish in self.publishes:
            done = 0
            for reset in publish.resets:
                self._change(publish.mutations[done : reset.after])
                done = reset.after
                self._begin[reset.table] = reset.index
                self._tail.pop(reset.table, None)
                self._bags.pop(reset.table, None)
            self._change(publish.mutations[done:])
            for name, value in publish.attributes.items():
                if value is None:
                    self.attributes.pop(name, None)
                else:
                    self.attributes[name] = value

    def _change(self, mutations: Sequence[Mutation]) -> None:
        for mutation in mutations:
            if mutation.key:
                self._tail.setdefault(mutation.table, {})[mutation.key] = mutation.row
            else:
                self._bags.setdefault(mutation.table, Multiset()).take(mutation)

    def _mutations(self, changes: Iterable[Any]) -> list[Mutation]:
        found = [self._mutation(*item) for item in changes]
        scalars(chain.from_iterable(item.key for item in found))
        scalars(chain.from_iterable(item.row for item in found if item.row is not None))
        return found

    def _mutation(self, number: int, operation: str, key: Any, row: Any, at: float) -> Mutation:
        table = self._tables[number]
        if len(key) != len(table.key) or not (row is None or len(row) == len(table.columns)):
            raise ValueError(f"a mutation of table {table.name!r} has not its shape")
        state = None if row is None else tuple(row)
        if not key and (state is None or operation not in ("i", "d")):
            raise ValueError(f"a mutation of table {table.name!r} has neither key nor row")
        return Mutation(number, _OPERATIONS[operation], tuple(key), state, moment(at))

    def _outline(self, frame: Frame) -> tuple[Table, int, bool]:
        """What a rows frame belongs to, without making its rows: `rows` will look at them."""
        try:
            number, columns, rows, reset = outline(frame)
            table = self._tables[number]
            if columns != len(table.columns):
                raise ValueError(f"{columns} columns for table {table.name!r}")
            return table, rows, reset
        except (TypeError, ValueError, KeyError) as error:
            raise _unreadable_rows(error) from error

    def _rows_of(self, frame: Frame) -> tuple[Table, list[Row], bool]:
        try:
            number, columns, reset = content(frame)
            table = self._tables[number]
            if len(columns) != len(table.columns):
                raise ValueError(f"{len(columns)} columns for table {table.name!r}")
            for column in columns:
                scalars(column)
            return table, list(zip(*columns, strict=True)), bool(reset)
        except (TypeError, ValueError, KeyError) as error:
            raise _unreadable_rows(error) from error


def header_of(plain: Any) -> dict[str, Any]:
    """A header frame's content. Raises `SnapshotDamaged`."""
    try:
        header = dict(plain)
        texts(header, ("dialect", "server", "written_by"))
        for revision in header.get("revisions", ()):
            texts({"a revision": revision}, ("a revision",))
    except (TypeError, ValueError) as error:
        raise SnapshotDamaged(f"The header cannot be read ({error!r}). {_HELP}") from error
    return header


def moment_of(sealed: Frame) -> float:
    """When a sealed frame's cut was taken, seconds since the epoch. Raises `SnapshotDamaged`."""
    try:
        return moment((sealed.seal or {}).get("at"))
    except ValueError as error:
        raise SnapshotDamaged(f"A seal of the snapshot bears no time. {_HELP}") from error


def full_name(table: Table) -> str:
    """A table's name as reports show it."""
    return table.name if table.schema is None else f"{table.schema}.{table.name}"


def _blank() -> Publish:
    return Publish(Mark("", 0, 0, ""), 0.0, 0)


def _unreadable_rows(error: Exception) -> SnapshotDamaged:
    return SnapshotDamaged(f"A rows frame cannot be read ({error!r}). {_HELP}")


def _apply(table: Table, rows: list[Row], changes: dict[Key, Row | None]) -> list[Row]:
    keys = list(zip(*(map(itemgetter(index), rows) for index in table.key), strict=True))
    if changes.keys().isdisjoint(keys):
        return rows
    # Each change once: what is left of them are new rows.
    return [row for row in map(changes.pop, keys, rows) if row is not None]


def _remaining(
    table: Table, left: dict[int, dict[Key, Row | None]], bags: dict[int, Multiset]
) -> Iterator[tuple[Table, list[Row]]]:
    changes: Mapping[Key, Row | None] = left.pop(table.id, {})
    rows = [row for row in changes.values() if row is not None]
    if table.id in bags:
        rows += bags.pop(table.id).rest(table)
    if rows:
        yield table, rows
