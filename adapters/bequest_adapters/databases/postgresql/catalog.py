"""What a snapshot says of a PostgreSQL database besides its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from bequest.model import Catalog, Selection

from .shapes import read_shapes


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
    tables = tuple(shape.table(numbers[shape.schema, shape.name], "") for shape in shapes)
    return Catalog(tables)
