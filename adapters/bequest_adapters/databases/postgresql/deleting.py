"""Taking rows away again: by key, or, of a table without one, one of several that are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from bequest.errors import SnapshotDamaged
from bequest.model import Key, Row, Table

from .naming import identifier
from .reading import LOOKUP_KEYS, matching, source
from .writing import text_of

_SAME: Final = "pg_catalog.format('%s', {0}) COLLATE \"C\" = pg_catalog.format('%s', {1})"


def delete_keys(connection: psycopg.Connection[Any], table: Table, keys: Sequence[Key]) -> None:
    """Delete the rows that bear one of ``keys``. Raises psycopg's errors.

    Where the type calls several values equal they are one key here: its index does so, too.
    """
    turns = [text_of(table.options["forms"][position]) for position in table.key]
    found, conditions = matching(table)
    statement = f"DELETE FROM {source(table)} AS t USING {found} WHERE {conditions}"
    with psycopg.RawCursor(connection) as cursor:
        for start in range(0, len(keys), LOOKUP_KEYS):
            columns = zip(*keys[start : start + LOOKUP_KEYS], strict=True)
            texts = [
                [turn(value) for value in column]
                for turn, column in zip(turns, columns, strict=True)
            ]
            cursor.execute(statement.encode(), texts)


def delete_rows(
    connection: psycopg.Connection[Any],
    table: Table,
    counts: Sequence[tuple[Row, int]],
    name: str,
) -> None:
    """Delete as many rows as ``counts`` says below zero, by all of their output texts.

    Raises `SnapshotDamaged` when they are not there.
    """
    turns = [text_of(form) for form in table.options["forms"]]
    with psycopg.RawCursor(connection) as cursor:
        for row, count in counts:
            if count >= 0:
                continue
            texts = [turn(value) for turn, value in zip(turns, row, strict=True)]
            given = [text for text in texts if text is not None]
            statement = _delete_one(table, texts, -count)
            cursor.execute(statement.encode(), given)
            if cursor.rowcount != -count:
                raise SnapshotDamaged(
                    f"The object takes away rows of table {table.name!r} that {name} does not "
                    "hold. It stays as it is. Let it follow into an empty database."
                )


def _delete_one(table: Table, texts: Sequence[str | None], limit: int) -> str:
    conditions: list[str] = []
    number = 0
    for column, text in zip(table.columns, texts, strict=True):
        place = f"t.{identifier(column.name)}"
        if text is None:
            # IS NULL would also hold for a composite value whose fields are all NULL.
            conditions.append(f"{place} IS NOT DISTINCT FROM NULL")
            continue
        number += 1
        # The same way for both: through the input of the column's type to its output.
        conditions.append(_SAME.format(place, f"${number}::{column.type}"))
    where = " AND ".join(conditions) or "true"
    return (
        f"DELETE FROM {source(table)} AS d USING (SELECT t.tableoid AS o, t.ctid AS c FROM"
        f" {source(table)} AS t WHERE {where} LIMIT {limit}) AS x"
        " WHERE d.tableoid = x.o AND d.ctid = x.c"
    )
