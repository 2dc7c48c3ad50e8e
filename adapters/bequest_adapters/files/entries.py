"""What is recorded of one file, and how its path becomes text and text becomes a path again.

A path is bytes on the disk and text in the object. UTF-8 stays as it is; a byte that is not part
of valid UTF-8, and the percent sign itself, become ``%XX``. So no name is lost and none is
ambiguous. A path read from a snapshot is never used before `parts_of` has approved it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from bequest.errors import SnapshotDamaged, UsageError
from bequest.model import Row

ROOT, FOLDER, FILE, LINK, SKIPPED = "root", "folder", "file", "link", "skipped"
KINDS: Final = frozenset({ROOT, FOLDER, FILE, LINK, SKIPPED})
PATH_BYTES: Final = 4095
"""Linux's own limit; a longer path in a snapshot was not written by a controller."""

_ODD: Final = re.compile("[%\udc80-\udcff]")
_ESCAPE: Final = re.compile(rb"%(..)?", re.DOTALL)
_NAME: Final = re.compile(r"[\w.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Entry:
    """The facts of one path. ``path`` is relative to its root, as text; empty for the root itself.

    ``note`` is a link's target, a root's place, or why something is not, or not newly, recorded.
    ``size`` is in bytes and ``digest`` is BLAKE2b-256 in hexadecimal, both of a file's content.
    """

    root: str
    path: str
    kind: str
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    owner: str | None = None
    group: str | None = None
    size: int | None = None
    digest: str | None = None
    note: str | None = None

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.root}/{self.path}" if self.path else self.root

    @classmethod
    def of(cls, row: Row) -> Self:
        """From a row of part 0, its columns in the order of `bequest.recorded.NAMES`."""
        facts: Any = (*row[:2], *row[3:-1])
        return cls(*facts)

    @property
    def row(self) -> Row:
        """The row of part 0."""
        return (
            self.root, self.path, 0, self.kind, self.mode, self.uid, self.gid, self.owner,
            self.group, self.size, self.digest, self.note, None,
        )  # fmt: skip

    @property
    def what(self) -> tuple[object, ...]:
        """What must be equal on the disk for the recorded state to be in place."""
        return (self.kind, self.mode, self.digest, self.note if self.kind == LINK else None)


@dataclass(frozen=True, slots=True)
class Root:
    """A folder whose files are recorded, under a name that stays the same on another machine."""

    name: str
    place: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is recorded at most, and what never. Sizes in bytes; ``ignore`` are globs of names."""

    file_bytes: int = 64 * 1024 * 1024
    entries: int = 20_000
    depth: int = 64
    ignore: tuple[str, ...] = ("*.swp", "*.swx", "4913", "*~", ".#*", ".bequest-*")


def roots_of(folders: Sequence[str | os.PathLike[str]]) -> tuple[Root, ...]:
    """The roots that ``DIR`` or ``NAME=DIR`` mean.

    Raises `UsageError` for a name given twice, what is no folder, and a folder inside another.
    """
    found: dict[str, Root] = {}
    for folder in folders:
        name, equals, place = os.fspath(folder).partition("=")
        if not equals or os.sep in name:
            place = os.fspath(folder)
            name = os.path.basename(os.path.abspath(place))
        if not place or not _NAME.fullmatch(name):
            raise UsageError(
                f"{os.fspath(folder)!r} cannot be recorded under the name {name!r}. Nothing was "
                "done. Give NAME=DIR with a name of letters, digits, dots and dashes."
            )
        if name in found:
            raise UsageError(
                f"Two folders would be recorded under the name {name!r}. Nothing was done. Give "
                "one of them another name, as NAME=DIR."
            )
        found[name] = _checked(Root(name, os.path.abspath(place)), found.values())
    return tuple(found.values())


def _checked(root: Root, others: Iterable[Root]) -> Root:
    real = os.path.realpath(root.place)
    if os.path.lexists(real) and not os.path.isdir(real):
        raise UsageError(
            f"{root.place} is a file, and --files takes folders. Nothing was done. Give the folder "
            "that it is in."
        )
    for other in others:
        place = os.path.realpath(other.place)
        if os.path.commonpath([place, real]) in (place, real):
            raise UsageError(
                f"Of {other.place} and {root.place} one lies in the other, so its files would be "
                "recorded twice. Nothing was done. Give only the outer one."
            )
    return root


def to_text(path: bytes) -> str:
    """A path as text that can be turned back."""
    text = path.decode("utf-8", "surrogateescape")
    return _ODD.sub(lambda match: f"%{ord(match[0]) & 0xFF:02X}", text)


def to_path(text: str) -> bytes:
    """The bytes that `to_text` made ``text`` from. Raises `SnapshotDamaged`."""
    try:
        return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
    except (AttributeError, ValueError) as error:
        raise unfit(text) from error


def parts_of(entry: Entry) -> tuple[bytes, ...]:
    """The names that lead from the root to ``entry``, none of which leads anywhere else.

    Raises `SnapshotDamaged` for an absolute path, ``..``, an empty name, NUL, or a bad root.
    """
    if not _NAME.fullmatch(entry.root) or entry.root in (".", "..") or entry.kind not in KINDS:
        raise unfit(entry.name)
    raw = to_path(entry.path)
    if (entry.kind == ROOT) != (not raw):
        raise unfit(entry.name)
    names = tuple(raw.split(b"/")) if raw else ()
    if len(raw) > PATH_BYTES or b"\0" in raw or any(name in (b"", b".", b"..") for name in names):
        raise unfit(entry.name)
    return names


def unfit(name: str) -> SnapshotDamaged:
    """The error for a path that no recording could have made."""
    return SnapshotDamaged(
        f"The snapshot names a file {name!r}, which cannot lie inside a recorded folder. No file "
        "was written. Use another copy or an earlier version of the object."
    )
