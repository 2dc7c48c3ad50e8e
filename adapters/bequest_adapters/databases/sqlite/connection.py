"""Where the database is, how to open it, and what its errors mean.

Bequest uses connections of its own, straight from the standard library: the application's pool, its
events and its settings are not touched. Every thread that asks at once gets a connection of its
own, so a long cut never makes a question wait.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from sqlalchemy import URL
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from bequest.errors import BequestError, Denied, Unreachable, UsageError

from . import quiet
from .quiet import Moved, Quiet

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long a statement waits for another connection's lock before it gives up."""

QUIET_SECONDS = 5.0
"""How long a read without a lock is tried again before one with a lock is taken."""
PAUSE_SECONDS = 0.0005
"""Between two tries: about as long as a small commit takes without a sync."""

MINIMUM_VERSION = (3, 37, 0)
"""The first SQLite with ``PRAGMA table_list``, which tells shadow tables from ordinary ones."""


@dataclass(frozen=True, slots=True)
class Location:
    """A database file: as a path, and as the URI that opens it without ever creating it."""

    path: str
    uri: str

    @property
    def name(self) -> str:
        """Fit for a log."""
        return f"sqlite:///{self.path}"


def locate(url: URL) -> Location:
    """Where ``url`` points. Raises `UsageError` when that is not a file."""
    plain = url.set(drivername="sqlite")
    arguments, options = SQLiteDialect_pysqlite().create_connect_args(plain)
    filename = str(arguments[0])
    if not options.get("uri"):
        if filename == ":memory:" or not filename:
            raise _not_a_file()
        path = os.path.abspath(filename)
        return Location(path, f"file:{quote(path)}?mode=rw")
    parts = urlsplit(filename)
    if parts.path == ":memory:" or "mode=memory" in parts.query or not parts.path:
        raise _not_a_file()
    path = os.path.abspath(unquote(parts.path))
    query = (
        parts.query if "mode=" in parts.query else "&".join(filter(None, [parts.query, "mode=rw"]))
    )
    return Location(path, f"file:{quote(path)}?{query}")


def _not_a_file() -> UsageError:
    return UsageError(
        "The database is in memory only. Nothing outside this connection can see it, so it cannot "
        "be backed up: give the URL of a database file, such as sqlite:////var/lib/app/app.db."
    )


def connect(location: Location) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread. Raises as `translated` does."""
    if sqlite3.sqlite_version_info < MINIMUM_VERSION:
        raise UsageError(
            f"This Python carries SQLite {sqlite3.sqlite_version}; Bequest needs 3.37 or newer to "
            "read the schema. Nothing is backed up: use a newer Python."
        )
    with translated(location):
        if not os.path.exists(location.path):
            raise Denied(
                f"There is no database at {location.name}. Nothing is backed up: check the path, "
                "or start the controller once so that it makes its database."
            )
        return sqlite3.connect(
            location.uri,
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )


_ADVICE: dict[int, tuple[type[BequestError], str, str]] = {
    sqlite3.SQLITE_BUSY: (
        Unreachable,
        "is locked by another connection",
        "It will be tried again; if this stays, look for a transaction that is never ended.",
    ),
    sqlite3.SQLITE_FULL: (Unreachable, "cannot grow: the disk is full", "Free some space."),
    sqlite3.SQLITE_IOERR: (Unreachable, "could not be read or written", "Check the disk."),
    sqlite3.SQLITE_NOTADB: (Denied, "is not an SQLite database", "Check the path."),
    sqlite3.SQLITE_CORRUPT: (
        Denied,
        "is damaged",
        "Run PRAGMA integrity_check; the stored snapshot is untouched and can be restored.",
    ),
    sqlite3.SQLITE_READONLY: (
        Denied,
        "cannot be written",
        "Give this user write permission on the file and on its folder.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        Denied,
        "cannot be opened",
        "Give this user permission on the file and on its folder.",
    ),
}
_ADVICE[sqlite3.SQLITE_LOCKED] = _ADVICE[sqlite3.SQLITE_BUSY]
_ADVICE[sqlite3.SQLITE_SCHEMA] = _ADVICE[sqlite3.SQLITE_BUSY]
_ADVICE[sqlite3.SQLITE_PERM] = _ADVICE[sqlite3.SQLITE_CANTOPEN]
_ADVICE[sqlite3.SQLITE_AUTH] = _ADVICE[sqlite3.SQLITE_CANTOPEN]


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 when the error did not come from SQLite."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


@contextmanager
def translated(location: Location) -> Generator[None]:
    """Turn errors of SQLite and of the file system into ours. The only place that does."""
    try:
        yield
    except sqlite3.Error as error:
        kind, what, advice = _ADVICE.get(
            primary_code(error),
            (BequestError, f"refused a statement ({error})", "Please report it."),
        )
        raise kind(
            f"The database {location.name} {what}. The last published snapshot is untouched, but "
            f"newer changes are not in it. {advice}"
        ) from error
    except FileNotFoundError as error:
        raise Denied(
            f"There is no database at {location.name}, or it went away. Nothing is published: "
            "check the path, or start the controller once so that it makes its database."
        ) from error
    except PermissionError as error:
        raise Denied(
            f"No permission for {error.filename}, beside the database {location.name}. Nothing is "
            "published without its lock file: give this user write permission on the folder."
        ) from error


class Connections:
    """Connections to one database, handed out one per user at a time and kept for the next."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._idle: list[sqlite3.Connection] = []
        self._quiet: list[Quiet] = []
        self._lock = threading.Lock()
        self._closed = False
        self._file = identity(location.path)

    def renew(self) -> None:
        """Leave a file whose name another one bears now: what was open would go on unseen."""
        file = identity(self.location.path)
        with self._lock:
            if file is None or file == self._file:
                return
            self._file = file
            idle = self._forgotten()
        for each in idle:
            each.close()

    def _forgotten(self) -> list[sqlite3.Connection | Quiet]:
        idle: list[sqlite3.Connection | Quiet] = [*self._idle, *self._quiet]
        self._idle, self._quiet = [], []
        return idle

    def read(
        self, work: Callable[[sqlite3.Connection], T], patience_seconds: float = QUIET_SECONDS
    ) -> T:
        """What ``work`` returns for one committed state. It may be called several times.

        A writer that has no busy timeout is not made to fail: in rollback-journal mode the read
        takes no lock (`quiet`), unless the writers leave no gap for ``patience_seconds``.
        """
        until = time.monotonic() + patience_seconds
        while self.is_quiet() and time.monotonic() < until:
            try:
                with self.looking() as connection:
                    return work(connection)
            except Moved:
                time.sleep(PAUSE_SECONDS)
        with self.use() as connection:
            connection.execute("BEGIN")
            return work(connection)

    @contextmanager
    def looked(self, until: float) -> Generator[sqlite3.Connection]:
        """`looking`, begun when nobody writes. Raises `Moved`, also if that never comes."""
        with ExitStack() as stack:
            while True:
                try:
                    connection = stack.enter_context(self.looking())
                    break
                except Moved:
                    if time.monotonic() > until:
                        raise
                    time.sleep(PAUSE_SECONDS)
            yield connection

    def is_quiet(self) -> bool:
        """Whether `looking` is the way to read: not in WAL mode, where no reader is in the way."""
        return quiet.possible(self.location.path)

    @contextmanager
    def looking(self) -> Generator[sqlite3.Connection]:
        """A read transaction without a lock. Raises `Moved` if what it read does not count."""
        file = self._file
        with translated(self.location):
            with self._lock:
                look = self._quiet.pop() if self._quiet else None
            look = look or Quiet(self.location.path)
            try:
                with look.look() as connection:
                    yield connection
            finally:
                with self._lock:
                    keep = not self._closed and file == self._file
                    if keep:
                        self._quiet.append(look)
                if not keep:
                    look.close()

    @contextmanager
    def use(self) -> Generator[sqlite3.Connection]:
        """A connection outside any transaction; whatever is left open is rolled back."""
        file = self._file
        connection = self._take()
        try:
            with translated(self.location):
                yield connection
        finally:
            self._give_back(connection, file)

    @contextmanager
    def writing(self, *, durable: bool = False) -> Generator[sqlite3.Connection]:
        """A connection in autocommit mode. ``durable``: what it wrote is on disk at the end.

        One statement is then a whole transaction inside SQLite. Python may let another thread go
        first between two statements, and for 5 ms at a time the write lock would be held for
        nothing.

        In WAL mode the log is synced after the commit, when other writers go on already: SQLite's
        own FULL would hold its lock all the while. Either makes every earlier commit durable, too,
        whoever made it and however relaxed that writer is.
        """
        with self.use() as connection:
            log = self._log(connection) if durable else None
            full = durable and log is None
            connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            yield connection
            if log is not None:
                _sync(log)

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """A write transaction, committed at the end; relaxed, as `writing` is."""
        with self.writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _log(self, connection: sqlite3.Connection) -> str | None:
        (mode,) = connection.execute("PRAGMA main.journal_mode").fetchone()
        return f"{self.location.path}-wal" if mode == "wal" else None

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        with self._lock:
            self._closed = True
            idle = self._forgotten()
        for each in idle:
            each.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return connect(self.location)

    def _give_back(self, connection: sqlite3.Connection, file: tuple[int, int] | None) -> None:
        if connection.in_transaction:
            connection.rollback()
        with self._lock:
            if not self._closed and file == self._file:
                self._idle.append(connection)
                return
        connection.close()


def identity(path: str) -> tuple[int, int] | None:
    """Which file a path leads to, by device and inode; ``None`` for none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sync(log: str) -> None:
    # Safe beside SQLite's own descriptors: its locks are on the database and its index, not here.
    handle = os.open(log, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
