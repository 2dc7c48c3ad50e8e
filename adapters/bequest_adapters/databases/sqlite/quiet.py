"""Reads in rollback-journal mode that hold no lock, and find out afterwards whether they count.

In that mode a reader's SHARED lock makes a writer's COMMIT fail at once when the writer has no busy
timeout, however short the read (measured: 68-146 of 10,000, against none this way). So the file is
read without a lock (``nolock=1``), and what was read counts only if nobody wrote to the file
meanwhile. Invariants:

* SQLite writes to the database file only under its EXCLUSIVE lock. Nobody holds that when a look
  begins, nobody holds it at the end, and in between the file was not written to: then every page
  that was read belongs to one committed state.
* "Not written to" is asked of the kernel (inotify), which reports every write before the writer can
  release its lock; the change counter alone would miss a transaction that spilled pages and rolled
  back. Where there is no inotify the time of the last write decides, and only once it is older than
  the clock that files are stamped with, so that a later write must show.
* A hot journal is never rolled back from here: SQLite refuses to read then (the connection is
  read-only), and whoever locks must do it.
* The descriptor that asks for locks is never closed: closing it would drop every POSIX lock that
  this process, the controller perhaps, holds on the database. It asks as an open file description
  (OFD), so that it sees the locks of its own process, too.
* After a look that did not count the connection is closed: its cache may hold half a transaction.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from . import flocks
from .durability import descriptor

SHARED_FIRST: Final = 0x40000002
SHARED_SIZE: Final = 510
HEADER_BYTES: Final = 100
MAGIC: Final = b"SQLite format 3\0"
ROLLBACK_MODE: Final = b"\x01\x01"
COUNTER: Final = slice(24, 28)
_IN_MODIFY: Final = 0x2
_CLOCK_REALTIME_COARSE: Final = 5
_EVENTS_BYTES: Final = 65536


class Moved(Exception):
    """Somebody wrote, or was writing, while the file was read: look again."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file looked like when nobody was writing to it."""

    file: tuple[int, int]
    size_bytes: int
    written_ns: int
    header: bytes


class Witness:
    """Knows whether a database was written to between two moments. For one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = descriptor(path)
        self._events = _watch(path)

    def look(self) -> Stamp:
        """The file now. Raises `Moved` while somebody writes, or where that cannot be known."""
        self._written()
        stamp = self._stamp()
        if self._events is None and stamp.written_ns >= _file_clock_ns():
            raise Moved("the file was written to a moment ago")
        if self._locked():
            raise Moved("somebody is writing")
        header = stamp.header
        if not header.startswith(MAGIC) or header[18:20] != ROLLBACK_MODE:
            raise Moved("the database is not in rollback-journal mode")
        return stamp

    def unmoved(self, since: Stamp) -> bool:
        """Whether nobody wrote since that look. The lock first: who has released it has written."""
        return not self._locked() and not self._written() and self._stamp() == since

    def close(self) -> None:
        """Forget the watch; the file's descriptor stays."""
        if self._events is not None:
            os.close(self._events)
            self._events = None

    def _stamp(self) -> Stamp:
        found = os.stat(self._path)
        file = (found.st_dev, found.st_ino)
        held = os.fstat(self._handle)
        if file != (held.st_dev, held.st_ino):
            raise Moved("another file bears the name")
        header = os.pread(self._handle, HEADER_BYTES, 0)
        return Stamp(file, found.st_size, found.st_mtime_ns, header)

    def _locked(self) -> bool:
        return flocks.is_locked(self._handle, SHARED_FIRST, SHARED_SIZE, for_reading=True)

    def _written(self) -> bool:
        if self._events is None:
            return False
        try:
            return bool(os.read(self._events, _EVENTS_BYTES))
        except BlockingIOError:
            return False


def possible(path: str) -> bool:
    """Whether the database is in rollback-journal mode, and this system can tell who locks it."""
    if not flocks.POSSIBLE:
        return False
    try:
        header = os.pread(descriptor(path), HEADER_BYTES, 0)
    except OSError:
        return False
    return header.startswith(MAGIC) and header[18:20] == ROLLBACK_MODE


class Quiet:
    """Looks at one database in rollback-journal mode, one at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._witness = Witness(path)
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @contextmanager
    def look(self) -> Generator[sqlite3.Connection]:
        """A read transaction without a lock. Raises `Moved` at its end unless what was read is one
        committed state; whatever was raised because of pages that do not fit together is the cause.
        """
        with self._lock:
            stamp = self._witness.look()
            connection = self._connection or self._connect()
            self._connection = None
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("ROLLBACK")
                if not self._witness.unmoved(stamp):
                    raise Moved("somebody wrote while the file was read")
            except Exception as error:
                # Whatever it was, of pages that do not fit together it says nothing.
                connection.close()
                hot = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK
                if hot or not self._witness.unmoved(stamp):
                    raise Moved(str(error)) from error
                raise
            except BaseException:
                connection.close()
                raise
            self._connection = connection

    def close(self) -> None:
        """Close the connection. SQLite itself takes care of its own locks in this process."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._witness.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(self._path)}?mode=ro&nolock=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )


def _file_clock_ns() -> int:
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def _watch(path: str) -> int | None:
    """A descriptor to which the kernel reports every write to the file; ``None`` for none."""
    library = ctypes.CDLL(None, use_errno=True)
    begin: Callable[[int], int] | None = getattr(library, "inotify_init1", None)
    if begin is None:
        return None
    events = begin(os.O_NONBLOCK | os.O_CLOEXEC)
    if events < 0:
        return None
    if library.inotify_add_watch(events, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(events)
        if ctypes.get_errno() == errno.ENOENT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return None
    return events
