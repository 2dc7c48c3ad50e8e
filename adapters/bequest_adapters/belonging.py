"""Whose are the files that Bequest makes? As root: the controller's, never root's.

Setting up, restoring and backing up are often done as root, the controller runs as a user of its
own. A lock file or a database that root alone may write would stop it, so as root a new file takes
owner and group of what it stands in for or beside. Nobody else can give files away, and nobody
else's files are touched.

Invariant: only a file that the caller has just made (``O_EXCL``) is given away. One that was there
may be a link that somebody laid, to have root give them another file.
"""

from __future__ import annotations

import os
import stat
from typing import Final

_GROUP: Final = 0o060
_PRIVATE: Final = 0o600


def give(descriptor: int, *beside: str) -> None:
    """As root, let the open new file belong to the owner and group of the first path that exists.

    Otherwise nothing is done. ``beside``: what the file replaces, the database that it belongs to,
    the folder in which it lies. Raises `OSError`.
    """
    if os.geteuid() != 0:
        return
    like = _first(beside)
    if like is not None:
        os.fchown(descriptor, like.st_uid, like.st_gid)


def private_mode(folder: str) -> int:
    """The mode of a new file with secrets in ``folder``: its owner's, unless this is root.

    A folder whose group may write is shared with that group; root, whose the file would be, then
    shares the file as well.
    """
    if os.geteuid() != 0:
        return _PRIVATE
    shared = stat.S_IMODE(os.stat(folder).st_mode) & _GROUP
    return _PRIVATE | shared if shared == _GROUP else _PRIVATE


def owner(path: str) -> str:
    """The name of the user whose file it is, for a message; its number where it has no name."""
    import pwd  # not everywhere, and for messages only

    number = os.stat(path).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _first(paths: tuple[str, ...]) -> os.stat_result | None:
    for path in paths:
        try:
            return os.stat(path)
        except FileNotFoundError:
            continue
    return None
