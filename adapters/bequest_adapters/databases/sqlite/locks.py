"""Who may publish and who watches, across processes: two lock files beside the database.

The kernel gives a lock back when its holder dies, however it dies. The files themselves are left
until `remove`, for deleting a lock file while others wait for it lets two of them in.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

from bequest import forking
from bequest.errors import Unreachable

from ...lockfile import LockFile
from .connection import Location

POLL_SECONDS = 0.01


class Locks:
    """The lock files of one database."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._publishing = f"{location.path}-bequest.lock"
        self._leading = f"{location.path}-bequest.leader"
        self._leader: LockFile | None = None
        self._guard = threading.Lock()
        forking.enrol(self)

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Generator[None]:
        """Hold the right to publish. Raises `Unreachable` when it is not free in time."""
        lock = self._lock(self._publishing)
        if not lock.acquire(timeout_seconds, POLL_SECONDS):
            raise Unreachable(
                f"Another process is publishing {self._location.name} and did not finish in "
                f"{timeout_seconds:g} s. Its publish goes on; try again, or stop that process."
            )
        try:
            yield
        finally:
            lock.release()

    def lead(self) -> bool:
        """Become or stay the leader, without waiting."""
        with self._guard:
            if self._leader is not None:
                return True
            lock = self._lock(self._leading)
            if lock.acquire(0, POLL_SECONDS):
                self._leader = lock
            return self._leader is not None

    def release(self) -> None:
        """Stop leading."""
        with self._guard:
            leader, self._leader = self._leader, None
        if leader is not None:
            leader.release()

    def remove(self) -> None:
        """Delete the files."""
        self.release()
        for path in (self._publishing, self._leading):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on leading."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`: a child does not lead because its parent does."""
        self._leader = None
        self._guard = threading.Lock()

    def _lock(self, path: str) -> LockFile:
        # Whoever may open the database must be able to open its lock.
        database = self._location.path
        mode = stat.S_IMODE(os.stat(database).st_mode) & 0o666
        return LockFile(path, mode=mode, beside=(database,))
