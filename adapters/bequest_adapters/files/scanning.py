"""Looking at a folder: every path below it, without following a link and without trusting names.

The walk goes from directory handle to directory handle, so a folder that is replaced by a link
while it is read leads nowhere else. A file is taken only if it was the same before and after it was
read; one that is being written is left for the next look.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from .entries import FILE, FOLDER, LINK, ROOT, SKIPPED, Bounds, Entry, Root, to_path, to_text

READ_BYTES: Final = 1 << 20
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe for reading would wait for its writer.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SPECIAL: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
UNREADABLE: Final = "cannot be read"
RACY_NS: Final = 2_000_000_000
"""A file changed less than this before it was read may change again under the same time stamp."""

Stamp = tuple[int, ...]


class Unsettled(Exception):
    """A file changed while it was read."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file was when it was last read; ``settled``: an equal stamp means equal content."""

    stamp: Stamp
    digest: str
    size: int
    settled: bool


@dataclass(slots=True)
class Scan:
    """All below one root. ``missing``: why nothing is known of it, such as that it is not there.

    ``unsettled``: look again soon. ``full``: there was more than may be recorded.
    """

    root: Root
    entries: dict[str, Entry]
    missing: str = ""
    unsettled: bool = False
    blind: tuple[str, ...] = ()
    """Folders that could not be listed: nothing is known of what is below them."""
    full: bool = False


class Scanner:
    """Scans roots again and again, and reads only files that may have changed."""

    def __init__(
        self, bounds: Bounds, own: Callable[[str], bool], now_ns: Callable[[], int]
    ) -> None:
        """``own`` tells whether an absolute path is a file of Bequest's or the database's."""
        self._bounds = bounds
        self._own = own
        self._now_ns = now_ns
        self._seen: dict[tuple[str, str], Seen] = {}

    def scan(self, root: Root) -> Scan:
        """Everything below ``root`` as it is now."""
        scan = Scan(root, {})
        try:
            # The root alone may be a link: its name was given by the operator.
            handle = os.open(os.path.realpath(root.place), _FOLDER_FLAGS)
        except OSError as error:
            scan.missing = _reason(error)
            return scan
        try:
            facts = os.fstat(handle)
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
        for name in sorted(map(os.fsencode, os.listdir(handle))):
            if scan.full:
                return
            if not self._ignored(scan.root, prefix, name):
                self._one(scan, handle, prefix, name, depth)

    def _ignored(self, root: Root, prefix: bytes, name: bytes) -> bool:
        shown = os.fsdecode(name)
        if any(fnmatchcase(shown, glob) for glob in self._bounds.ignore):
            return True
        return self._own(os.path.join(root.place, os.fsdecode(prefix), shown))

    def _one(self, scan: Scan, handle: int, prefix: bytes, name: bytes, depth: int) -> None:
        path = prefix + name
        text = to_text(path)
        if len(scan.entries) > self._bounds.entries:
            scan.full = True
            return
        try:
            facts = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            scan.unsettled = True
            return
        except OSError as error:
            self._skip(scan, text, None, f"{UNREADABLE}: {_reason(error)}")
            return
        if stat.S_ISDIR(facts.st_mode):
            self._subfolder(scan, handle, path, name, facts, depth)
        elif stat.S_ISREG(facts.st_mode):
            self._file(scan, handle, text, name, facts)
        elif stat.S_ISLNK(facts.st_mode):
            self._link(scan, handle, text, name, facts)
        else:
            kind = _SPECIAL.get(stat.S_IFMT(facts.st_mode), "a special file")
            self._skip(scan, text, facts, f"{kind}, which has no content to record")

    def _subfolder(
        self, scan: Scan, parent: int, path: bytes, name: bytes, facts: os.stat_result, depth: int
    ) -> None:
        text = to_text(path)
        scan.entries[text] = _entry(scan.root, text, FOLDER, facts)
        if depth >= self._bounds.depth:
            self._blind(scan, text, f"{UNREADABLE}: more than {depth} folders deep")
            return
        try:
            handle = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
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

    def _file(self, scan: Scan, handle: int, text: str, name: bytes, facts: os.stat_result) -> None:
        if facts.st_size > self._bounds.file_bytes:
            limit = f"{facts.st_size} bytes; the limit is {self._bounds.file_bytes}"
            self._skip(scan, text, facts, f"too large: {limit}")
            return
        key = (scan.root.name, text)
        seen = self._seen.get(key)
        if seen is None or not seen.settled or seen.stamp != _stamp(facts):
            try:
                with _opened(name, handle) as file:
                    facts, digest, size = _digest(file, self._bounds.file_bytes)
            except Unsettled:
                scan.unsettled = True
                scan.entries[text] = _entry(scan.root, text, FILE, facts)
                return
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP):
                    scan.unsettled = True
                    return
                self._skip(scan, text, facts, f"{UNREADABLE}: {_reason(error)}")
                return
            settled = self._now_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) > RACY_NS
            seen = self._seen[key] = Seen(_stamp(facts), digest, size, settled)
        scan.unsettled |= not seen.settled
        scan.entries[text] = _entry(
            scan.root, text, FILE, facts, size=seen.size, digest=seen.digest
        )

    def _link(self, scan: Scan, handle: int, text: str, name: bytes, facts: os.stat_result) -> None:
        try:
            target = os.readlink(name, dir_fd=handle)
        except OSError:
            scan.unsettled = True
            return
        found = _entry(scan.root, text, LINK, facts, note=to_text(target))
        scan.entries[text] = found

    def _skip(self, scan: Scan, text: str, facts: os.stat_result | None, why: str) -> None:
        scan.entries[text] = _entry(scan.root, text, SKIPPED, facts, note=why)


def content(root: Root, entry: Entry, limit_bytes: int) -> bytes | None:
    """The content of a file as it was scanned; ``None`` when it is not that any more."""
    names = to_path(entry.path).split(b"/")
    handle = -1
    with suppress(OSError, Unsettled):
        try:
            handle = os.open(os.path.realpath(root.place), _FOLDER_FLAGS)
            for name in names[:-1]:
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=handle)
                os.close(handle)
                handle = inner
            with _opened(names[-1], handle) as file:
                data = bytearray()
                _, digest, _ = _digest(file, limit_bytes, data)
                return bytes(data) if digest == entry.digest else None
        finally:
            if handle >= 0:
                os.close(handle)
    return None


def digest_of(data: bytes) -> str:
    """What `Entry.digest` is of this content."""
    return blake2b(data, digest_size=32).hexdigest()


@contextmanager
def _opened(name: bytes, folder: int) -> Generator[int]:
    file = os.open(name, _FILE_FLAGS, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


def _digest(
    file: int, limit_bytes: int, into: bytearray | None = None
) -> tuple[os.stat_result, str, int]:
    before = os.fstat(file)
    if not stat.S_ISREG(before.st_mode):
        raise Unsettled
    builder, size = blake2b(digest_size=32), 0
    while data := os.read(file, READ_BYTES):
        builder.update(data)
        size += len(data)
        if into is not None:
            into += data
        if size > limit_bytes:
            raise Unsettled
    after = os.fstat(file)
    if _stamp(before) != _stamp(after) or size != after.st_size:
        raise Unsettled
    return after, builder.hexdigest(), size


def _stamp(facts: os.stat_result) -> Stamp:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _entry(
    root: Root,
    path: str,
    kind: str,
    facts: os.stat_result | None,
    *,
    size: int | None = None,
    digest: str | None = None,
    note: str | None = None,
) -> Entry:
    if facts is None:
        return Entry(root.name, path, kind, note=note)
    mode = None if kind in (LINK, SKIPPED) else stat.S_IMODE(facts.st_mode)
    owner, group = _user(facts.st_uid), _group(facts.st_gid)
    uid, gid = facts.st_uid, facts.st_gid
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
