"""The byte locks by which SQLite's processes know of each other, asked for and taken from outside.

Two kinds of owner: a process (POSIX, as SQLite has it), which sees nothing of its own locks and
gives all of them up when it closes any descriptor of the file; and an open file description (OFD),
which sees the locks of its own process like those of others. Linux only.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from typing import Final

POSSIBLE: Final = sys.platform == "linux"
_FLOCK: Final = struct.Struct("hhqqi4x")


def is_locked(
    descriptor: int, first: int, size_bytes: int, *, for_reading: bool = False, own: bool = True
) -> bool:
    """Whether a lock on these bytes could not be had now, one to read or one to write.

    ``own``: because of this process's own locks, too.
    """
    asked = _packed(fcntl.F_RDLCK if for_reading else fcntl.F_WRLCK, first, size_bytes)
    command = fcntl.F_OFD_GETLK if own else fcntl.F_GETLK
    answer = fcntl.fcntl(descriptor, command, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def lock(descriptor: int, first: int, size_bytes: int, *, own: bool = True) -> bool:
    """Take a lock to write without waiting; whether it was had.

    ``own``: as an open file description; otherwise as this process, which may turn its locks to
    read into this one.
    """
    command = fcntl.F_OFD_SETLK if own else fcntl.F_SETLK
    try:
        fcntl.fcntl(descriptor, command, _packed(fcntl.F_WRLCK, first, size_bytes))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(descriptor: int, first: int, size_bytes: int, *, own: bool = True) -> None:
    """Give up what this owner holds of these bytes."""
    command = fcntl.F_OFD_SETLK if own else fcntl.F_SETLK
    fcntl.fcntl(descriptor, command, _packed(fcntl.F_UNLCK, first, size_bytes))


def _packed(kind: int, first: int, size_bytes: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, first, size_bytes, 0)
