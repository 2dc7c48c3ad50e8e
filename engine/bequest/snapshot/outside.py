"""What an encrypted object tells whoever has no key: that it is whole, and what its seals say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

from ..model import Author, Mark
from .extent import author_of, lineage_of, mark_of
from .fold import header_of, moment_of
from .frame import content
from .reader import FrameReader


@dataclass(frozen=True, slots=True)
class Seal:
    """One publish: its mark, the time of its cut (seconds since the epoch), and where it ends.

    ``by`` is who made it, ``None`` when the object does not say.
    """

    mark: Mark
    at: float
    end: int
    by: Author | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """An object from outside. There is a seal, or reading it would have failed."""

    header: dict[str, Any]
    seals: tuple[Seal, ...]
    key_id: str
    unfinished_bytes: int


def outside(stream: BinaryIO) -> Outside:
    """Read an object through, payloads unread but the header's. Raises `SnapshotDamaged`."""
    reader = FrameReader(stream)
    header: dict[str, Any] = {}
    lineage = ""
    seals: list[Seal] = []
    for frame in reader:
        if not lineage:
            lineage, header = lineage_of(frame), header_of(content(frame))
        if frame.seal is not None:
            mark, at = mark_of(lineage, frame), moment_of(frame)
            seals.append(Seal(mark, at, reader.end, author_of(frame)))
    return Outside(header, tuple(seals), reader.key_id, reader.unfinished_bytes)
