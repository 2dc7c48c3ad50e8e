"""The PostgreSQL database that a snapshot is replayed into, in one transaction.

A restore that is interrupted, by whatever, is rolled back by the server: the database is then as it
was. Two restores at once exclude each other by an advisory lock.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from bequest.errors import Refused

from .connection import Address, Connection, connect, locate
from .target_faults import said
from .target_loading import PostgresLoading
from .target_place import check_place

if TYPE_CHECKING:
    from sqlalchemy import URL

    from bequest.ports import Target

_LOCK: Final = 0x62657175657374
"""An advisory lock's number: the letters of bequest."""


class PostgresTarget:
    """A `bequest.ports.Target`.

    After a replace ``kept`` names the replaced data, and ``left_out`` what could not be made for
    want of a role at the target, each with the server's reason.
    """

    dialect = "postgresql"

    def __init__(self, address: Address) -> None:
        self._address = address
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

    def _connect(self) -> Connection:
        return connect(self._address)

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
                self._lock(connection)
            self._check(connection, force=force)
            loading = PostgresLoading(connection, self.name, force=force)
            yield loading
            loading.commit()
        self.kept, self.left_out = loading.kept, tuple(loading.left_out)

    def _lock(self, connection: Connection) -> None:
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]).fetchone()
        if row != (True,):
            raise Refused(
                f"Another restore into {self.name} is under way. Nothing was changed. Wait for it, "
                "or stop it."
            )

    def close(self) -> None:
        """Nothing is open between two calls."""


def open_target(url: URL) -> Target:
    """The target at an SQLAlchemy URL. Raises `UsageError`."""
    return PostgresTarget(locate(url))
