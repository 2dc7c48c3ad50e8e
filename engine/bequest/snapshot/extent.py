"""Where an object's last publish ends, found without reading its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ..errors import SnapshotDamaged
from ..model import Author, Mark
from .frame import Frame, content
from .reader import FrameReader
from .soundness import author, counted, origin


@dataclass(frozen=True, slots=True)
class Extent:
    """The last sealed frame: whose publish it is, where it ends, and its digest."""

    mark: Mark
    end: int
    chain: bytes


def extent(stream: BinaryIO) -> Extent | None:
    """Read through an object to its last seal; ``None`` when it has none.

    Raises `SnapshotDamaged` when the object is not whole.
    """
    reader = FrameReader(stream)
    lineage, last = "", None
    for frame in reader:
        if not lineage:
            lineage = lineage_of(frame)
        if frame.seal is not None:
            last = frame
    return None if last is None else Extent(mark_of(lineage, last), reader.end, last.digest)


def lineage_of(header: Frame) -> str:
    """The lineage that a header frame names."""
    try:
        lineage: Any = content(header)["lineage"]
    except (KeyError, TypeError):
        lineage = None
    if not isinstance(lineage, str) or not lineage:
        raise SnapshotDamaged("The snapshot's header names no lineage. Use another copy of it.")
    return lineage


def mark_of(lineage: str, sealed: Frame) -> Mark:
    """The mark of a sealed frame."""
    seal = sealed.seal or {}
    epoch, token = seal.get("epoch"), seal.get("token")
    if not counted(epoch) or not isinstance(token, bytes):
        raise SnapshotDamaged("A seal of the snapshot is incomplete. Use another copy of it.")
    try:
        return Mark(
            lineage, cast(int, epoch), sealed.serial, token.hex(), origin(seal.get("origin", ""))
        )
    except ValueError as error:
        raise _unsound(error) from error


def author_of(sealed: Frame) -> Author | None:
    """Who made the publish of a sealed frame; ``None`` when it does not say.

    Raises `SnapshotDamaged`.
    """
    try:
        return author((sealed.seal or {}).get("by"))
    except ValueError as error:
        raise _unsound(error) from error


def _unsound(error: ValueError) -> SnapshotDamaged:
    return SnapshotDamaged(f"A seal of the snapshot is damaged: {error}. Use another copy of it.")
