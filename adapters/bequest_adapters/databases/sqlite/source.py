"""`bequest.ports.Source` on SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from bequest import ancestry
from bequest.errors import Unreachable
from bequest.model import Memory, Pending, Place, Selection, Standing
from bequest.ports import Unsettled
from bequest.snapshot.frame import unpack
from bequest_schema.tables import JOURNAL, SETTINGS

from ...apart import Apart
from . import (
    healing,
    installation,
    installing,
    journal,
    lifting,
    record,
    remembering,
    writing_apart,
)
from .catalog import exists
from .connection import QUIET_SECONDS, Connections, Location, places, translated
from .copy import copied
from .cut import Sound, SqliteCut
from .durability import is_wal, sync_commits
from .identity import Identity, Known, installation_in_triggers, read_identity, write_identity
from .locks import Locks
from .quiet import Moved
from .sidefile import SideFile
from .target_following import standing_row
from .turns import Crowded, Turn, turn_at


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
        self._side = SideFile(location.path)
        self._held = threading.local()
        self._apart = Apart()
        # What the last sound cut saw. Replaced as a whole, so that threads need no lock for it.
        self._sound: Sound | None = None
        # Since when no cut without a lock has counted; 0 when the last one did.
        self._unsettled = 0.0

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
        return lifting.attend(engine)

    def installed(self) -> bool:
        """`Source.installed`."""
        return self._connections.read(installation.installed)

    def install(self, selection: Selection | None = None) -> bool:
        """`Source.install`, in short transactions; see `installing`.

        The side file knows a new installation before the database does: after a crash in between
        the database is new, and never looks like a copy.
        """
        if self._connections.read(partial(_is_whole, selection, self._journal_limit)):
            return False
        with self._connections.writing() as connection:
            known = self._known(connection)
        limit = self._journal_limit
        changed = self._write(
            writing_apart.install_request(self._location, selection, limit, known),
            lambda connection, turn: installing.install(
                connection, selection, limit, known, turn=turn
            ),
        )
        if changed:
            installed = self._connections.read(record.read_record)
            remembering.keep_selection(installed.identity, installed.selection, self._side)
        return changed

    def _write(
        self,
        request: dict[str, Any],
        write: Callable[[sqlite3.Connection, Turn], bool],
    ) -> bool:
        """What ``write`` returns here, where the database is quiet; else ``request``, elsewhere."""
        path = self._location.path
        with suppress(Crowded), self._connections.writing() as connection:
            return write(connection, turn_at(path, crowded=True))
        found = self._apart.ask(writing_apart.__name__, request)
        if found is not None and found[1] == 0 and (said := json.loads(found[0])) is not None:
            return bool(said)
        with self._connections.writing() as connection:
            return write(connection, turn_at(path))

    def _known(self, connection: sqlite3.Connection) -> Known:
        """Who the database is to be, unless it says so itself; what was published last."""
        identity = read_identity(connection)
        if identity.installation:
            return Known(identity, remembering.last_seq(identity, self._side))
        surviving = installation_in_triggers(connection)
        known = remembering.known(self._side)
        if known is None or surviving != known.identity.first:
            known = Known(Identity(surviving or uuid.uuid4().hex, str(uuid.uuid4()), 1))
            remembering.introduce(known.identity, self._side)
        return known

    def heal(self) -> None:
        """`bequest.ports.Healing.heal`."""
        if not self._connections.read(healing.is_needed):
            return
        with self._connections.use() as connection:
            if healing.is_needed(connection):
                healing.heal(connection, self._known(connection).seq)

    def _identity(self) -> Identity | None:
        """Who the database is. Whoever holds the right to publish is the only one to change it."""
        held: Identity | None = getattr(self._held, "identity", None)
        return held or self._asked()

    def _asked(self) -> Identity | None:
        return self._connections.read(_identity)

    def followed(self) -> Standing | None:
        """Where this database stands in an object that it follows; ``None`` when it does not."""
        row = self._connections.read(partial(standing_row, columns="standing"))
        return None if row is None else Standing(**unpack(row[0]))

    def uninstall(self) -> None:
        """`Source.uninstall`, with the lock files and the side file."""
        self._write(writing_apart.uninstall_request(self._location), _uninstalled)
        self._sound = None
        with translated(self._location):
            self._side.remove()
            self._locks.remove()

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Generator[None]:
        """`Source.exclusive`."""
        holding = self._locks.exclusive(timeout_seconds)
        with translated(self._location):
            holding.__enter__()
        try:
            self._connections.renew()
            self.heal()
            self._held.identity = self._asked()
            yield
        finally:
            self._held.identity = None
            holding.__exit__(None, None, None)

    def lead(self) -> bool:
        """`Source.lead`."""
        with translated(self._location):
            return self._locks.lead()

    def recall(self) -> Memory:
        """`Source.recall`: who it is, from the database; the rest, from the side file."""
        identity = self._identity()
        with self._beside():
            return Memory() if identity is None else remembering.recall(identity, self._side)

    def remember(self, memory: Memory, *, durable: bool) -> None:
        """`Source.remember`; the database is written to only when it becomes another one."""
        before = self._identity() or Identity()
        memory = before.named(memory)
        after = before.succeeded(memory)
        if after != before:
            self._write(
                writing_apart.identity_request(self._location, after), partial(_named, after)
            )
            if getattr(self._held, "identity", None):
                self._held.identity = after
        if durable or after != before:
            self._sync_commits()
        with self._beside():
            if after != before:
                remembering.introduce(after, self._side)
            remembering.remember(memory, self._side, durable=durable or after != before)

    @contextmanager
    def _beside(self) -> Generator[None]:
        """Say what an error of the side file means, which is no error of the database."""
        with translated(self._location):
            try:
                yield
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                raise Unreachable(
                    f"{self._side.path}, the file in which Bequest remembers what it published, "
                    f"could not be read or written ({error.strerror}). Nothing is published "
                    "without it; the backup in the store is as it was, and it will be tried again. "
                    "Free some space, or look at the disk."
                ) from error

    def _sync_commits(self) -> None:
        with self._beside():
            sync_commits(self._location.path, wal=is_wal(self._location.path))

    def descends(self, origin: str) -> bool | None:
        """`Source.descends`."""
        return self._connections.read(partial(_descends, origin))

    def note(self, name: str, text: str) -> None:
        """`bequest.ports.Notes.note`: in the side file."""
        identity = self._identity()
        if identity is not None:
            with self._beside():
                self._side.append(identity.installation, {f"note {name}": text}, durable=False)

    def noted(self, name: str) -> str | None:
        """`bequest.ports.Notes.noted`."""
        identity = self._identity()
        if identity is None:
            return None
        with self._beside():
            found = self._side.read(identity.installation, f"note {name}")
        return None if found is None else str(found)

    def trim(self, position: str) -> None:
        """`Source.trim`: nothing. The journal's own trigger does it, in the controller's turn."""

    @contextmanager
    def cut(self, memory: Memory, *, again: bool = False) -> Generator[SqliteCut]:
        """`Source.cut`: a deferred read transaction. In WAL mode it never disturbs a writer.

        In rollback-journal mode it does. Where the caller can take another one it is therefore
        taken without a lock (`quiet`), for `QUIET_SECONDS` at most: then the lock is taken after
        all. Otherwise, and where all rows are to be read, it is taken on a copy.
        """
        with translated(self._location):
            wal = is_wal(self._location.path)
        if not wal and not (again and memory.position):
            with copied(self._connections, self._location) as copy:
                yield self._cut_on(copy, memory)
        elif not wal and self._connections.is_quiet() and self._may_look():
            try:
                with self._connections.looked(self._unsettled + QUIET_SECONDS) as connection:
                    yield self._cut_on(connection, memory)
            except Moved as error:
                self._sound = None  # it may have been seen in a state that never was
                raise Unsettled(str(error)) from error
            self._unsettled = 0.0
        else:
            with self._connections.use() as connection:
                connection.execute("BEGIN")
                yield self._cut_on(connection, memory)
            self._unsettled = 0.0

    def _may_look(self) -> bool:
        self._unsettled = self._unsettled or time.monotonic()
        return time.monotonic() < self._unsettled + QUIET_SECONDS

    def _cut_on(self, connection: sqlite3.Connection, memory: Memory) -> SqliteCut:
        found = SqliteCut(connection, self._location, memory, self._sound)
        self._sound = found.sound
        self._connections.check_file()
        return found

    def pending(self, memory: Memory) -> Pending:
        """`Source.pending`; see `journal.pending` for what counts as a transaction."""
        return self._connections.read(partial(_pending, memory))

    def moved(self, memory: Memory) -> bool:
        """`bequest.ports.Watchful.moved`."""
        return self._connections.read(
            lambda connection: bool(
                SqliteCut(connection, self._location, memory, self._sound).fault
            )
        )

    def close(self) -> None:
        """`Source.close`."""
        self._apart.kill()
        self._locks.release()
        self._connections.close()


def _is_whole(
    selection: Selection | None, limit: int | None, connection: sqlite3.Connection
) -> bool:
    """Whether there is nothing to install; asked without the lock that `installing` may take."""
    identity = read_identity(connection)
    return (
        bool(identity.installation)
        and not healing.is_needed(connection)
        and installation.look(connection, selection, limit, Known(identity)) is None
    )


def _named(identity: Identity, connection: sqlite3.Connection, turn: Turn) -> bool:
    installing.write(connection, partial(write_identity, identity=identity), turn=turn)
    return True


def _uninstalled(connection: sqlite3.Connection, turn: Turn) -> bool:
    installing.uninstall(connection, turn=turn)
    return True


def _identity(connection: sqlite3.Connection) -> Identity | None:
    found = read_identity(connection)
    return found if found.installation else None


def _descends(origin: str, connection: sqlite3.Connection) -> bool | None:
    if not (exists(connection, JOURNAL) and exists(connection, SETTINGS)):
        return None
    known = read_identity(connection).installations
    return ancestry.descends(origin, known, partial(journal.holds, connection))


def _pending(memory: Memory, connection: sqlite3.Connection) -> Pending:
    if not exists(connection, JOURNAL):
        return Pending(0, 0, None)
    found = journal.pending(connection, journal.parse(memory.position))
    if memory.serial or memory.position:
        return found
    # Never published: all that was there before the journal is waiting as well.
    since = record.installed_at(connection)
    return replace(found, transactions=max(1, found.transactions), since=since)
