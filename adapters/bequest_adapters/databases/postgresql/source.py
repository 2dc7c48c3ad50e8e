"""`bequest.ports.Source` on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from bequest import ancestry
from bequest.model import Memory, Pending, Selection, Standing
from bequest.snapshot.frame import unpack
from bequest_schema.tables import JOURNAL, MEMORY, SCHEMA, SETTINGS

from . import installation, journal, remembering
from .connection import Address, Connection, Connections, connect, end
from .cut import Known, PostgresCut
from .journal import Position
from .locks import Locks
from .standing import refuse_following, standing_row

LOOK_SECONDS: Final = 1.0
"""How often a poll looks closely while others write elsewhere in the cluster."""


class PostgresSource:
    """A controller's PostgreSQL database. Every method may be called from any thread."""

    dialect = "postgresql"
    poll_seconds: Final = (0.01, 0.25)
    """How long a sidecar waits between two looks: after a change, and after a while without."""

    def __init__(self, address: Address, *, journal_limit: int | None = None) -> None:
        """``journal_limit``: rows the journal may grow to, from the next `install` on."""
        self._address = address
        self._journal_limit = journal_limit
        self._connections = Connections(address)
        self._locks = Locks(self._connections)
        # What the last sound cut saw. Replaced as a whole, so that threads need no lock for it.
        self._known: Known | None = None
        self._restless = set[str]()
        # The last cut's position, the newest snapshot that held nothing new, when the cut was.
        self._looked: tuple[Position, str, float] | None = None

    @property
    def name(self) -> str:
        """`Source.name`."""
        return self._address.name

    @property
    def server(self) -> str:
        """The server's version, empty before the first connection."""
        return self._connections.server

    @property
    def size_bytes(self) -> int:
        """How large the database is, about."""
        with self._connections.use() as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            assert row is not None
            return int(row[0])

    def installed(self) -> bool:
        """`Source.installed`."""
        with self._locks.bookkeeping() as connection:
            return installation.installed(connection)

    def install(self, selection: Selection | None = None) -> bool:
        """`Source.install`: table by table, each writer waiting for a moment at most."""
        with self._locks.bookkeeping() as connection:
            refuse_following(connection)
            return installation.install(
                connection, self._fresh, self.name, selection, self._journal_limit
            )

    def followed(self) -> Standing | None:
        """Where this database stands in an object that it follows; ``None`` when it does not."""
        with self._connections.use() as connection:
            row = standing_row(connection, "standing")
            return None if row is None else Standing(**unpack(row[0]))

    def uninstall(self) -> None:
        """`Source.uninstall`."""
        with self._locks.bookkeeping() as connection:
            refuse_following(connection)
            installation.uninstall(connection, self.name)
        self._known = None

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Generator[None]:
        """`Source.exclusive`."""
        with self._locks.exclusive(timeout_seconds):
            yield

    def lead(self) -> bool:
        """`Source.lead`."""
        return self._locks.lead()

    def recall(self) -> Memory:
        """`Source.recall`."""
        with self._locks.bookkeeping() as connection:
            return remembering.recall(connection) if _has(connection, MEMORY) else Memory()

    def remember(self, memory: Memory, *, durable: bool) -> None:
        """`Source.remember`, on the connection that holds the right to publish."""
        with self._locks.bookkeeping() as connection:
            remembering.remember(connection, memory, durable=durable)

    def descends(self, origin: str) -> bool | None:
        """`Source.descends`; what it cannot prove, it does not deny: old witnesses are dropped."""
        with self._connections.use() as connection:
            if not _has(connection, MEMORY):
                return None
            known = remembering.installations(connection)
            return ancestry.descends(origin, known, partial(remembering.holds, connection))

    def note(self, name: str, text: str) -> None:
        """`bequest.ports.Notes.note`."""
        with self._connections.use() as connection:
            connection.execute(
                f"INSERT INTO {SCHEMA}.{SETTINGS} (name, value) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [name, text],
            )

    def noted(self, name: str) -> str | None:
        """`bequest.ports.Notes.noted`."""
        with self._connections.use() as connection:
            if not _has(connection, SETTINGS):
                return None
            sql = f"SELECT value FROM {SCHEMA}.{SETTINGS} WHERE name = %s"
            row = connection.execute(sql, [name]).fetchone()
            return None if row is None else str(row[0])

    def trim(self, position: str) -> None:
        """`Source.trim`."""
        with self._locks.bookkeeping() as connection:
            if _has(connection, JOURNAL):
                journal.trim(connection, journal.parse(position))

    @contextmanager
    def cut(self, memory: Memory, *, again: bool = False) -> Generator[PostgresCut]:
        """`Source.cut`: a transaction of its own, ended with the context."""
        with self._connections.use() as connection, ExitStack() as others:

            def another() -> Connection:
                return others.enter_context(self._connections.use())

            try:
                found = PostgresCut(
                    connection,
                    another,
                    self._address,
                    memory,
                    self._known,
                    self._learn,
                    self._restless,
                )
                with closing(found):
                    yield found
                since = journal.parse(found.position)
                self._looked = (since, since.snapshot, time.monotonic()) if since.snapshot else None
            except BaseException:
                self._known = None
                raise
            finally:
                end(connection)

    def pending(self, memory: Memory) -> Pending:
        """`Source.pending`."""
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
            found = installation.read_fingerprint(connection)
            return found != journal.parse(memory.position).fingerprint

    def idle(self) -> bool:
        """Whether nothing can have changed since the last cut; for a poll, so it costs one query.

        Where others are busy in the same cluster it now and then says no without knowing: what no
        journal tells, such as a sequence, is found so.
        """
        looked = self._looked
        if looked is None:
            return False
        position, snapshot, at = looked
        with self._connections.use() as connection:
            now = journal.snapshot(connection)
            if now == snapshot:
                return True
            if time.monotonic() - at > LOOK_SECONDS or not self._is_quiet(connection, position):
                return False
        self._looked = (position, now, at)
        return True

    def _is_quiet(self, connection: Connection, position: Position) -> bool:
        if journal.behind(connection, position):
            return False
        return installation.read_fingerprint(connection) == position.fingerprint

    def close(self) -> None:
        """`Source.close`."""
        self._locks.release()
        self._connections.close()

    def _learn(self, known: Known) -> None:
        self._known = known

    @contextmanager
    def _fresh(self) -> Generator[Connection]:
        connection = connect(self._address)
        try:
            yield connection
        finally:
            connection.close()


def _has(connection: Connection, table: str) -> bool:
    found = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", [f"bequest.{table}"], prepare=True
    )
    return found.fetchone() == (True,)
