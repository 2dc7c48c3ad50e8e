"""Putting recorded files back: exactly the recorded tree, or what was there before.

Each root is built whole in a private folder inside its destination, checked by digest, and only
then moved into place, entry by entry; what was there is moved into ``.bequest-before-<UTC time>``.
Building inside the destination needs no right on its parent, and works where it is a mount point.
No recorded path can lead out: every name is checked (`entries.parts_of`), the parents of every path
must be recorded folders, the private folder is new and links are made last.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from bequest.errors import Denied, Refused, SnapshotDamaged
from bequest.model import Row
from bequest.recorded import PIECE_BYTES, rows_in
from bequest.report import FilesReport
from bequest.snapshot.fold import Snapshot

from .entries import FILE, FOLDER, LINK, ROOT, Entry, parts_of, to_path, unfit
from .ownership import Ownership
from .scanning import digest_of

OURS: Final = ".bequest-"
_PRIVATE: Final = 0o700

Pieces = Callable[[], Iterator[tuple[Entry, int, bytes | None]]]


@dataclass(slots=True)
class Collection:
    """Recorded files, wherever they are read from. ``pieces`` may be called more than once."""

    pieces: Pieces
    entries: list[Entry] = field(default_factory=list[Entry])

    def __post_init__(self) -> None:
        self.entries = [entry for entry, part, _ in self.pieces() if part == 0]
        self.entries.sort(key=lambda entry: (entry.root, to_path(entry.path)))

    def roots(self) -> list[Entry]:
        """The recorded folders."""
        return [entry for entry in self.entries if entry.kind == ROOT]

    def report(self) -> FilesReport:
        """What is recorded."""
        kept = [entry for entry in self.entries if entry.kind in (FILE, LINK)]
        uncovered = [
            (entry.name, entry.note)
            for entry in self.entries
            if entry.note and entry.kind not in (LINK, ROOT)
        ]
        return FilesReport(
            files=len(kept),
            bytes=sum(entry.size or 0 for entry in kept),
            roots={entry.root: entry.note or "" for entry in self.roots()},
            entries=tuple(_shown(entry) for entry in self.entries),
            not_covered=tuple(uncovered),
        )

    def check(self, to: str | None, *, force: bool) -> dict[str, str]:
        """Where each root goes: below ``to``, or to its recorded place. Writes nothing.

        Raises `SnapshotDamaged` for paths that cannot be, `Refused` when something is there
        already (unless ``force``), `Denied` when a place cannot be used.
        """
        _check_tree(self.entries)
        places: dict[str, str] = {}
        for root in self.roots():
            place = os.path.join(os.path.abspath(to), root.root) if to else (root.note or "")
            if not os.path.isabs(place) or "\0" in place:
                raise unfit(root.root)
            places[root.root] = os.path.realpath(place)
        for place in places.values():
            _check_place(place, force=force)
        return places

    def place(self, to: str | None, *, force: bool = False) -> FilesReport:
        """Write everything to where `check` says. Raises as it does; then nothing was changed."""
        places = self.check(to, force=force)
        builds = {root: _Build(root, place) for root, place in places.items()}
        try:
            for entry in self.entries:
                builds[entry.root].make(entry)
            self._fill(builds)
            for build in builds.values():
                build.complete(entry for entry in self.entries if entry.root == build.root)
            kept = {root: build.swap() for root, build in builds.items()}
        finally:
            for build in builds.values():
                build.clear()
        report = self.report()
        return FilesReport(
            report.files,
            report.bytes,
            report.roots,
            report.entries,
            report.not_covered,
            places=places,
            kept={root: path for root, path in kept.items() if path},
        )

    def _fill(self, builds: dict[str, _Build]) -> None:
        sizes = {
            (entry.root, entry.path): entry.size or 0
            for entry in self.entries
            if entry.kind == FILE
        }
        for entry, part, content in self.pieces():
            if part == 0:
                continue
            size = sizes.get((entry.root, entry.path))
            offset = (part - 1) * PIECE_BYTES
            if size is None or not isinstance(content, bytes) or not 0 <= offset < size:
                raise unfit(entry.name)
            if len(content) != min(PIECE_BYTES, size - offset):
                raise unfit(entry.name)
            builds[entry.root].piece(entry, offset, content)


def from_snapshot(snapshot: Snapshot) -> Collection:
    """The files in an object. Raises `SnapshotDamaged`."""

    return Collection(lambda: map(_read, rows_in(snapshot)))


def _read(row: Row) -> tuple[Entry, int, bytes | None]:
    part, content = row[2], row[-1]
    if not all(isinstance(name, str) for name in row[:2]) or type(part) is not int:
        raise unfit(repr(row[:2]))
    return Entry.of(row), part, content if isinstance(content, bytes) else None


def _shown(entry: Entry) -> dict[str, Any]:
    mode = None if entry.mode is None else f"{entry.mode:04o}"
    return {
        "root": entry.root, "path": entry.path, "kind": entry.kind, "mode": mode,
        "owner": entry.owner, "group": entry.group, "size": entry.size, "digest": entry.digest,
        "note": entry.note,
    }  # fmt: skip


def _check_tree(entries: Iterable[Entry]) -> None:
    """Every path has one entry, a root, and nothing but folders above it."""
    kinds: dict[tuple[str, tuple[bytes, ...]], str] = {}
    for entry in entries:
        names = parts_of(entry)
        if (entry.root, names) in kinds:
            raise unfit(entry.name)
        kinds[entry.root, names] = entry.kind
    for root, names in kinds:
        for depth in range(len(names)):
            expected = FOLDER if depth else ROOT
            if kinds.get((root, names[:depth])) != expected:
                raise unfit(f"{root}/{b'/'.join(names).decode(errors='replace')}")


def _check_place(place: str, *, force: bool) -> None:
    if not os.path.lexists(place):
        return
    if not os.path.isdir(place):
        raise Refused(
            f"{place} is no folder, so files cannot be put into it. No file was written. Move it "
            "away, or give another folder with --files-to."
        )
    with _said(place):
        present = [name for name in os.listdir(place) if not name.startswith(OURS)]
    if present and not force:
        raise Refused(
            f"{place} is not empty, and files are replaced as a whole. No file was written. Use "
            "--force: what is there is then kept inside it, in a folder .bequest-before-TIME."
        )


class _Build:
    """One root, built apart and then moved into place."""

    def __init__(self, root: str, place: str) -> None:
        self.root = root
        self._place = os.fsencode(place)
        self._stage = os.path.join(self._place, f"{OURS}restore-{secrets.token_hex(8)}".encode())
        self._made = False
        self._ownership = Ownership()
        self._root: Entry | None = None
        self._top: list[Entry] = []

    def make(self, entry: Entry) -> None:
        """Make a folder, or an empty file that nobody else can read."""
        path = self._path(entry)
        with _said(self._shown(entry)):
            if entry.kind == ROOT:
                self._root = entry
                os.makedirs(self._place, exist_ok=True)
                os.mkdir(self._stage, _PRIVATE)
                self._made = True
            elif entry.kind == FOLDER:
                os.mkdir(path, _PRIVATE)
            elif entry.kind == FILE:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def piece(self, entry: Entry, offset: int, content: bytes) -> None:
        """Write one piece of a file's content."""
        with _said(self._shown(entry)), open(self._path(entry), "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), content, offset)

    def complete(self, entries: Iterable[Entry]) -> None:
        """Check every file, give everything its owner and mode, and see it onto the disk."""
        below: list[Entry] = []
        for entry in entries:
            if entry.kind == FILE:
                self._complete_file(entry)
            elif entry.kind == FOLDER:
                below.append(entry)
            elif entry.kind == LINK:
                with _said(self._shown(entry)):
                    os.symlink(to_path(entry.note or ""), self._path(entry))
                    self._ownership.give_link(self._path(entry), entry)
        for entry in reversed(below):
            if "/" in entry.path:
                self._folder(self._path(entry), entry)
            else:
                # A folder that may not be written cannot be moved: it gets its mode in its place.
                self._top.append(entry)

    def _complete_file(self, entry: Entry) -> None:
        with _said(self._shown(entry)), open(self._path(entry), "r+b") as file:
            data = file.read()
            if len(data) != (entry.size or 0) or digest_of(data) != entry.digest:
                raise SnapshotDamaged(
                    f"The content of the file {entry.name!r} is not what was recorded. No file was "
                    "written. Use another copy or an earlier version of the object."
                )
            self._ownership.give(file.fileno(), entry)
            os.fsync(file.fileno())

    def _folder(self, path: bytes, entry: Entry) -> None:
        with _said(self._shown(entry)):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._ownership.give(handle, entry)
                os.fsync(handle)
            finally:
                os.close(handle)

    def swap(self) -> str | None:
        """Move everything into place; where that which it replaced is kept now, if anything."""
        with _said(os.fsdecode(self._place), begun=True):
            new = set(os.listdir(self._stage))
            old = {name for name in os.listdir(self._place) if not name.startswith(b".bequest-")}
            kept = self._kept() if old else None
            for name in sorted(old | new):
                self._move(name, name in new, kept if name in old else None)
            for entry in self._top:
                self._folder(os.path.join(self._place, to_path(entry.path)), entry)
            if self._root is not None:
                with suppress(PermissionError):  # a mount point may belong to somebody else
                    self._folder(self._place, self._root)
            return None if kept is None else os.fsdecode(kept)

    def _kept(self) -> bytes:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        kept = os.path.join(self._place, f"{OURS}before-{stamp}".encode())
        os.mkdir(kept, _PRIVATE)
        return kept

    def _move(self, name: bytes, is_new: bool, kept: bytes | None) -> None:
        place = os.path.join(self._place, name)
        if kept is not None:
            source = os.path.join(self._stage, name)
            plain = not _is_folder(place) and is_new and not _is_folder(source)
            if not (plain and _linked(place, os.path.join(kept, name))):
                os.rename(place, os.path.join(kept, name))
        if is_new:
            os.replace(os.path.join(self._stage, name), place)

    def clear(self) -> None:
        """Remove what was built and not moved."""
        if self._made:
            shutil.rmtree(self._stage, ignore_errors=True)

    def _path(self, entry: Entry) -> bytes:
        return os.path.join(self._stage, to_path(entry.path)) if entry.path else self._stage

    def _shown(self, entry: Entry) -> str:
        return os.path.join(os.fsdecode(self._place), entry.path)


def _is_folder(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _linked(old: bytes, kept: bytes) -> bool:
    """Keep a file under a second name, so that its own name is never without a file."""
    try:
        os.link(old, kept, follow_symlinks=False)
    except OSError:
        return False
    return True


@contextmanager
def _said(path: str, *, begun: bool = False) -> Generator[None]:
    try:
        yield
    except OSError as error:
        state = (
            f"Some files may be in place and others not; what was there is in {OURS}before-TIME "
            "beside them"
            if begun
            else "No file was put in place"
        )
        raise Denied(
            f"{path} could not be written ({error.strerror or error}). {state}. Check the folder's "
            "rights and space, then run `bequest files` with --force."
        ) from error
