"""What a PostgreSQL catalog says of its tables, brought together.

The catalog keeps CREATE TABLE apart from what follows the rows: keys, checks, foreign keys, the
defaults that need a sequence, and who owns that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bequest.model import Catalog, SchemaObject, Table

from .definitions import TableText, add_constraint, altered_table, read_table
from .sql import END, Reader, Token, tokens

_ColumnName = tuple[int, str]


@dataclass(frozen=True)
class Definitions:
    """By table id; defaults and sequences by table id and column."""

    tables: Mapping[int, TableText]
    defaults: dict[_ColumnName, tuple[Token, ...]] = field(
        default_factory=dict[_ColumnName, tuple[Token, ...]]
    )
    sequences: dict[_ColumnName, str] = field(default_factory=dict[_ColumnName, str])

    def sequence_of(self, table: Table, column: str) -> str:
        """``schema.name`` of the sequence that numbers the column; empty when none does."""
        owned = self.sequences.get((table.id, column))
        told = self.tables[table.id].column(column)
        if told is not None and told.identity:
            return told.sequence or owned or f"{table.schema}.{table.name}_{column}_seq"
        default = self.defaults.get((table.id, column), told.default if told is not None else ())
        return _nextval(default)

    @staticmethod
    def sequence_name(item: SchemaObject) -> str:
        """``schema.name`` of a sequence, unquoted, as attributes name it."""
        return ".".join(Reader(tokens(item.name)).path())


def _nextval(default: tuple[Token, ...]) -> str:
    if not any(token.text.lower() == "nextval" for token in default):
        return ""
    named = next((token.value for token in default if token.kind == "string"), "")
    return ".".join(Reader(tokens(named)).path())


def read_definitions(catalog: Catalog) -> Definitions:
    """Read all that belongs to tables."""
    found = Definitions({table.id: _table_text(table) for table in catalog.tables})
    numbers = {(table.schema or "", table.name): table.id for table in catalog.tables}
    for item in catalog.objects:
        if item.type == "sequence owner":
            _add_owner(found, numbers, item)
            continue
        path = altered_table(item.sql)
        number = numbers.get(path) if path is not None else None
        if number is None:
            continue
        if item.type == "default":
            _add_default(found, number, item)
        else:
            add_constraint(found.tables[number], item.sql)
    return found


def _table_text(table: Table) -> TableText:
    return read_table(table.sql)


def _add_default(found: Definitions, number: int, item: SchemaObject) -> None:
    reader = Reader(tokens(item.sql))
    while reader.next is not END and not reader.accept("ALTER", "COLUMN"):
        reader.take()
    column = reader.take().name
    if reader.accept("SET", "DEFAULT"):
        rest: list[Token] = []
        while reader.next is not END and reader.next.text != ";":
            rest.append(reader.take())
        found.defaults[number, column] = tuple(rest)


def _add_owner(
    found: Definitions, numbers: Mapping[tuple[str, str], int], item: SchemaObject
) -> None:
    reader = Reader(tokens(item.sql))
    if not reader.accept("ALTER", "SEQUENCE"):
        return
    sequence = ".".join(reader.path())
    if reader.accept("OWNED", "BY"):
        owner = reader.path()
        number = numbers.get((owner[0], owner[-2])) if len(owner) == 3 else None
        if number is not None:
            found.sequences[number, owner[-1]] = sequence
