"""Where the database is, how to open it, and what its errors mean.

Bequest uses connections of its own, straight from the standard library: the application's pool, its
events and its settings are not touched. Every thread that asks at once gets a connection of its
own, so a long cut never makes a question wait.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

from sqlalchemy import URL
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from bequest import forking
from bequest.errors import BequestError, Denied, Unreachable, UsageError
from bequest.model import Place

from ...belonging import owner
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
    """A database file: as a path, and as the URI that opens it without ever creating it.

    ``path`` is the file itself, beside which SQLite keeps its logs and Bequest its locks; ``given``
    may lead there by symbolic links.
    """

    path: str
    uri: str
    given: str

    @property
    def name(self) -> str:
        """Fit for a log."""
        return f"sqlite:///{self.given}"


def locate(url: URL) -> Location:
    """Where ``url`` points. Raises `UsageError` when that is not a file."""
    plain = url.set(drivername="sqlite")
    arguments, options = SQLiteDialect_pysqlite().create_connect_args(plain)
    filename = str(arguments[0])
    if not options.get("uri"):
        if filename == ":memory:" or not filename:
            raise _not_a_file()
        path = os.path.realpath(filename)
        return Location(path, f"file:{quote(path)}?mode=rw", os.path.abspath(filename))
    parts = urlsplit(filename)
    if parts.path == ":memory:" or "mode=memory" in parts.query or not parts.path:
        raise _not_a_file()
    given = os.path.abspath(unquote(parts.path))
    path = os.path.realpath(given)
    query = (
        parts.query if "mode=" in parts.query else "&".join(filter(None, [parts.query, "mode=rw"]))
    )
    return Location(path, f"file:{quote(path)}?{query}", given)


_BELONGING: Final = {
    "": "the database",
    "-wal": "the database's log",
    "-shm": "the index of the database's log",
    "-journal": "the database's journal",
    "-bequest": "what Bequest remembers of the database",
    "-bequest.lock": "the lock of who publishes the database",
    "-bequest.leader": "the lock of who watches the database",
}


def places(location: Location) -> list[Place]:
    """The files that belong to a database, there or not."""
    return [Place(location.path + suffix, what) for suffix, what in _BELONGING.items()]


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
        "Run Bequest as the user of the controller, who may write the file and its folder.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        Denied,
        "cannot be opened",
        "Run Bequest as the user of the controller, who may use the file and its folder.",
    ),
}
# A fork was waiting; what was read or written is done again.
_ADVICE[sqlite3.SQLITE_INTERRUPT] = (
    Unreachable,
    "was let go of for a fork of this process",
    "It will be tried again.",
)
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
            f"published without it. {_as_whom(location.path)}"
        ) from error
    except OSError as error:
        raise Unreachable(
            f"{error.filename or 'A file'}, beside the database {location.name}, could not be used "
            f"({error.strerror or error}). Nothing is published without it; the last published "
            "snapshot is untouched. Check the disk, and that nothing else bears that name."
        ) from error


def _as_whom(path: str) -> str:
    """The remedy for a file that this user may not use."""
    try:
        user = owner(path)
    except OSError:
        return "Run Bequest as the user of the controller."
    return (
        f"Run Bequest as {user}, whose database it is; if the file was left by another user, give "
        f"it to {user} (chown), and give {user} write permission on the folder."
    )


class Connections:
    """Connections to one database, handed out one per user at a time and kept for the next."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._idle: list[sqlite3.Connection] = []
        self._used: set[sqlite3.Connection] = set()
        self._quiet: list[Quiet] = []
        self._lock = threading.Lock()
        self._closed = False
        self._file = identity(location.path)
        forking.enrol(self)

    def renew(self) -> None:
        """Leave a file whose name another one bears now: what was open would go on unseen.

        Raises `Denied` when a symbolic link was turned to another file: its locks lie elsewhere.
        """
        if os.path.realpath(self.location.given) != self.location.path:
            raise Denied(
                f"{self.location.name} leads to another file now than when Bequest began with it. "
                "Nothing more is published. Start Bequest again, so that it works on the new one."
            )
        file = identity(self.location.path)
        with self._lock:
            if file is None or file == self._file:
                return
            self._file = file
            idle = self._forgotten()
        _close(idle)

    def check_file(self) -> None:
        """Raises `Unreachable` when another file bears the name than at the last `renew`.

        What a new connection reads then is not what was asked about before.
        """
        file = identity(self.location.path)
        if self._file is not None and file is not None and file != self._file:
            raise Unreachable(
                f"{self.location.name} was replaced by another file while it was read. Nothing was "
                "published, and the backup is as it was. It will be tried again with that file."
            )

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
        with forking.guard(), translated(self.location):
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
        # A child that is forked meanwhile might never be granted a lock; see `bequest.forking`.
        with forking.guard(self.interrupt):
            connection = self._take()
            try:
                with translated(self.location):
                    yield connection
            finally:
                self._give_back(connection, file)

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """A connection in autocommit mode, relaxed: see `durability` for what must be on disk."""
        with self.use() as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        with self._lock:
            self._closed = True
            idle = self._forgotten()
        _close(idle)

    def interrupt(self) -> None:
        """End what is being read or written now: it raises `Unreachable`, and can be tried again.

        May be called from any thread.
        """
        with self._lock:
            for connection in self._used:
                connection.interrupt()

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`."""
        with self._lock:
            idle = self._forgotten()
        for each in idle:
            each.close()

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`."""
        for each in (*self._idle, *self._used, *self._quiet):
            abandon(each)
        self._idle, self._used, self._quiet = [], set(), []
        self._lock = threading.Lock()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = connect(self.location)
        with self._lock:
            self._used.add(connection)
        return connection

    def _give_back(self, connection: sqlite3.Connection, file: tuple[int, int] | None) -> None:
        if connection not in self._used:
            return  # of the process that this one was forked from
        if connection.in_transaction:
            connection.rollback()
        with self._lock:
            self._used.discard(connection)
            if not self._closed and file == self._file:
                self._idle.append(connection)
                return
        connection.close()


def _close(connections: Sequence[sqlite3.Connection | Quiet]) -> None:
    with forking.guard():
        for connection in connections:
            connection.close()


def abandon(connection: object) -> None:
    """Never close what a forked process inherited open, not even at its end.

    The library would give up locks which it believes this process to hold, and which are gone.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def identity(path: str) -> tuple[int, int] | None:
    """Which file a path leads to, by device and inode; ``None`` for none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
