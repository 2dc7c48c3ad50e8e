"""Reading the object front to back, one frame in memory at a time.

Invariant: a frame is handed out only after its digest, its place in the chain and its serial have
been checked, and been decrypted where the key is at hand. All frames but the header are under one
key, or all are plain: who has no key cannot slip in a frame of his own. Frames behind the last seal
are not part of the state and are never handed out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from ..errors import SnapshotDamaged
from .frame import (
    DIGEST_BYTES,
    FRAME_LIMIT_BYTES,
    HEADER,
    NO_DIGEST,
    PREAMBLE_BYTES,
    Frame,
    Preamble,
    decode_body,
    parse_preamble,
    unlocked,
)

if TYPE_CHECKING:
    from ..ports import Cipher

_BIN_LENGTH_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_OVERHEAD_BYTES: Final = 4096
_HELP = "Restore from another copy or an earlier version of the object; keep this one for analysis."


@dataclass(frozen=True, slots=True)
class Place:
    """Behind a sealed frame: where the next one begins, the digest and serial of that one.

    ``key_id`` is that of the key that the object is under, empty for none.
    """

    end: int
    chain: bytes
    serial: int
    key_id: str = ""


class FrameReader:
    """Iterates over the frames of one object.

    After the iteration ``end`` is the length of the object and ``unfinished_bytes`` counts what
    lies behind it: the trace of an append that never finished. ``key_id`` is that of the key that
    the object is under, empty for none.
    """

    def __init__(
        self, stream: BinaryIO, cipher: Cipher | None = None, *, after: Place | None = None
    ) -> None:
        """With ``after`` the stream stands there already, and its end is the object's end."""
        self._cipher = cipher
        self.key_id = "" if after is None else after.key_id
        self._stream = stream
        self._place = after or Place(PREAMBLE_BYTES, NO_DIGEST, 0)
        if after is None:
            self._preamble = parse_preamble(_read_fully(stream, PREAMBLE_BYTES))
        else:
            self._preamble = Preamble(after.end, floor=True)
        self._undecided = after is None
        self.end = self._place.end
        self.unfinished_bytes = 0

    def __iter__(self) -> Iterator[Frame]:
        previous, serial = self._place.chain, self._place.serial
        sealed = self.end > PREAMBLE_BYTES
        while not self._finished():
            frame = decode_body(*self._next())
            if frame.previous != previous:
                raise SnapshotDamaged(
                    f"The snapshot's frames are not in one chain: one at byte {self.end} follows "
                    f"another frame than the one before it. {_HELP}"
                )
            first = self.end == PREAMBLE_BYTES
            if first != (frame.kind == HEADER) or frame.serial < serial:
                raise SnapshotDamaged(f"The snapshot's frames are out of order. {_HELP}")
            self._check_key(frame)
            self.end += _encoded_bytes(frame, self._body_bytes)
            previous, serial, sealed = frame.digest, frame.serial, frame.seal is not None
            yield unlocked(frame, self._cipher)
        if not sealed:
            raise SnapshotDamaged(
                f"The snapshot ends at byte {self.end} in the middle of a publish. {_HELP}"
            )
        if not self._preamble.floor:
            self.unfinished_bytes = _drain(self._stream)

    def _check_key(self, frame: Frame) -> None:
        """The header is in the clear; the frame behind it tells what all others are under."""
        found, expected = frame.key_id or "", self.key_id
        if frame.kind == HEADER:
            expected = ""
        elif self._undecided:
            self.key_id = expected = found
            self._undecided = False
        if found != expected:
            raise SnapshotDamaged(
                f"The frame at byte {self.end} of the snapshot is not under the key of the others: "
                f"whoever wrote it may not have had it. {_HELP}"
            )

    def _finished(self) -> bool:
        if not self._preamble.floor:
            if self.end > self._preamble.length:
                raise SnapshotDamaged(f"The snapshot is longer than it says. {_HELP}")
            return self.end == self._preamble.length
        self._lead = self._stream.read(1)
        if self._lead:
            return False
        if self.end < self._preamble.length:
            raise _truncated(self.end)
        return True

    def _next(self) -> tuple[bytes, bytes]:
        lead = self._lead if self._preamble.floor else _read_fully(self._stream, 1, self.end)
        marker = _read_fully(self._stream, 1, self.end)[0]
        if lead != b"\x92" or marker not in _BIN_LENGTH_BYTES:
            raise SnapshotDamaged(f"No frame begins at byte {self.end} of the snapshot. {_HELP}")
        width = _BIN_LENGTH_BYTES[marker]
        size = int.from_bytes(_read_fully(self._stream, width, self.end), "big")
        if size > FRAME_LIMIT_BYTES + _OVERHEAD_BYTES:
            raise SnapshotDamaged(f"A frame claims {size} bytes, over the limit. {_HELP}")
        if not self._preamble.floor and self.end + size > self._preamble.length:
            raise _truncated(self._preamble.length)
        body = _read_fully(self._stream, size, self.end)
        trailer = _read_fully(self._stream, 2 + DIGEST_BYTES, self.end)
        if trailer[:2] != b"\xc4\x20":
            raise SnapshotDamaged(f"The frame at byte {self.end} bears no digest. {_HELP}")
        self._body_bytes = 2 + width + size
        return body, trailer[2:]


def _encoded_bytes(frame: Frame, body_bytes: int) -> int:
    return body_bytes + 2 + len(frame.digest)


def _truncated(at: int) -> SnapshotDamaged:
    return SnapshotDamaged(f"The snapshot is truncated: it ends at byte {at}. {_HELP}")


def _read_fully(stream: BinaryIO, size: int, at: int = 0) -> bytes:
    data = stream.read(size)
    if len(data) == size:
        return data
    buffer = io.BytesIO()
    buffer.write(data)
    while (missing := size - buffer.tell()) > 0:
        data = stream.read(missing)
        if not data:
            raise _truncated(at + buffer.tell())
        buffer.write(data)
    return buffer.getvalue()


def _drain(stream: BinaryIO) -> int:
    count = 0
    while data := stream.read(1 << 16):
        count += len(data)
    return count
