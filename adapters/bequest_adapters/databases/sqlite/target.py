"""The SQLite database that a snapshot is replayed into.

The new database is built in a file of its own and takes the destination's place only when it is
whole, committed and on the disk (see `target_file`). So it can be written without journal and
without waiting for the disk: a restore that is interrupted leaves nothing that anybody reads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING

from bequest.errors import UsageError

from . import remembering
from .connection import locate
from .identity import Identity
from .sidefile import SideFile
from .target_checks import is_vacant, problems
from .target_faults import said
from .target_file import WorkFile, check_place, check_present, swap
from .target_loading import SqliteLoading
from .target_turn import turn

if TYPE_CHECKING:
    from sqlalchemy import URL

    from bequest.check import Check
    from bequest.model import Catalog, Memory
    from bequest.ports import Target


class SqliteTarget:
    """A `bequest.ports.Target`. ``kept`` names what a replace put aside."""

    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        # Through symbolic links: what they point at is replaced, and they stay.
        self._path = os.path.realpath(path)
        self.kept: str | None = None

    @property
    def name(self) -> str:
        """The database's address, fit for a log."""
        return f"sqlite:///{self._path}"

    def check(self, *, force: bool) -> None:
        """Raise `Refused` or `Denied` when a replay could not or must not happen."""
        check_place(self._path, self.name)
        check_present(self._path, self.name, force=force)

    def problems(
        self, *, force: bool, needed_bytes: int, catalog: Catalog | None = None
    ) -> Sequence[Check]:
        """All that `check` would raise, and whether the disk has room."""
        return problems(self._path, self.name, force=force, needed_bytes=needed_bytes)

    def vacant(self) -> bool:
        """Whether there is no file, or a database none of whose tables has a row."""
        return is_vacant(self._path, self.name)

    def alone(self, timeout_seconds: float) -> AbstractContextManager[None]:
        """Be the only restore into this file."""
        return turn(self._path, self.name, timeout_seconds)

    @contextmanager
    def replace(self, *, force: bool) -> Generator[SqliteLoading]:
        """Replace everything by what is loaded inside the context, or leave all as it was."""
        self.check(force=force)
        self.kept = None
        with WorkFile(self._path, self.name) as work:
            with closing(_connected(work.path)) as connection:
                with closing(SqliteLoading(connection, self.name, work.path)) as loading:
                    yield loading
                    loading.commit()
            work.sync()
            self._bequeath(loading.inherited)
            self.kept = loading.kept = swap(work.path, self._path, self.name, force=force)

    def _bequeath(self, memory: Memory | None) -> None:
        """Write the side file before the database bears its name, so it never looks like a copy."""
        if memory is None:
            return
        side = SideFile(self._path)
        with said(self.name, "writing down what it inherits"):
            remembering.introduce(Identity().succeeded(memory), side)
            remembering.remember(memory, side, durable=True)

    def close(self) -> None:
        """Nothing is open between two calls."""


def _connected(path: str) -> sqlite3.Connection:
    """To the new file; one thread may make its indexes while another waits."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def open_target(url: URL) -> Target:
    """The target at an SQLAlchemy URL. Raises `UsageError` when it names no file."""
    try:
        return SqliteTarget(locate(url).path)
    except UsageError as error:
        raise UsageError(
            "A restore needs a database file; one in memory would be gone at once. Nothing was "
            "done. Give a URL such as sqlite:////var/lib/controller/controller.db."
        ) from error
