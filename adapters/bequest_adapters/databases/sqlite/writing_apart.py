"""Own writes of Bequest in a process that has no other connection to the database.

Where others are at work in the database, perhaps in this process, only such a process can keep them
waiting at the `turns.Door`. It takes half a second to start, so a quiet database is written to from
here. Where no process can be started, or it fails, its caller writes and reports what goes wrong.

The connection is never closed, the process just ends: at a close SQLite asks for an exclusive lock,
and at that moment a newcomer without a busy timeout cannot open the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from bequest.errors import BequestError
from bequest.model import Selection

from . import installing
from .connection import Location, abandon, connect
from .identity import Identity, Known, write_identity
from .turns import Door, Turn, turn_at

LOG_PAGES: Final = 1_000
"""As many pages as SQLite lets the log have before it works them in."""


def install_request(
    location: Location, selection: Selection | None, limit: int | None, known: Known
) -> dict[str, Any]:
    """To do what `installing.install` does."""
    chosen = None if selection is None else asdict(selection)
    said: dict[str, Any] = {"identity": asdict(known.identity), "seq": known.seq}
    said["selection"] = None if known.selection is None else asdict(known.selection)
    return _request("install", location, selection=chosen, limit=limit, known=said)


def uninstall_request(location: Location) -> dict[str, Any]:
    """To do what `installing.uninstall` does."""
    return _request("uninstall", location)


def identity_request(location: Location, identity: Identity) -> dict[str, Any]:
    """To do what `identity.write_identity` does."""
    return _request("identity", location, identity=asdict(identity))


def _request(what: str, location: Location, **more: Any) -> dict[str, Any]:
    return {"do": what, "location": [location.path, location.uri, location.given], **more}


def answer(request: dict[str, Any]) -> bool | None:
    """In that process: whether something was written; ``None`` where it failed."""
    try:
        connection = connect(Location(*request["location"]))
        abandon(connection)
        return _DO[request["do"]](connection, request)
    except (BequestError, sqlite3.Error, OSError):
        return None


def _install(connection: sqlite3.Connection, request: dict[str, Any]) -> bool:
    said = request["known"]
    known = Known(_identity(said["identity"]), said["seq"], _selection(said["selection"]))
    selection, limit = _selection(request["selection"]), request["limit"]
    return installing.install(connection, selection, limit, known, turn=_turn(connection))


def _uninstall(connection: sqlite3.Connection, _: dict[str, Any]) -> bool:
    installing.uninstall(connection, turn=_turn(connection))
    return True


def _write_identity(connection: sqlite3.Connection, request: dict[str, Any]) -> bool:
    work = partial(write_identity, identity=_identity(request["identity"]))
    installing.write(connection, work, turn=_turn(connection))
    return True


_DO: Final[dict[str, Callable[[sqlite3.Connection, dict[str, Any]], bool]]] = {
    "install": _install,
    "uninstall": _uninstall,
    "identity": _write_identity,
}


def _turn(connection: sqlite3.Connection) -> Turn:
    path = installing.path_of(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        return turn_at(path)
    # Reading opens the log; working it in is for after the commit, when the door is open again.
    connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return Door(path, LOG_PAGES)


def _identity(said: dict[str, Any]) -> Identity:
    return Identity(said["installation"], said["lineage"], said["epoch"], tuple(said["earlier"]))


def _selection(said: dict[str, Any] | None) -> Selection | None:
    return None if said is None else Selection(**{name: tuple(said[name]) for name in said})
