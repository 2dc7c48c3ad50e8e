"""What a snapshot says of a PostgreSQL database besides its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from bequest.model import Catalog, Selection

from .definitions import read_definitions
from .shapes import TableShape, read_left_out, read_shapes


def read_catalog(
    connection: psycopg.Connection[Any],
    numbers: Mapping[tuple[str, str], int],
    selection: Selection,
) -> Catalog:
    """Tables and objects as they are in the caller's transaction (REPEATABLE READ).

    ``numbers`` are the journal's, by schema and table; a table without one is left out. Raises
    psycopg's errors.
    """
    shapes = [
        shape
        for shape in read_shapes(connection, selection)
        if (shape.schema, shape.name) in numbers
    ]
    names = quoted_names(connection, shapes)
    read = read_definitions(connection, names)
    turns = {name: turn for turn, name in enumerate(read.tables)}
    tables = tuple(
        shape.table(
            numbers[shape.schema, shape.name],
            read.tables[name][0],
            place=read.tables[name][1],
            turn=turns[name],
            before_rows=read.before_rows,
        )
        for shape, name in zip(shapes, names, strict=True)
    )
    left_out = read_left_out(connection, selection)
    return Catalog(tables, read.objects, (*read.not_covered, *left_out))


def quoted_names(connection: psycopg.Connection[Any], shapes: Sequence[TableShape]) -> list[str]:
    """As the server quotes them: only where it must."""
    (names,) = connection.execute(
        "SELECT pg_catalog.array_agg(pg_catalog.format('%%I.%%I', s, t) ORDER BY o)"
        " FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[]))"
        " WITH ORDINALITY AS x(s, t, o)",
        [[shape.schema for shape in shapes], [shape.name for shape in shapes]],
    ).fetchone() or (None,)
    return list(names or ())
