"""What Bequest remembers of a database, in a file beside it: ``NAME-bequest``, as ``-wal`` is.

The controller's database is only read (`docs/decisions/0008`), so what changes with every publish
is kept here: an append-only log of checksummed records, rewritten now and then. The last record of
a kind counts. A record belongs to one installation of capture; those of another are never used.

Invariants:

* A record is appended in one write under a lock of the file. A torn or damaged record, and all
  behind it, is not there for a reader, and is cut off by the next writer.
* `append` with ``durable`` returns when the record, and the file's name, are on the disk.
* The first record holds the file's own inode number. A copy of the file has another one, so a
  database that was copied together with its side file is known as a copy. Neither host names nor
  device numbers count: a container that starts again, or a volume that is mounted elsewhere, keeps
  the inode.

This is no database of the controller's process: SQLite never opens it, so opening and closing it
drops none of SQLite's locks.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import stat
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from bequest import forking
from bequest.snapshot.frame import pack, unpack

from ...belonging import give

MAGIC: Final = "bequest side file"
VERSION: Final = 1
HEADER: Final = "header"
COMPACT_BYTES: Final = 256 * 1024
"""A smaller file is not worth a rewrite."""
COMPACT_FACTOR: Final = 8
"""A file is rewritten when it is so many times as large as what counts in it."""
HEAD_BYTES: Final = 64
"""The first bytes of a file, which hold a random number: no two files begin alike."""
RECORD_LIMIT: Final = 64 * 1024 * 1024
_CHECK_BYTES: Final = 8
_LENGTH_BYTES: Final = 4


@dataclass(slots=True)
class _Seen:
    """What was read so far of the file that bears the name now."""

    inode: int = 0
    head: bytes = b""
    end: int = 0
    own_inode: int = 0
    live_bytes: int = 0
    records: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    sizes: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


class SideFile:
    """The side file of the database at ``path``. Safe to use from several threads and processes."""

    def __init__(self, path: str) -> None:
        self.path = f"{path}-bequest"
        self._database = path
        self._guard = threading.Lock()
        self._seen = _Seen()

    def read(self, installation: str, kind: str) -> Any:
        """The last record of ``kind``; ``None`` when there is none. Raises `OSError`."""
        with self._turn():
            self._refresh()
            return self._seen.records.get((installation, kind))

    def is_own(self) -> bool:
        """Whether the file lies where it was made; False for a copy, or when there is none."""
        with self._turn():
            self._refresh()
            return bool(self._seen.inode) and self._seen.inode == self._seen.own_inode

    def append(self, installation: str, records: Mapping[str, Any], *, durable: bool) -> None:
        """Add a record of each kind, in this order. Raises `OSError`."""
        data = b"".join(_encoded(installation, kind, record) for kind, record in records.items())
        with self._turn(), self._locked() as file:
            self._catch_up(file)
            _write(file, self._seen.end, data)
            self._catch_up(file)
            if durable:
                os.fsync(file)
            if self._seen.end > max(COMPACT_BYTES, COMPACT_FACTOR * self._seen.live_bytes):
                self._rewrite(self._seen.records)

    def own(self, installation: str) -> None:
        """Begin the file again here, with no record but those of ``installation``.

        Raises `OSError`.
        """
        with self._turn(), self._locked() as file:
            self._catch_up(file)
            records = self._seen.records.items()
            self._rewrite({key: record for key, record in records if key[0] == installation})

    def remove(self) -> None:
        """Delete the file, and what killed processes left of new ones. Raises `OSError`."""
        with self._turn():
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            for left in glob.glob(f"{glob.escape(self.path)}.{'[0-9a-f]' * 16}"):
                with suppress(FileNotFoundError):
                    os.unlink(left)
            self._seen = _Seen()

    @contextmanager
    def _turn(self) -> Generator[None]:
        """One thread at a time; a child that is forked meanwhile would hold the file's lock."""
        with forking.guard(), self._guard:
            yield

    @contextmanager
    def _locked(self) -> Generator[int]:
        """The file that bears the name, made where there is none, locked against other writers."""
        while True:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _bears_name(file, self.path):
                    yield file
                    return
            finally:
                os.close(file)

    def _open(self) -> int:
        with suppress(FileNotFoundError):
            return _opened(self.path, os.O_RDWR)
        self._rewrite({}, create=True)
        return _opened(self.path, os.O_RDWR)

    def _refresh(self) -> None:
        try:
            file = _opened(self.path, os.O_RDONLY)
        except FileNotFoundError:
            self._seen = _Seen()
            return
        try:
            self._catch_up(file)
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> None:
        """Take in what was appended since; all of it when another file bears the name now."""
        found = os.fstat(file)
        seen = self._seen
        # The inode number of a file that was replaced may be given to its successor.
        head = os.pread(file, HEAD_BYTES, 0)
        if (found.st_ino, head) != (seen.inode, seen.head) or found.st_size < seen.end:
            seen = self._seen = _Seen(found.st_ino, head)
        if found.st_size == seen.end:
            return
        data = os.pread(file, found.st_size - seen.end, seen.end)
        start = 0
        while (record := _decoded(data, start)) is not None:
            (installation, kind, content), size = record
            start += size
            _take(seen, installation, kind, content, size)
        seen.end += start

    def _rewrite(self, records: Mapping[tuple[str, str], Any], *, create: bool = False) -> None:
        """Put a new file in the old one's place, or make one where there is none."""
        # A container's process often has the number of the one that was killed with such a file.
        temporary = f"{self.path}.{secrets.token_hex(8)}"
        mode = self._mode()
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            give(file, self._database, os.path.dirname(self.path))
            os.fchmod(file, mode)
            header = {
                "nonce": secrets.token_bytes(16),
                "magic": MAGIC,
                "version": VERSION,
                "inode": os.fstat(file).st_ino,
            }
            parts = [_encoded("", HEADER, header)]
            parts += [_encoded(*key, record) for key, record in records.items() if key[1] != HEADER]
            _write(file, 0, b"".join(parts))
            os.fsync(file)
            if create:
                with suppress(FileExistsError):  # somebody was faster
                    os.link(temporary, self.path)
                os.unlink(temporary)
            else:
                os.rename(temporary, self.path)
            _sync_folder(self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(file)

    def _mode(self) -> int:
        """Anyone who may use the database may use this file. Its own file comes later at times."""
        try:
            return stat.S_IMODE(os.stat(self._database).st_mode) & 0o666
        except FileNotFoundError:
            return 0o600


def _take(seen: _Seen, installation: str, kind: str, content: Any, size: int) -> None:
    key = installation, kind
    if kind == HEADER:
        seen.own_inode = content.get("inode", 0) if content.get("version") == VERSION else 0
    seen.live_bytes += size - seen.sizes.get(key, 0)
    seen.records[key], seen.sizes[key] = content, size


def _encoded(installation: str, kind: str, record: Any) -> bytes:
    payload = pack([installation, kind, record])
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + _check(payload) + payload


def _decoded(data: bytes, start: int) -> tuple[tuple[str, str, Any], int] | None:
    """The record at ``start`` and its size; ``None`` where no whole one begins."""
    head = start + _LENGTH_BYTES + _CHECK_BYTES
    length = int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
    payload = data[head : head + length]
    if len(data) < head or len(payload) < length or length > RECORD_LIMIT or not length:
        return None
    if _check(payload) != data[start + _LENGTH_BYTES : head]:
        return None
    installation, kind, record = unpack(payload)
    return (installation, kind, record), head + length - start


def _check(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_CHECK_BYTES, person=b"bequest-side").digest()


def _write(file: int, at: int, data: bytes) -> None:
    os.ftruncate(file, at)
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written


def _opened(path: str, flags: int) -> int:
    """An ordinary file, open; never waits for the other end of a pipe. Raises `OSError`."""
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "not an ordinary file", path)


def _bears_name(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
