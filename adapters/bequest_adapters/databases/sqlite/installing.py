"""Install, repair and remove capture in short transactions, beside a controller that works.

SQLite lets one connection write at a time, and every CREATE TRIGGER makes it read all of
``sqlite_schema`` once more, so triggers for thousands of tables take seconds. They are made in
batches, each a transaction that ends after `BATCH_SECONDS` or `BATCH_STATEMENTS`. Between two
batches others get a turn; a longer one when they use it, for a change of the schema makes every
other connection read it all again.

Invariants:
* Nobody is competed with: a batch waits for a moment at which it harms nobody (`turns`) and is
  undone where that has passed. While somebody else changes the schema, all waits.
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
from .turns import Crowded, Turn, turn_at

BATCH_SECONDS = 0.04
BATCH_STATEMENTS = 250
ALONE_REST = 0.25
"""Where nobody else is seen, they still get so many times as long as the batch took: who waits for
a lock is not seen."""
LOOK_SECONDS = 0.02
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
    turn: Turn | None = None,
) -> bool:
    """Make or repair everything; True when something was. ``connection`` is in no transaction.

    Raises `Unreachable` while somebody else changes the schema without end, `Refused`,
    `UsageError`, `turns.Crowded` if ``turn`` does, and sqlite3's errors.
    """
    pace, turn = pace or Pace(), turn or turn_at(path_of(connection))
    changed = healing.heal(connection, known.seq if known else 0)
    deadline = pace.monotonic() + PATIENCE_SECONDS
    while pace.monotonic() < deadline:
        with _reading(connection):
            work = installation.look(connection, selection, limit, known)
            version = schema_version(connection)
        if work is None:
            return changed
        changed = True
        if _quiet(connection, version, pace, turn) and _Batches(
            connection, version, pace, turn
        ).run(work.begin, work.pieces, work.finish):
            return True
    raise Unreachable(
        f"The database's schema changed all the time for {PATIENCE_SECONDS:g} s while capture was "
        "installed. Nothing newer is published until it is; it will be tried again. Look for a "
        "migration that does not end."
    )


def uninstall(
    connection: sqlite3.Connection, pace: Pace | None = None, turn: Turn | None = None
) -> None:
    """Drop all that `install` ever made. Raises as it does."""
    pace, turn = pace or Pace(), turn or turn_at(path_of(connection))
    while True:
        with _reading(connection):
            pieces = installation.removal(connection)
            version = schema_version(connection)
        batches = _Batches(connection, version, pace, turn)
        if batches.run(_nothing, pieces, installation.drop_tables):
            return


def write(
    connection: sqlite3.Connection,
    work: Callable[[sqlite3.Connection], None],
    pace: Pace | None = None,
    turn: Turn | None = None,
) -> None:
    """Do ``work``, which may be called several times, in one transaction. Raises as `install`."""
    pace, turn = pace or Pace(), turn or turn_at(path_of(connection))
    while True:
        batches = _Batches(connection, schema_version(connection), pace, turn)
        if batches.run(work, (), _nothing):
            return


def path_of(connection: sqlite3.Connection) -> str:
    """The database's file."""
    found = connection.execute("PRAGMA database_list").fetchall()
    return next(str(row[2]) for row in found if row[1] == "main")


def _nothing(_: sqlite3.Connection) -> None:
    """Neither before nor after the pieces."""


@contextmanager
def _reading(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _quiet(connection: sqlite3.Connection, version: int, pace: Pace, turn: Turn) -> bool:
    """Wait until the schema rests; whether it is still as in ``version``. Raises `Crowded`."""
    begun = since = pace.monotonic()
    seen = version
    while pace.monotonic() < begun + MOVING_SECONDS and not _untouched(connection, pace):
        if pace.monotonic() >= since + QUIET_SECONDS:
            break
        pace.sleep(LOOK_SECONDS)
        found = schema_version(connection)
        if found != seen:
            seen, since = found, pace.monotonic()
    if not turn.suits(_untouched(connection, pace)):
        raise Crowded
    return seen == version


def _untouched(connection: sqlite3.Connection, pace: Pace) -> bool:
    """Whether nobody wrote for so long that nobody can have changed the schema."""
    path = path_of(connection)
    written = [os.stat(path).st_mtime]
    with suppress(FileNotFoundError):
        written.append(os.stat(f"{path}-wal").st_mtime)
    # A clock that was wrong says nothing.
    return pace.wall() - max(written) > QUIET_SECONDS


class _Moved(Exception):
    """Somebody else changed the schema."""


class _Batches:
    """Statements in short transactions, as long as nobody else changes the schema."""

    def __init__(
        self, connection: sqlite3.Connection, version: int, pace: Pace, turn: Turn
    ) -> None:
        self._connection = connection
        self._version = version
        self._pace = pace
        self._turn = turn
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
        done: int | None = None

        def batch() -> int:
            if done is None:
                begin(self._connection)
            made = self._make(pieces, done or 0)
            if made == len(pieces):
                finish(self._connection)
            return made

        with self._set("busy_timeout", self._turn.busy_ms), self._set("cache_size", -CACHE_KIB):
            while done != len(pieces):
                try:
                    made = self._transaction(batch)
                except _Moved:
                    return False
                if made is not None:
                    done = made
                    self._progress = self._pace.monotonic()
                if done != len(pieces):
                    self._yield_turn(made is not None)
        return True

    def _transaction(self, batch: Callable[[], int]) -> int | None:
        """What ``batch`` returned; ``None`` where nothing was committed. Raises `_Moved`."""
        refused: sqlite3.OperationalError | None = None
        self._started = self._pace.monotonic()
        try:
            if self._turn.enter(self._connection):
                self._started = self._pace.monotonic()
                if schema_version(self._connection) != self._version:
                    raise _Moved
                made = batch()
                version = schema_version(self._connection)
                if self._turn.may_commit():
                    self._connection.execute("COMMIT")
                    self._version = version
                    return made
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            refused = error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._turn.leave()
        self._refused(refused)
        return None

    def _make(self, pieces: Sequence[Sequence[str]], done: int) -> int:
        statements = 0
        while done < len(pieces):
            statements += len(pieces[done])
            late = self._pace.monotonic() - self._started > BATCH_SECONDS
            if late or BATCH_STATEMENTS < statements > len(pieces[done]):
                break
            for statement in pieces[done]:
                self._connection.execute(statement)
            done += 1
        return done

    def _refused(self, error: sqlite3.OperationalError | None) -> None:
        self._met_others = True
        over = self._pace.monotonic() - self._progress - self._turn.patience_seconds
        if over < 0:
            return
        turn = self._turn.last_resort()
        if turn is not self._turn:
            self._turn, self._progress = turn, self._pace.monotonic()
            self._connection.execute(f"PRAGMA busy_timeout = {turn.busy_ms}")
        elif over > self._pace.busy_seconds and error is not None:
            raise error

    def _yield_turn(self, committed: bool) -> None:
        if not committed:
            self._pace.sleep(self._turn.pause_seconds)
            return
        seconds = self._pace.monotonic() - self._started
        found = self._pragma("data_version")
        if self._met_others or found != self._data_version:
            (objects,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            seconds = max(self._turn.rest * seconds, 2 * PARSE_SECONDS * objects)
        else:
            seconds *= ALONE_REST
        self._met_others, self._data_version = False, found
        self._turn.between(self._connection)
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
