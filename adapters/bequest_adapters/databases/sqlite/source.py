"""`bequest.ports.Source` on SQLite."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from bequest.errors import Unreachable
from bequest.model import Memory, Pending, Place, Selection, Standing
from bequest.snapshot.frame import unpack
from bequest_schema.tables import JOURNAL, MEMORY, SETTINGS

from . import installation, journal, lifting, remembering
from .connection import Connections, Location, places, translated
from .copy import copied
from .cut import SqliteCut
from .installation import Plan, Record
from .locks import Locks
from .target_following import standing_row


class SqliteSource:
    """A controller's SQLite database. Every method may be called from any thread."""

    dialect = "sqlite"
    server = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, location: Location, *, journal_limit: int | None = None) -> None:
        """``journal_limit``: rows the journal may grow to, from the next `install` on."""
        self._location = location
        self._journal_limit = journal_limit
        self._connections = Connections(location)
        self._locks = Locks(location)
        # What the last sound cut saw. Replaced as a whole, so that threads need no lock for it.
        self._sound: tuple[Record, int, Plan] | None = None

    @property
    def name(self) -> str:
        """`Source.name`."""
        return self._location.name

    @property
    def size_bytes(self) -> int | None:
        """How large the database is, ``None`` when that cannot be told."""
        try:
            return os.path.getsize(self._location.path)
        except OSError:
            return None

    def places(self) -> Sequence[Place]:
        """`bequest.ports.Occupying.places`."""
        return places(self._location)

    def wake_paths(self) -> tuple[str, ...]:
        """The file whose changes, and whose log's, are worth a look."""
        return (self._location.path,)

    def attend(self, engine: object) -> Callable[[], None]:
        """Keep migrations through the controller's engine from failing because of capture."""
        return lifting.lift_on_alter(engine)

    def installed(self) -> bool:
        """`Source.installed`."""
        with self._connections.use() as connection:
            return installation.installed(connection)

    def install(self, selection: Selection | None = None) -> bool:
        """`Source.install`: in one transaction that no writer gets into."""
        with self._connections.transaction() as connection:
            return installation.install(connection, selection, self._journal_limit)

    def followed(self) -> Standing | None:
        """Where this database stands in an object that it follows; ``None`` when it does not."""
        with self._connections.use() as connection:
            row = standing_row(connection, "standing")
            return None if row is None else Standing(**unpack(row[0]))

    def uninstall(self) -> None:
        """`Source.uninstall`, with the lock files."""
        with self._connections.transaction() as connection:
            installation.uninstall(connection)
        self._sound = None
        with translated(self._location):
            self._locks.remove()

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Generator[None]:
        """`Source.exclusive`."""
        holding = self._locks.exclusive(timeout_seconds)
        with translated(self._location):
            holding.__enter__()
        try:
            self._connections.renew()
            yield
        finally:
            holding.__exit__(None, None, None)

    def lead(self) -> bool:
        """`Source.lead`."""
        with translated(self._location):
            return self._locks.lead()

    def recall(self) -> Memory:
        """`Source.recall`."""
        with self._connections.use() as connection:
            return remembering.recall(connection) if _has(connection, MEMORY) else Memory()

    def remember(self, memory: Memory, *, durable: bool) -> None:
        """`Source.remember`."""
        sound = self._sound
        with self._connections.writing(durable=durable) as connection:
            remembering.remember(connection, memory)
            if sound is not None and sound[1] != sound[0].schema_version:
                installation.record_schema_version(connection, sound[1])

    def note(self, name: str, text: str) -> None:
        """`bequest.ports.Notes.note`."""
        with self._connections.transaction() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO {SETTINGS} (name, value) VALUES (?, ?)", (name, text)
            )

    def noted(self, name: str) -> str | None:
        """`bequest.ports.Notes.noted`."""
        with self._connections.use() as connection:
            if not _has(connection, SETTINGS):
                return None
            sql = f"SELECT value FROM {SETTINGS} WHERE name = ?"
            row = connection.execute(sql, (name,)).fetchone()
            return None if row is None else str(row[0])

    def trim(self, position: str) -> None:
        """`Source.trim`."""
        # A busy database is none of trim's business: the next one removes what this one left.
        with suppress(Unreachable), self._connections.writing() as connection:
            if _has(connection, JOURNAL):
                journal.trim(connection, journal.parse(position))

    @contextmanager
    def cut(self, memory: Memory) -> Generator[SqliteCut]:
        """`Source.cut`: a deferred read transaction. In WAL mode it never disturbs a writer.

        In rollback-journal mode it does, so where all rows are to be read (``memory`` has no
        position) the cut is taken on a copy; the writers wait while the pages are copied.
        """
        with self._connections.use() as connection:
            connection.execute("BEGIN")
            if memory.position or _is_wal(connection):
                yield self._cut_on(connection, memory)
            else:
                with copied(connection, self._location) as copy:
                    yield self._cut_on(copy, memory)

    def _cut_on(self, connection: sqlite3.Connection, memory: Memory) -> SqliteCut:
        found = SqliteCut(connection, self._location, memory, self._sound)
        self._sound = found.sound
        return found

    def pending(self, memory: Memory) -> Pending:
        """`Source.pending`; see `journal.pending` for what counts as a transaction."""
        with self._connections.use() as connection:
            if not _has(connection, JOURNAL):
                return Pending(0, 0, None)
            found = journal.pending(connection, journal.parse(memory.position))
            if memory.serial or memory.position:
                return found
            # Never published: all that was there before the journal is waiting as well.
            since = installation.installed_at(connection)
            return replace(found, transactions=max(1, found.transactions), since=since)

    def moved(self, memory: Memory) -> bool:
        """`bequest.ports.Watchful.moved`."""
        with self._connections.use() as connection:
            connection.execute("BEGIN")
            return bool(SqliteCut(connection, self._location, memory, self._sound).fault)

    def close(self) -> None:
        """`Source.close`."""
        self._locks.release()
        self._connections.close()


def _is_wal(connection: sqlite3.Connection) -> bool:
    (mode,) = connection.execute("PRAGMA main.journal_mode").fetchone()
    return bool(mode == "wal")


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)
    )
    return found.fetchone() is not None
