"""A part of a snapshot: the chosen tables, and every table that those need.

A chosen table that refers to another by a foreign key would not be whole without it, so the other
one is added, and so on; each addition is stated with its reason. References are read from the
recorded SQL, with text and comments left out. What looks like a reference and is none adds a
table too many, never one too few.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Final

from .errors import UsageError
from .model import Attributes, Catalog, SchemaObject, Selection, Table, Value
from .recorded import without_attribute, without_table
from .snapshot.fold import full_name

_NOISE: Final = re.compile(
    r"""("(?:[^"]|"")*"|`(?:[^`]|``)*`)|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
_NAME: Final = r'(?:"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[^\s\W][\w$]*)'
_REFERENCE: Final = re.compile(
    rf"\bREFERENCES\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})", re.IGNORECASE
)
_PATH: Final = re.compile(rf"{_NAME}(?:\s*\.\s*{_NAME})*")
_INHERITED: Final = re.compile(rf"\bINHERITS\s*\(((?:{_NAME}|[\s.,])*)\)", re.IGNORECASE)
_OF_ONE_TABLE: Final = frozenset(
    {"index", "constraint", "statistics", "virtual", "key", "foreign key", "partition"}
    | {"index partition", "index option", "sequence owner", "table option", "row security"}
)
"""Kinds that name no table but their own, or one that came along."""
_UNSAID: Final = frozenset({"comment", "grant", "refresh"})
"""Kinds that are left out with what they are about, without a word."""
_WITH_BODY: Final = frozenset({"function", "procedure", "aggregate"})
"""Kinds that may name a table without its schema, which all others tell."""
_NAMED_BY_OTHERS: Final = _WITH_BODY | {"view", "materialized view", "type", "domain", "sequence"}
_PLACES: Final = ("place", "before_rows")
"""Options of a table that count objects in their order."""
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
    """All of it, or what ``selection`` chooses and needs. Raises `UsageError` for nothing.

    Configuration files are no part: they go to folders, whatever tables are chosen.
    """
    catalog, attributes = without_table(catalog), without_attribute(attributes)
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
    kept_objects, left_out = _objects(catalog, tables, missing)
    objects = tuple(catalog.objects[at] for at in kept_objects)
    tables = tuple(_placed(table, kept_objects) for table in tables)
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
            if item.type in ("constraint", "foreign key")
            and _is_of(item, {_both(table), ("", table.name)})
        ]
        found = [
            needed
            for text in (table.sql, *constraints)
            for schema, name in _named(text)
            if (needed := by_name.get((schema, name))) is not None
        ]
        yield table.id, found


def _named(sql: str) -> Iterator[tuple[str | None, str]]:
    plain = _without_noise(sql)
    for match in _REFERENCE.finditer(plain):
        schema = match["schema"]
        yield None if schema is None else _plain(schema), _plain(match["table"])
    for match in _INHERITED.finditer(plain):
        for parent in match[1].split(","):
            schema, name = _split(parent)
            yield schema or None, name


def _split(name: str) -> tuple[str, str]:
    """Schema, where it is told, and name."""
    parts = [_plain(part) for part in re.findall(_NAME, name)] or [""]
    return (parts[-2] if len(parts) > 1 else ""), parts[-1]


def _both(table: Table) -> tuple[str, str]:
    return (table.schema or "").lower(), table.name.lower()


def _plain(name: str) -> str:
    if name[0] in '"`[':
        quote = name[-1]
        name = name[1:-1].replace(quote * 2, quote)
    return name.lower()


def _objects(
    catalog: Catalog, tables: tuple[Table, ...], missing: list[Table]
) -> tuple[list[int], tuple[tuple[str, str], ...]]:
    """Places of what belongs to the kept tables only; what names another is left out."""
    gone = {_both(table): table for table in missing}
    owners = {both for table in missing for both in (_both(table), ("", table.name))}
    # Its own sequence goes with a table.
    sequences = {
        item.name
        for item in catalog.objects
        if item.type == "sequence owner" and _split(item.table) in owners
    }
    kept: list[int] = []
    left_out: list[tuple[str, str]] = []
    for at, item in enumerate(catalog.objects):
        if item.type in _OF_ONE_TABLE:
            if not _is_of(item, owners):
                kept.append(at)
            continue
        own = _is_of(item, owners) and item.type not in ("view", "materialized view")
        needs = _needed(item, gone)
        if not needs and item.name not in sequences:
            kept.append(at)
            continue
        if needs and item.type not in _UNSAID and (item.type == "trigger" or not own):
            left_out.append((f"{item.type} {item.name}", f"it names {full_name(needs[0])}"))
            if item.type in _NAMED_BY_OTHERS:
                gone.setdefault(_split(item.name.partition("(")[0]), needs[0])
            if item.type in ("view", "materialized view"):
                owners.add(_split(item.name))
    return kept, tuple(left_out)


def _is_of(item: SchemaObject, owners: set[tuple[str, str]]) -> bool:
    """By the table's name as PostgreSQL quotes it in full, or as SQLite tells it."""
    return _split(item.table) in owners or ("", item.table) in owners


def _needed(item: SchemaObject, gone: Mapping[tuple[str, str], Table]) -> list[Table]:
    """Those of ``gone``, by schema and name, that the definition of ``item`` names."""
    plain = _without_noise(item.sql)
    words = set(re.findall(r"\w+", plain.lower()))
    pairs: set[tuple[str, str]] = set()
    for match in _PATH.finditer(plain):
        parts = [_plain(part) for part in re.findall(_NAME, match[0])]
        words.update(parts)
        pairs.update(pairwise(parts))
    return [
        table
        for (schema, name), table in gone.items()
        if ((schema, name) in pairs if schema and item.type not in _WITH_BODY else name in words)
    ]


def _without_noise(sql: str) -> str:
    """``sql`` without texts and comments; quoted names stay."""
    return _NOISE.sub(lambda found: found[1] or " ", sql)


def _placed(table: Table, kept: list[int]) -> Table:
    """The table with its place among the objects that are ``kept``, by their places before."""
    places = {
        name: bisect_left(kept, table.options[name]) for name in _PLACES if name in table.options
    }
    return replace(table, options={**table.options, **places})


def _attributes(attributes: Attributes, missing: list[Table]) -> Mapping[str, Value]:
    gone = {f"{_SEQUENCE}{table.name}" for table in missing}
    return {name: value for name, value in attributes.items() if name not in gone}
