"""Two databases of different kinds, side by side: which tables and columns are the same.

PostgreSQL is the strict side, so its types say what equal means, whichever way the data once went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bequest.errors import Refused
from bequest.model import Catalog, Table

from .bridges import Bridge, Strand
from .naming import sqlite_name
from .postgresql_types import Types, bond_of, read_types


@dataclass(frozen=True)
class Pairing:
    """The tables that are on both sides, the first catalog's as source; and what is not."""

    bridges: tuple[Bridge, ...]
    differences: tuple[str, ...]


def pair(first: Catalog, first_dialect: str, second: Catalog, second_dialect: str) -> Pairing:
    """Match tables and columns by name. Raises `Refused` for a pair of dialects unknown here."""
    if {first_dialect, second_dialect} != {"sqlite", "postgresql"}:
        raise Refused(
            f"A comparison between {first_dialect} and {second_dialect} is not known. Nothing was "
            "compared. Compare with a database of the kind that the backup was taken from."
        )
    turned = first_dialect == "postgresql"
    postgresql, sqlite = (first, second) if turned else (second, first)
    types = read_types(postgresql.objects)
    others = {table.name.lower(): table for table in sqlite.tables}
    bridges: list[Bridge] = []
    differences: list[str] = []
    for table in postgresql.tables:
        name = sqlite_name(table.schema, table.name)
        other = others.pop(name.lower(), None)
        if other is None:
            differences.append(f"table {table.schema}.{table.name}: in PostgreSQL only")
            continue
        strands, unlike = _strands(table, other, types, turned)
        differences += unlike
        source, target = (table, other) if turned else (other, table)
        bridges.append(Bridge(source, target, strands))
    differences += [f"table {table.name}: in SQLite only" for table in others.values()]
    return Pairing(tuple(bridges), tuple(differences))


def _strands(
    table: Table, other: Table, types: Types, turned: bool
) -> tuple[tuple[Strand, ...], list[str]]:
    places = {column.name.lower(): at for at, column in enumerate(other.columns) if not column.role}
    forms: Sequence[str] = table.options.get("forms", [""] * len(table.columns))
    strands: list[Strand] = []
    unlike: list[str] = []
    for at, (column, form) in enumerate(zip(table.columns, forms, strict=True)):
        place = places.pop(column.name.lower(), None)
        if place is None:
            unlike.append(f"column {table.name}.{column.name}: in PostgreSQL only")
            continue
        bond = bond_of(column.type, types, form)
        if turned:
            strands.append(Strand(at, None, bond.canonical, bond.canonical_sqlite, place))
        else:
            strands.append(Strand(place, None, bond.canonical_sqlite, bond.canonical, at))
    unlike += [
        f"column {table.name}.{column.name}: in SQLite only"
        for column in other.columns
        if column.name.lower() in places
    ]
    return tuple(strands), unlike
