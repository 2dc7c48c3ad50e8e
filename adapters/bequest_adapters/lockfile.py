"""A lock between processes: a file that the kernel locks for as long as its holder lives.

The kernel gives the lock back when its holder ends, however it ends. Invariants:

* a forked child holds nothing, and does not give back what its parent holds (`bequest.forking`): a
  lock belongs to the open file, which both share;
* what was locked bears the name, so a file that is removed meanwhile lets nobody else in;
* a symbolic link under the name is not followed; and as root a new file is given to whoever owns
  what it is for (`belonging`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from typing import Final

from bequest import forking

from .belonging import give

_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class LockFile:
    """One holder's hold of the lock at ``path``. Safe in any thread."""

    def __init__(self, path: str, *, mode: int, beside: tuple[str, ...]) -> None:
        """A file that is not there is made with ``mode``; ``beside`` is as for `give`."""
        self._path = path
        self._mode = mode
        self._beside = beside
        self._file = -1
        self._turn = threading.Lock()
        forking.enrol(self)

    def acquire(self, timeout_seconds: float, poll_seconds: float) -> bool:
        """Whether the lock was free, or became so in time. Raises `OSError`."""
        deadline = time.monotonic() + timeout_seconds
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(poll_seconds)
        return True

    def release(self) -> None:
        """Give it back, if it is held."""
        with self._turn:
            file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the lock is kept."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`."""
        self._turn = threading.Lock()
        if self._file >= 0:
            forking.detach(self._file)
            os.close(self._file)
            self._file = -1

    def _try(self) -> bool:
        # A child forked between opening and knowing would keep the lock from being given back.
        with forking.guard(), self._turn:
            if self._file >= 0:
                return False
            self._file = self._opened()
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(self._file), os.lstat(self._path)):
                    return True
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                self._close()
                raise
            self._close()
            return False

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1

    def _opened(self) -> int:
        try:
            file = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            return self._made()
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, "not a regular file", self._path)
        return file

    def _made(self) -> int:
        try:
            file = os.open(self._path, _FLAGS | os.O_CREAT | os.O_EXCL, self._mode)
        except FileExistsError:  # another one was quicker
            return os.open(self._path, _FLAGS)
        try:
            # Whoever may open what it is for must be able to open the lock, whatever the umask.
            os.fchmod(file, self._mode)
            give(file, *self._beside)
        except BaseException:
            os.close(file)
            raise
        return file
