"""A private copy of a database at one moment, so that reading it long disturbs nobody."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial

from bequest import forking

from .connection import Connections, Location, translated

PATIENCE_SECONDS = 10.0
"""A copy of everything takes long and is needed rarely: rather late than in a writer's way."""


@contextmanager
def copied(connections: Connections, location: Location) -> Generator[sqlite3.Connection]:
    """Copy one committed state of the database, and read the copy in a transaction.

    The copy lies beside the database, readable by its owner only, and has no name as soon as it is
    open: nothing is left of it, however the process ends.
    """
    folder, name = os.path.split(location.path)
    handle, path = tempfile.mkstemp(prefix=f".{name}-bequest-", dir=folder)
    os.close(handle)
    with forking.guard():
        copy = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Reading the copy, too, takes locks of the library that a forked child would find held.
        with forking.guard(copy.interrupt), translated(location):
            copy.execute("PRAGMA synchronous = OFF")
            copy.execute("PRAGMA journal_mode = OFF")
            connections.read(partial(_copy, copy), PATIENCE_SECONDS)
            _forget(path)
            copy.execute("BEGIN")
            yield copy
    finally:
        with forking.guard():
            copy.close()
        _forget(path)


def _copy(copy: sqlite3.Connection, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    connection.backup(copy)
    # A backup counts as a change of schema; the copy must not look like one.
    copy.execute(f"PRAGMA main.schema_version = {version}")


def _forget(path: str) -> None:
    with suppress(FileNotFoundError, PermissionError):
        os.unlink(path)
