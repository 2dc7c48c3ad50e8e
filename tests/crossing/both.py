"""Both sides of a crossing in small: SQLite's catalog and rows, and its own idea of affinity."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

from bequest.model import Attributes, Catalog, Column, Row, SchemaObject, Selection, Table, Value
from bequest_adapters.databases.sqlite.catalog import read_schema
from bequest_adapters.databases.sqlite.text import identifier

Blocks = Callable[[], Iterator[tuple[Table, list[Row]]]]


def sqlite_catalog(db: sqlite3.Connection) -> Catalog:
    schema = read_schema(db)
    return schema.catalog(
        Selection(), {table.name: number for number, table in enumerate(schema.tables, 1)}
    )


def sqlite_sequences(db: sqlite3.Connection) -> Attributes:
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone():
        return {}
    return {f"sequence:{name}": last for name, last in db.execute("SELECT * FROM sqlite_sequence")}


def sqlite_rows(db: sqlite3.Connection, table: Table) -> list[Row]:
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    names = ", ".join(identifier(column.name) for column in table.columns)
    return db.execute(f"SELECT {names} FROM {identifier(table.name)}").fetchall()


def sqlite_blocks(db: sqlite3.Connection, catalog: Catalog) -> Blocks:
    return lambda: ((table, sqlite_rows(db, table)) for table in catalog.tables)


def fill_sqlite(db: sqlite3.Connection, catalog: Catalog, rows: dict[int, Sequence[Row]]) -> None:
    """What the SQLite target does, without a file."""
    for table in catalog.tables:
        db.execute(table.sql)
        names = ", ".join(identifier(column.name) for column in table.columns)
        marks = ", ".join("?" for _ in table.columns)
        sql = f"INSERT INTO {identifier(table.name)} ({names}) VALUES ({marks})"
        db.executemany(sql, rows[table.id])
    for item in catalog.objects:
        db.execute(item.sql)


def postgresql_table(
    number: int, name: str, columns: dict[str, tuple[str, str]], schema: str = "public"
) -> Table:
    """A table without a key; ``columns`` are name: (type, form)."""
    listed = ", ".join(f'"{column}" {kind}' for column, (kind, _) in columns.items())
    return Table(
        number,
        name,
        tuple(Column(column, kind) for column, (kind, _) in columns.items()),
        (),
        f'CREATE TABLE "{schema}"."{name}" ({listed})',
        schema,
        {"forms": [form for _, form in columns.values()]},
    )


def one_column(kind: str, form: str, *objects: SchemaObject) -> Catalog:
    return Catalog((postgresql_table(1, "t", {"v": (kind, form)}),), objects)


def blocks_of(catalog: Catalog, values: Sequence[Value]) -> Blocks:
    (table,) = catalog.tables
    return lambda: iter([(table, [(value,) for value in values])])
