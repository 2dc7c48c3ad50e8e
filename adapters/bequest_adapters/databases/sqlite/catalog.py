"""What is in an SQLite database: tables, their columns, keys and unique indexes, and the rest.

Read only, without a lock beyond the caller's transaction; shared by source and target.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from bequest.model import (
    LEFT_OUT,
    PART_OF_VIRTUAL,
    Catalog,
    Column,
    SchemaObject,
    Selection,
    Table,
)
from bequest_schema import is_internal

from .text import fold, identifier, index_text

ROWID_ALIASES = ("rowid", "_rowid_", "oid")
LONGEST_KEY = 60
"""A longer primary key is not journalled column by column."""

BUILT_IN = frozenset({"BINARY", "NOCASE", "RTRIM"})
"""The collations that every SQLite has."""

IS_OUR_TRIGGER = (
    "(type = 'trigger' AND (name GLOB 'bequest_[0-9]*_*' OR name = 'bequest_journal_limit'))"
)

IS_CAPTURING = (
    "(type = 'trigger' AND name GLOB 'bequest_[0-9]*_*' AND instr(sql, 'bequest_journal('))"
)
"""Those that need the journal; the guards of a database that follows do not."""


def exists(connection: sqlite3.Connection, table: str) -> bool:
    """Whether there is such a table: by SQLite's own index of names, not by reading its schema."""
    # The pragma alone goes by what this connection last saw; reading the schema makes it look.
    found = "SELECT 1 FROM pragma_table_info(?, 'main')"
    sql = f"SELECT EXISTS ({found}) FROM main.sqlite_schema LIMIT 1"
    return bool(connection.execute(sql, (table,)).fetchone() == (1,))


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """One column as ``PRAGMA table_xinfo`` tells it; ``hidden`` is 2 or 3 for a generated one."""

    name: str
    type: str
    not_null: bool
    default: str | None
    key_position: int
    hidden: int
    strict: bool

    @property
    def stored(self) -> bool:
        """Whether a value of it is kept, so that it must be read and written."""
        return self.hidden == 0

    @property
    def affinity(self) -> str:
        """INTEGER, TEXT, BLOB, REAL or NUMERIC, by SQLite's rules for declared types."""
        declared = self.type.upper()
        if self.strict and declared == "ANY":
            return "BLOB"
        if "INT" in declared:
            return "INTEGER"
        if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
            return "TEXT"
        if not declared or "BLOB" in declared:
            return "BLOB"
        if any(word in declared for word in ("REAL", "FLOA", "DOUB")):
            return "REAL"
        return "NUMERIC"


@dataclass(frozen=True, slots=True)
class Term:
    """One column of an index (``expression`` empty) or one expression (``column`` empty)."""

    column: str
    expression: str
    collation: str


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index or constraint; ``primary`` for the one of the primary key."""

    name: str
    primary: bool
    terms: tuple[Term, ...]
    predicate: str


@dataclass(frozen=True)
class TableShape:
    """An ordinary table, as far as capture and replay need to know it."""

    name: str
    sql: str
    without_rowid: bool
    strict: bool
    columns: tuple[ColumnShape, ...]
    unique: tuple[UniqueIndex, ...]
    widest: int
    """The most columns that a result may have."""

    @cached_property
    def stored(self) -> tuple[ColumnShape, ...]:
        """The columns that hold values of their own, in order."""
        return tuple(column for column in self.columns if column.stored)

    @cached_property
    def by_name(self) -> dict[str, ColumnShape]:
        """Columns by lower-case name: SQLite does not tell case."""
        return {fold(column.name): column for column in self.columns}

    @cached_property
    def primary_key(self) -> tuple[ColumnShape, ...]:
        """The columns of the declared primary key, in its order."""
        declared = [column for column in self.columns if column.key_position]
        return tuple(sorted(declared, key=lambda column: column.key_position))

    @cached_property
    def rowid_column(self) -> ColumnShape | None:
        """The INTEGER PRIMARY KEY that is the rowid itself: then no index was made for it."""
        if self.without_rowid or len(self.primary_key) != 1:
            return None
        return None if any(index.primary for index in self.unique) else self.primary_key[0]

    @cached_property
    def rowid_alias(self) -> str:
        """A name of the rowid that no column has taken; empty when there is none."""
        if self.without_rowid:
            return ""
        return next((name for name in ROWID_ALIASES if name not in self.by_name), "")

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The column names that identify a row, empty for an opaque table.

        A nullable primary key may repeat NULL, so it identifies nothing; then the rowid does.
        """
        if self.rowid_column is not None:
            return (self.rowid_column.name,)
        usable = self.without_rowid or all(column.not_null for column in self.primary_key)
        if self.primary_key and usable and len(self.primary_key) <= LONGEST_KEY:
            return tuple(column.name for column in self.primary_key)
        # One more column than a result may have could not be read back.
        if self.rowid_alias and len(self.stored) < self.widest:
            return (self.rowid_alias,)
        return ()

    @cached_property
    def keyed_by_hidden_rowid(self) -> bool:
        """Whether VACUUM may change this table's keys."""
        return bool(self.key) and fold(self.key[0]) not in self.by_name

    @cached_property
    def key_collations(self) -> tuple[str, ...]:
        """The collation under which the table's own b-tree compares each column of the key."""
        primary = next((index for index in self.unique if index.primary), None)
        if primary is None or self.keyed_by_hidden_rowid:
            return ("BINARY",) * len(self.key)
        found = {fold(term.column): term.collation for term in primary.terms}
        return tuple(found.get(fold(name), "BINARY") for name in self.key)

    @cached_property
    def foreign_collations(self) -> tuple[str, ...]:
        """Those of the key that only the application knows."""
        return tuple(name for name in self.key_collations if name.upper() not in BUILT_IN)

    def table(self, number: int) -> Table:
        """The same as the engine knows it, under the journal's number."""
        columns = tuple(Column(column.name, column.type) for column in self.stored)
        if self.keyed_by_hidden_rowid:
            columns = (Column(self.key[0], "INTEGER", "rowid"), *columns)
        names = [fold(column.name) for column in columns]
        options = {"without_rowid": self.without_rowid, "strict": self.strict}
        return Table(
            id=number,
            name=self.name,
            columns=columns,
            key=tuple(names.index(fold(name)) for name in self.key),
            sql=self.sql,
            options={option: True for option, wanted in options.items() if wanted},
        )


@dataclass(frozen=True)
class Schema:
    """Everything in ``sqlite_schema`` that is not ours, in the order of its making."""

    tables: tuple[TableShape, ...]
    objects: tuple[SchemaObject, ...]
    not_covered: tuple[tuple[str, str], ...]
    has_sequences: bool
    """Whether some table is or was AUTOINCREMENT."""

    def selected(self, selection: Selection) -> tuple[TableShape, ...]:
        """The tables that ``selection`` wants."""
        return tuple(table for table in self.tables if chosen(table.name, selection))

    def catalog(self, selection: Selection, numbers: dict[str, int]) -> Catalog:
        """What the engine publishes: the selected tables and what is built around them."""
        tables = tuple(table.table(numbers[table.name]) for table in self.selected(selection))
        left_out = [table.name for table in self.tables if not chosen(table.name, selection)]
        without = set(map(fold, left_out))
        objects = tuple(found for found in self.objects if fold(found.table) not in without)
        not_covered = (*self.not_covered, *((name, LEFT_OUT) for name in left_out))
        return Catalog(tables, objects, not_covered)


def chosen(name: str, selection: Selection) -> bool:
    """Whether ``selection`` wants the table; like SQLite's names, globs do not tell case."""

    def hit(globs: tuple[str, ...]) -> bool:
        return any(fnmatchcase(fold(name), fold(glob)) for glob in globs)

    return hit(selection.include) and not hit(selection.exclude)


def read_schema(connection: sqlite3.Connection) -> Schema:
    """Read it within the caller's transaction. Raises sqlite3's errors."""
    kinds = _kinds(connection)
    widest = connection.getlimit(sqlite3.SQLITE_LIMIT_COLUMN)
    tables: list[TableShape] = []
    not_covered: list[tuple[str, str]] = []
    for name, sql in connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"
    ).fetchall():
        kind, without_rowid, strict = kinds.get(name, ("table", False, False))
        if is_internal(name) or name.startswith("sqlite_"):
            reason = _internal(name)
        elif kind == "table":
            reason = ""
            tables.append(_shape(connection, name, sql, (without_rowid, strict), widest))
        else:
            reason = _REASONS[kind]
        if reason:
            not_covered.append((name, reason))
    has_sequences = exists(connection, "sqlite_sequence")
    return Schema(tuple(tables), tuple(_objects(connection)), tuple(not_covered), has_sequences)


_REASONS = {
    "virtual": "a virtual table: its definition is kept, its content is not",
    "shadow": PART_OF_VIRTUAL,
}


def _internal(name: str) -> str:
    if name.startswith("sqlite_stat"):
        return "statistics: run ANALYZE after a restore"
    return ""


def _kinds(connection: sqlite3.Connection) -> dict[str, tuple[str, bool, bool]]:
    return {
        name: (kind, bool(without_rowid), bool(strict))
        for schema, name, kind, _, without_rowid, strict in connection.execute("PRAGMA table_list")
        if schema == "main"
    }


def _shape(
    connection: sqlite3.Connection, name: str, sql: str, kind: tuple[bool, bool], widest: int
) -> TableShape:
    without_rowid, strict = kind
    columns = tuple(
        ColumnShape(column, declared, bool(not_null), default, position, hidden, strict)
        for _, column, declared, not_null, default, position, hidden in connection.execute(
            f"PRAGMA main.table_xinfo({identifier(name)})"
        )
    )
    unique = tuple(_unique_indexes(connection, name))
    return TableShape(name, sql, without_rowid, strict, columns, unique, widest)


def _unique_indexes(connection: sqlite3.Connection, table: str) -> Iterator[UniqueIndex]:
    listed = connection.execute(f"PRAGMA main.index_list({identifier(table)})").fetchall()
    # The newest index comes first; the order must not depend on that.
    for _, name, is_unique, origin, partial in sorted(listed, key=lambda row: row[1]):
        if is_unique:
            yield _unique_index(connection, name, origin == "pk", bool(partial))


def _unique_index(
    connection: sqlite3.Connection, name: str, primary: bool, partial: bool
) -> UniqueIndex:
    rows = [
        (column_id, column, collation)
        for _, column_id, column, _, collation, is_key in connection.execute(
            f"PRAGMA main.index_xinfo({identifier(name)})"
        )
        if is_key
    ]
    if not partial and all(column_id >= 0 for column_id, _, _ in rows):
        terms = tuple(Term(column, "", collation) for _, column, collation in rows)
        return UniqueIndex(name, primary, terms, "")
    (sql,) = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?", (name,)
    ).fetchone()
    written = index_text(sql)
    terms = tuple(
        Term(column or "", "" if column_id >= 0 else expression, collation)
        for (column_id, column, collation), expression in zip(rows, written.terms, strict=True)
    )
    return UniqueIndex(name, primary, terms, written.predicate)


# Indexes first, then what their tables' triggers and views may name; SQLite checks neither views
# nor trigger bodies when they are made. Triggers keep their order, for they fire newest first.
_ORDER = {"index": 0, "virtual": 1, "view": 2, "trigger": 3}


def _objects(connection: sqlite3.Connection) -> list[SchemaObject]:
    rows = connection.execute(
        "SELECT CASE WHEN type = 'table' THEN 'virtual' ELSE type END, name, tbl_name, sql"
        " FROM sqlite_schema WHERE sql IS NOT NULL AND (type <> 'table' OR rootpage = 0)"
        f" AND NOT {IS_OUR_TRIGGER} ORDER BY rowid"
    )
    found = [SchemaObject(*row) for row in rows if not is_internal(row[2])]
    return sorted(found, key=lambda each: _ORDER[each.type])
