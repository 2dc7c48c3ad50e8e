"""Where triggers must be: a table, all its partitions at every depth, and how each is written to.

Statement triggers of a partitioned table miss what is written straight into a partition, so every
partition has triggers of its own, under the table's number. The transition table of a parent in
plain inheritance does not tell which child a row is of, replication applies row by row without
statement triggers, and a server refuses to collect rows on their way to a foreign partition: such
tables have row triggers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .connection import Connection
from .naming import qualified
from .shapes import TableShape
from .triggers import ROW, STATEMENT, Trigger

_RELATIONS: Final = """
WITH RECURSIVE family(root, oid) AS (
    SELECT r.oid, r.oid FROM unnest(%s::oid[]) AS r(oid)
    UNION ALL
    SELECT f.root, i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid
    JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT f.root, c.oid, n.nspname, c.relname,
    EXISTS (SELECT FROM pg_partition_tree(f.root) l JOIN pg_class lc ON lc.oid = l.relid
        WHERE lc.relkind = 'f'),
    c.relkind::text,
    NOT c.relispartition AND c.relkind = 'r' AND EXISTS (
        SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid OR i.inhparent = c.oid),
    EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid)
FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') ORDER BY f.root, c.relispartition, c.oid
"""

_TRIGGERS: Final = """
SELECT t.tgrelid, t.tgname, p.proname, t.tgtype, t.tgenabled::text, coalesce(t.tgnewtable, ''),
    coalesce(t.tgoldtable, ''), t.tgqual IS NULL AND t.tgnargs = 0 AND t.tgattr = ''
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'bequest' AND NOT t.tgisinternal AND t.tgparentid = 0
    AND t.tgrelid IS DISTINCT FROM to_regclass('bequest.bequest_journal')
"""

_NAMES: Final = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[])
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a partition, and how its writes are to be journalled."""

    root: int
    oid: int
    schema: str
    name: str
    mode: str

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Standing:
    """One of our triggers as it stands; ``sound`` when it is always on and has no condition."""

    trigger: Trigger
    sound: bool


def read_relations(connection: Connection, shapes: Iterable[TableShape]) -> tuple[Relation, ...]:
    """All relations of the tables, roots first."""
    rows = connection.execute(_RELATIONS, [[shape.oid for shape in shapes]]).fetchall()
    return tuple(
        # A partitioned table is never written to itself: its statement triggers catch the rest.
        Relation(root, oid, schema, name, STATEMENT if kind == "p" or plain else ROW)
        for root, oid, schema, name, distant, kind, family, fed in rows
        for plain in (not (family or fed or distant),)
        if not (distant and kind == "p")  # then the row triggers of the partitions see all
    )


def read_triggers(connection: Connection) -> Mapping[int, tuple[Standing, ...]]:
    """Our triggers, wherever they are, by the relation's identifier."""
    found: dict[int, list[Standing]] = {}
    for oid, name, function, kind, enabled, new, old, plain in connection.execute(_TRIGGERS):
        # The event is not compared: the kind says the same.
        trigger = Trigger(name, function, "", kind, (new, old))
        found.setdefault(oid, []).append(Standing(trigger, enabled == "A" and plain))
    return {oid: tuple(standing) for oid, standing in found.items()}


def read_names(connection: Connection, oids: Iterable[int]) -> Mapping[int, str]:
    """The qualified names of relations."""
    rows = connection.execute(_NAMES, [list(oids)]).fetchall()
    return {oid: qualified(schema, name) for oid, schema, name in rows}
