"""Locks on the controller's tables that last for one read, in a transaction that lasts longer.

A transaction keeps its locks to its end, but rolling back to a savepoint gives up what was locked
since, and the transaction keeps its snapshot. So a cut does each read after a savepoint and rolls
back to it, and the controller's DDL, with the traffic queued behind it, waits for one read at most.

Nothing is waited for longer than `WAIT_MILLISECONDS` while something else is locked: a controller
that locks two relations in the other order would be in a deadlock with us, and the server may end
its transaction for ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg

from .connection import Connection

PATIENCE_SECONDS: Final = 2.0
"""How long a locked table is waited for, or as long as the cut has lasted: all of its work is lost
when it gives up."""
PAUSE_SECONDS: Final = (0.005, 0.1)
WAIT_MILLISECONDS: Final = 10
"""Shorter than any deadlock_timeout."""
BEGIN: Final = (
    f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = {WAIT_MILLISECONDS}"
)
_SAVE: Final = b"SAVEPOINT bequest"
_RELEASE: Final = b"ROLLBACK TO SAVEPOINT bequest; RELEASE SAVEPOINT bequest"

Found = TypeVar("Found")


class BriefLocks:
    """Reads of one connection that is in a transaction begun by `BEGIN`.

    One of them may go on in another thread; the next one waits for its end, and so does `close`, so
    the connection is never used by two threads at once.
    """

    def __init__(self, connection: Connection, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._connection = connection
        self._patience = patience_seconds
        self._begun = time.monotonic()
        self._unwanted = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: Future[Any] | None = None

    def hold(self, work: Callable[[], Found], settings: str = "") -> Found:
        """What ``work`` returns; nothing that it locked is locked any more.

        ``settings`` are statements, each with a semicolon before it, that hold for ``work``. Raises
        what ``work`` raises, and psycopg's `LockNotAvailable` when a lock is not free in time.
        """
        self.settle()
        return self._hold(work, settings)

    def begin(self, work: Callable[[], Found], settings: str = "") -> Future[Found]:
        """The same in another thread."""
        self.settle()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "bequest-fetch")
        begun = self._pool.submit(self._hold, work, settings)
        self._waiting = begun
        return begun

    def settle(self) -> None:
        """Wait until the connection is not used by the other thread. Raises nothing."""
        if self._waiting is not None:
            wait([self._waiting])
            self._waiting = None

    def close(self) -> None:
        """End the thread, after what it is reading. Raises nothing."""
        self._unwanted.set()
        if self._pool is not None:
            self._pool.shutdown()

    def _hold(self, work: Callable[[], Found], settings: str) -> Found:
        now = time.monotonic()
        deadline = now + max(self._patience, now - self._begun)
        pause, longest = PAUSE_SECONDS
        while True:
            try:
                with self._held(settings):
                    return work()
            except psycopg.errors.LockNotAvailable:
                if time.monotonic() > deadline or self._unwanted.wait(pause):
                    raise
                pause = min(2 * pause, longest)

    @contextmanager
    def held(self, settings: str = "") -> Generator[None]:
        """What is locked inside is not locked any more at the end. Raises psycopg's errors."""
        self.settle()
        with self._held(settings):
            yield

    @contextmanager
    def _held(self, settings: str) -> Generator[None]:
        self._connection.execute(_SAVE + settings.encode())
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):  # a lost session holds no lock
                self._connection.execute(_RELEASE)
            raise
        self._connection.execute(_RELEASE)
