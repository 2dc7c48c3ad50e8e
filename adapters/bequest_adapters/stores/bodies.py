"""The bytes of an object on their way to a store: exact lengths, and the preamble that fits.

Invariant: a body that ends early is never published as if it were whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Protocol

from bequest.errors import SnapshotDamaged, Unreachable, UsageError
from bequest.snapshot.frame import PREAMBLE_BYTES, Preamble, parse_preamble, preamble


class Readable(Protocol):
    """What can be read once, front to back."""

    def read(self, size_bytes: int, /) -> bytes:
        """Up to ``size_bytes``; nothing at the end."""
        ...


class Chained:
    """The first ``size_bytes`` of a stream, with ``data`` behind them."""

    def __init__(self, stream: Readable, size_bytes: int, data: bytes) -> None:
        self._stream = stream
        self._left_bytes = size_bytes
        self._data = io.BytesIO(data)

    def read(self, size_bytes: int, /) -> bytes:
        """Raises `Unreachable` when the stream ends early."""
        if not self._left_bytes:
            return self._data.read(size_bytes)
        piece = self._stream.read(min(size_bytes, self._left_bytes))
        if not piece:
            raise Unreachable(
                "The object ended early while it was read to be written anew. Nothing was "
                "published; it is tried again."
            )
        self._left_bytes -= len(piece)
        return piece


class Floored:
    """A body of ``size_bytes`` whose preamble, if it has one, is made a floor."""

    def __init__(self, body: Readable, size_bytes: int) -> None:
        self._body = body
        self._end = size_bytes
        self._at = 0
        self._first = b""

    def tell(self) -> int:
        """How many bytes were read."""
        return self._at

    def read(self, size_bytes: int = -1, /) -> bytes:
        """Exactly ``size_bytes``, or what is left. Raises `UsageError` if the body is short."""
        left = self._end - self._at
        wanted = left if size_bytes < 0 else min(size_bytes, left)
        if self._at == 0 and wanted:
            self._first = exactly(self._body, min(PREAMBLE_BYTES, self._end))
            self._first = pinned(self._first, floor=True, length=self._end)
        head = self._first[self._at : self._at + wanted]
        data = head + exactly(self._body, wanted - len(head))
        self._at += len(data)
        return data


def exactly(body: Readable, size_bytes: int) -> bytes:
    """The next ``size_bytes``. Raises `UsageError` when the body has fewer."""
    data = bytearray(body.read(size_bytes)) if size_bytes else bytearray()
    while len(data) < size_bytes:
        piece = body.read(size_bytes - len(data))
        if not piece:
            raise UsageError(
                f"The body ended {size_bytes - len(data)} bytes early. Nothing was published."
            )
        data += piece
    return bytes(data)


def parts(body: Readable, size_bytes: int, part_bytes: int) -> Iterator[bytes]:
    """Cut a body into parts of ``part_bytes``; the last may be smaller."""
    for offset in range(0, size_bytes, part_bytes):
        yield exactly(body, min(part_bytes, size_bytes - offset))


def preamble_of(data: bytes) -> Preamble | None:
    """The preamble that ``data`` begins with, if it does."""
    try:
        return parse_preamble(data[:PREAMBLE_BYTES])
    except SnapshotDamaged:
        return None


def pinned(data: bytes, *, floor: bool, length: int | None = None) -> bytes:
    """``data`` with the preamble for this way of writing, if it begins with one at all."""
    if preamble_of(data) is None:
        return data
    length = len(data) if length is None else length
    return preamble(length, floor=floor) + data[PREAMBLE_BYTES:]
