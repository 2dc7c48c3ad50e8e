"""Small valid snapshot objects, built frame by frame, and the check that one was read whole."""

from __future__ import annotations

import io
import random
import uuid
from dataclasses import dataclass
from typing import BinaryIO, Final

from ..model import Mark
from ..snapshot.extent import Extent, extent
from ..snapshot.frame import HEADER, NO_DIGEST, TAIL, encode, preamble
from ..snapshot.writer import seal_of

_AT_SECONDS: Final = 1_700_000_000.0
FRAME_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """An object, and which publish it is. Every call gives a new publish with its own token."""

    data: bytes
    mark: Mark
    chain: bytes

    def body(self) -> BinaryIO:
        """The bytes as a stream at its beginning."""
        return io.BytesIO(self.data)

    def next_frame(
        self, content: object = "a change", *, origin: str = ""
    ) -> tuple[bytes, Mark, bytes]:
        """The sealed frame of the publish after this one, its mark, and its digest."""
        before, token = self.mark, uuid.uuid4().hex
        mark = Mark(before.lineage, before.epoch, before.serial + 1, token, origin)
        frame, chain = encode(TAIL, mark.serial, self.chain, _seal(mark), content)
        return frame, mark, chain

    def appended(self, frame: bytes, mark: Mark, chain: bytes) -> Sample:
        """The object after that frame was added, as a local file would hold it."""
        length = len(self.data) + len(frame)
        return Sample(preamble(length) + self.data[len(preamble(0)) :] + frame, mark, chain)


def sample(serial: int = 1, *, size_bytes: int = 0, lineage: str = "", origin: str = "") -> Sample:
    """A new object of at least ``size_bytes``, of a new lineage unless one is given."""
    mark = Mark(lineage or str(uuid.uuid4()), 1, serial, uuid.uuid4().hex, origin)
    header, digest = encode(HEADER, serial, NO_DIGEST, None, {"lineage": mark.lineage})
    frames = [header]
    noise = random.Random(serial)
    for offset in range(0, size_bytes, FRAME_BYTES):
        filling = noise.randbytes(min(FRAME_BYTES, size_bytes - offset))
        frame, digest = encode(TAIL, serial, digest, None, filling)
        frames.append(frame)
    frame, digest = encode(TAIL, serial, digest, _seal(mark), "sealed")
    frames.append(frame)
    rest = b"".join(frames)
    return Sample(preamble(len(preamble(0)) + len(rest)) + rest, mark, digest)


def whole(stream: BinaryIO) -> Extent:
    """Read an object through and check every frame.

    Raises `SnapshotDamaged` when it is not whole, `AssertionError` when it bears no seal.
    """
    found = extent(stream)
    assert found is not None, "the object bears no seal"
    return found


def _seal(mark: Mark) -> dict[str, object]:
    return seal_of(mark, _AT_SECONDS)
