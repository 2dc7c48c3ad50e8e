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

from filelock import FileLock, Timeout

from bequest.errors import Unreachable

from .connection import Location

POLL_SECONDS = 0.01


class Locks:
    """The lock files of one database."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._publishing = f"{location.path}-bequest.lock"
        self._leading = f"{location.path}-bequest.leader"
        self._leader: FileLock | None = None
        self._guard = threading.Lock()

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Generator[None]:
        """Hold the right to publish. Raises `Unreachable` when it is not free in time."""
        lock = self._lock(self._publishing)
        try:
            lock.acquire(timeout=timeout_seconds, poll_interval=POLL_SECONDS)
        except Timeout as error:
            raise Unreachable(
                f"Another process is publishing {self._location.name} and did not finish in "
                f"{timeout_seconds:g} s. Its publish goes on; try again, or stop that process."
            ) from error
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
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            self._leader = lock
            return True

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

    def _lock(self, path: str) -> FileLock:
        # Whoever may open the database must be able to open its lock. One object per holder: an
        # object of filelock lets its own second acquirer in.
        mode = stat.S_IMODE(os.stat(self._location.path).st_mode) & 0o666
        return FileLock(path, mode=mode, thread_local=False)
