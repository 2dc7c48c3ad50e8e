"""Whether anything about the schema changed: one number over the system catalogs.

Every catalog row carries the transaction that wrote it last (``xmin``), so DDL of any kind changes
the number, also where it leaves the same names behind: DISABLE and ENABLE of a trigger, DROP and
CREATE. Of ``pg_class`` columns are taken instead, for TRUNCATE, CLUSTER and VACUUM FULL write there
too, and change nothing that matters here. Temporary objects are left out, and so are our own
tables; our functions and triggers are not, for they must stay as they are.

Built-in objects have identifiers below 16384 (FirstNormalObjectId), so index ranges find the rest.
"""

from __future__ import annotations

from typing import Final

from .shapes import KEPT

_FIRST: Final = 16384

_RELATION: Final = (
    "c.oid, c.relname, c.relnamespace, c.relowner, c.relkind, c.relpersistence, c.relreplident,"
    " c.relrowsecurity, c.relforcerowsecurity, c.relispartition, c.relpartbound::text,"
    " c.reltablespace, c.relam, c.reloptions, c.relacl::text, c.relispopulated"
)

# Catalogs whose rows belong to a relation, and the column that names it.
_OF_RELATIONS: Final = {
    "pg_attribute": ("attrelid", "x.attnum"),
    "pg_attrdef": ("adrelid", "x.oid"),
    "pg_index": ("indrelid", "x.indexrelid"),
    "pg_trigger": ("tgrelid", "x.oid"),
    "pg_inherits": ("inhrelid", "x.inhparent"),
    "pg_rewrite": ("ev_class", "x.oid"),
    "pg_policy": ("polrelid", "x.oid"),
    "pg_sequence": ("seqrelid", "x.seqrelid"),
    "pg_statistic_ext": ("stxrelid", "x.oid"),
    "pg_foreign_table": ("ftrelid", "x.ftrelid"),
    "pg_subscription_rel": ("srrelid", "x.srsubid"),
    "pg_publication_rel": ("prrelid", "x.oid"),
}

# Catalogs whose rows belong to a schema, and the column that names it.
_OF_SCHEMAS: Final = {
    "pg_proc": "pronamespace",
    "pg_operator": "oprnamespace",
    "pg_opclass": "opcnamespace",
    "pg_opfamily": "opfnamespace",
    "pg_collation": "collnamespace",
    "pg_conversion": "connamespace",
    "pg_ts_config": "cfgnamespace",
    "pg_ts_dict": "dictnamespace",
}

_COMMENTED_IN_SCHEMAS: Final = {
    "pg_proc": "pronamespace",
    "pg_type": "typnamespace",
    "pg_constraint": "connamespace",
}
_COMMENTED_IN_RELATIONS: Final = {
    "pg_trigger": "tgrelid",
    "pg_rewrite": "ev_class",
    "pg_policy": "polrelid",
}

_BY_THEMSELVES: Final = (
    "pg_enum",
    "pg_extension",
    "pg_cast",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_foreign_server",
    "pg_foreign_data_wrapper",
    "pg_publication",
)


def _sum(number: int, what: str, source: str) -> str:
    return (
        f"SELECT {number}, bit_xor(hash_record_extended(ROW({what}), {number})), count(*)"
        f" FROM {source}"
    )


def _comments(first: int) -> list[str]:
    """Comments on whatever is in the schemas that count, and on what is in none."""
    sources = [_about("pg_class", "relations y"), _about("pg_namespace", "schemas y")]
    for catalog, column in _COMMENTED_IN_SCHEMAS.items():
        inside = f"pg_catalog.{catalog} y JOIN schemas n ON n.oid = y.{column}"
        sources.append(_about(catalog, inside))
    for catalog, column in _COMMENTED_IN_RELATIONS.items():
        inside = f"pg_catalog.{catalog} y JOIN relations c ON c.oid = y.{column}"
        sources.append(_about(catalog, inside))
    told = ("pg_class", "pg_namespace", *_COMMENTED_IN_SCHEMAS, *_COMMENTED_IN_RELATIONS)
    classes = ", ".join(f"'pg_catalog.{catalog}'::pg_catalog.regclass" for catalog in told)
    sources.append(
        f"pg_catalog.pg_description x WHERE x.objoid >= {_FIRST} AND x.classoid NOT IN ({classes})"
    )
    return [
        _sum(first + number, "x.objoid, x.objsubid, x.xmin", source)
        for number, source in enumerate(sources)
    ]


def _about(catalog: str, inside: str) -> str:
    return (
        f"{inside} JOIN pg_catalog.pg_description x ON x.objoid = y.oid"
        f" AND x.classoid = 'pg_catalog.{catalog}'::pg_catalog.regclass"
    )


def _query() -> str:
    parts = [_sum(0, _RELATION, "relations c")]
    for catalog, (column, name) in _OF_RELATIONS.items():
        identity = f"x.{column}, {name}, x.xmin"
        # The state of a table's first synchronisation comes and goes.
        identity = "x.srrelid, x.srsubid" if catalog == "pg_subscription_rel" else identity
        # What the columns of indexes, sequences and so on are follows from other rows.
        live = (
            " WHERE x.attnum > 0 AND c.relkind IN ('r', 'p', 'f', 'c', 'v', 'm')"
            if catalog == "pg_attribute"
            else ""
        )
        source = f"pg_catalog.{catalog} x JOIN relations c ON c.oid = x.{column}{live}"
        parts.append(_sum(len(parts), identity, source))
    for catalog, column in _OF_SCHEMAS.items():
        source = (
            f"pg_catalog.{catalog} x JOIN schemas n ON n.oid = x.{column} WHERE x.oid >= {_FIRST}"
        )
        parts.append(_sum(len(parts), "x.oid, x.xmin", source))
    for catalog in _BY_THEMSELVES:
        source = f"pg_catalog.{catalog} x WHERE x.oid >= {_FIRST}"
        parts.append(_sum(len(parts), "x.oid, x.xmin", source))
    types = (
        "pg_catalog.pg_type x JOIN schemas n ON n.oid = x.typnamespace"
        f" WHERE x.oid >= {_FIRST} AND x.typrelid = 0 AND x.typelem = 0"
    )
    parts.append(_sum(len(parts), "x.oid, x.xmin", types))
    constraints = (
        "pg_catalog.pg_constraint x JOIN schemas n ON n.oid = x.connamespace"
        f" WHERE x.oid >= {_FIRST}"
        " AND (x.conrelid = 0 OR x.conrelid IN (SELECT oid FROM relations))"
    )
    parts.append(_sum(len(parts), "x.oid, x.xmin", constraints))
    parts.append(_sum(len(parts), "n.oid, n.nspname, n.nspowner, n.nspacl::text", "schemas n"))
    ours = (
        "pg_catalog.pg_proc x JOIN pg_catalog.pg_namespace n ON n.oid = x.pronamespace"
        " WHERE n.nspname = 'bequest'"
    )
    parts.append(_sum(len(parts), "x.oid, x.xmin", ours))
    parts += _comments(len(parts))
    union = " UNION ALL ".join(parts)
    return f"""
WITH schemas AS MATERIALIZED (
  SELECT * FROM pg_catalog.pg_namespace
  WHERE nspname <> 'bequest' AND nspname !~ '^(pg_toast|pg_temp|{KEPT})'
    AND (oid >= {_FIRST} OR nspname = 'public')),
relations AS MATERIALIZED (
  SELECT c.* FROM pg_catalog.pg_class c
  WHERE c.oid >= {_FIRST} AND c.relpersistence <> 't'
    AND c.relnamespace IN (SELECT oid FROM schemas)),
parts(number, hash, rows) AS ({union})
SELECT pg_catalog.md5(pg_catalog.string_agg(
  pg_catalog.format('%s:%s:%s', number, hash, rows), ' ' ORDER BY number)) FROM parts
"""


FINGERPRINT: Final = _query()
"""SQL that yields the number as text; for a connection whose search path is empty."""
