"""The tables whose rows are covered, as the system catalogs tell them: columns, forms, keys.

Read within the caller's transaction, by a connection that `forms.prepare` has prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

from bequest.model import LEFT_OUT, Column, Selection, Table

from .forms import form_of
from .naming import identifier

OURS: Final = "bequest"
"""The schema of Bequest's own tables."""

KEPT: Final = "bequest_kept_"
"""How the names of schemas begin that a forced restore put aside: captured and watched no more."""

NOT_OURS: Final = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'bequest')"
    f" AND n.nspname !~ '^(pg_toast|pg_temp_|{KEPT})'"
)
"""SQL: the schema ``n`` belongs to the application."""

BASES: Final = """
bases(oid, base) AS (
    SELECT oid, oid FROM pg_catalog.pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT t.oid, bases.base FROM pg_catalog.pg_type t JOIN bases ON bases.oid = t.typbasetype
    WHERE t.typtype = 'd')"""
"""A common table expression: each type and the one beneath all its domains."""

_TABLES: Final = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relpersistence::text, l.leaves
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT coalesce(pg_catalog.json_agg(ARRAY[ln.nspname, lc.relname]
        ORDER BY ln.nspname, lc.relname) FILTER (WHERE lc.relkind = 'r'), '[]') AS leaves
    FROM pg_catalog.pg_partition_tree(c.oid) p JOIN pg_catalog.pg_class lc ON lc.oid = p.relid
    JOIN pg_catalog.pg_namespace ln ON ln.oid = lc.relnamespace
    HAVING pg_catalog.bool_or(lc.relkind = 'f')) l ON c.relkind = 'p'
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND {NOT_OURS}
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
    AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid)
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""

_COLUMNS: Final = f"""
WITH RECURSIVE {BASES}
SELECT a.attrelid, a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
       b.base, pg_catalog.format_type(b.base, -1), a.attgenerated::text,
       EXISTS (SELECT 1 FROM pg_catalog.pg_cast x WHERE x.castmethod = 'f' AND x.castsource = 25
           AND x.casttarget = b.base AND b.base <> 19)
FROM pg_catalog.pg_attribute a JOIN bases b ON b.oid = a.atttypid
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# Strategy 3 of a b-tree, which is access method 403, is equality (access/stratnum.h, pg_am.dat).
_KEYS: Final = """
SELECT i.indrelid, k.attnum, o.oprnsp, o.oprname, k.position = 1
FROM (SELECT i.*, c.relname FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
      WHERE i.indrelid = ANY (%s) AND i.indisunique AND i.indisvalid AND i.indisready
        AND i.indpred IS NULL AND i.indexprs IS NULL) i
CROSS JOIN LATERAL (
    SELECT pg_catalog.generate_series(1, i.indnkeyatts) AS position) s
CROSS JOIN LATERAL (
    SELECT s.position, i.indkey[s.position - 1] AS attnum, i.indclass[s.position - 1] AS class) k
LEFT JOIN LATERAL (
    SELECT n.nspname AS oprnsp, op.oprname FROM pg_catalog.pg_opclass oc
    JOIN pg_catalog.pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
      AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_catalog.pg_operator op ON op.oid = am.amopopr
    JOIN pg_catalog.pg_namespace n ON n.oid = op.oprnamespace
    WHERE oc.oid = k.class AND oc.opcmethod = 403) o ON true
WHERE NOT EXISTS (
    SELECT 1 FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS g(at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[g.at]
    WHERE NOT a.attnotnull OR a.attgenerated <> '')
ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.relname COLLATE "C", k.position
"""


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """One column; ``base`` names the type beneath its domains, without a length."""

    number: int
    name: str
    type: str
    form: str
    base: str
    generated: bool
    odd: bool
    """A cast from text is no input of this type: it gives another value."""


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A column of the key, by its number in the table, and the operator that finds it.

    Without an operator it is found by its output text.
    """

    number: int
    operator: str


@dataclass(frozen=True, slots=True)
class TableShape:
    """An ordinary table, or the root of a partitioned one. ``oid`` is its identifier here."""

    oid: int
    schema: str
    name: str
    partitioned: bool
    persistence: str
    columns: tuple[ColumnShape, ...]
    key: tuple[KeyPart, ...]
    leaves: list[list[str]] | None = None
    """Of a partitioned table that also has foreign partitions: the others, which hold its rows."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def stored(self) -> tuple[ColumnShape, ...]:
        """The columns that are part of a row of the snapshot."""
        return tuple(column for column in self.columns if not column.generated)

    def table(self, number: int, sql: str, **options: Any) -> Table:
        """The same as the engine knows it, under the journal's number."""
        numbers = [column.number for column in self.stored]
        key = tuple(numbers.index(part.number) for part in self.key)
        facts: dict[str, Any] = {
            "forms": [column.form for column in self.stored],
            "key_match": [
                [part.operator, self.stored[position].base]
                for part, position in zip(self.key, key, strict=True)
            ],
        }
        if self.partitioned:
            facts["partitioned"] = True
        if self.leaves is not None:
            facts["leaves"] = self.leaves
        return Table(
            id=number,
            name=self.name,
            columns=tuple(Column(column.name, column.type) for column in self.stored),
            key=key,
            sql=sql,
            schema=self.schema,
            options=facts | options,
        )


def chosen(schema: str, name: str, selection: Selection) -> bool:
    """Whether ``selection`` wants the table. A glob with a dot is about ``schema.table``."""

    def hit(globs: tuple[str, ...]) -> bool:
        return any(fnmatchcase(f"{schema}.{name}" if "." in glob else name, glob) for glob in globs)

    return hit(selection.include) and not hit(selection.exclude)


def read_shapes(
    connection: psycopg.Connection[Any], selection: Selection | None = None
) -> tuple[TableShape, ...]:
    """The tables that ``selection`` wants, by schema and name. Raises psycopg's errors.

    A table without a column that is stored is not among them: it has no rows to speak of.
    """
    wanted = selection or Selection()
    with connection.cursor(row_factory=tuple_row) as cursor:
        tables = [row for row in cursor.execute(_TABLES.encode()) if chosen(row[1], row[2], wanted)]
        numbers = [row[0] for row in tables]
        columns = _columns(cursor.execute(_COLUMNS.encode(), [numbers]).fetchall())
        keys = _keys(cursor.execute(_KEYS.encode(), [numbers]).fetchall(), columns)
    shapes = [
        TableShape(
            *(oid, schema, name, partitioned, persistence),
            columns=columns.get(oid, ()),
            key=keys.get(oid, ()),
            leaves=leaves,
        )
        for oid, schema, name, partitioned, persistence, leaves in tables
    ]
    return tuple(shape for shape in shapes if shape.stored)


def read_left_out(
    connection: psycopg.Connection[Any], selection: Selection
) -> tuple[tuple[str, str], ...]:
    """The tables that ``selection`` does not want, each with that as the reason."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return tuple(
            (f"{row[1]}.{row[2]}", LEFT_OUT)
            for row in cursor.execute(_TABLES.encode())
            if not chosen(row[1], row[2], selection)
        )


def _columns(rows: list[tuple[Any, ...]]) -> dict[int, tuple[ColumnShape, ...]]:
    found: dict[int, list[ColumnShape]] = {}
    for table, number, name, type_, base, base_name, generated, odd in rows:
        form = form_of(base)
        column = ColumnShape(number, name, type_, form, base_name, generated != "", odd)
        found.setdefault(table, []).append(column)
    return {table: tuple(columns) for table, columns in found.items()}


def _keys(
    rows: list[tuple[Any, ...]], columns: Mapping[int, tuple[ColumnShape, ...]]
) -> dict[int, tuple[KeyPart, ...]]:
    """The first usable index of each table; the rows come in order of preference."""
    candidates: dict[int, list[list[KeyPart | None]]] = {}
    for table, number, schema, operator, first in rows:
        column = next((each for each in columns[table] if each.number == number), None)
        usable = operator is not None and column is not None and column.form != "float"
        if first:
            candidates.setdefault(table, []).append([])
        # NaN is not equal to itself outside the database, so no fold could find it again.
        odd = column is not None and column.odd
        found_by = "" if odd else f"{identifier(schema or '')}.{operator}"
        part = KeyPart(number, found_by) if usable else None
        candidates[table][-1].append(part)
    found: dict[int, tuple[KeyPart, ...]] = {}
    for table, keys in candidates.items():
        whole = [tuple(part for part in key if part is not None) for key in keys if None not in key]
        if whole:
            found[table] = whole[0]
    return found
