"""Writing the object: a base from a cut, or a tail behind an object that is already there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Final

from ..collector import seldom_collecting
from ..errors import BequestError
from ..model import Attributes, Author, Catalog, Mark, Mutation, Operation, Row, Table
from ..ports import Cut
from .catalog import to_plain
from .columns import PackedRows
from .frame import (
    BULKY_BYTES,
    HEADER,
    NO_DIGEST,
    PREAMBLE_BYTES,
    ROWS,
    SCHEMA,
    SEAL,
    TAIL,
    Lock,
    enclose,
    packed,
    preamble,
    sized,
    squeeze,
)
from .soundness import NAME_CHARACTERS, origin

FRAME_ROWS: Final = 32768
"""Four times as many as where compression was measured first, for 6% less."""
FRAME_BYTES: Final = 4 * 1024 * 1024
"""Of packed rows, before compression."""
TAIL_CHUNK_MUTATIONS: Final = 4096
PIECE_ROWS: Final = 1024
"""Rows that are packed at once. Of many more the values would have left the processor's cache."""
ASIDE_FROM_BYTES: Final = 64 * 1024
"""A larger payload is compressed in another thread; a smaller one sooner than it is handed over.
One over `BULKY_BYTES` is not: several of them would take too much memory."""
ASIDE_FRAMES: Final = 2
"""Payloads that may wait for that thread: what bounds the memory."""


def seal_of(mark: Mark, at: float, by: Author | None = None) -> dict[str, Any]:
    """The seal of a publish's last frame; ``at`` is the cut's time, seconds since the epoch.

    ``by``: who publishes. Raises `ValueError` for an origin that no reader would take.
    """
    seal: dict[str, Any] = {"epoch": mark.epoch, "at": at, "token": bytes.fromhex(mark.token)}
    if mark.origin:
        seal["origin"] = origin(mark.origin)
    if by is not None:
        seal["by"] = {
            "host": by.host[:NAME_CHARACTERS],
            "process": by.process,
            "name": by.name[:NAME_CHARACTERS],
        }
    return seal


class TailTooLarge(Exception):
    """The frames of an append weigh more than there is room for: a rewrite is due."""


class FrameWriter:
    """Appends chained frames of one publish to ``sink``."""

    def __init__(
        self,
        serial: int,
        chain: bytes,
        sink: Callable[[bytes], object],
        pool: Executor | None = None,
        lock: Lock | None = None,
    ) -> None:
        """With a ``pool`` of one thread, that compresses and writes what is large."""
        self._lock = lock
        self.chain = chain
        self.bytes_written = 0
        self._serial = serial
        self._sink = sink
        self._pool = pool
        self._waiting: deque[Future[None]] = deque()
        self._gathered: _Gathered | None = None

    def frame(self, kind: str, content: Any, seal: Mapping[str, Any] | None = None) -> None:
        """Add one frame. Raises `ValueError` when it would be too large to be read again."""
        self._write_gathered()
        self._add(kind, packed(content), seal)

    def rows(self, table: Table, rows: Sequence[Row], *, reset: bool = False) -> None:
        """Add rows of a table, column by column, in as few frames as hold them well.

        They are gathered over several calls, and written before anything else is.
        """
        if reset or self._gathered is None or self._gathered.table is not table:
            self._write_gathered()
            self._gathered = _Gathered(table, reset)
        for start in range(0, len(rows), PIECE_ROWS):
            self._gather(table, rows[start : start + PIECE_ROWS])

    def _gather(self, table: Table, rows: Sequence[Row]) -> None:
        more = PackedRows(table, rows)
        if more.size_bytes > BULKY_BYTES and len(rows) > 1:
            half = len(rows) // 2
            self._gather(table, rows[:half])
            self._gather(table, rows[half:])
            return
        if self._gathered is None or self._gathered.has_no_room(more):
            self._write_gathered()
            self._gathered = _Gathered(table, reset=False)
        self._gathered.rows.take_in(more)

    def _write_gathered(self) -> None:
        payload = self._packed_gathered()
        if payload is not None:
            self._add(ROWS, payload, None)

    def _packed_gathered(self) -> bytes | None:
        gathered, self._gathered = self._gathered, None
        if gathered is None or not (gathered.rows.count or gathered.reset):
            return None
        try:
            return sized(gathered.rows.content(gathered.table, reset=gathered.reset))
        except ValueError as error:
            raise BequestError(
                f"A row of table {gathered.table.name!r} is too large for a snapshot ({error}). "
                "The backup was not made. Exclude the table, or shrink the row."
            ) from error

    def _add(self, kind: str, payload: bytes, seal: Mapping[str, Any] | None) -> None:
        aside = seal is None and ASIDE_FROM_BYTES <= len(payload) <= BULKY_BYTES
        if self._pool is not None and aside:
            self._waiting.append(self._pool.submit(self._write, kind, payload, None))
            self._wait(ASIDE_FRAMES)
            return
        self._wait(0)
        self._write(kind, payload, seal)

    def _wait(self, left: int) -> None:
        while len(self._waiting) > left:
            self._waiting.popleft().result()

    def _write(self, kind: str, payload: bytes, seal: Mapping[str, Any] | None) -> None:
        # In one thread at a time: what is given to the pool is waited for before anything else.
        data, self.chain = enclose(
            kind, self._serial, self.chain, seal, *squeeze(payload), self._lock
        )
        self._sink(data)
        self.bytes_written += len(data)


class _Gathered:
    """Rows of one table that wait for their frame to be full."""

    def __init__(self, table: Table, reset: bool) -> None:
        self.table, self.reset, self.rows = table, reset, PackedRows(table)

    def has_no_room(self, more: PackedRows) -> bool:
        """Whether a frame of these rows and ``more`` would be too large. An empty one never is."""
        return self.rows.count > 0 and (
            self.rows.count + more.count > FRAME_ROWS
            or self.rows.size_bytes + more.size_bytes > FRAME_BYTES
        )


def write_base(
    cut: Cut,
    header: Mapping[str, Any],
    catalog: Catalog,
    attributes: Attributes,
    mark: Mark,
    at: float,
    body: BinaryIO,
    progress: Callable[[int], None] = lambda rows: None,
    lock: Lock | None = None,
    by: Author | None = None,
) -> tuple[bytes, int, int]:
    """Write a whole object of one base to ``body``; returns its chain, its bytes and its rows."""
    body.write(bytes(PREAMBLE_BYTES))
    with seldom_collecting(), ThreadPoolExecutor(1, "bequest-compress") as pool:
        writer = FrameWriter(mark.serial, NO_DIGEST, body.write, pool, lock)
        writer.frame(HEADER, dict(header))
        writer.frame(SCHEMA, to_plain(catalog, attributes))
        counts = {table.id: 0 for table in catalog.tables}
        for table in catalog.tables:
            for block in cut.scan(table):
                writer.rows(table, block)
                counts[table.id] += len(block)
                progress(len(block))
        writer.frame(SEAL, {"tables": counts}, seal_of(mark, at, by))
    size = PREAMBLE_BYTES + writer.bytes_written
    body.seek(0)
    body.write(preamble(size))
    body.seek(0)
    return writer.chain, size, sum(counts.values())


def write_tail(
    mutations: Iterable[Mutation],
    changed: Attributes,
    whole: Iterable[tuple[Table, Iterable[Sequence[Row]]]],
    mark: Mark,
    at: float,
    chain: bytes,
    room_bytes: int,
    lock: Lock | None = None,
    by: Author | None = None,
) -> tuple[bytes, bytes]:
    """The frames of one append; returns them and the new chain.

    Tables in ``whole`` are written with all their rows. ``mutations`` are asked for as they are
    written. Raises `TailTooLarge` as soon as the frames
    weigh more than ``room_bytes``, so that a large table is never held in memory.
    """
    parts: list[bytes] = []

    def sink(data: bytes) -> None:
        parts.append(data)
        if writer.bytes_written + len(data) > room_bytes:
            raise TailTooLarge

    writer = FrameWriter(mark.serial, chain, sink, lock=lock)
    for table, blocks in whole:
        writer.rows(table, [], reset=True)
        for block in blocks:
            writer.rows(table, block)
    write_changes(writer, mutations, changed, seal_of(mark, at, by))
    return b"".join(parts), writer.chain


def write_changes(
    writer: FrameWriter,
    mutations: Iterable[Mutation],
    changed: Attributes,
    seal: Mapping[str, Any] | None = None,
) -> None:
    """Tail frames of ``mutations`` and ``changed``; ``seal`` goes on the last of them."""
    chunks = _chunks(mutations)
    chunk: Sequence[Mutation] | None = next(chunks, None) or ()
    while chunk is not None:
        following = next(chunks, None)
        last = following is None
        content = [[_plain(item) for item in chunk], dict(changed) if last else {}]
        writer.frame(TAIL, content, seal if last else None)
        chunk = following


def _chunks(mutations: Iterable[Mutation]) -> Iterator[Sequence[Mutation]]:
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
