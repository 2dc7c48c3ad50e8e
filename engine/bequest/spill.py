"""Rows set aside in one temporary file, in as many buckets as are wanted, to be read back singly.

So two large tables can be compared bucket by bucket: memory is bounded by one bucket of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from .model import Key, Row, Value
from .snapshot.frame import pack, unpack
from .spool import Spool

BUFFERED_ROWS: Final = 8192
"""Rows of all buckets together that wait in memory to be written."""


class Spill:
    """Buckets of rows, named by a table's name and a number."""

    def __init__(self) -> None:
        self._file = Spool()
        self._waiting: dict[tuple[str, int], list[Row]] = {}
        self._count = 0
        self._pieces: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, table: str, bucket: int, row: Row) -> None:
        """Set ``row`` aside."""
        self._waiting.setdefault((table, bucket), []).append(row)
        self._count += 1
        if self._count >= BUFFERED_ROWS:
            self._write()

    def read(self, table: str, bucket: int) -> Iterator[Row]:
        """The rows of one bucket, in the order in which they came."""
        self._write()
        for start, size in self._pieces.get((table, bucket), ()):
            self._file.seek(start)
            rows: list[list[Value]] = unpack(self._file.read(size))
            yield from map(tuple, rows)

    def _write(self) -> None:
        self._file.seek(self._end)
        for place, rows in self._waiting.items():
            data = pack([list(row) for row in rows])
            self._file.write(data)
            self._pieces.setdefault(place, []).append((self._end, len(data)))
            self._end += len(data)
        self._waiting.clear()
        self._count = 0


def bucket_of(key: Key, buckets: int) -> int:
    """Which of ``buckets`` a key belongs to: equal keys, 1 and 1.0 too, to the same one."""
    if buckets == 1:
        return 0
    digest = hashlib.blake2b(pack([_plain(value) for value in key]), digest_size=8).digest()
    return int.from_bytes(digest) % buckets


def _plain(value: Value) -> Value:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def in_order(keys: Sequence[Key]) -> list[Key]:
    """``keys`` sorted as SQLite sorts: nothing, numbers, text, bytes."""
    return sorted(keys, key=lambda key: [_rank(value) for value in key])


def _rank(value: Value) -> tuple[int, float, str, bytes]:
    if value is None:
        return 0, 0.0, "", b""
    if isinstance(value, int | float):
        return 1, value, "", b""
    if isinstance(value, str):
        return 2, 0.0, value, b""
    return 3, 0.0, "", value
