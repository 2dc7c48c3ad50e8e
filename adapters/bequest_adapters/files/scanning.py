"""Looking at a folder: every path below it, without following a link and without trusting names.

The walk goes from directory handle to directory handle, so a folder that is replaced by a link
while it is read leads nowhere else. No file is opened here, only folders; `reading` says why. A
file is taken only if it was the same before and after it was read; one that is being written is
left for the next look.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from .child import FOLDER_FLAGS
from .entries import FILE, FOLDER, LINK, ROOT, SKIPPED, Bounds, Entry, Root, to_path, to_text
from .own import Own
from .reading import Content, Facts, Reader, Unsettled

_SPECIAL: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
UNREADABLE: Final = "cannot be read"
RACY_NS: Final = 2_000_000_000
"""A file changed less than this before it was read may change again under the same time stamp."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file was when it was last read; ``settled``: an equal stamp means equal content."""

    facts: Facts
    digest: str
    settled: bool


@dataclass(slots=True)
class Scan:
    """All below one root. ``missing``: why nothing is known of it, such as that it is not there.

    ``unsettled``: look again soon. ``unread``: without a reader, something would have been read.
    ``full``: there was more than may be recorded.
    """

    root: Root
    entries: dict[str, Entry]
    missing: str = ""
    unsettled: bool = False
    unread: bool = False
    blind: tuple[str, ...] = ()
    """Folders that could not be listed: nothing is known of what is below them."""
    full: bool = False


class Scanner:
    """Scans roots again and again, and reads only files that may have changed."""

    def __init__(self, bounds: Bounds, own: Own, now_ns: Callable[[], int]) -> None:
        """``own`` are files of Bequest's or the database's, which are left out."""
        self._bounds = bounds
        self._ignored = re.compile("|".join(map(translate, bounds.ignore)) or "(?!)").match
        self._own = own
        self._now_ns = now_ns
        self._seen: dict[tuple[str, str], Seen] = {}
        self._reader: Reader | None = None

    def scan(self, root: Root, reader: Reader | None) -> Scan:
        """Everything below ``root`` as it is now; without a ``reader`` as far as that is known."""
        scan, self._reader = Scan(root, {}), reader
        try:
            # The root alone may be a link: its name was given by the operator.
            handle = os.open(os.path.realpath(root.place), FOLDER_FLAGS)
        except OSError as error:
            scan.missing = _reason(error)
            return scan
        try:
            facts = Facts.of(os.fstat(handle))
            scan.entries[""] = _entry(root, "", ROOT, facts, note=root.place)
            self._folder(scan, handle, b"", 1)
        except OSError as error:
            scan.missing = _reason(error)
            return scan
        finally:
            os.close(handle)
        for key in [key for key in self._seen if key[0] == root.name]:
            if key[1] not in scan.entries:
                del self._seen[key]
        return scan

    def _folder(self, scan: Scan, handle: int, prefix: bytes, depth: int) -> None:
        place = os.path.join(scan.root.place, os.fsdecode(prefix))
        has_own = self._own.is_folder(place)
        for name in sorted(map(os.fsencode, os.listdir(handle))):
            if scan.full:
                return
            shown = os.fsdecode(name)
            if self._ignored(shown) or (has_own and self._own(os.path.join(place, shown))):
                continue
            self._one(scan, handle, prefix, name, depth)

    def _one(self, scan: Scan, handle: int, prefix: bytes, name: bytes, depth: int) -> None:
        path = prefix + name
        text = to_text(path)
        if len(scan.entries) > self._bounds.entries:
            scan.full = True
            return
        try:
            facts = Facts.of(os.stat(name, dir_fd=handle, follow_symlinks=False))
        except FileNotFoundError:
            scan.unsettled = True
            return
        except OSError as error:
            self._skip(scan, text, None, f"{UNREADABLE}: {_reason(error)}")
            return
        if stat.S_ISDIR(facts.mode):
            self._subfolder(scan, handle, path, name, facts, depth)
        elif stat.S_ISREG(facts.mode):
            self._file(scan, path, text, facts)
        elif stat.S_ISLNK(facts.mode):
            self._link(scan, handle, text, name, facts)
        else:
            kind = _SPECIAL.get(stat.S_IFMT(facts.mode), "a special file")
            self._skip(scan, text, facts, f"{kind}, which has no content to record")

    def _subfolder(
        self, scan: Scan, parent: int, path: bytes, name: bytes, facts: Facts, depth: int
    ) -> None:
        text = to_text(path)
        scan.entries[text] = _entry(scan.root, text, FOLDER, facts)
        if depth >= self._bounds.depth:
            self._blind(scan, text, f"{UNREADABLE}: more than {depth} folders deep")
            return
        try:
            handle = os.open(name, FOLDER_FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                del scan.entries[text]
                scan.unsettled = True
                return
            self._blind(scan, text, f"{UNREADABLE}: {_reason(error)}")
            return
        try:
            self._folder(scan, handle, path + b"/", depth + 1)
        except OSError as error:
            self._blind(scan, text, f"{UNREADABLE}: {_reason(error)}")
        finally:
            os.close(handle)

    def _blind(self, scan: Scan, text: str, why: str) -> None:
        known = scan.entries[text]
        scan.entries[text] = Entry(
            known.root, known.path, FOLDER, known.mode, known.uid, known.gid, known.owner,
            known.group, note=why,
        )  # fmt: skip
        scan.blind = (*scan.blind, text)

    def _file(self, scan: Scan, path: bytes, text: str, facts: Facts) -> None:
        if facts.size > self._bounds.file_bytes:
            limit = f"{facts.size} bytes; the limit is {self._bounds.file_bytes}"
            self._skip(scan, text, facts, f"too large: {limit}")
            return
        seen = self._seen.get((scan.root.name, text))
        if seen is None or seen.facts.stamp != facts.stamp or not self._is_settled(seen, facts):
            seen = self._read(scan, path, text, facts)
        if seen is not None:
            scan.unsettled |= not seen.settled
            scan.entries[text] = _file(scan.root, text, seen.facts, seen.digest)

    def _is_settled(self, seen: Seen, facts: Facts) -> bool:
        """Also where reading again could not show more yet than what was seen."""
        return seen.settled or (self._reader is None and not self._is_old(facts))

    def _is_old(self, facts: Facts) -> bool:
        return self._now_ns() - max(facts.mtime_ns, facts.ctime_ns) > RACY_NS

    def _read(self, scan: Scan, path: bytes, text: str, facts: Facts) -> Seen | None:
        scan.entries[text] = _entry(scan.root, text, FILE, facts)
        if self._reader is None:
            scan.unread = True
            return None
        place = os.path.realpath(scan.root.place)
        try:
            found = self._reader.digest(place, path, self._bounds.file_bytes)
        except Unsettled:
            scan.unsettled = True
            return None
        except OSError as error:
            self._skip(scan, text, facts, f"{UNREADABLE}: {_reason(error)}")
            return None
        settled = self._is_old(found.facts)
        seen = Seen(found.facts, found.digest, settled)
        self._seen[scan.root.name, text] = seen
        return seen

    def _link(self, scan: Scan, handle: int, text: str, name: bytes, facts: Facts) -> None:
        try:
            target = os.readlink(name, dir_fd=handle)
        except OSError:
            scan.unsettled = True
            return
        found = _entry(scan.root, text, LINK, facts, note=to_text(target))
        scan.entries[text] = found

    def _skip(self, scan: Scan, text: str, facts: Facts | None, why: str) -> None:
        scan.entries[text] = _entry(scan.root, text, SKIPPED, facts, note=why)


def copied(root: Root, entry: Entry, reader: Reader, limit_bytes: int) -> tuple[Entry, Content]:
    """A file that was scanned, as it is now: facts and content of one moment.

    Raises `Unsettled`, `OSError`.
    """
    place = os.path.realpath(root.place)
    found = reader.copy(place, to_path(entry.path), limit_bytes)
    return _file(root, entry.path, found.facts, found.digest), found


def _file(root: Root, path: str, facts: Facts, digest: str) -> Entry:
    return _entry(root, path, FILE, facts, size=facts.size, digest=digest)


def digest_of(data: bytes) -> str:
    """What `Entry.digest` is of this content."""
    return blake2b(data, digest_size=32).hexdigest()


def _entry(
    root: Root,
    path: str,
    kind: str,
    facts: Facts | None,
    *,
    size: int | None = None,
    digest: str | None = None,
    note: str | None = None,
) -> Entry:
    if facts is None:
        return Entry(root.name, path, kind, note=note)
    mode = None if kind in (LINK, SKIPPED) else stat.S_IMODE(facts.mode)
    owner, group = _user(facts.uid), _group(facts.gid)
    uid, gid = facts.uid, facts.gid
    return Entry(root.name, path, kind, mode, uid, gid, owner, group, size, digest, note)


@lru_cache(maxsize=1024)
def _user(number: int) -> str | None:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None


@lru_cache(maxsize=1024)
def _group(number: int) -> str | None:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
