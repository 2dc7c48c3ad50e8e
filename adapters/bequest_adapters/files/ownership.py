"""Owner and mode of a restored file. Names win over numbers: those differ between machines."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

from .entries import Entry

_PRIVILEGED: Final = 0o6000


class Ownership:
    """Gives files away if this process may, and never a privilege to the wrong owner."""

    def __init__(self) -> None:
        self._is_root = os.geteuid() == 0

    def give(self, handle: int, entry: Entry) -> None:
        """Set owner and mode of an open file or folder. Raises `OSError`."""
        if self._is_root:
            os.fchown(handle, _uid(entry), _gid(entry))
        mode = 0o600 if entry.mode is None else entry.mode & 0o7777
        facts = os.fstat(handle)
        if (facts.st_uid, facts.st_gid) != (_uid(entry), _gid(entry)):
            mode &= ~_PRIVILEGED
        # After the owner: changing that takes set-user-ID away.
        os.fchmod(handle, mode)

    def give_link(self, path: bytes, entry: Entry) -> None:
        """Set the owner of a symbolic link. Raises `OSError`."""
        if self._is_root:
            os.chown(path, _uid(entry), _gid(entry), follow_symlinks=False)


def _uid(entry: Entry) -> int:
    try:
        return pwd.getpwnam(entry.owner or "").pw_uid
    except KeyError:
        return -1 if entry.uid is None else entry.uid


def _gid(entry: Entry) -> int:
    try:
        return grp.getgrnam(entry.group or "").gr_gid
    except KeyError:
        return -1 if entry.gid is None else entry.gid
