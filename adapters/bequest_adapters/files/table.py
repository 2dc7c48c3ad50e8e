"""`bequest_files`: configuration files as rows of the controller's database, in any dialect.

Each write is one short transaction of its own. When the database is busy it gives up after some
seconds and tries again later: the controller never waits for a file to be recorded longer than for
any other small transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import URL, Connection, NullPool, create_engine, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from bequest.errors import BequestError, Denied, Unreachable
from bequest_schema.tables import FILES, files, files_metadata, settings

from .entries import FILE, PART, PART_BYTES, Entry

BUSY_SECONDS: Final = 5.0
HERE: Final = "files_here"
"""A setting, so in no snapshot: what is recorded was once equal to the disk of this machine."""

_DRIVERS: Final = {"postgresql": "postgresql+psycopg"}
_FACTS: Final = {
    "kind": "kind", "mode": "mode", "uid": "uid", "gid": "gid", "owner": "owner", "grp": "group",
    "size": "size", "digest": "digest", "note": "note",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One path to record (``entry``) or forget. ``content`` is ``None`` where it did not change."""

    root: str
    path: str
    entry: Entry | None
    content: bytes | None = None


class FilesTable:
    """The table in one database. Opens a connection for each call and keeps none."""

    def __init__(self, url: URL, name: str) -> None:
        """``name`` is the database's address, fit for a log."""
        backend = url.get_backend_name()
        # Without an encoding of its own a database gives bytes where SQLAlchemy wants text.
        encoding = {"client_encoding": "UTF8"} if backend == "postgresql" else {}
        arguments: dict[str, Any] = {"timeout": BUSY_SECONDS} if backend == "sqlite" else encoding
        plain = url.set(drivername=_DRIVERS.get(backend, backend))
        self._engine = create_engine(plain, poolclass=NullPool, connect_args=arguments)
        self._name = name

    def exists(self) -> bool:
        """Whether files were ever recorded here."""
        with self._using() as connection:
            return connection.dialect.has_table(connection, FILES)

    def create(self) -> bool:
        """Make the table if it is not there; True when it was made."""
        with self._using() as connection:
            if connection.dialect.has_table(connection, FILES):
                return False
            files_metadata.create_all(connection)
            return True

    def entries(self) -> dict[tuple[str, str], Entry]:
        """The facts of everything recorded, by root and path."""
        columns = [files.c.root, files.c.path, *(files.c[name] for name in _FACTS)]
        with self._using() as connection:
            facts = select(*columns).where(files.c.part == 0)
            rows = cast("Iterable[Any]", connection.execute(facts))
            found = [Entry(*row) for row in rows]
        return {(entry.root, entry.path): entry for entry in found}

    def rows(self) -> Iterator[tuple[Entry, int, bytes | None]]:
        """Facts (part 0) and pieces of content, in order of root, path and part."""
        columns = [
            files.c.root, files.c.path, *(files.c[name] for name in _FACTS), files.c.part,
            files.c.content,
        ]  # fmt: skip
        order = (files.c.root, files.c.path, files.c.part)
        with self._using() as connection:
            streaming = connection.execution_options(yield_per=8)
            rows = cast("Iterable[Any]", streaming.execute(select(*columns).order_by(*order)))
            for row in rows:
                values: list[Any] = list(row)
                yield Entry(*values[:-2]), values[-2], values[-1]

    def write(self, changes: Sequence[Change]) -> None:
        """Record ``changes`` in one transaction."""
        with self._using() as connection:
            for change in changes:
                here = (files.c.root == change.root) & (files.c.path == change.path)
                if change.entry is None or change.content is not None or not _is_kept(change):
                    connection.execute(delete(files).where(here))
                    if change.entry is not None:
                        connection.execute(insert(files), _rows(change.entry, change.content))
                else:
                    facts = update(files).where(here, files.c.part == 0)
                    connection.execute(facts.values(_facts(change.entry)))

    def is_here(self) -> bool:
        """Whether what is recorded was once equal to the disk of this machine."""
        with self._using() as connection:
            found = select(settings.c.value).where(settings.c.name == HERE)
            return connection.execute(found).scalar() is not None

    def set_here(self) -> None:
        """Note that it is."""
        with self._using() as connection:
            connection.execute(delete(settings).where(settings.c.name == HERE))
            connection.execute(insert(settings).values(name=HERE, value="1"))

    @contextmanager
    def _using(self) -> Generator[Connection]:
        """A connection in a transaction of its own. Raises `Unreachable`, `Denied`."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    def _translated(self, error: SQLAlchemyError) -> BequestError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        busy = isinstance(error, OperationalError)
        kind = Unreachable if busy else Denied
        return kind(
            f"The configuration files could not be recorded in {self._name} ({cause}). The newest "
            "changes of files are not in the backup; tables are not affected. It is tried again; "
            "if this stays, look for a transaction that is never ended, and at the disk's space."
        )


def _is_kept(change: Change) -> bool:
    return change.entry is not None and change.entry.kind == FILE


def _facts(entry: Entry) -> dict[str, Any]:
    return {column: getattr(entry, name) for column, name in _FACTS.items()}


def _rows(entry: Entry, content: bytes | None) -> list[dict[str, Any]]:
    key = {"root": entry.root, "path": entry.path}
    blank: dict[str, Any] = dict.fromkeys(_FACTS)
    rows = [{**key, "part": 0, **_facts(entry), "content": None}]
    data = content or b""
    for part, start in enumerate(range(0, len(data), PART_BYTES), 1):
        piece = data[start : start + PART_BYTES]
        rows.append({**key, "part": part, **blank, "kind": PART, "content": piece})
    return rows
