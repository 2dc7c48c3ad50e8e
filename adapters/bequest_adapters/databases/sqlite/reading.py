"""Read rows without losing a byte and without holding more than a block of them.

Text that is not valid UTF-8 makes the standard library's reader raise. Decoding every text
tolerantly costs about twice as much, so it begins only where such a text was met.
"""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence

from bequest.model import Key, Row, Table, Value

from .catalog import TableShape
from .connection import primary_code
from .text import identifier

BLOCK_ROWS = 256
"""Rows at a time: what stays in a processor's cache until it is packed."""
CHECK_ROWS = 512
"""Rows at a time where they are only added up."""
FEW_ROWS = 16
"""Rows at a time from where a value is too large for more of them."""
FETCH_BYTES = 16 * 1024 * 1024
"""Rows that are fetched at once have no more; a longer value is fetched with fewer, or alone."""
BLOCK_BYTES = 1024 * 1024
"""Where values are long a block ends here."""
LOOKUP_KEYS = 1000
"""Keys in one statement: enough to make its preparation cheap per key."""


def tolerant(raw: bytes) -> str:
    """Text with every byte that is not UTF-8 as a surrogate escape."""
    return raw.decode("utf-8", "surrogateescape")


def rows(connection: sqlite3.Connection, sql: str, parameters: Sequence[Value]) -> Iterator[Row]:
    """The rows of a query whose order is stable inside the caller's transaction."""
    given = 0
    cursor = connection.execute(sql, parameters)
    while True:
        try:
            for row in cursor:
                yield row
                given += 1
            return
        except sqlite3.OperationalError as error:
            if "decode" not in str(error) or connection.text_factory is tolerant:
                raise
        connection.text_factory = tolerant
        cursor = connection.execute(f"SELECT * FROM ({sql}) LIMIT -1 OFFSET {given}", parameters)


def blocks(
    connection: sqlite3.Connection, sql: str, most: int = BLOCK_ROWS
) -> Generator[Sequence[Row]]:
    """The rows of a query in blocks of at most ``most`` rows and of bounded size.

    The order must be stable inside the caller's transaction.
    """
    given, rest, step = 0, sql, most
    while True:
        try:
            for block in _blocks(connection, rest, most, step):
                yield block
                given += len(block)
            return
        except sqlite3.DataError as error:
            if primary_code(error) != sqlite3.SQLITE_TOOBIG or step == 1:
                raise
            step = FEW_ROWS if step > FEW_ROWS else 1
        except sqlite3.OperationalError as error:
            if "decode" not in str(error) or connection.text_factory is tolerant:
                raise
            connection.text_factory = tolerant
        rest = f"SELECT * FROM ({sql}) LIMIT -1 OFFSET {given}"


def _blocks(
    connection: sqlite3.Connection, sql: str, most: int, step: int
) -> Generator[Sequence[Row]]:
    """Blocks that are fetched ``step`` rows at a time; alone, a row may have any size."""
    cursor = connection.execute(sql)
    limit_bytes = FETCH_BYTES // (step * len(cursor.description)) if step > 1 else -1
    block: list[Row] = []
    size_bytes = 0
    while found := _fetched(connection, cursor, min(step, most - len(block)), limit_bytes):
        block += found
        if step < most:
            # Marshalled only to be measured: adding up lengths in Python is dearer.
            size_bytes += len(marshal.dumps(found))
        if len(block) == most or size_bytes >= BLOCK_BYTES:
            yield block
            block, size_bytes = [], 0
    if block:
        yield block


def _fetched(
    connection: sqlite3.Connection, cursor: sqlite3.Cursor, rows: int, limit_bytes: int
) -> list[Row]:
    """The next rows; SQLite itself refuses a value over ``limit_bytes`` (negative: takes any).

    The limit holds only meanwhile: the caller may have other questions between two blocks.
    """
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit_bytes)
    try:
        return cursor.fetchmany(rows)
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)


def scan_sql(connection: sqlite3.Connection, table: Table) -> str:
    """Every row, from the table's own b-tree and in its order: SQLite would rather read an index
    that has all columns. In a table WITHOUT ROWID, whose b-tree is that of its key, NOT INDEXED
    does not keep it from that.
    """
    own = connection.execute(
        "SELECT i.name FROM pragma_table_list(?1) AS t, pragma_index_list(?1) AS i"
        " WHERE t.schema = 'main' AND t.wr AND i.origin = 'pk'",
        (table.name,),
    ).fetchone()
    how = "NOT INDEXED" if own is None else f"INDEXED BY {identifier(own[0])}"
    return f"SELECT {_columns(table)} FROM main.{identifier(table.name)} AS t {how}"


def lookup(
    connection: sqlite3.Connection, table: Table, shape: TableShape | None, keys: Sequence[Key]
) -> Iterator[Row]:
    """The rows that bear one of ``keys``, by the table's key; by a scan where SQLite cannot.

    Values are compared as SQLite compares under BINARY: 1 and 1.0 are one key, as in Python.
    """
    clean = [key for key in keys if all(map(_is_plain, key))]
    odd = [key for key in keys if not all(map(_is_plain, key))]
    if not table.key or shape is None or shape.foreign_collations:
        yield from _by_scan(connection, table, keys)
        return
    limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    step = max(1, min(LOOKUP_KEYS, limit // len(table.key)))
    for start in range(0, len(clean), step):
        yield from _by_key(connection, table, shape, clean[start : start + step])
    if odd and _is_utf8(connection):
        for key in odd:
            yield from _by_key(connection, table, shape, [key])
    elif odd:
        yield from _by_scan(connection, table, odd)


def _by_key(
    connection: sqlite3.Connection, table: Table, shape: TableShape, keys: Sequence[Key]
) -> Iterator[Row]:
    width = len(table.key)
    values = ", ".join(f"({', '.join(map(_placeholder, key))})" for key in keys)
    names = ", ".join(f"k{index}" for index in range(width))
    conditions: list[str] = []
    for index, (position, collation) in enumerate(
        zip(table.key, shape.key_collations, strict=True)
    ):
        column = f"t.{identifier(table.columns[position].name)}"
        # The first comparison finds the b-tree entry, the second one keeps other spellings out.
        conditions.append(f"{column} = w.k{index} COLLATE {identifier(collation)}")
        if collation != "BINARY":
            conditions.append(f"{column} = w.k{index} COLLATE BINARY")
    sql = (
        f"WITH w({names}) AS (VALUES {values}) SELECT {_columns(table)}"
        f" FROM w CROSS JOIN main.{identifier(table.name)} AS t WHERE {' AND '.join(conditions)}"
    )
    return rows(connection, sql, [_bound(value) for key in keys for value in key])


def _by_scan(connection: sqlite3.Connection, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
    wanted = set(keys)
    for row in rows(connection, scan_sql(connection, table), ()):
        if table.key_of(row) in wanted:
            yield row


def _columns(table: Table) -> str:
    return ", ".join(f"t.{identifier(column.name)}" for column in table.columns)


def _is_plain(value: Value) -> bool:
    if not isinstance(value, str):
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _placeholder(value: Value) -> str:
    return "?" if _is_plain(value) else "CAST(? AS TEXT)"


def _bound(value: Value) -> Value:
    if isinstance(value, str) and not _is_plain(value):
        return value.encode("utf-8", "surrogateescape")
    return value


def _is_utf8(connection: sqlite3.Connection) -> bool:
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    return str(encoding) == "UTF-8"


def stand_in_for_collations(connection: sqlite3.Connection, collations: Iterable[str]) -> None:
    """Let b-trees be walked whose collations only the application knows.

    Walking from one end to the other compares nothing; but SQLite refuses to open them otherwise.
    """
    for collation in collations:
        connection.create_collation(collation, _compare)


def _compare(left: str, right: str) -> int:
    return (left > right) - (left < right)
