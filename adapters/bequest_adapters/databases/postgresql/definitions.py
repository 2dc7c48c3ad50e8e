"""Read all definitions of a database and put them in an order in which they can be made again.

The texts come from the server's own functions under an empty search path, so that they name
everything in full and do not depend on the session. The same database gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

from bequest.model import SchemaObject

from . import definitions_around, definitions_notes, definitions_tables, definitions_types
from .definitions_items import TABLE, Address, Item, dependants, ordered

_QUERIES: Final = (
    *definitions_types.QUERIES,
    *definitions_tables.QUERIES,
    *definitions_around.QUERIES,
    *definitions_notes.QUERIES,
)

# What is only a part of something else, and stands for it in pg_depend.
_PARTS: Final = """
SELECT d.classid::regclass::text, d.objid, d.refclassid::regclass::text, d.refobjid
FROM pg_depend d WHERE d.deptype IN ('i', 'e') AND d.objid >= 16384
UNION
SELECT 'pg_attrdef', oid, 'pg_class', adrelid FROM pg_attrdef
UNION
SELECT 'pg_constraint', oid, 'pg_type', contypid FROM pg_constraint WHERE contypid <> 0
UNION
SELECT 'pg_type', typarray, 'pg_type', oid FROM pg_type WHERE typarray <> 0
"""

_NEEDS: Final = """
SELECT DISTINCT d.classid::regclass::text, d.objid, d.refclassid::regclass::text, d.refobjid
FROM pg_depend d
WHERE d.deptype NOT IN ('i', 'e') AND d.objid >= 16384
  AND (d.refobjid >= 16384 OR d.refclassid = 'pg_namespace'::regclass)
  AND NOT (d.deptype = 'a' AND d.classid = 'pg_class'::regclass AND EXISTS (
      SELECT 1 FROM pg_class c WHERE c.oid = d.objid AND c.relkind = 'S'))
"""


@dataclass(frozen=True, slots=True)
class Definitions:
    """``tables`` maps a table's quoted name to its statement and how many objects precede it.

    They are in the order in which they can be made: a parent before those that inherit from it.
    ``before_rows`` of the ``objects`` must be made before rows are loaded.
    """

    tables: dict[str, tuple[str, int]]
    objects: tuple[SchemaObject, ...]
    before_rows: int
    not_covered: tuple[tuple[str, str], ...]


def read_definitions(connection: psycopg.Connection[Any], covered: Iterable[str]) -> Definitions:
    """All definitions, for the tables ``covered`` (quoted names in full).

    What needs a table that is not covered is left out, too, and named. Raises psycopg's errors.
    """
    with connection.cursor(row_factory=tuple_row) as cursor:
        items = _items(cursor)
        wholes = _Wholes(items, cursor.execute(_PARTS.encode()).fetchall())
        missing = cursor.execute(definitions_notes.NOT_COVERED.encode()).fetchall()
        needs = _needs(items, wholes, cursor.execute(_NEEDS.encode()).fetchall())
        foreign = {(str(row[2]), int(row[3])): str(row[0]) for row in missing if row[2]}
        lacking = _lacking(items, wholes, cursor.execute(_NEEDS.encode()).fetchall(), foreign)
    circles = dict.fromkeys(_in_circles(items, needs), "itself, in a circle of views")
    lacking = circles | lacking
    left_out, reasons = _left_out(items, needs, set(covered), lacking)
    keep = [at for at in range(len(items)) if at not in left_out]
    items, needs = _only(items, needs, keep)
    told = tuple((str(row[0]), str(row[1])) for row in missing)
    return _arranged(items, needs, set(covered), told + tuple(sorted(reasons)))


def _items(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[Item]:
    found: list[Item] = []
    for query in _QUERIES:
        for kind, name, sql, catalog, number, about in cursor.execute(query.encode()):
            address = None if number is None else (catalog, number)
            found.append(Item(kind, name, sql, address, about))
    return found


class _Wholes:
    """Finds the item that an address of pg_depend belongs to."""

    def __init__(self, items: list[Item], parts: list[tuple[Any, ...]]) -> None:
        self._places: dict[Address, int] = {}
        for at, item in enumerate(items):
            if item.address is not None and item.kind not in ("comment", "grant"):
                self._places[item.address] = at
        self._parts = {(row[0], row[1]): (row[2], row[3]) for row in parts}

    def find(self, address: Address) -> int | None:
        """The item's place; ``None`` for what is nobody's."""
        for _ in range(8):
            if address in self._places:
                return self._places[address]
            if address not in self._parts:
                return None
            address = self._parts[address]
        return None

    def last(self, address: Address) -> Address:
        """The whole that an address is a part of, be it an item or not."""
        for _ in range(8):
            if address in self._places or address not in self._parts:
                break
            address = self._parts[address]
        return address


def _needs(items: list[Item], wholes: _Wholes, rows: list[tuple[Any, ...]]) -> dict[int, set[int]]:
    needs: dict[int, set[int]] = {}

    def add(at: int | None, other: int | None) -> None:
        if at is not None and other is not None and at != other:
            needs.setdefault(at, set()).add(other)

    for row in rows:
        add(wholes.find((row[0], row[1])), wholes.find((row[2], row[3])))
    tables = {item.name: at for at, item in enumerate(items) if item.kind in (TABLE, "partition")}
    by_name = {(item.kind, item.name): at for at, item in enumerate(items)}
    refreshed = {item.about: at for at, item in enumerate(items) if item.kind == "refresh"}
    for at, item in enumerate(items):
        if item.kind in ("comment", "grant") and item.address is not None:
            add(at, wholes.find(item.address))
        if item.kind != TABLE:
            add(at, tables.get(item.about))
        if item.kind == "sequence owner":
            add(at, by_name.get(("sequence", item.name)))
        if item.kind == "refresh":
            add(at, by_name.get(("materialized view", item.name)))
    for name, at in refreshed.items():
        view = by_name.get(("materialized view", name), at)
        for other in tuple(needs.get(view, ())):
            add(at, refreshed.get(items[other].name))
    return needs


def _lacking(
    items: list[Item],
    wholes: _Wholes,
    rows: list[tuple[Any, ...]],
    foreign: dict[Address, str],
) -> dict[int, str]:
    """Items that need something that is not covered, with its name."""
    found: dict[int, str] = {}
    for row in rows:
        at = wholes.find((row[0], row[1]))
        other = wholes.last((row[2], row[3]))
        if at is not None and other in foreign:
            found[at] = foreign[other]
    for at, item in enumerate(items):
        if item.address is not None and item.address in foreign:
            found[at] = foreign[item.address]
    return found


def _in_circles(items: list[Item], needs: dict[int, set[int]]) -> list[int]:
    """Views that need themselves by way of others: nobody can read them, or make them in a row."""
    views = {at for at, item in enumerate(items) if item.kind == "view"}
    among = {at: needs.get(at, set()) & views for at in views}
    left = set(views)
    # What needs none of those left is in no circle, nor is what none of those left needs.
    while free := {at for at in left if not among[at] & left}:
        left -= free
    while free := left - {other for at in left for other in among[at]}:
        left -= free
    return sorted(left)


def _left_out(
    items: list[Item], needs: dict[int, set[int]], covered: set[str], lacking: dict[int, str]
) -> tuple[set[int], list[tuple[str, str]]]:
    tables = {at for at, item in enumerate(items) if item.kind == TABLE}
    wanted = {at for at in tables if items[at].name in covered}
    reverse = dependants(wanted, _turned(needs)) | wanted
    excluded = {at for at in tables - reverse if not _is_empty(items[at])}
    reasons = [
        (f"{items[at].kind} {items[at].name}", f"needs {name}, which cannot be covered")
        for at, name in lacking.items()
    ]
    gone = excluded | (set(lacking) - reverse)
    more = dependants(gone, needs) - reverse
    reasons += [
        (f"{items[at].kind} {items[at].name}", "needs something that is not covered")
        for at in more
        if items[at].about not in {items[other].name for other in excluded}
        and items[at].kind not in ("comment", "grant")
    ]
    return gone | more, reasons


def _is_empty(item: Item) -> bool:
    return " ()" in item.sql.split("\n", 1)[0]


def _turned(needs: dict[int, set[int]]) -> dict[int, set[int]]:
    turned: dict[int, set[int]] = {}
    for at, needed in needs.items():
        for other in needed:
            turned.setdefault(other, set()).add(at)
    return turned


def _only(
    items: list[Item], needs: dict[int, set[int]], keep: list[int]
) -> tuple[list[Item], dict[int, set[int]]]:
    places = {at: place for place, at in enumerate(keep)}
    return [items[at] for at in keep], {
        places[at]: {places[other] for other in needs.get(at, set()) if other in places}
        for at in keep
    }


def _arranged(
    items: list[Item],
    needs: dict[int, set[int]],
    covered: set[str],
    not_covered: tuple[tuple[str, str], ...],
) -> Definitions:
    first, rest = ordered(items, needs)
    tables: dict[str, tuple[str, int]] = {}
    objects: list[SchemaObject] = []

    def take(places: list[int]) -> None:
        for at in places:
            item = items[at]
            if item.kind == TABLE and item.name in covered:
                tables[item.name] = (item.sql, len(objects))
            else:
                objects.append(SchemaObject(item.kind, item.name, item.about, item.sql))

    take(first)
    before_rows = len(objects)
    take(rest)
    return Definitions(tables, tuple(objects), before_rows, not_covered)
