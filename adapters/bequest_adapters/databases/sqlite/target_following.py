"""An SQLite database that follows an object: `bequest.ports.Following`.

Invariants:

* Everything happens in place and in one transaction, so readers may keep the database open.
* While it follows, the controller's own triggers are left out: what they did is in the object
  already. They are kept beside the standing, and come back with the promotion.
* A guard trigger on every table refuses what anybody else writes. It asks for a flag that the
  follower sets inside its own transaction only. What goes round it changes the schema's version.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Final, cast

from sqlalchemy import URL
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.schema import CreateTable

from bequest import forking
from bequest.errors import Refused, Unreachable
from bequest.model import Attributes, Catalog, Key, Memory, Row, Standing, Step, Table, Value
from bequest.snapshot.frame import pack, unpack
from bequest_schema.tables import FOLLOWING, SETTINGS, following

from ...belonging import give, private_mode
from .catalog import IS_OUR_TRIGGER
from .connection import BUSY_SECONDS, Location, abandon, locate, translated
from .remembering import memory_of, plain_of
from .target_content import has_definitions, has_rows
from .target_faults import said
from .target_file import NEW_FILE_MODE, check_place, keep_copy
from .target_loading import SqliteLoading
from .text import identifier

GUARDED: Final = (("fi", "INSERT"), ("fu", "UPDATE"), ("fd", "DELETE"))
_REFUSAL: Final = "this database follows a Bequest snapshot and is read-only until it is promoted"
# What holds others first; a virtual table takes its own tables with it.
_DROP_ORDER: Final = (
    "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view', 'table')"
    f" AND name <> '{FOLLOWING}' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY CASE type"
    " WHEN 'trigger' THEN 0 WHEN 'view' THEN 1 ELSE 2 + (rootpage > 0) END"
)


class SqliteFollowing:
    """One followed database. For one thread at a time.

    ``kept`` names the copy of what the first load replaced.
    """

    dialect = "sqlite"

    def __init__(self, location: Location) -> None:
        self.kept: str | None = None
        self._location = location
        self._open: sqlite3.Connection | None = None
        self._loading: tuple[Catalog, _InPlace] | None = None
        forking.enrol(self)

    @property
    def name(self) -> str:
        """`Following.name`."""
        return self._location.name

    def standing(self) -> Standing | None:
        """`Following.standing`. Raises `Refused` when a promotion was begun and not ended."""
        row = self._row("standing, promotion")
        if row is None:
            return None
        if row[1] is not None:
            raise Refused(
                f"{self.name} is being promoted, or a promotion was interrupted. It follows no "
                "more. Run `bequest promote` to complete it."
            )
        return Standing(**unpack(row[0]))

    def address(self) -> str:
        """`Following.address`."""
        row = self._row("standing")
        return "" if row is None else str(unpack(row[0])["address"])

    def altered(self) -> str:
        """`Following.altered`: whatever gets round the guards changes the schema's version."""
        row = self._row("schema_version")
        with self._using() as connection:
            if row is not None and row[0] != _schema_version(connection):
                return "its schema changed, or VACUUM ran"
        return ""

    def reload(
        self, catalog: Catalog, rows: Iterable[tuple[Table, Iterable[Row]]], standing: Standing
    ) -> None:
        """`Following.reload`."""
        self._make_file()
        self.kept = None
        with self._using() as connection:
            loading = _InPlace(connection, self.name, self._location.path)
            loading.settle(standing.attributes)
            with _writing(connection):
                self._make_vacant(connection)
                for kind, name in connection.execute(_DROP_ORDER).fetchall():
                    connection.execute(f"DROP {kind} IF EXISTS main.{identifier(name)}")
                loading.create(catalog, standing.attributes)
                for table, block in rows:
                    loading.load(table, block)
                loading.finish()
                triggers = [item.sql for item in catalog.objects if item.type == "trigger"]
                self._mark(connection, catalog, standing, triggers)
            self._loading = (catalog, loading)
            if str(standing.attributes.get("journal_mode", "")).lower() == "wal":
                # Readers may be at work; the mode can also change at another time.
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()

    def apply(self, catalog: Catalog, step: Step, before: Standing, after: Standing) -> None:
        """`Following.apply`."""
        with self._using() as connection:
            loading = self._prepared(connection, catalog)
            tables = {table.id: table for table in catalog.tables}
            with _writing(connection):
                found = connection.execute(f"SELECT standing FROM {FOLLOWING}").fetchone()
                if found is None or unpack(found[0]) != asdict(before):
                    raise Unreachable(
                        f"{self.name} does not stand where it stood a moment ago: another process "
                        "follows into it. Nothing was changed. End one of them."
                    )
                connection.execute(f"UPDATE {FOLLOWING} SET applying = 1")
                for number, block in step.resets.items():
                    connection.execute(f"DELETE FROM main.{identifier(tables[number].name)}")
                    loading.load(tables[number], block)
                # All keys go before the first row comes: two may have exchanged a unique value.
                for number, changed in step.rows.items():
                    _delete(connection, tables[number], list(changed))
                for number, changed in step.rows.items():
                    loading.load(tables[number], [row for row in changed.values() if row])
                loading.set_attributes(step.attributes, after.attributes)
                connection.execute(
                    f"UPDATE {FOLLOWING} SET applying = 0, standing = ?, schema_version = ?",
                    (pack(asdict(after)), _schema_version(connection)),
                )

    def release(self, memory: Memory) -> None:
        """`Following.release`."""
        with self._using() as connection, _writing(connection):
            (packed,) = connection.execute(f"SELECT triggers FROM {FOLLOWING}").fetchone()
            guards = connection.execute(f"SELECT name FROM sqlite_master WHERE {IS_OUR_TRIGGER}")
            for (name,) in guards.fetchall():
                connection.execute(f"DROP TRIGGER {identifier(name)}")
            _InPlace(connection, self.name, self._location.path).come_alive(unpack(packed))
            connection.execute(
                f"UPDATE {FOLLOWING} SET promotion = ?, schema_version = ?",
                (pack(plain_of(memory)), _schema_version(connection)),
            )

    def promotion(self) -> Memory | None:
        """`Following.promotion`."""
        row = self._row("promotion")
        return None if row is None or row[0] is None else memory_of(unpack(row[0]))

    def released(self) -> None:
        """`Following.released`."""
        with self._using() as connection:
            # Dropping the table would change the schema, and cost a rewrite.
            connection.execute(f"DELETE FROM {FOLLOWING}")

    def close(self) -> None:
        """`Following.close`."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _row(self, columns: str) -> tuple[Any, ...] | None:
        if self._open is None and not os.path.exists(self._location.path):
            return None
        with self._using() as connection:
            return standing_row(connection, columns)

    def _make_file(self) -> None:
        path = os.path.realpath(self._location.path)
        check_place(path, self.name)
        with suppress(FileExistsError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
            try:
                give(file, os.path.dirname(path))
                os.fchmod(file, private_mode(os.path.dirname(path)))
            finally:
                os.close(file)

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`."""
        self.close()

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`."""
        if self._open is not None:
            abandon(self._open)
            self._open = None

    def _interrupt(self) -> None:
        if self._open is not None:
            self._open.interrupt()

    @contextmanager
    def _using(self) -> Generator[sqlite3.Connection]:
        with forking.guard(self._interrupt), translated(self._location):
            if self._open is None:
                self._open = sqlite3.connect(
                    self._location.uri,
                    uri=True,
                    timeout=BUSY_SECONDS,
                    isolation_level=None,
                    check_same_thread=False,
                )
                for setting in ("foreign_keys = OFF", "ignore_check_constraints = ON"):
                    self._open.execute(f"PRAGMA {setting}")
                # A crash may lose the last publishes, which are in the object; never a half one.
                self._open.execute("PRAGMA synchronous = NORMAL")
            yield self._open

    def _make_vacant(self, connection: sqlite3.Connection) -> None:
        """Keep a copy of what is there at the first load. Nobody else can write meanwhile."""
        if standing_row(connection, "id") is not None:
            return
        defined = has_definitions(connection)
        if _exists(connection, SETTINGS) or (defined and has_rows(connection)):
            raise Refused(
                f"{self.name} holds data, or is captured itself, and does not follow anything. "
                "Nothing was changed. Follow into a database that does not exist yet, or whose "
                "tables have no rows."
            )
        if defined:
            with said(self.name, "keeping what the database defines"):
                self.kept = keep_copy(self._location.uri, os.path.realpath(self._location.path))

    def _prepared(self, connection: sqlite3.Connection, catalog: Catalog) -> _InPlace:
        if self._loading is None or self._loading[0] is not catalog:
            loading = _InPlace(connection, self.name, self._location.path)
            loading.occupy(catalog, {})
            self._loading = (catalog, loading)
        return self._loading[1]

    def _mark(
        self,
        connection: sqlite3.Connection,
        catalog: Catalog,
        standing: Standing,
        triggers: list[str],
    ) -> None:
        if not _exists(connection, FOLLOWING):
            connection.execute(str(CreateTable(following).compile(dialect=SQLiteDialect())))
        for table in catalog.tables:
            for suffix, event in GUARDED:
                connection.execute(
                    f"CREATE TRIGGER bequest_{table.id}_{suffix} BEFORE {event} ON"
                    f" {identifier(table.name)} WHEN NOT (SELECT applying FROM {FOLLOWING})"
                    f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
                )
        connection.execute(
            f"INSERT OR REPLACE INTO {FOLLOWING} VALUES (1, 0, ?, ?, ?, NULL)",
            (pack(asdict(standing)), pack(triggers), _schema_version(connection)),
        )


class _InPlace(SqliteLoading):
    """Loads into a database that is there, inside the caller's transaction."""

    def settle(self, attributes: Attributes) -> None:
        """What only a file without a page can still be given; outside of a transaction."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        for number in ("page_size", "auto_vacuum"):
            if not pages and number in attributes:
                self._pragma(f"{number} = {int(cast(int, attributes[number]))}")
        if not pages and attributes.get("encoding") in ("UTF-8", "UTF-16le", "UTF-16be"):
            self._pragma(f"encoding = '{attributes['encoding']!s}'")

    def create(self, catalog: Catalog, attributes: Attributes) -> None:
        """As of the base, without its own transaction."""
        self._attributes = attributes
        self._allow_quoted_literals()
        for table in catalog.tables:
            self._standins.execute(table.sql)
        self.occupy(catalog, attributes)

    def occupy(self, catalog: Catalog, attributes: Attributes) -> None:
        """Be ready to load into the tables that are there."""
        self._catalog, self._attributes = catalog, attributes
        for table in catalog.tables:
            self._inserts[table.id] = self._prepare(table)

    def finish(self) -> None:
        """As of the base, without triggers."""
        for kind in ("index", "virtual", "view"):
            self._build(kind)
        self._reindex_content()
        self.set_attributes(self._attributes, self._attributes)

    def set_attributes(self, changed: Attributes, now: Attributes) -> None:
        """Bring sequences and the file's own numbers to ``now``."""
        self._attributes = now
        self._set_sequences()
        for number in ("user_version", "application_id"):
            if changed.get(number) is not None:
                self._pragma(f"{number} = {self._integer(number)}")

    def come_alive(self, triggers: Sequence[str]) -> None:
        """What the tables' rows feed: full-text indexes over them, and the triggers."""
        found = self._connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage = 0"
        )
        for name, sql in found.fetchall():
            self.rebuild(name, sql)
        for sql in triggers:
            self._standins.execute(sql).close()


@contextmanager
def _writing(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def standing_row(connection: sqlite3.Connection, columns: str) -> tuple[Any, ...] | None:
    """Columns of the one row of the following, ``None`` when nothing is followed here."""
    if not _exists(connection, FOLLOWING):
        return None
    found: tuple[Any, ...] | None = connection.execute(
        f"SELECT {columns} FROM {FOLLOWING} WHERE id = 1"
    ).fetchone()
    return found


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    )
    return found.fetchone() is not None


def _schema_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    return int(version)


def _delete(connection: sqlite3.Connection, table: Table, keys: Sequence[Key]) -> None:
    """The rows that bear exactly one of ``keys``: the first comparison uses the index."""
    for key in keys:
        conditions: list[str] = []
        values: list[Value] = []
        for index, value in zip(table.key, key, strict=True):
            column = identifier(table.columns[index].name)
            mark, bound = _bound(value)
            conditions.append(f"{column} IS {mark} AND {column} IS {mark} COLLATE BINARY")
            values += (bound, bound)
        where = " AND ".join(conditions)
        connection.execute(f"DELETE FROM main.{identifier(table.name)} WHERE {where}", values)


def _bound(value: Value) -> tuple[str, Value]:
    """A placeholder and what to bind: the driver refuses text that is not valid Unicode."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "CAST(? AS TEXT)", value.encode("utf-8", "surrogateescape")
    return "?", value


def open_following(url: URL) -> SqliteFollowing:
    """The followed database at an SQLAlchemy URL. Raises `UsageError` when it names no file."""
    return SqliteFollowing(locate(url))
