"""A part of a snapshot: the chosen tables, and every table that those need.

A chosen table that refers to another by a foreign key would not be whole without it, so the other
one is added, and so on; each addition is stated with its reason. References are read from the
recorded SQL, with text and comments left out. What looks like a reference and is none adds a
table too many, never one too few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from .errors import UsageError
from .model import Attributes, Catalog, SchemaObject, Selection, Table, Value
from .snapshot.fold import full_name

_NOISE: Final = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME: Final = r'(?:"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[^\s\W][\w$]*)'
_REFERENCE: Final = re.compile(
    rf"\bREFERENCES\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})", re.IGNORECASE
)
_OF_ONE_TABLE: Final = frozenset({"index", "constraint", "statistics", "comment", "virtual"})
_SEQUENCE: Final = "sequence:"


@dataclass(frozen=True, slots=True)
class Part:
    """What is restored. ``added``: table and reason; ``left_out``: views, triggers and such."""

    catalog: Catalog
    attributes: Attributes
    added: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of its tables."""
        return frozenset(table.id for table in self.catalog.tables)


def part_of(catalog: Catalog, attributes: Attributes, selection: Selection | None) -> Part:
    """All of it, or what ``selection`` chooses and needs. Raises `UsageError` for nothing."""
    if selection is None:
        return Part(catalog, attributes)
    chosen = [table for table in catalog.tables if is_chosen(table, selection)]
    if not chosen:
        names = ", ".join(full_name(table) for table in catalog.tables) or "none"
        raise UsageError(
            f"No table of the object is chosen. Nothing was restored. Its tables are: {names}."
        )
    added = _closure(catalog, chosen)
    kept = {table.id for table in chosen} | set(added)
    tables = tuple(table for table in catalog.tables if table.id in kept)
    missing = [table for table in catalog.tables if table.id not in kept]
    objects, left_out = _objects(catalog, tables, missing)
    return Part(
        replace(catalog, tables=tables, objects=objects),
        _attributes(attributes, missing),
        tuple((full_name(table), added[table.id]) for table in tables if table.id in added),
        left_out,
    )


def is_chosen(table: Table, selection: Selection) -> bool:
    """Whether ``selection`` means ``table``, by its name with or without its schema."""
    names = {table.name, full_name(table)}

    def matches(globs: tuple[str, ...]) -> bool:
        return any(fnmatchcase(name, glob) for name in names for glob in globs)

    return matches(selection.include) and not matches(selection.exclude)


def _closure(catalog: Catalog, chosen: list[Table]) -> dict[int, str]:
    references = dict(_references(catalog))
    seen = {table.id for table in chosen}
    added: dict[int, str] = {}
    queue = list(chosen)
    while queue:
        table = queue.pop(0)
        for needed in references.get(table.id, []):
            if needed.id not in seen:
                seen.add(needed.id)
                added[needed.id] = f"{full_name(table)} refers to it"
                queue.append(needed)
    return added


def _references(catalog: Catalog) -> Iterator[tuple[int, list[Table]]]:
    by_name: dict[tuple[str | None, str], Table] = {}
    for table in catalog.tables:
        by_name.setdefault((None, table.name.lower()), table)
        by_name[(table.schema and table.schema.lower(), table.name.lower())] = table
    for table in catalog.tables:
        constraints = [
            item.sql
            for item in catalog.objects
            if item.type == "constraint" and item.table in (table.name, full_name(table))
        ]
        found = [
            needed
            for text in (table.sql, *constraints)
            for schema, name in _named(text)
            if (needed := by_name.get((schema, name))) is not None
        ]
        yield table.id, found


def _named(sql: str) -> Iterator[tuple[str | None, str]]:
    for match in _REFERENCE.finditer(_NOISE.sub(" ", sql)):
        schema = match["schema"]
        yield None if schema is None else _plain(schema), _plain(match["table"])


def _plain(name: str) -> str:
    if name[0] in '"`[':
        quote = name[-1]
        name = name[1:-1].replace(quote * 2, quote)
    return name.lower()


def _objects(
    catalog: Catalog, tables: tuple[Table, ...], missing: list[Table]
) -> tuple[tuple[SchemaObject, ...], tuple[tuple[str, str], ...]]:
    """What belongs to the kept tables only; a view or trigger that names another is left out."""
    names = {name for table in tables for name in (table.name, full_name(table))}
    gone = {table.name.lower(): table for table in missing}
    kept: list[SchemaObject] = []
    left_out: list[tuple[str, str]] = []
    for item in catalog.objects:
        owner = item.table.rpartition(".")[2].lower()
        words = {word.lower() for word in re.findall(r"\w+", item.sql)}
        needs = [table for name, table in gone.items() if name in words]
        if item.type in _OF_ONE_TABLE and owner in gone and item.table not in names:
            continue
        if item.type not in _OF_ONE_TABLE and needs:
            left_out.append((f"{item.type} {item.name}", f"it names {full_name(needs[0])}"))
            gone.setdefault(item.name.lower(), needs[0])
            continue
        kept.append(item)
    return tuple(kept), tuple(left_out)


def _attributes(attributes: Attributes, missing: list[Table]) -> Mapping[str, Value]:
    gone = {f"{_SEQUENCE}{table.name}" for table in missing}
    return {name: value for name, value in attributes.items() if name not in gone}
