"""Read rows in their forms, block by block, from a connection that `forms.prepare` has prepared."""

from __future__ import annotations

import marshal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psycopg
from psycopg import rows as row_factories
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from bequest.model import Key, Row, Table

from .forms import OUTPUT, expression
from .naming import identifier, qualified
from .writing import text_of

BLOCK_ROWS: Final = 32768
BLOCK_BYTES: Final = 4 * 1024 * 1024
LOOKUP_KEYS: Final = 5000
"""Keys in one statement."""
_CURSOR: Final = "bequest_scan"
_GROWTH: Final = 8
_SAMPLE_ROWS: Final = 64


def scan(
    connection: psycopg.Connection[Any], table: Table, place: str = ""
) -> Generator[list[Row]]:
    """All rows of ``table`` within the caller's transaction, in the order they are stored.

    ``place`` is what to read them from, where that is not all of the table.

    Blocks have at most `BLOCK_ROWS` rows and about `BLOCK_BYTES`; while the caller works on one,
    the next is fetched in another thread. Raises psycopg's errors.
    """
    query = (
        f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR SELECT {columns(table)} "
        f"FROM {place or source(table)} t"
    )
    connection.execute(_query(query), prepare=False)
    try:
        yield from _blocks(connection)
    finally:
        if connection.info.transaction_status == TransactionStatus.INTRANS:
            connection.execute(_query(f"CLOSE {_CURSOR}"))


def _blocks(connection: psycopg.Connection[Any]) -> Generator[list[Row]]:
    """The open cursor's rows; the server makes a block while the one before is taken apart."""
    cursor = psycopg.RawCursor(connection, row_factory=row_factories.tuple_row)
    first = _query(f"FETCH {_SAMPLE_ROWS} {_CURSOR}")
    found = cursor.execute(first, binary=True, prepare=False).fetchall()
    if found:
        yield found
    if len(found) < _SAMPLE_ROWS:
        # A thread is not worth it.
        return
    transformer = Transformer(connection)
    with ThreadPoolExecutor(1, "bequest-fetch") as pool:
        wanted = min(_SAMPLE_ROWS * _GROWTH, rows_that_fit(found))
        waiting = pool.submit(fetch, connection, f"FETCH {wanted} {_CURSOR}")
        while True:
            answer, asked = waiting.result(), wanted
            if answer.ntuples == asked:
                wanted = min(BLOCK_ROWS, asked * _GROWTH, rows_that_fit(found))
                waiting = pool.submit(fetch, connection, f"FETCH {wanted} {_CURSOR}")
            if answer.ntuples:
                transformer.set_pgresult(answer)
                found = transformer.load_rows(0, answer.ntuples, tuple)
                yield found
            if answer.ntuples < asked:
                return


def fetch(connection: psycopg.Connection[Any], query: str) -> PGresult:
    """The server's raw answer. Raises psycopg's errors.

    One call that holds no lock of the interpreter. A cursor's takes it for each piece of the answer
    that arrives, and the thread that decodes lets go of it every 5 ms only.
    """
    answer = connection.pgconn.exec_params(_query(query), None, result_format=Format.BINARY)
    if answer.status == ExecStatus.TUPLES_OK:
        return answer
    if answer.error_field(DiagnosticField.SQLSTATE) is None:
        # Not the server's words but the library's: the connection is gone.
        raise psycopg.OperationalError(answer.get_error_message())
    raise psycopg.errors.error_from_result(answer)


def lookup(connection: psycopg.Connection[Any], table: Table, keys: Sequence[Key]) -> Iterator[Row]:
    """The rows that bear one of ``keys``; where the type calls several values equal, all of them.

    A row may come twice. The keys must be `askable`. Raises psycopg's errors.
    """
    turns = [text_of(table.options["forms"][position]) for position in table.key]
    query = _query(_lookup_sql(table))
    with psycopg.RawCursor(connection, row_factory=row_factories.tuple_row) as cursor:
        for start in range(0, len(keys), LOOKUP_KEYS):
            columns = zip(*keys[start : start + LOOKUP_KEYS], strict=True)
            texts = [
                [turn(value) for value in column]
                for turn, column in zip(turns, columns, strict=True)
            ]
            yield from cursor.execute(query, texts, binary=True)


def source(table: Table) -> str:
    """What to read ``table`` from: members that inherit from it are tables of their own.

    A partitioned table with foreign partitions is read from the others one by one, for a condition
    would not keep the server from asking the foreign ones.
    """
    leaves = table.options.get("leaves")
    if leaves is not None:
        names = ", ".join(identifier(column.name) for column in table.columns)
        none = f"SELECT {names} FROM ONLY {qualified(table.schema, table.name)} WHERE false"
        parts = [f"SELECT {names} FROM ONLY {qualified(*leaf)}" for leaf in leaves]
        return f"({' UNION ALL '.join([none, *parts])})"
    name = qualified(table.schema, table.name)
    return name if table.options.get("partitioned") else f"ONLY {name}"


def rows_that_fit(found: Sequence[Row]) -> int:
    """How many rows such as ``found`` make a block of `BLOCK_BYTES`."""
    sample = list(found[:: max(1, len(found) // _SAMPLE_ROWS)])
    # Marshalled only to be measured.
    return max(1, BLOCK_BYTES * len(sample) // len(marshal.dumps(sample)))


def _lookup_sql(table: Table) -> str:
    found, conditions = matching(table)
    return f"SELECT {columns(table)} FROM {found} JOIN {source(table)} AS t ON {conditions}"


def matching(table: Table) -> tuple[str, str]:
    """A table of the keys that are given as arrays of text, and when a row ``t`` bears one."""
    conditions: list[str] = []
    for number, (position, (operator, type_)) in enumerate(
        zip(table.key, table.options["key_match"], strict=True)
    ):
        column = identifier(table.columns[position].name)
        if operator:
            conditions.append(f"t.{column} OPERATOR({operator}) k.k{number}::{type_}")
        else:
            conditions.append(f"{expression(OUTPUT, f't.{column}')} = k.k{number}")
    arrays = ", ".join(
        f"pg_catalog.unnest(${number + 1}::pg_catalog.text[])" for number in range(len(table.key))
    )
    names = ", ".join(f"k{number}" for number in range(len(table.key)))
    return f"ROWS FROM ({arrays}) AS k({names})", " AND ".join(conditions)


def askable(keys: Sequence[Key]) -> bool:
    """Whether the keys can be parameters: text that is no UTF-8, which SQL_ASCII holds, cannot."""
    try:
        for key in keys:
            "".join(value for value in key if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def columns(table: Table) -> str:
    """What to select of a row ``t`` so that the values come in their forms."""
    forms = table.options["forms"]
    return ", ".join(
        expression(form, f"t.{identifier(column.name)}")
        for form, column in zip(forms, table.columns, strict=True)
    )


def _query(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
