"""Who has a database open.

An idle connection in rollback-journal mode holds no lock, so locks alone do not tell. Where there
is ``/proc``, the open descriptors do, for every process that we may look into.
"""

from __future__ import annotations

import os
from typing import Final

from .connection import identity
from .durability import kept

COMPANIONS: Final = ("-wal", "-shm", "-journal")
_PROC: Final = "/proc"


def users(path: str) -> list[int]:
    """Numbers of the processes, this one included, that have ``path`` or a companion open.

    Compares device and inode, because a name may differ between containers. Empty where there is
    no ``/proc``.
    """
    wanted = {found for suffix in ("", *COMPANIONS) if (found := identity(path + suffix))}
    if not wanted:
        return []
    return sorted(int(pid) for pid in _numbers(_PROC) if _has_open(pid, wanted))


def _has_open(pid: str, wanted: set[tuple[int, int]]) -> bool:
    folder = f"{_PROC}/{pid}/fd"
    ours = {str(number) for number in kept()} if int(pid) == os.getpid() else set[str]()
    return any(
        identity(f"{folder}/{number}") in wanted
        for number in _numbers(folder)
        if number not in ours
    )


def _numbers(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.isdecimal()]
    except OSError:
        return []  # the process ended meanwhile, or is not ours to look into
