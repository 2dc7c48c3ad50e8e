"""What a PostgreSQL server reports while a snapshot is replayed, said in Bequest's own errors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import psycopg

from bequest.errors import BequestError, Denied, Refused, Unreachable

_DENIED: Final = ("28", "3D", "42501", "25006", "0LP01")
_NO_SUCH: Final = ("42P01", "42883", "42704", "3F000")
_PASSES: Final = ("08", "40", "53", "55", "57", "58", "")


@contextmanager
def said(name: str, doing: str, secret: str = "") -> Generator[None]:
    """Turn faults while ``doing`` something with ``name`` into `BequestError`."""
    try:
        yield
    except psycopg.Error as error:
        raise _of_server(error, name, doing, secret) from error
    except UnicodeEncodeError as error:
        raise Refused(
            f"The snapshot holds text that is not valid Unicode: {doing} failed. {name} is as it "
            "was. Restore into a database with the encoding SQL_ASCII, as the source has."
        ) from error


def _of_server(error: psycopg.Error, name: str, doing: str, secret: str) -> BequestError:
    state = error.sqlstate or ""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    what = f"{doing[:1].upper()}{doing[1:]} failed ({first})."
    if secret:
        what = what.replace(secret, "***")
    if state in _DENIED or state[:2] in _DENIED:
        return Denied(
            f"{what} {name} is as it was. Restore as a role that owns the database, or grant what "
            "is missing, then restore again."
        )
    if state in _NO_SUCH and doing.startswith("loading"):
        return Refused(
            f"{what} {name} is as it was. A value of this table names something that is made after "
            "the rows, such as a view, or that was gone already in the old database. Correct the "
            "value at the source, or restore without that table."
        )
    if state == "22P05":
        return Refused(
            f"{what} {name} is as it was. Its encoding lacks a character of the snapshot: restore "
            "into a database with ENCODING 'UTF8'."
        )
    if state[:2] in _PASSES:
        return Unreachable(
            f"{what} {name} is as it was. Check the server, the network and the free space, then "
            "restore again."
        )
    return Refused(
        f"{what} {name} is as it was. Restore into a server of the controller's version or a newer "
        "one, with the same extensions and settings."
    )
