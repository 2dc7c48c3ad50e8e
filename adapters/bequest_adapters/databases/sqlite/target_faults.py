"""What SQLite and the file system report, said in Bequest's own errors."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from bequest.errors import AccessError, BequestError, Denied, Refused, Unreachable

from .connection import primary_code

BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
UNREADABLE: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_DENIED: Final = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
_TRANSIENT: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE})


@contextmanager
def said(name: str, doing: str) -> Generator[None]:
    """Turn faults while ``doing`` something with ``name`` into `BequestError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _of_sqlite(error, name, doing) from error
    except OSError as error:
        raise of_system(error, name, doing) from error
    except (UnicodeError, OverflowError) as error:
        raise Refused(
            f"SQLite cannot hold what the snapshot holds: {doing} failed ({error}). "
            f"{name} is as it was. Check the snapshot with `bequest verify`."
        ) from error


def is_in_use(error: BequestError) -> bool:
    """Whether a lock of somebody else's is what ``error`` tells of."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and primary_code(cause) in BUSY


def of_system(error: OSError, name: str, doing: str) -> AccessError:
    """The error that says whether trying again may help."""
    kind = Unreachable if error.errno in _TRANSIENT else Denied
    return kind(
        f"{doing[:1].upper()}{doing[1:]} failed ({error.strerror or error}). {name} is as it was. "
        "Check the folder's permissions and free space, then restore again."
    )


def _of_sqlite(error: sqlite3.Error, name: str, doing: str) -> BequestError:
    code = primary_code(error)
    if code in BUSY:
        return Refused(in_use(name))
    if code in _DENIED:
        return Denied(
            f"{doing[:1].upper()}{doing[1:]} failed ({error}). {name} is as it was. "
            "Check the folder's permissions and free space, then restore again."
        )
    if code == sqlite3.SQLITE_IOERR:
        return Unreachable(
            f"{doing[:1].upper()}{doing[1:]} failed ({error}). {name} is as it was. "
            "Check the disk, its free space and the file size limit, then restore again."
        )
    return Refused(
        f"The SQLite library here ({sqlite3.sqlite_version}) did not accept a part of the "
        f"snapshot: {doing} failed ({error}). {name} is as it was. "
        "Restore with the SQLite version and extensions that the controller uses."
    )


def in_use(name: str, processes: str = "") -> str:
    """The message for a destination that somebody works with."""
    who = f" ({processes})" if processes else ""
    return (
        f"{name} is open in another connection or process{who}. Replacing it now would leave that "
        "one with the old data, or damage the new. Nothing was changed. Stop the controller, "
        "close or dispose what has the database open, then restore again."
    )
