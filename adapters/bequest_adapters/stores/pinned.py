"""Reading a local object up to the length that its preamble pinned when it was opened.

Invariant: bytes before the pinned length never change under an open stream. An append writes
behind it, a rewrite makes another file. Only the preamble itself is rewritten in place, so the
stream serves the copy of it that it was opened with.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from bequest.errors import SnapshotDamaged
from bequest.snapshot.frame import (
    DIGEST_BYTES,
    MAGIC,
    PREAMBLE_BYTES,
    Preamble,
    parse_preamble,
)

_LOOKS: Final = 100
_BUFFER_BYTES: Final = 1 << 20
_BEGINNING: Final = b"\xc4\x20" + MAGIC


@dataclass(frozen=True, slots=True)
class Pin:
    """What one look at a file told. ``preamble`` is ``None`` when it is no Bequest object."""

    head: bytes
    preamble: Preamble | None
    size_bytes: int

    @property
    def end(self) -> int:
        """Where the object ends: the preamble's length, or the file's where that is a floor."""
        if self.preamble is None or self.preamble.floor:
            return self.size_bytes
        return self.preamble.length


def look(file: int) -> Pin:
    """Read the preamble of an open file. Raises `OSError`."""
    # A reader without a lock can catch the 34 bytes half rewritten; the next look is whole.
    head = b""
    for _ in range(_LOOKS):
        head = os.pread(file, PREAMBLE_BYTES, 0)
        try:
            return Pin(head, parse_preamble(head), os.fstat(file).st_size)
        except SnapshotDamaged:
            if not head.startswith(_BEGINNING):
                break
    return Pin(head, None, os.fstat(file).st_size)


def last_digest(file: int, pin: Pin) -> bytes:
    """The digest of the object's last frame: its last 32 bytes. Raises `OSError`."""
    return os.pread(file, DIGEST_BYTES, max(0, pin.end - DIGEST_BYTES))


def pinned_stream(file: int, pin: Pin) -> BinaryIO:
    """The object as ``pin`` saw it; closing the stream closes the file."""
    return cast(BinaryIO, io.BufferedReader(_Pinned(file, pin), _BUFFER_BYTES))


class _Pinned(io.RawIOBase):
    def __init__(self, file: int, pin: Pin) -> None:
        super().__init__()
        self._file = file
        self._head = pin.head
        self._end = pin.end
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        if start + offset < 0:
            raise ValueError(f"no place {start + offset} in a file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._end - self._at)
        if wanted <= 0:
            return 0
        if self._at < len(self._head):
            data = self._head[self._at : self._at + wanted]
        else:
            data = os.pread(self._file, wanted, self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()
