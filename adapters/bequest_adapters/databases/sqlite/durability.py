"""Bringing commits to the disk that somebody else made, without writing to the database.

What is published must survive a power cut, however relaxed the controller's own settings are, so
the files that hold its commits are synced before a publish is sent.

Closing any descriptor of a database file drops all of the process's POSIX locks on it, those of
the controller's own SQLite included. So that descriptor is opened once for each file and stays
open as long as the process lives, and so does one of the log's index (``-shm``). SQLite holds no
lock on the write-ahead log: that one is closed.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

from bequest import forking


class _Kept:
    """The descriptors that stay open, by device and inode; a forked child begins without."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], int] = {}
        self._guard = threading.Lock()
        forking.enrol(self)

    def of(self, path: str) -> int:
        """That of the file which bears the name now."""
        with self._guard:
            found = os.stat(path)
            key = found.st_dev, found.st_ino
            if key not in self._open:
                self._open[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return self._open[key]

    def numbers(self) -> frozenset[int]:
        """All of them."""
        with self._guard:
            return frozenset(self._open.values())

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: locks are not shared with a child."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`: a child has no lock yet that a close could drop."""
        self._guard = threading.Lock()
        inherited, self._open = self._open, {}
        for number in inherited.values():
            os.close(number)


_kept: Final = _Kept()
_VERSIONS_AT: Final = 18
_WAL_VERSIONS: Final = b"\x02\x02"


def sync_commits(path: str, *, wal: bool) -> None:
    """Return when every commit to the database at ``path`` is on the disk. Raises `OSError`."""
    if wal:
        with suppress(FileNotFoundError):  # the last one to close the database worked it in
            _sync_once(f"{path}-wal", os.O_RDWR)
        return
    os.fsync(descriptor(path))
    # A rollback journal whose deletion is lost would undo the commit after a power cut.
    _sync_once(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)


def kept() -> frozenset[int]:
    """The numbers of the descriptors that stay open here: nobody works with them."""
    return _kept.numbers()


def is_wal(path: str) -> bool:
    """Whether the database is in WAL mode, by its header. Raises `OSError`."""
    return os.pread(descriptor(path), 2, _VERSIONS_AT) == _WAL_VERSIONS


def log_index_descriptor(path: str) -> int:
    """One of the index of the log (``-shm``), never closed. SQLite makes a new one now and then.

    Raises `FileNotFoundError` where nobody has the database open.
    """
    return _kept.of(f"{path}-shm")


def _sync_once(path: str, flags: int) -> None:
    file = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def descriptor(path: str) -> int:
    """One of the database file that is never closed, so that no lock is ever dropped by it."""
    return _kept.of(path)
