"""One restore into a file at a time: a lock file beside it that lives as long as the restore.

Two restores that both adopt would leave the file of the one and the epoch of the other. The lock
is the kernel's, so it ends with the process; the file is removed by whoever holds it, and whoever
locked a file that bears its name no more tries again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from bequest.errors import Refused

POLL_SECONDS: Final = 0.05


@contextmanager
def turn(path: str, name: str, timeout_seconds: float) -> Generator[None]:
    """Hold the right to restore to ``path``. Raises `Refused` when it is not free in time.

    Where no file can be made there is nothing to hold: the restore finds that out for itself.
    """
    folder, base = os.path.split(path)
    lock = os.path.join(folder, f".{base}.bequest-restoring")
    deadline = time.monotonic() + timeout_seconds
    file = -1
    try:
        while (file := _take(lock)) < 0:
            if time.monotonic() >= deadline:
                raise Refused(
                    f"Another restore into {name} is at work. Nothing was changed by this one. "
                    "Wait for the other to end, then look at what it did."
                )
            time.sleep(POLL_SECONDS)
    except OSError:
        file = -1
    try:
        yield
    finally:
        if file >= 0:
            with suppress(OSError):
                os.unlink(lock)
            os.close(file)


def _take(lock: str) -> int:
    """The locked file's descriptor, or -1 while somebody else has it. Raises `OSError`."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.stat(lock)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(file)
    return -1
