"""One restore into a file at a time: a lock file beside it that lives as long as the restore.

Two restores that both adopt would leave the file of the one and the epoch of the other. The lock
is the kernel's, so it ends with the process; the file is removed by whoever holds it, and whoever
locked a file that bears its name no more tries again.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from bequest.errors import Refused

from ...lockfile import LockFile

POLL_SECONDS: Final = 0.05
LOCK_MODE: Final = 0o600


@contextmanager
def turn(path: str, name: str, timeout_seconds: float) -> Generator[None]:
    """Hold the right to restore to ``path``. Raises `Refused` when it is not free in time.

    Where no file can be made there is nothing to hold: the restore finds that out for itself.
    """
    folder, base = os.path.split(path)
    name_of_lock = os.path.join(folder, f".{base}.bequest-restoring")
    lock = LockFile(name_of_lock, mode=LOCK_MODE, beside=(path, folder))
    taken = False
    with suppress(OSError):
        taken = lock.acquire(timeout_seconds, POLL_SECONDS)
        if not taken:
            raise Refused(
                f"Another restore into {name} is at work. Nothing was changed by this one. "
                "Wait for the other to end, then look at what it did."
            )
    try:
        yield
    finally:
        if taken:
            with suppress(OSError):
                os.unlink(name_of_lock)
            lock.release()
