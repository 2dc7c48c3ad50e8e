"""Filling the new database file.

Invariants: nothing fires or is checked while rows are loaded (no trigger is there yet; foreign keys
and CHECK constraints are off, because the source may hold rows that violate them and they belong
to its state); every statement of the schema is run as the source recorded it.

Rows go in as VALUES of 32 rows per statement: measured at 400,000 rows of 7 columns it loads
1.8 times as fast as one row per statement; 128 rows gained nothing more. `PRAGMA quick_check` and
`foreign_key_check` are not run: SQLite itself has just built the file from nothing, the caller
reads every row back for the digest, and rows that violate a key must be restored as they were.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from sqlalchemy import URL, Connection, NullPool, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from bequest.errors import BequestError, Refused, SnapshotDamaged
from bequest.model import Attributes, Catalog, Memory, Row, SchemaObject, Table, Value

from . import installation, reading
from .identity import Identity, Known
from .target_apart import APART_ROWS, Apart
from .target_beside import as_it_is, beside, is_still, open_beside
from .target_faults import said
from .target_standins import StandIns
from .text import identifier

STATEMENT_ROWS: Final = 32
FINISHING_KIB: Final = 4096
"""Memory for pages, and for the sorter of an index. More is slower: over 3M rows 32 MiB took 2.05 s
of CPU, 8 MiB 1.65 and 4 MiB 1.4."""
_SEQUENCE: Final = "sequence:"
_ENCODINGS: Final = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}
_SETTINGS: Final = (
    "journal_mode=OFF",
    "synchronous=OFF",
    "locking_mode=EXCLUSIVE",
    "cache_size=-32768",
    "foreign_keys=OFF",
    "ignore_check_constraints=ON",
)
# An index over a table or view of the application's, which can be computed again.
_INDEX_OF_CONTENT: Final = re.compile(
    r"\bUSING\s+fts[345]\b.*\bcontent\s*=\s*(?!''|\"\")[^\s,)]", re.IGNORECASE | re.DOTALL
)


def _definition(sql: str) -> str:
    """``sql`` when it is a definition; SQLite itself records none that begins otherwise.

    Raises `SnapshotDamaged`: a statement that does something else must never be run.
    """
    if not sql[:7].upper().startswith("CREATE "):
        raise SnapshotDamaged(
            "The snapshot's schema holds a statement that defines nothing. Nothing was executed "
            "and the target is as it was. Use another copy of the object; this one was forged."
        )
    return sql


@dataclass(frozen=True, slots=True)
class _Insert:
    """How rows get into one table: ``head`` up to VALUES, one row's marks, rows per statement.

    ``keeps_computed``: whether a generated column's value is stored, in the table or in an index.
    """

    head: str
    columns: int
    rows: int
    keeps_computed: bool

    def statement(self, rows: int) -> str:
        return self.head + ", ".join([_marks(["?"] * self.columns)] * rows)


class SqliteLoading:
    """A `bequest.ports.Loading` into a fresh, private file."""

    def __init__(self, connection: sqlite3.Connection, name: str, path: str) -> None:
        self.kept: str | None = None
        self.inherited: Memory | None = None
        """What the database remembers from its first moment on, in its side file."""
        self._path = path
        self._connection = self._reader = connection
        self._name = name
        self._standins = StandIns(connection, name)
        self._catalog = Catalog(())
        self._attributes: Attributes = {}
        self._inserts: dict[int, _Insert] = {}
        self._encoding = "utf-8"
        self._finished = False
        self._aside: list[SchemaObject] = []
        self._apart = Apart(as_it_is(path))
        self._ordered: set[int] = set()
        self._filling: Table | None = None
        self._filled = 0

    def create(self, catalog: Catalog, attributes: Attributes) -> None:
        """Make the tables. Raises `Refused` when this SQLite cannot."""
        self._begin(catalog, attributes)
        for table in catalog.tables:
            self._create(table)

    def _begin(self, catalog: Catalog, attributes: Attributes) -> None:
        self._catalog, self._attributes = catalog, attributes
        with said(self._name, "preparing the new file"):
            self._settle()
            self._connection.execute("BEGIN")

    def _create(self, table: Table) -> None:
        with said(self._name, f"making table {table.name!r}"):
            self._standins.execute(_definition(table.sql))
            self._inserts[table.id] = self._prepare(table)

    @contextmanager
    def lend(self, attributes: Attributes) -> Generator[Connection]:
        """`bequest.ports.Migratable.lend`: the file is private, so every commit in it is ours."""
        with said(self._name, "preparing the new file"):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
            self._pragma("locking_mode=NORMAL")
            if not self._finished:
                self._form(attributes)
            self._connection.execute("SELECT 1 FROM sqlite_master").fetchall()
        engine = create_engine(URL.create("sqlite", database=self._path), poolclass=NullPool)
        event.listen(engine, "connect", _hasten)
        try:
            with engine.connect() as connection:
                yield connection
                connection.commit()
            if self._finished:
                self._flush()
        except SQLAlchemyError as error:
            raise Refused(
                f"The migrations failed on the new database ({error}). {self._name} is as it was. "
                "Mend the migrations, or restore without --alembic."
            ) from error
        finally:
            engine.dispose()

    def _form(self, attributes: Attributes) -> None:
        """Give the file the form of the source's before anybody else writes to it."""
        self._attributes = attributes
        self._settle()
        self._pragma("locking_mode=NORMAL")
        self._connection.execute("CREATE TABLE bequest_form (i)")
        self._connection.execute("DROP TABLE bequest_form")

    def occupy(self, catalog: Catalog, attributes: Attributes) -> None:
        """`bequest.ports.Migratable.occupy`. Triggers are set aside until all rows are in."""
        self._begin(catalog, attributes)
        for table in catalog.tables:
            columns = self._columns(table.name)
            if not columns:
                self._create(table)
                continue
            lacking = [
                column.name
                for column in table.columns
                if column.name.lower() not in columns and column.role != "rowid"
            ]
            if lacking:
                raise Refused(
                    f"The migrations made table {table.name!r} without the column(s) "
                    f"{', '.join(lacking)}, which the object holds. {self._name} is as it was. The "
                    "controller's schema was changed by something else than these migrations: "
                    "restore without --alembic, which makes the recorded schema."
                )
        with said(self._name, "emptying what the migrations filled"):
            self._set_triggers_aside()
            for table in catalog.tables:
                self._standins.execute(f"DELETE FROM {identifier(table.name)}").close()
                self._inserts[table.id] = self._prepare(table)

    def _columns(self, table: str) -> set[str]:
        found = self._connection.execute("SELECT lower(name) FROM pragma_table_info(?)", (table,))
        return {name for (name,) in found}

    def _set_triggers_aside(self) -> None:
        found = self._connection.execute(
            "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid"
        ).fetchall()
        self._aside = [SchemaObject("trigger", *row) for row in found]
        for item in self._aside:
            self._connection.execute(f"DROP TRIGGER {identifier(item.name)}")

    def _settle(self) -> None:
        """What cannot be changed any more once a table exists."""
        for number in ("page_size", "auto_vacuum"):
            if number in self._attributes:
                self._pragma(f"{number}={self._integer(number)}")
        encoding = self._attributes.get("encoding")
        if encoding is not None:
            if encoding not in _ENCODINGS:
                raise _damaged("encoding", encoding)
            self._encoding = _ENCODINGS[str(encoding)]
            self._pragma(f"encoding='{encoding}'")
        for setting in _SETTINGS:
            self._pragma(setting)
        self._allow_quoted_literals()

    def _allow_quoted_literals(self) -> None:
        # Old schemas write text in double quotes; some builds of SQLite refuse that by default.
        configure: Callable[[int, bool], None] | None = getattr(self._connection, "setconfig", None)
        for option in ("SQLITE_DBCONFIG_DQS_DDL", "SQLITE_DBCONFIG_DQS_DML"):
            if configure is not None and hasattr(sqlite3, option):
                configure(getattr(sqlite3, option), True)

    def _prepare(self, table: Table) -> _Insert:
        names = [column.name for column in table.columns]
        limit = self._connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        head = f"INSERT INTO {identifier(table.name)} ({_list(names)}) VALUES "
        rows = max(1, min(STATEMENT_ROWS, limit // len(names)))
        insert = _Insert(head, len(names), rows, self._keeps_computed(table))
        # Compiling it tells now what the table lacks here, such as a collation.
        self._standins.execute(f"EXPLAIN {insert.statement(1)}", [None] * len(names)).close()
        return insert

    def _keeps_computed(self, table: Table) -> bool:
        """SQLite computes virtual columns at each insert, too, but mostly to no effect."""
        return bool(
            self._connection.execute(
                "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE hidden = 3) OR EXISTS ("
                "SELECT 1 FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c"
                " JOIN pragma_table_xinfo(?1) AS t ON t.cid = c.cid WHERE t.hidden = 2)",
                (table.name,),
            ).fetchone()[0]
        )

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """Add ``rows``. Raises `Refused` when SQLite does not take one."""
        insert = self._inserts[table.id]
        if table is not self._filling:
            self._hand_over()
            self._filling, self._filled = table, 0
        with said(self._name, f"loading table {table.name!r}"):
            try:
                self._load(insert, iter(rows))
                self._filled += len(rows) if isinstance(rows, Sized) else 0
            finally:
                if not insert.keeps_computed:
                    self._standins.forgive_functions()
                self._standins.check()

    def _load(self, insert: _Insert, rows: Iterator[Row]) -> None:
        last: list[Row] = []

        def full() -> Iterator[list[Value]]:
            nonlocal last
            while len(taken := list(islice(rows, insert.rows))) == insert.rows:
                last = taken
                yield list(chain.from_iterable(taken))
            last = taken

        while True:
            try:
                self._connection.executemany(insert.statement(insert.rows), full())
            except UnicodeEncodeError:
                # The driver refused to bind `last`, so none of it is in the table yet.
                self._load_singly(insert, last)
            else:
                break
        self._load_singly(insert, last)

    def _load_singly(self, insert: _Insert, rows: Iterable[Row]) -> None:
        for row in rows:
            try:
                self._connection.execute(insert.statement(1), row)
            except UnicodeEncodeError:
                self._load_bytes(insert, row)

    def _load_bytes(self, insert: _Insert, row: Row) -> None:
        """Add a row with text that is not valid Unicode, which the driver cannot bind."""
        raw = [self._undecodable(value) for value in row]
        marks = _marks(["?" if value is None else "CAST(? AS TEXT)" for value in raw])
        values = [kept if value is None else value for kept, value in zip(row, raw, strict=True)]
        self._connection.execute(insert.head + marks, values)

    def _undecodable(self, value: Value) -> bytes | None:
        if not isinstance(value, str) or value.isascii():
            return None
        try:
            value.encode()
        except UnicodeEncodeError:
            data = value.encode("utf-8", "surrogateescape")
            if self._encoding == "utf-8":
                return data
            return data.decode("utf-8", "surrogatepass").encode(self._encoding, "surrogatepass")
        return None

    def keeps_order(self, table: Table) -> bool:
        """`bequest.ports.Provable.keeps_order`: both sides walk the table's own b-tree."""
        self._ordered.add(table.id)
        return True

    def found(self, table: Table) -> tuple[int, bytes] | None:
        """`bequest.ports.Provable.found`."""
        return self._apart.answer(table.id)

    def _hand_over(self) -> None:
        """Let a large table, which is full now, be read back while others are loaded."""
        table = self._filling
        if table is None or table.id not in self._ordered or self._filled < APART_ROWS:
            return
        with said(self._name, f"reading table {table.name!r} back"):
            if self._is_still():
                self._connection.execute("COMMIT")
                self._apart.ask(table.id, reading.scan_sql(self._connection, table))
                self._connection.execute("BEGIN")

    def _is_still(self) -> bool:
        return not self._standins.used and is_still(self._connection, self._catalog)

    @contextmanager
    def finishing(self) -> Generator[None]:
        """`bequest.ports.Provable.finishing`."""
        self._hand_over()
        with said(self._name, "writing the rows"):
            self._connection.execute("COMMIT")
            self._pragma(f"cache_size=-{FINISHING_KIB}")
            still = self._is_still()
        if not still:
            self.finish()
            yield
            return
        with said(self._name, "opening the new file for reading"):
            reader = open_beside(self._path)
        with closing(reader), beside(self.finish, self._connection.interrupt):
            self._reader = reader
            try:
                yield
            finally:
                self._reader = self._connection

    def finish(self) -> None:
        """Add indexes, virtual tables, views, triggers, sequences and the file's own numbers."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        self._build("index")
        self._build("virtual")
        self._build("view")
        self._reindex_content()
        self._build("trigger")
        with said(self._name, "setting the sequences"):
            self._set_sequences()
        with said(self._name, "setting the file's numbers"):
            for number in ("user_version", "application_id"):
                if number in self._attributes:
                    self._pragma(f"{number}={self._integer(number)}")
        self._flush()
        self._finished = True

    def _flush(self) -> None:
        """See all of it onto the disk: what follows announces it, and a full disk must show now."""
        with said(self._name, "writing the new file to the disk"):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
            file = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def _build(self, kind: str) -> None:
        found = self._connection.execute("SELECT lower(name) FROM sqlite_master")
        there = {name for (name,) in found}
        for item in (*self._aside, *self._catalog.objects):
            if item.type == kind and item.name.lower() not in there:
                there.add(item.name.lower())
                with said(self._name, f"making {item.type} {item.name!r}"):
                    self._make(item)

    def _make(self, item: SchemaObject) -> None:
        if item.type == "virtual" and _lacks_module(item.sql):
            self._define(item)
        else:
            self._standins.execute(_definition(item.sql)).close()

    def _define(self, item: SchemaObject) -> None:
        """Write a virtual table down whose module only the controller's process has."""
        self._pragma("writable_schema=ON")
        self._connection.execute(
            "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)"
            " VALUES ('table', ?, ?, 0, ?)",
            (item.name, item.name, item.sql),
        )
        self._pragma("writable_schema=OFF")

    def _reindex_content(self) -> None:
        for item in self._catalog.objects:
            if item.type == "virtual":
                self.rebuild(item.name, item.sql)

    def rebuild(self, table: str, sql: str) -> None:
        """Compute a virtual table again, if it is an index over ordinary ones."""
        if _INDEX_OF_CONTENT.search(sql):
            name = identifier(table)
            # Its content is not covered by the snapshot: empty is what was promised.
            with suppress(sqlite3.OperationalError):
                self._connection.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")

    def _set_sequences(self) -> None:
        """Exactly the recorded rows: loading an AUTOINCREMENT table has made some of its own."""
        recorded = [
            (name.removeprefix(_SEQUENCE), value)
            for name, value in self._attributes.items()
            if name.startswith(_SEQUENCE)
        ]
        there = self._connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
        ).fetchone()
        if there is None:
            if not recorded:
                return
            # SQLite makes it with the first such table, and keeps it when that is dropped.
            self._connection.execute(
                "CREATE TABLE bequest_sequence (i INTEGER PRIMARY KEY AUTOINCREMENT)"
            )
            self._connection.execute("DROP TABLE bequest_sequence")
        self._connection.execute("DELETE FROM sqlite_sequence")
        self._connection.executemany("INSERT INTO sqlite_sequence VALUES (?, ?)", recorded)

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """Read the rows back in the table's own order, as `reading.blocks` does."""
        reader = self._reader
        with said(self._name, f"reading table {table.name!r} back"):
            try:
                sql = reading.scan_sql(reader, table)
                yield from reading.blocks(reader, sql, reading.CHECK_ROWS)
            finally:
                reader.text_factory = str

    def inherit(self, memory: Memory) -> None:
        """`bequest.ports.Heir.inherit`, with capture, before the file has its name."""
        with said(self._name, "writing down what it inherits"):
            self._connection.execute("BEGIN")
            known = Known(Identity().succeeded(memory))
            installation.install(self._connection, None, None, known)
        self._flush()
        self.inherited = memory

    def commit(self) -> None:
        """Give the file, which is whole by now, the journal mode that it had."""
        if not self._finished:
            raise BequestError(
                f"The restore ended before everything was loaded. {self._name} is as it was. "
                "Please report this."
            )
        with said(self._name, "committing"):
            if str(self._attributes.get("journal_mode", "")).lower() == "wal":
                self._pragma("journal_mode=WAL")

    def close(self) -> None:
        """End what reads back."""
        self._apart.close()

    def _pragma(self, setting: str) -> None:
        self._connection.execute(f"PRAGMA {setting}").fetchall()

    def _integer(self, name: str) -> int:
        value: Any = self._attributes[name]
        if type(value) is not int:
            raise _damaged(name, value)
        return value


def _hasten(connection: sqlite3.Connection, _: object) -> None:
    # The file is thrown away unless it is whole, and is seen onto the disk at the end.
    connection.execute("PRAGMA synchronous=OFF").close()


def _lacks_module(sql: str) -> bool:
    # Tried elsewhere: without a journal, what fails halfway would leave its half in the file.
    with closing(sqlite3.connect(":memory:")) as scratch:
        try:
            scratch.execute(_definition(sql)).close()
        except sqlite3.Error as error:
            return str(error).startswith("no such module")
    return False


def _damaged(name: str, value: object) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"The snapshot says {name} is {value!r}, which cannot be. Nothing was restored. Use "
        "another copy or an earlier version of the object."
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(identifier(name) for name in names)


def _marks(marks: Iterable[str]) -> str:
    return f"({', '.join(marks)})"
