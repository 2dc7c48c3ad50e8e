"""Writing the object: a base from a cut, or a tail behind an object that is already there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final

from ..errors import BequestError
from ..model import Attributes, Catalog, Mark, Mutation, Operation, Row, Table
from ..ports import Cut
from .catalog import to_plain
from .digest import DigestBuilder
from .frame import (
    HEADER,
    NO_DIGEST,
    PREAMBLE_BYTES,
    ROWS,
    SCHEMA,
    SEAL,
    TAIL,
    encode,
    preamble,
)

TAIL_CHUNK_MUTATIONS: Final = 4096


def seal_of(mark: Mark, at: float) -> dict[str, Any]:
    """The seal of a publish's last frame; ``at`` is the cut's time, seconds since the epoch."""
    return {"epoch": mark.epoch, "at": at, "token": bytes.fromhex(mark.token)}


class TailTooLarge(Exception):
    """The frames of an append weigh more than there is room for: a rewrite is due."""


class FrameWriter:
    """Appends chained frames of one publish to ``sink``."""

    def __init__(self, serial: int, chain: bytes, sink: Callable[[bytes], object]) -> None:
        self.chain = chain
        self.bytes_written = 0
        self._serial = serial
        self._sink = sink

    def frame(self, kind: str, content: Any, seal: Mapping[str, Any] | None = None) -> None:
        """Add one frame. Raises `ValueError` when it would be too large to be read again."""
        data, self.chain = encode(kind, self._serial, self.chain, seal, content)
        self._sink(data)
        self.bytes_written += len(data)

    def rows(self, table: Table, rows: Sequence[Row], *, reset: bool = False) -> None:
        """Add rows of a table, column by column, in as many frames as they need."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        try:
            self.frame(ROWS, [table.id, columns or [[] for _ in table.columns], reset])
        except ValueError as error:
            if len(rows) <= 1:
                raise BequestError(
                    f"A row of table {table.name!r} is too large for a snapshot ({error}). "
                    "The backup was not made. Exclude the table, or shrink the row."
                ) from error
            half = len(rows) // 2
            self.rows(table, rows[:half], reset=reset)
            self.rows(table, rows[half:])


def write_base(
    cut: Cut,
    header: Mapping[str, Any],
    catalog: Catalog,
    attributes: Attributes,
    mark: Mark,
    at: float,
    body: BinaryIO,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[bytes, int, int]:
    """Write a whole object of one base to ``body``; returns its chain, its bytes and its rows."""
    body.write(bytes(PREAMBLE_BYTES))
    writer = FrameWriter(mark.serial, NO_DIGEST, body.write)
    writer.frame(HEADER, dict(header))
    writer.frame(SCHEMA, to_plain(catalog, attributes))
    digests: dict[int, list[Any]] = {}
    total = 0
    for table in catalog.tables:
        digest = DigestBuilder()
        for block in cut.scan(table):
            writer.rows(table, block)
            digest.add(block)
            total += len(block)
            progress(len(block))
        result = digest.result()
        digests[table.id] = [result.rows, bytes.fromhex(result.digest)]
    writer.frame(SEAL, {"tables": digests}, seal_of(mark, at))
    size = PREAMBLE_BYTES + writer.bytes_written
    body.seek(0)
    body.write(preamble(size))
    body.seek(0)
    return writer.chain, size, total


def write_tail(
    mutations: Sequence[Mutation],
    changed: Attributes,
    whole: Iterable[tuple[Table, Iterable[Sequence[Row]]]],
    mark: Mark,
    at: float,
    chain: bytes,
    room_bytes: int,
) -> tuple[bytes, bytes]:
    """The frames of one append; returns them and the new chain.

    Tables in ``whole`` are written with all their rows. Raises `TailTooLarge` as soon as the frames
    weigh more than ``room_bytes``, so that a large table is never held in memory.
    """
    parts: list[bytes] = []

    def sink(data: bytes) -> None:
        parts.append(data)
        if writer.bytes_written + len(data) > room_bytes:
            raise TailTooLarge

    writer = FrameWriter(mark.serial, chain, sink)
    for table, blocks in whole:
        writer.rows(table, [], reset=True)
        for block in blocks:
            writer.rows(table, block)
    chunks = list(_chunks(mutations)) or [[]]
    for index, chunk in enumerate(chunks):
        last = index == len(chunks) - 1
        content = [[_plain(item) for item in chunk], dict(changed) if last else {}]
        writer.frame(TAIL, content, seal_of(mark, at) if last else None)
    return b"".join(parts), writer.chain


def _chunks(mutations: Sequence[Mutation]) -> Iterator[Sequence[Mutation]]:
    chunk: list[Mutation] = []
    size = 0
    for mutation in mutations:
        chunk.append(mutation)
        size += _rough_bytes(mutation)
        if len(chunk) >= TAIL_CHUNK_MUTATIONS or size > 4 * 1024 * 1024:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _rough_bytes(mutation: Mutation) -> int:
    values = mutation.row or ()
    return 16 + sum(len(value) for value in values if isinstance(value, str | bytes))


def _plain(mutation: Mutation) -> list[Any]:
    operation: Operation = mutation.operation
    row = None if mutation.row is None else list(mutation.row)
    return [mutation.table, operation.value, list(mutation.key), row, mutation.at]
