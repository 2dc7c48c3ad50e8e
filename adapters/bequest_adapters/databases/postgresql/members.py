"""What the rows of a table lie in, and whether that is still what it was at the cut's snapshot.

A snapshot protects rows from UPDATE, DELETE and VACUUM, but not from TRUNCATE, from an ALTER TABLE
that rewrites the table, from DROP, or from another table that takes the name; and after what moves
rows (CLUSTER, VACUUM FULL) an address in the table means something else. All of them change
`Member.identity`. The cut's own transaction reads it as of the snapshot. Another session reads it
as it is, while the cut holds the lock under which it read rows: until then nothing can change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bequest.model import Table

from .connection import Connection
from .naming import qualified

# A value of an enum is written out under its present label, whatever the snapshot.
_IDENTITY: Final = """
c.relfilenode::int8, n.nspname, c.relname,
(SELECT pg_catalog.bit_xor(pg_catalog.hash_record_extended(
    ROW(a.attnum, a.attname, a.atttypid, a.atttypmod, a.attisdropped), 0))
 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid >= 16384)
THEN (SELECT pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(e.oid, e.enumlabel), 0))
    FROM pg_catalog.pg_enum e) END
"""

_MEMBER: Final = f"""
SELECT {_IDENTITY} FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""

# A partition that is being detached concurrently has left the table. Access method 2 is heap.
_FAMILIES: Final = f"""
WITH RECURSIVE family(turn, oid, parent) AS (
    SELECT x.turn, c.oid, 0::pg_catalog.oid
    FROM ROWS FROM (pg_catalog.unnest(%s::name[]), pg_catalog.unnest(%s::name[]))
        WITH ORDINALITY AS x(schema, name, turn)
    JOIN pg_catalog.pg_namespace n ON n.nspname = x.schema
    JOIN pg_catalog.pg_class c ON c.relname = x.name AND c.relnamespace = n.oid
    UNION ALL
    SELECT f.turn, i.inhrelid, i.inhparent FROM family f
    JOIN pg_catalog.pg_class p ON p.oid = f.oid AND p.relkind = 'p'
    JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid AND NOT i.inhdetachpending)
SELECT f.turn, c.oid::int8, f.parent::int8, c.reltoastrelid::int8, c.relkind::text, c.relam = 2,
    {_IDENTITY}
FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY f.turn, c.oid
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A table itself, or a partition of it at any depth."""

    oid: int
    parent: int
    toast: int
    kind: str
    heap: bool
    identity: tuple[Any, ...]

    @property
    def stored(self) -> bool:
        """Whether it holds rows here."""
        return self.kind == "r"

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return qualified(self.identity[1], self.identity[2])


Family = tuple[Member, ...]


def families(connection: Connection, tables: Sequence[Table]) -> Mapping[int, Family]:
    """The members of each table, by its number, as the connection's transaction sees them.

    Those of a table that is not there are none. Raises psycopg's errors.
    """
    found: dict[int, list[Member]] = {table.id: [] for table in tables}
    names = [[table.schema for table in tables], [table.name for table in tables]]
    for row in connection.execute(_FAMILIES, names, prepare=True):
        turn: int = row[0]
        oid, parent, toast, kind, heap = row[1:6]
        found[tables[turn - 1].id].append(Member(oid, parent, toast, kind, heap, row[6:]))
    return {number: tuple(members) for number, members in found.items()}


def is_unchanged(connection: Connection, member: Member) -> bool:
    """Whether the member is what it was, as ``connection`` sees it now. Raises psycopg's errors."""
    found = connection.execute(_MEMBER, [member.oid], prepare=True).fetchone()
    return found == member.identity
