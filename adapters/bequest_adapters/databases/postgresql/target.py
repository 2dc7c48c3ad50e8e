"""The PostgreSQL database that a snapshot is replayed into, in one transaction.

A restore that is interrupted, by whatever, is rolled back by the server: the database is then as it
was. Two restores at once exclude each other by an advisory lock of a session of its own.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from bequest.check import Check, asked, failed, passed
from bequest.errors import BequestError, Refused

from .connection import Address, Connection, connect, locate
from .target_faults import said
from .target_loading import PostgresLoading
from .target_place import (
    RESTORING,
    check_content,
    check_extensions,
    check_others,
    check_place,
    check_rights,
    content,
    holding_rows,
)

if TYPE_CHECKING:
    from sqlalchemy import URL

    from bequest.model import Catalog
    from bequest.ports import Target

POLL_SECONDS: Final = 0.05
_LOCK: Final = 0x62657175657374
"""An advisory lock's number: the letters of bequest."""


class PostgresTarget:
    """A `bequest.ports.Target`.

    After a replace ``kept`` names what was put aside, and ``left_out`` what could not be made for
    want of a role at the target, each with the server's reason.
    """

    dialect = "postgresql"

    def __init__(self, address: Address, url: URL) -> None:
        self._address = address
        self._url = url
        self.kept: str | None = None
        self.left_out: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The database's address, fit for a log."""
        return self._address.name

    def check(self, *, force: bool) -> None:
        """Raise `Refused`, `Denied` or `Unreachable` when a replay could not or must not happen."""
        with closing(self._connect()) as connection:
            self._check(connection, force=force)

    def problems(
        self, *, force: bool, needed_bytes: int, catalog: Catalog | None = None
    ) -> Sequence[Check]:
        """All that `check` would raise, one by one. Changes nothing."""
        try:
            with closing(self._connect()) as connection:
                found = self._problems(connection, force, needed_bytes)
                return found if catalog is None else [*found, self._extensions(connection, catalog)]
        except BequestError as error:
            return [failed("target", error)]

    def _problems(self, connection: Connection, force: bool, needed_bytes: int) -> Sequence[Check]:
        rights = asked(
            "target", lambda: check_rights(connection, self.name), f"{self.name} can be written"
        )
        told = f"about {needed_bytes:,} bytes are needed; a server's disk cannot be seen from here"
        room = passed("room", told)
        if not content(connection):
            return [rights, passed("data", "it holds none"), room]
        data = asked(
            "data",
            lambda: check_content(connection, self.name, force=force),
            "what it holds or defines is kept in schemas of another name",
        )
        users = asked("in use", lambda: check_others(connection, self.name), "nobody is connected")
        return [rights, users, data, room]

    def _extensions(self, connection: Connection, catalog: Catalog) -> Check:
        return asked(
            "extensions",
            lambda: check_extensions(connection, self.name, catalog),
            "the server has all that are needed",
        )

    def vacant(self) -> bool:
        """Whether no table in the database has a row."""
        with closing(self._connect()) as connection:
            with said(self.name, "looking at the database"):
                return not holding_rows(connection)

    @contextmanager
    def alone(self, timeout_seconds: float) -> Generator[None]:
        """Be the only restore into this database, for as long as the session lasts."""
        deadline = time.monotonic() + timeout_seconds
        with closing(self._connect()) as connection:
            with said(self.name, "beginning the restore"):
                connection.execute(f"SET application_name = '{RESTORING}'".encode())
                while not self._locked(connection):
                    if time.monotonic() >= deadline:
                        raise Refused(
                            f"Another restore into {self.name} is at work. Nothing was changed by "
                            "this one. Wait for the other to end, then look at what it did."
                        )
                    time.sleep(POLL_SECONDS)
            yield

    def _locked(self, connection: Connection) -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
        return row == (True,)

    def _connect(self) -> Connection:
        return connect(self._address, to_restore=True)

    def _check(self, connection: Connection, *, force: bool) -> None:
        with said(self.name, "looking at the database"):
            check_place(connection, self.name, force=force)

    @contextmanager
    def replace(self, *, force: bool) -> Generator[PostgresLoading]:
        """Replace everything by what is loaded inside the context, or leave all as it was."""
        self.kept, self.left_out = None, ()
        # Closing it rolls back whatever was not committed.
        with closing(self._connect()) as connection:
            with said(self.name, "beginning the restore"):
                connection.execute("BEGIN")
            self._check(connection, force=force)
            loading = PostgresLoading(connection, self._url, self.name, force=force)
            with closing(loading):
                yield loading
                loading.commit()
        self.kept, self.left_out = loading.kept, tuple(loading.left_out)

    def close(self) -> None:
        """Nothing is open between two calls."""


def open_target(url: URL) -> Target:
    """The target at an SQLAlchemy URL. Raises `UsageError`."""
    return PostgresTarget(locate(url), url)
