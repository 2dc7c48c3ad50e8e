"""When Bequest's rare own writes take their turn, so that no transaction of the controller fails.

In WAL mode a transaction that has read cannot write any more once somebody else has committed
(SQLITE_BUSY_SNAPSHOT); in a rollback journal two transactions that both read and both want to write
cannot go on, and one of them fails. No busy timeout helps against either. So Bequest commits only
while nobody else is inside a transaction, which the bytes that SQLite locks say.

Invariants:

* `Door`, in WAL mode: SQLite's own connection here has its place among the readers; then this
  process locks all readers' places to write, which succeeds only if nobody else has one. From then
  on newcomers find no place, and SQLite tries again for them, whatever their busy timeout (for 10 s
  in sum). So they begin after the commit, and see it.
* A `Door` is for a process that has no other connection to the database: SQLite lets connections
  of one process share a place without asking the kernel, and the lock that opens the door again
  would be theirs as well.
* `Looking`, in WAL mode, in a process that may be the controller's: a short transaction of which
  all that can be known is that nobody was there when it began, and that no other process is when
  it ends.
* `Exclusive`, in a rollback journal: begun only while nobody has any lock, and then nobody can
  read. Newcomers wait by their busy timeout.
* Nothing waits in SQLite's queue, and no lock is held while waiting.
* A descriptor of a file that SQLite may have locked in this process is never closed.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from . import flocks
from .durability import descriptor, is_wal, log_index_descriptor

WAL_FIRST: Final = 120
WAL_BYTES: Final = 8
"""All locks of a connection that does something: to write, to checkpoint, to recover, to read."""
READERS_FIRST: Final = 123
READERS_BYTES: Final = 5
WITHOUT_LOG: Final = 123
"""The place of a reader that needs nothing from the log. A writer there may begin the log again,
and SQLite would open the door to do so."""
ROLLBACK_FIRST: Final = 0x40000000
ROLLBACK_BYTES: Final = 512
_ANYTHING: Final = "SELECT 1 FROM sqlite_schema LIMIT 1"


class Crowded(Exception):
    """Others are at work: the write must be made by a process of its own, through a `Door`."""


class Turn:
    """Any moment: what remains where others leave no better one, or where none can be known."""

    patience_seconds: float = 0.0
    """How long a better moment than `Turn`'s is waited for."""
    pause_seconds: float = 0.02
    """Between two tries."""
    busy_ms: int = 20
    """How long a lock is asked for: in a rollback journal, asking keeps new readers out."""
    rest: float = 10.0
    """Where others write, they get so many times as long as the transaction took."""

    def enter(self, connection: sqlite3.Connection) -> bool:
        """Begin a transaction in which may be written, or none: False. Raises sqlite3's errors."""
        connection.execute("BEGIN IMMEDIATE")
        return True

    def suits(self, untouched: bool) -> bool:
        """Whether to begin at all; ``untouched``: nobody has written lately."""
        return True

    def between(self, connection: sqlite3.Connection) -> None:
        """After a transaction that another one follows."""

    def may_commit(self) -> bool:
        """Whether it is still a good moment. Where it is not, the transaction must be undone."""
        return True

    def leave(self) -> None:
        """After the transaction, however it ended."""

    def last_resort(self) -> Turn:
        """What to do when patience is at its end. Raises `Crowded`."""
        return self


class Exclusive(Turn):
    """In a rollback journal."""

    patience_seconds = 10.0
    pause_seconds = 0.0005
    busy_ms = 0
    rest = 2.0

    def __init__(self, path: str) -> None:
        self._path = path

    def enter(self, connection: sqlite3.Connection) -> bool:
        """`Turn.enter`."""
        if flocks.is_locked(descriptor(self._path), ROLLBACK_FIRST, ROLLBACK_BYTES):
            return False
        connection.execute("BEGIN EXCLUSIVE")
        return True

    def last_resort(self) -> Turn:
        """`Turn.last_resort`."""
        return Turn()


class Looking(Turn):
    """In WAL mode, beside other connections in the same process."""

    patience_seconds = 10.0
    pause_seconds = 0.0005
    busy_ms = 0

    def __init__(self, path: str, *, crowded: bool) -> None:
        """``crowded``: whether to raise `Crowded` as soon as somebody is met."""
        self._path = path
        self._crowded = crowded
        if crowded:
            self.patience_seconds = 0.0

    def enter(self, connection: sqlite3.Connection) -> bool:
        """`Turn.enter`."""
        try:
            index = log_index_descriptor(self._path)
        except FileNotFoundError:  # nobody has the database open
            return super().enter(connection)
        return not flocks.is_locked(index, WAL_FIRST, WAL_BYTES) and super().enter(connection)

    def suits(self, untouched: bool) -> bool:
        """`Turn.suits`."""
        return untouched or not self._crowded

    def may_commit(self) -> bool:
        """`Turn.may_commit`."""
        index = log_index_descriptor(self._path)
        return not flocks.is_locked(index, READERS_FIRST, READERS_BYTES, own=False)

    def last_resort(self) -> Turn:
        """`Turn.last_resort`."""
        if self._crowded:
            raise Crowded
        return Turn()


class Door(Turn):
    """In WAL mode, in a process that has no other connection to the database."""

    patience_seconds = 10.0
    pause_seconds = 0.0005
    busy_ms = 0
    rest = 2.0

    def __init__(self, path: str, log_pages: int) -> None:
        """SQLite must have opened the log here, and not work it in by itself. Raises `OSError`.

        ``log_pages``: from so many on it is worked in between two transactions.
        """
        self._log, self._log_pages = f"{path}-wal", log_pages
        self._index = os.open(f"{path}-shm", os.O_RDWR | os.O_CLOEXEC)

    def enter(self, connection: sqlite3.Connection) -> bool:
        """`Turn.enter`: only reading yet; nobody else can be writing, nor begin to."""
        if flocks.is_locked(self._index, WAL_FIRST, WAL_BYTES):
            return False
        if not flocks.lock(self._index, WITHOUT_LOG, 1):
            return False
        try:
            connection.execute("BEGIN")
            connection.execute(_ANYTHING).fetchone()
        finally:
            flocks.unlock(self._index, WITHOUT_LOG, 1)
        return flocks.lock(self._index, READERS_FIRST, READERS_BYTES, own=False)

    def between(self, connection: sqlite3.Connection) -> None:
        """`Turn.between`."""
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        if os.stat(self._log).st_size > self._log_pages * page_bytes:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def leave(self) -> None:
        """`Turn.leave`."""
        flocks.unlock(self._index, READERS_FIRST, READERS_BYTES, own=False)

    def last_resort(self) -> Turn:
        """`Turn.last_resort`."""
        return Turn()


def turn_at(path: str, *, crowded: bool = False) -> Turn:
    """For a process that may have other connections to the database. Raises `OSError`.

    ``crowded``: whether `Crowded` is to be raised where another process should write.
    """
    if not flocks.POSSIBLE:
        return Turn()
    return Looking(path, crowded=crowded) if is_wal(path) else Exclusive(path)
