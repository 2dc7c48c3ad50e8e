"""The catalog as plain msgpack values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SnapshotDamaged
from ..model import Attributes, Catalog, Column, SchemaObject, Table
from .soundness import counted, scalars


def to_plain(catalog: Catalog, attributes: Attributes) -> dict[str, Any]:
    """What a schema frame holds."""
    return {
        "tables": [
            {
                "id": table.id,
                "name": table.name,
                "schema": table.schema,
                "columns": [[column.name, column.type, column.role] for column in table.columns],
                "key": list(table.key),
                "sql": table.sql,
                "options": dict(table.options),
            }
            for table in catalog.tables
        ],
        "objects": [[item.type, item.name, item.table, item.sql] for item in catalog.objects],
        "not_covered": [list(pair) for pair in catalog.not_covered],
        "attributes": dict(attributes),
    }


def from_plain(plain: Any) -> tuple[Catalog, dict[str, Any]]:
    """Read a schema frame's content. Raises `SnapshotDamaged`."""
    try:
        catalog = Catalog(
            tables=tuple(_table(table) for table in plain["tables"]),
            objects=tuple(SchemaObject(*_texts(item, 4)) for item in plain["objects"]),
            not_covered=tuple((name, why) for name, why in map(_pair, plain["not_covered"])),
        )
        _all_different([table.id for table in catalog.tables], "table numbers")
        _all_different([(table.schema, table.name) for table in catalog.tables], "tables")
        return catalog, facts(plain["attributes"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SnapshotDamaged(
            f"The snapshot's schema cannot be read ({error!r}). Use another copy of the object."
        ) from error


def facts(plain: Any) -> dict[str, Any]:
    """Attributes. Raises `ValueError` or `TypeError` when they are none."""
    attributes = dict(plain)
    scalars(attributes.values())
    for name in attributes:
        _texts([name], 1)
    return attributes


def _all_different(items: list[Any], what: str) -> None:
    if len(set(items)) != len(items):
        raise ValueError(f"two {what} are the same")


def _pair(plain: Any) -> tuple[str, str]:
    name, why = _texts(plain, 2)
    return name, why


def _table(plain: Mapping[str, Any]) -> Table:
    columns = tuple(Column(*_texts(column, 3)) for column in plain["columns"])
    key = tuple(plain["key"])
    if not columns or any(type(index) is not int or not 0 <= index < len(columns) for index in key):
        raise ValueError(f"table {plain['name']!r}: columns {len(columns)}, key {key}")
    if not counted(plain["id"]) or not isinstance(plain["schema"], str | None):
        raise ValueError(f"table {plain['name']!r} has no number, or no schema")
    return Table(
        id=plain["id"],
        name=_texts([plain["name"]], 1)[0],
        columns=columns,
        key=key,
        sql=_texts([plain["sql"]], 1)[0],
        schema=plain["schema"],
        options=dict(plain["options"]),
    )


def _texts(values: Any, count: int) -> list[str]:
    if len(values) != count or not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected {count} texts, found {values!r}")
    return list(values)
