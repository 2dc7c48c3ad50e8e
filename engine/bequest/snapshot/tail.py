"""Reading on in an object from a known place, without what comes before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ..errors import SnapshotDamaged
from ..model import Catalog, Key, Mutation, Operation, Row, Step, Table, Value
from .catalog import from_plain
from .extent import mark_of
from .frame import HEADER, ROWS, SCHEMA, TAIL, Frame, content
from .multiset import Multiset
from .reader import FrameReader, Place

if TYPE_CHECKING:
    from ..ports import Cipher

SKIP_BYTES: Final = 1 << 20
MOST_GONE: Final = 500
"""Different rows of a table without a key that one publish may take away before reading the object
anew costs less: each of them has to be looked for."""


class Discontinued(Exception):
    """What is there does not continue what was read before: the object must be read anew."""


def catalog_of(stream: BinaryIO, cipher: Cipher | None = None) -> tuple[Catalog, str]:
    """The catalog of an object, and the id of its key, from its first two frames.

    Raises `SnapshotDamaged`, `KeyMissing`.
    """
    reader = FrameReader(stream, cipher)
    frames = iter(reader)
    header, schema = next(frames, None), next(frames, None)
    if header is None or schema is None or header.kind != HEADER or schema.kind != SCHEMA:
        raise SnapshotDamaged(
            "The snapshot does not begin with its schema. Use another copy of the object."
        )
    return from_plain(content(schema))[0], reader.key_id


def steps(
    stream: BinaryIO,
    place: Place,
    lineage: str,
    catalog: Catalog,
    cipher: Cipher | None = None,
    *,
    counts: bool = False,
) -> Iterator[Step]:
    """The publishes behind ``place``, each checked as far as the chain reaches.

    ``counts``: whether the caller can apply `Step.counts`.

    Raises `Discontinued` when the object does not go on there, or not by mutations alone.
    """
    _skip(stream, place.end)
    reader = FrameReader(stream, cipher, after=place)
    found = _Collecting(lineage, {table.id: table for table in catalog.tables}, counts)
    try:
        for frame in reader:
            found.take(frame)
            if frame.seal is not None:
                yield found.sealed(frame, reader.end)
    except (SnapshotDamaged, KeyError, TypeError, ValueError) as error:
        # A rewritten object has other bytes here. Reading it anew tells whether it is whole.
        raise Discontinued(str(error)) from error


class _Collecting:
    """The content of one publish so far."""

    def __init__(self, lineage: str, tables: dict[int, Table], counts: bool) -> None:
        self._lineage = lineage
        self._tables = tables
        self._counting = counts
        self._begin()

    def _begin(self) -> None:
        self._rows: dict[int, dict[Key, Row | None]] = {}
        self._resets: dict[int, list[Row]] = {}
        self._attributes: dict[str, Value] = {}
        self._counts: dict[int, Multiset] = {}

    def take(self, frame: Frame) -> None:
        """Add a frame's content."""
        if frame.kind == TAIL:
            changes, attributes = content(frame)
            for change in changes:
                self._change(change)
            self._attributes.update(attributes)
        elif frame.kind == ROWS:
            number, columns, reset = content(frame)
            table = self._tables[number]
            rows: list[Row] = list(zip(*columns, strict=True))
            if len(columns) != len(table.columns) or not (reset or number in self._resets):
                raise ValueError(f"rows of table {table.name!r} do not begin with a reset")
            self._resets[number] = rows if reset else [*self._resets[number], *rows]
            self._rows.pop(number, None)
            self._counts.pop(number, None)

    def _change(self, change: Any) -> None:
        number, operation, key, row, at = change
        table = self._tables[number]
        fits = row is None or len(row) == len(table.columns)
        counted = self._counting and not table.key and row is not None
        if len(key) != len(table.key) or not fits or not (table.key or counted):
            raise ValueError(f"table {table.name!r} has no key by which its rows could be followed")
        if number in self._resets:
            raise ValueError(f"table {table.name!r} changes after it was published whole")
        if counted and row is not None:
            image: Row = tuple(row)
            mutation = Mutation(number, Operation(operation), (), image, at)
            self._counts.setdefault(number, Multiset()).take(mutation)
            return
        self._rows.setdefault(number, {})[tuple(key)] = None if row is None else tuple(row)

    def sealed(self, frame: Frame, end: int) -> Step:
        """The publish that ``frame`` ends."""
        at = float((frame.seal or {})["at"])
        mark = mark_of(self._lineage, frame)
        counts = {number: multiset.counts() for number, multiset in self._counts.items()}
        for changed in counts.values():
            if sum(count < 0 for _, count in changed) > MOST_GONE:
                raise ValueError("more rows without a key went than are worth looking for")
        step = Step(
            mark, at, end, frame.digest.hex(), self._rows, self._resets, self._attributes, counts
        )
        self._begin()
        return step


def _skip(stream: BinaryIO, end: int) -> None:
    if stream.seekable():
        stream.seek(end, os.SEEK_SET)
        return
    left = end
    while left:
        data = stream.read(min(left, SKIP_BYTES))
        if not data:
            raise Discontinued("the object is shorter than it was")
        left -= len(data)
