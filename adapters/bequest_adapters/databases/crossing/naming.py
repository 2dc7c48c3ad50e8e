"""Names on the other side: PostgreSQL's limit of 63 bytes and its one space of names per schema,
SQLite's one schema and its names without case.
"""

from __future__ import annotations

from typing import Final

from bequest.errors import Refused
from bequest.model import Catalog, Table

LONGEST_BYTES: Final = 63
PUBLIC: Final = "public"
MOST_COLUMNS: Final = 1600
"""MaxHeapAttributeNumber (access/htup_details.h)."""
SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"})


class Names:
    """Gives out names of relations and constraints that are not taken yet."""

    def __init__(self, taken: list[str]) -> None:
        self._taken = set(taken)

    def give(self, wanted: str) -> str:
        """``wanted``, cut and numbered as needed."""
        number = 0
        while True:
            end = f"_{number}" if number else ""
            name = _cut(wanted, LONGEST_BYTES - len(end)) + end
            if name not in self._taken:
                self._taken.add(name)
                return name
            number += 1


def _cut(name: str, length: int) -> str:
    return name.encode()[:length].decode(errors="ignore")


def check_for_postgresql(table: Table) -> None:
    """Raise `Refused` for a table that PostgreSQL cannot bear: its names, its number of columns."""
    stored = [column.name for column in table.columns if not column.role]
    if len(stored) > MOST_COLUMNS:
        raise Refused(
            f"Table {table.name!r} has {len(stored)} columns, and PostgreSQL takes {MOST_COLUMNS} "
            "at most. Nothing was changed. Split it in the controller and publish again, or "
            "restore into SQLite."
        )
    for name in SYSTEM_COLUMNS.intersection(stored):
        raise Refused(
            f"Table {table.name!r}: every table of PostgreSQL's has a column {name!r} of the "
            "server's own. Nothing was changed. Rename it in the controller and publish again, or "
            "restore into SQLite."
        )
    for name in (table.name, *(column.name for column in table.columns)):
        if len(name.encode()) > LONGEST_BYTES or not name:
            raise Refused(
                f"Table {table.name!r}: the name {name!r} is longer than PostgreSQL's 63 bytes. "
                "Nothing was changed. Rename it in the controller and publish again, or restore "
                "into SQLite."
            )


def sqlite_name(schema: str | None, name: str) -> str:
    """What a PostgreSQL table is called in SQLite: tables outside public bear their schema."""
    return name if schema in (None, PUBLIC) else f"{schema}_{name}"


def check_for_sqlite(catalog: Catalog) -> None:
    """Raise `Refused` where two names are one in SQLite, or one is SQLite's or ours."""
    seen: dict[str, str] = {}
    for table in catalog.tables:
        name = sqlite_name(table.schema, table.name)
        full = f"{table.schema}.{table.name}"
        if name.lower() in seen:
            raise _refused(f"Tables {seen[name.lower()]} and {full} would both be {name!r}")
        ours = name.lower().startswith("bequest_")
        if ours or name.lower().startswith("sqlite_"):
            raise _refused(f"Table {full} would be {name!r}, which is a reserved name")
        seen[name.lower()] = full
        columns = [column.name.lower() for column in table.columns]
        if len(set(columns)) < len(columns):
            raise _refused(f"Columns of table {full} differ only in case")


def _refused(what: str) -> Refused:
    return Refused(
        f"{what} in SQLite. Nothing was changed. Rename it in the controller and publish again, "
        "leave the table out, or restore into PostgreSQL."
    )
