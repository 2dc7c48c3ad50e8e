"""Install, repair and remove capture in short transactions, beside a controller that works.

SQLite lets one connection write at a time, and every CREATE TRIGGER makes it read all of
``sqlite_schema`` once more, so triggers for thousands of tables take seconds. They are made in
batches, each a transaction that ends after `BATCH_SECONDS` or `BATCH_STATEMENTS`. Between two
batches others get as long a turn as the batch took; much longer when somebody writes, for a change
of the schema makes every other connection read it all again.

Invariants:
* Nobody is competed with: a batch waits for the lock in small steps and lets go of it at once where
  it cannot commit; and while somebody else changes the schema, all waits until that is over.
* A batch is made for the schema that the plan was made for. If it moved, the plan is made again.
* A crash between two batches leaves what `Record` calls not whole; the next install completes it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bequest.errors import Unreachable
from bequest.model import Selection

from . import connection as connecting
from . import healing, installation
from .connection import primary_code
from .identity import Known
from .record import schema_version

BATCH_SECONDS = 0.04
BATCH_STATEMENTS = 250
REST = 10
"""Where others write, they get so many times as long as the batch took: a transaction that reads
first and writes then fails if a batch is committed in between."""
BUSY_MS = 20
"""How long a batch asks for a lock: in a rollback journal, asking keeps new readers out."""
RETRY_SECONDS = 0.02
CACHE_KIB = 64 * 1024
"""Room for all of ``sqlite_schema``: what does not fit is read once for each trigger."""
PARSE_SECONDS = 10e-6
"""What another connection takes for each object of a schema that it must read again (measured)."""
QUIET_SECONDS = 0.1
"""For so long the schema must not have moved."""
MOVING_SECONDS = 5.0
"""But no longer than this is waited for it."""
PATIENCE_SECONDS = 60.0
"""After that an install gives up on a schema that moves all the while."""


@dataclass
class Pace:
    """The clocks of an installation, in seconds; ``wall`` since the epoch, as files have it."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    busy_seconds: float = field(default_factory=lambda: connecting.BUSY_SECONDS)


def install(
    connection: sqlite3.Connection,
    selection: Selection | None,
    limit: int | None,
    known: Known | None = None,
    pace: Pace | None = None,
) -> bool:
    """Make or repair everything; True when something was. ``connection`` is in no transaction.

    Raises `Unreachable` while somebody else changes the schema without end, `Refused`,
    `UsageError`, and sqlite3's errors.
    """
    pace = pace or Pace()
    changed = healing.heal(connection, known.seq if known else 0)
    deadline = pace.monotonic() + PATIENCE_SECONDS
    while pace.monotonic() < deadline:
        with _reading(connection):
            work = installation.look(connection, selection, limit, known)
            version = schema_version(connection)
        if work is None:
            return changed
        changed = True
        if _quiet(connection, version, pace) and _Batches(connection, version, pace).run(
            work.begin, work.pieces, work.finish
        ):
            return True
    raise Unreachable(
        f"The database's schema changed all the time for {PATIENCE_SECONDS:g} s while capture was "
        "installed. Nothing newer is published until it is; it will be tried again. Look for a "
        "migration that does not end."
    )


def uninstall(connection: sqlite3.Connection, pace: Pace | None = None) -> None:
    """Drop all that `install` ever made. Raises as it does."""
    pace = pace or Pace()
    while True:
        with _reading(connection):
            pieces = installation.removal(connection)
            version = schema_version(connection)
        batches = _Batches(connection, version, pace)
        if batches.run(lambda _: None, pieces, installation.drop_tables):
            return


@contextmanager
def _reading(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _quiet(connection: sqlite3.Connection, version: int, pace: Pace) -> bool:
    """Wait until the schema rests; whether it is still as in ``version``."""
    begun = since = pace.monotonic()
    seen = version
    while pace.monotonic() < begun + MOVING_SECONDS and not _untouched(connection, pace):
        if pace.monotonic() >= since + QUIET_SECONDS:
            break
        pace.sleep(RETRY_SECONDS)
        found = schema_version(connection)
        if found != seen:
            seen, since = found, pace.monotonic()
    return seen == version


def _untouched(connection: sqlite3.Connection, pace: Pace) -> bool:
    """Whether nobody wrote for so long that nobody can have changed the schema."""
    path = next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    written = [os.stat(path).st_mtime]
    with suppress(FileNotFoundError):
        written.append(os.stat(f"{path}-wal").st_mtime)
    # A clock that was wrong says nothing.
    return pace.wall() - max(written) > QUIET_SECONDS


class _Batches:
    """Statements in short transactions, as long as nobody else changes the schema."""

    def __init__(self, connection: sqlite3.Connection, version: int, pace: Pace) -> None:
        self._connection = connection
        self._version = version
        self._pace = pace
        self._progress = pace.monotonic()
        self._met_others = False
        self._data_version: int = self._pragma("data_version")

    def run(
        self,
        begin: Callable[[sqlite3.Connection], None],
        pieces: Sequence[Sequence[str]],
        finish: Callable[[sqlite3.Connection], None],
    ) -> bool:
        """``begin`` comes first, ``finish`` last; False when somebody else changed the schema."""
        done, begun = 0, False
        with self._set("busy_timeout", BUSY_MS), self._set("cache_size", -CACHE_KIB):
            while True:
                started = self._start()
                if schema_version(self._connection) != self._version:
                    self._connection.execute("ROLLBACK")
                    return False
                if not begun:
                    begin(self._connection)
                made = self._make(pieces, done, started)
                if made == len(pieces):
                    finish(self._connection)
                if self._commit():
                    done, begun = made, True
                    if done == len(pieces):
                        return True
                self._yield_turn(started)

    def _start(self) -> float:
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return self._pace.monotonic()
            except sqlite3.OperationalError as error:
                self._wait_for(error)

    def _make(self, pieces: Sequence[Sequence[str]], done: int, started: float) -> int:
        statements = 0
        while done < len(pieces):
            statements += len(pieces[done])
            late = self._pace.monotonic() - started > BATCH_SECONDS
            if late or BATCH_STATEMENTS < statements > len(pieces[done]):
                break
            for statement in pieces[done]:
                self._connection.execute(statement)
            done += 1
        return done

    def _commit(self) -> bool:
        version = schema_version(self._connection)
        try:
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._connection.execute("ROLLBACK")
            self._wait_for(error)
            return False
        self._version = version
        self._progress = self._pace.monotonic()
        return True

    def _wait_for(self, error: sqlite3.OperationalError) -> None:
        if primary_code(error) != sqlite3.SQLITE_BUSY:
            raise error
        if self._pace.monotonic() > self._progress + self._pace.busy_seconds:
            raise error
        self._met_others = True
        self._pace.sleep(RETRY_SECONDS)

    def _yield_turn(self, started: float) -> None:
        seconds = self._pace.monotonic() - started
        found = self._pragma("data_version")
        if self._met_others or found != self._data_version:
            (objects,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            seconds = max(REST * seconds, 2 * PARSE_SECONDS * objects)
        self._met_others, self._data_version = False, found
        self._pace.sleep(seconds)

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    @contextmanager
    def _set(self, pragma: str, value: int) -> Generator[None]:
        before = self._pragma(pragma)
        self._connection.execute(f"PRAGMA {pragma} = {value}")
        try:
            yield
        finally:
            self._connection.execute(f"PRAGMA {pragma} = {before}")
