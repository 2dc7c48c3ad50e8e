"""Tables that a controller's migrations have made, cleared so that recorded rows can be loaded.

What would fire or refuse during the load (foreign keys, triggers, checks of old rows, row security
forced upon the owner) is dropped and, once the rows are there, made again from its definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from bequest.errors import Refused
from bequest.model import Catalog, SchemaObject, Table

from .catalog import quoted_names
from .definitions import read_definitions
from .naming import qualified
from .shapes import TableShape, read_shapes

_CONSTRAINTS: Final = ("foreign key", "check")
_WITH_THEM: Final = ("table constraint ", "trigger ")
"""How the names of comments on what is set aside begin, and those of a trigger's state."""


@dataclass(frozen=True, slots=True)
class Occupied:
    """What the migrations made: ``there`` by kind and name, ``tables`` by schema and name.

    ``afterwards`` is to be made when all rows are loaded, ``security`` at the very end.
    """

    there: frozenset[tuple[str, str]]
    tables: frozenset[tuple[str | None, str]]
    afterwards: tuple[SchemaObject, ...]
    security: tuple[SchemaObject, ...]


def occupy(connection: psycopg.Connection[Any], catalog: Catalog, name: str) -> Occupied:
    """Empty the tables of ``catalog`` that are there. Raises `Refused` when one lacks a column."""
    # What is deferred until the end would hold the tables until then.
    _execute(connection, "SET CONSTRAINTS ALL IMMEDIATE")
    shapes = read_shapes(connection)
    found = {(shape.schema, shape.name): shape for shape in shapes}
    for table in catalog.tables:
        if (shape := found.get((table.schema or "", table.name))) is not None:
            _check_columns(table, shape, name)
    objects = read_definitions(connection, quoted_names(connection, shapes)).objects
    aside = [item for item in objects if _fires(item)]
    security = [item for item in objects if item.type == "row security" and "FORCE" in item.sql]
    for item in aside:
        _drop(connection, item)
    for item in security:
        _execute(connection, f"ALTER TABLE ONLY {item.table} NO FORCE ROW LEVEL SECURITY")
    _empty(connection, catalog, set(found))
    return Occupied(
        frozenset((item.type, item.name) for item in objects),
        frozenset(found),
        tuple(item for item in objects if item.type == "refresh")
        + tuple(aside)
        + tuple(item for item in objects if _is_lost(item)),
        tuple(security),
    )


def _check_columns(table: Table, shape: TableShape, name: str) -> None:
    there = {column.name for column in shape.columns}
    lacking = [column.name for column in table.columns if column.name not in there]
    if lacking:
        raise Refused(
            f"The migrations made table {table.name!r} without the column(s) {', '.join(lacking)}, "
            f"which the object holds. {name} is as it was. The controller's schema was changed by "
            "something else than these migrations: restore without --alembic, which makes the "
            "recorded schema."
        )


def _fires(item: SchemaObject) -> bool:
    if item.type == "trigger":
        return " INSTEAD OF " not in item.sql
    return item.type == "foreign key" or (item.type == "check" and "NOT VALID" in item.sql)


def _is_lost(item: SchemaObject) -> bool:
    """Whether it goes with what is set aside; to say it once more does no harm."""
    return item.type in ("comment", "table option") and item.name.startswith(_WITH_THEM)


def _drop(connection: psycopg.Connection[Any], item: SchemaObject) -> None:
    name = item.name.removesuffix(f" on {item.table}")
    if item.type in _CONSTRAINTS:
        _execute(connection, f"ALTER TABLE {item.table} DROP CONSTRAINT {name}")
    else:
        _execute(connection, f"DROP TRIGGER {name} ON {item.table}")


def _empty(
    connection: psycopg.Connection[Any], catalog: Catalog, there: set[tuple[str, str]]
) -> None:
    names = [
        ("" if table.options.get("partitioned") else "ONLY ") + qualified(table.schema, table.name)
        for table in catalog.tables
        if (table.schema or "", table.name) in there
    ]
    if names:
        _execute(connection, f"TRUNCATE {', '.join(names)}")


def _execute(connection: psycopg.Connection[Any], statement: str) -> None:
    connection.execute(statement.encode("utf-8", "surrogateescape"))
