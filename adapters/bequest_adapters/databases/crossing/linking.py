"""Foreign keys of SQLite: found, checked against the parent, and of one type on both ends.

SQLite asks neither that the parent is there nor that the types agree; PostgreSQL asks both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bequest.model import SchemaObject, Table

from .declared import TEXT
from .definitions import ForeignKey, TableText, read_index
from .survey import Finding, Survey


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key between two tables of the snapshot, its columns by their real names."""

    child: Table
    columns: tuple[str, ...]
    parent: Table
    references: tuple[str, ...]
    key: ForeignKey

    def __hash__(self) -> int:
        return id(self.key)


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A foreign key that is not carried, and why."""

    name: str
    why: str
    link: Link | None = None


def linked(
    tables: Sequence[Table], texts: Mapping[int, TableText], objects: Sequence[SchemaObject] = ()
) -> tuple[list[Link], list[Unlinked]]:
    """The foreign keys that can stand in PostgreSQL, and those that cannot."""
    links: list[Link] = []
    unlinked: list[Unlinked] = []
    by_name = {table.name.lower(): table for table in tables}
    for table in tables:
        for key in texts[table.id].foreign:
            name = f"{table.name} ({', '.join(key.columns)})"
            parent = by_name.get(key.parent[-1].lower())
            if parent is None:
                unlinked.append(Unlinked(name, f"table {key.parent[-1]!r} is not in the snapshot"))
                continue
            indexed = _unique_indexes(parent, objects)
            found = _link(table, parent, key, texts[parent.id], indexed)
            if isinstance(found, Link):
                links.append(found)
            else:
                unlinked.append(Unlinked(name, found))
    return links, unlinked


def _unique_indexes(table: Table, objects: Sequence[SchemaObject]) -> list[tuple[str, ...]]:
    """The columns of the unique indexes that PostgreSQL takes for a key, too."""
    found: list[tuple[str, ...]] = []
    for item in objects:
        if item.type == "index" and item.table.lower() == table.name.lower():
            index = read_index(item.sql)
            whole = index is not None and index.unique and not index.where
            if index is not None and whole and all(len(term) == 1 for term in index.terms):
                found.append(tuple(term[0].name for term in index.terms))
    return found


def _link(
    table: Table, parent: Table, key: ForeignKey, text: TableText, indexed: list[tuple[str, ...]]
) -> Link | str:
    primary = text.primary.columns if text.primary else ()
    wanted = key.references or primary
    columns, references = _real(table, key.columns), _real(parent, wanted)
    if columns is None or references is None or len(columns) != len(references):
        return "its columns are not those of the parent's key"
    keys = [set(each) for each in (primary, *(each.columns for each in text.unique), *indexed)]
    if {name.lower() for name in references} not in [{n.lower() for n in each} for each in keys]:
        return "the parent's columns have no key of their own"
    if any(_collation(text, name) == "NOCASE" for name in references):
        return "the parent's key compares without case"
    return Link(table, columns, parent, references, key)


def _collation(text: TableText, name: str) -> str:
    column = text.column(name)
    return column.collation.upper() if column is not None else ""


def _real(table: Table, names: tuple[str, ...]) -> tuple[str, ...] | None:
    actual = {column.name.lower(): column.name for column in table.columns if not column.role}
    found = tuple(actual.get(name.lower(), "") for name in names)
    return found if all(found) else None


def reconcile(links: Sequence[Link], survey: Survey) -> list[Unlinked]:
    """Give both ends of each link one type, text where a UUID meets text; the rest is unlinked."""
    changed = True
    while changed:
        changed = False
        for link in links:
            for left, right in _ends(link, survey):
                kinds = (_family(left), _family(right))
                if set(kinds) == {"uuid", "text"}:
                    _make_text(left if kinds[0] == "uuid" else right)
                    changed = True
    unlinked: list[Unlinked] = []
    for link in links:
        for left, right in _ends(link, survey):
            if _family(left) != _family(right):
                why = f"{left.chosen.type} refers to {right.chosen.type}"
                name = f"{link.child.name} ({', '.join(link.columns)})"
                unlinked.append(Unlinked(name, why, link))
                break
    return unlinked


def _ends(link: Link, survey: Survey) -> list[tuple[Finding, Finding]]:
    found: list[tuple[Finding, Finding]] = []
    for column, reference in zip(link.columns, link.references, strict=True):
        left, right = survey.of(link.child, column), survey.of(link.parent, reference)
        if left is not None and right is not None:
            found.append((left, right))
    return found


def _family(finding: Finding) -> str:
    kind = finding.chosen.type
    return "text" if kind.startswith("character varying") else kind


def _make_text(finding: Finding) -> None:
    finding.ladder = (TEXT,)
    finding.step = 0
