"""One definition among all: its statement, its address in the system catalogs, and its order.

Everything is executed in an order in which each definition finds what it needs. PostgreSQL itself
records what needs what (pg_depend), except what the texts of function bodies name: those are not
checked when they are made (check_function_bodies is off during a restore).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

Address = tuple[str, int]
"""A system catalog and the identifier of a row in it."""

TABLE: Final = "table"

BEFORE_ROWS: Final = (
    "schema",
    "collation",
    "extension",
    "type",
    "domain",
    "function",
    "procedure",
    "aggregate",
    "operator",
    "cast",
    "text search",
    "sequence",
    TABLE,
    "partition",
)
AFTER_ROWS: Final = (
    "view",
    "materialized view",
    "default",
    "check",
    "key",
    "index",
    "index partition",
    "index option",
    "foreign key",
    "sequence owner",
    "statistics",
    "rule",
    "trigger",
    "policy",
    "table option",
    "row security",
    "comment",
    "grant",
    "default privilege",
    "refresh",
)
_PRIORITY: Final = {kind: place for place, kind in enumerate((*BEFORE_ROWS, *AFTER_ROWS))}


@dataclass(frozen=True, slots=True)
class Item:
    """A definition. ``about`` is the table it belongs to; ``needs`` adds to what pg_depend says.

    ``address`` is where dependants find it; ``None`` for what nothing can depend on.
    """

    kind: str
    name: str
    sql: str
    address: Address | None = None
    about: str = ""
    needs: tuple[Address, ...] = ()

    @property
    def rank(self) -> tuple[int, str, str]:
        """Where it belongs when nothing forces it elsewhere."""
        return _PRIORITY[self.kind], self.name, self.sql


def ordered(
    items: Sequence[Item], needs: Mapping[int, AbstractSet[int]]
) -> tuple[list[int], list[int]]:
    """The items' places, in order: what must be there before rows are loaded, and the rest.

    The order is the same for the same definitions. A circle is cut at its lowest rank.
    """
    first = {at for at, item in enumerate(items) if item.kind in BEFORE_ROWS}
    late = _closure(
        {at for at, item in enumerate(items) if item.kind in AFTER_ROWS}, _reverse(needs)
    )
    for_tables = _closure({at for at in first if items[at].kind in (TABLE, "partition")}, needs)
    first = (first - late) | for_tables
    rest = set(range(len(items))) - first
    return _sorted(items, needs, first), _sorted(items, needs, rest)


def _reverse(needs: Mapping[int, AbstractSet[int]]) -> dict[int, set[int]]:
    reverse: dict[int, set[int]] = {}
    for at, needed in needs.items():
        for other in needed:
            reverse.setdefault(other, set()).add(at)
    return reverse


def _closure(start: Iterable[int], needs: Mapping[int, AbstractSet[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(start)
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += needs.get(at, ())
    return found


def dependants(start: Iterable[int], needs: Mapping[int, AbstractSet[int]]) -> set[int]:
    """All that needs one of ``start``, directly or not; without ``start`` itself."""
    begin = set(start)
    return _closure(begin, _reverse(needs)) - begin


def _sorted(
    items: Sequence[Item], needs: Mapping[int, AbstractSet[int]], among: set[int]
) -> list[int]:
    missing = {at: {other for other in needs.get(at, ()) if other in among} for at in among}
    wanted_by = _reverse(missing)
    ready = [(items[at].rank, at) for at in among if not missing[at]]
    heapq.heapify(ready)
    order: list[int] = []
    left = set(among)
    while left:
        if not ready:
            ready = [min((items[at].rank, at) for at in left)]
        at = heapq.heappop(ready)[1]
        if at not in left:
            continue
        left.discard(at)
        order.append(at)
        for other in wanted_by.get(at, ()):
            missing[other].discard(at)
            if other in left and not missing[other]:
                heapq.heappush(ready, (items[other].rank, other))
    return order
