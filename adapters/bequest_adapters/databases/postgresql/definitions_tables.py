"""Tables, their partitions and sequences: what rows are loaded into.

A table is made without what would slow the load or fire during it: keys, checks, indexes and
triggers follow. A partition is made as a table of its own and then attached, so that its columns
keep their order.
"""

from __future__ import annotations

from typing import Final

from .definitions_types import NOT_OF_AN_EXTENSION
from .shapes import NOT_OURS

_SEQUENCE_OPTIONS: Final = """
format('START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s%s', q.seqstart,
    q.seqincrement, q.seqmin, q.seqmax, q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' END)
"""

_IDENTITY: Final = f"""
(SELECT format(' GENERATED %s AS IDENTITY (SEQUENCE NAME %I.%I %s)',
     CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
     sn.nspname, sc.relname, {_SEQUENCE_OPTIONS})
 FROM pg_depend d JOIN pg_class sc ON sc.oid = d.objid AND sc.relkind = 'S'
 JOIN pg_namespace sn ON sn.oid = sc.relnamespace JOIN pg_sequence q ON q.seqrelid = sc.oid
 WHERE a.attidentity <> '' AND d.classid = 'pg_class'::regclass AND d.deptype = 'i'
   AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
   AND NOT (c.relispartition AND current_setting('server_version_num')::int >= 170000))
"""

# A default that needs something of the user's comes after the load: it may need the table itself.
_PLAIN_DEFAULT: Final = """
NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid
    AND d.refobjid >= 16384 AND d.refclassid <> 'pg_type'::regclass
    AND NOT (d.refclassid = 'pg_class'::regclass AND (d.refobjid = c.oid
        OR EXISTS (SELECT 1 FROM pg_class s WHERE s.oid = d.refobjid AND s.relkind = 'S'))))
"""

_NOT_NULL: Final = """
CASE WHEN a.attnotnull THEN coalesce(
    (SELECT format(' CONSTRAINT %I NOT NULL%s', k.conname,
         CASE WHEN k.connoinherit THEN ' NO INHERIT' END)
     FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'n' AND k.conkey[1] = a.attnum
       AND (k.connoinherit OR k.conname <> left(c.relname || '_' || a.attname, 54) || '_not_null')),
    ' NOT NULL') END
"""

_COLUMN: Final = f"""
format('%I%s%s%s%s%s%s%s', a.attname,
    CASE WHEN c.reloftype = 0 THEN ' ' || format_type(a.atttypid, a.atttypmod)
        ELSE ' WITH OPTIONS' END,
    CASE WHEN c.reloftype = 0 THEN (SELECT format(' COLLATE %I.%I', cn.nspname, k.collname)
        FROM pg_collation k JOIN pg_namespace cn ON cn.oid = k.collnamespace
        JOIN pg_type y ON y.oid = a.atttypid
        WHERE k.oid = a.attcollation AND k.oid <> y.typcollation) END,
    CASE a.attcompression::text WHEN 'p' THEN ' COMPRESSION pglz' WHEN 'l' THEN ' COMPRESSION lz4'
        END,
    CASE WHEN a.attgenerated = '' AND {_PLAIN_DEFAULT}
        THEN ' DEFAULT ' || pg_get_expr(ad.adbin, ad.adrelid) END,
    CASE WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s)%s',
        pg_get_expr(ad.adbin, ad.adrelid),
        CASE WHEN a.attgenerated = 's' THEN ' STORED' END) END,
    {_IDENTITY},
    {_NOT_NULL})
"""

_COLUMNS: Final = f"""
(SELECT string_agg({_COLUMN}, E',\\n    ' ORDER BY a.attnum)
 FROM pg_attribute a LEFT JOIN pg_attrdef ad ON ad.adrelid = c.oid AND ad.adnum = a.attnum
 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   AND (a.attislocal OR c.relispartition)
   AND (c.reloftype = 0 OR ad.oid IS NOT NULL OR a.attnotnull))
"""

# What CREATE TABLE has no words for on the oldest servers.
_SETTINGS: Final = """
coalesce((SELECT string_agg(line, '' ORDER BY at, which) FROM (
    SELECT a.attnum AS at, 1 AS which,
        format(E';\\nALTER TABLE ONLY %I.%I ALTER COLUMN %I SET STORAGE %s', n.nspname, c.relname,
            a.attname, CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
                WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END) AS line
    FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attstorage <> y.typstorage
    UNION ALL
    SELECT a.attnum, 2, format(E';\\nALTER TABLE ONLY %I.%I ALTER COLUMN %I SET NOT NULL',
            n.nspname, c.relname, a.attname)
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
      AND NOT (a.attislocal OR c.relispartition)
      AND NOT EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent
          WHERE i.inhrelid = c.oid AND p.attname = a.attname AND p.attnotnull)
    UNION ALL
    SELECT a.attnum, 3, format(E';\\nALTER TABLE ONLY %I.%I ALTER COLUMN %I SET (%s)', n.nspname,
            c.relname, a.attname, array_to_string(a.attoptions, ', '))
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attoptions IS NOT NULL
    UNION ALL
    SELECT a.attnum, 4, format(E';\\nALTER TABLE ONLY %I.%I ALTER COLUMN %I SET STATISTICS %s',
            n.nspname, c.relname, a.attname, a.attstattarget)
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
) settings), '')
"""

_OPTIONS: Final = """
array_to_string(c.reloptions || (
    SELECT array_agg('toast.' || o) FROM pg_class t, unnest(t.reloptions) o
    WHERE t.oid = c.reltoastrelid), ', ')
"""

TABLES: Final = f"""
SELECT CASE WHEN c.relispartition THEN 'partition' ELSE 'table' END,
    format('%I.%I', n.nspname, c.relname),
    format(E'CREATE %sTABLE %I.%I%s%s%s%s%s%s%s%s',
        CASE WHEN c.relpersistence = 'u' THEN 'UNLOGGED ' END, n.nspname, c.relname,
        CASE WHEN c.reloftype <> 0 THEN ' OF ' || format_type(c.reloftype, -1) END,
        CASE WHEN c.reloftype = 0 THEN coalesce(E' (\\n    ' || columns.texts || E'\\n)', ' ()')
            ELSE coalesce(E' (\\n    ' || columns.texts || E'\\n)', '') END,
        CASE WHEN NOT c.relispartition THEN (
            SELECT format(' INHERITS (%s)', string_agg(
                format('%I.%I', pn.nspname, p.relname), ', ' ORDER BY i.inhseqno))
            FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
            JOIN pg_namespace pn ON pn.oid = p.relnamespace
            WHERE i.inhrelid = c.oid HAVING count(*) > 0) END,
        CASE WHEN c.relkind = 'p' THEN ' PARTITION BY ' || pg_get_partkeydef(c.oid) END,
        (SELECT format(' USING %I', m.amname) FROM pg_am m
         WHERE m.oid = c.relam AND m.amname <> 'heap'),
        ' WITH (' || nullif({_OPTIONS}, '') || ')',
        CASE WHEN c.relispartition THEN (
            SELECT format(E';\\nALTER TABLE ONLY %I.%I ATTACH PARTITION %I.%I %s', pn.nspname,
                p.relname, n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid))
            FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
            JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid) END,
        {_SETTINGS}),
    'pg_class', c.oid,
    CASE WHEN c.relispartition THEN (
        SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r
        JOIN pg_namespace rn ON rn.oid = r.relnamespace WHERE r.oid = pg_partition_root(c.oid))
        ELSE '' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL {_COLUMNS} AS columns(texts)
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
"""

DEFAULTS: Final = f"""
SELECT 'default', format('%I.%I.%I', n.nspname, c.relname, a.attname),
    format('ALTER TABLE ONLY %I.%I ALTER COLUMN %I SET DEFAULT %s', n.nspname, c.relname,
        a.attname, pg_get_expr(ad.adbin, ad.adrelid)),
    'pg_attrdef', ad.oid, format('%I.%I', n.nspname, c.relname)
FROM pg_attrdef ad JOIN pg_class c ON c.oid = ad.adrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ad.adnum
WHERE c.relkind IN ('r', 'p', 'v') AND c.relpersistence <> 't' AND a.attgenerated = ''
  AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
  AND (c.relkind = 'v' OR NOT {_PLAIN_DEFAULT} OR NOT (a.attislocal OR c.relispartition))
UNION ALL
SELECT 'default', format('%I.%I.%I', n.nspname, c.relname, a.attname),
    format('ALTER TABLE ONLY %I.%I ALTER COLUMN %I DROP DEFAULT', n.nspname, c.relname, a.attname),
    NULL, NULL, format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND NOT c.relispartition AND NOT a.attislocal AND NOT a.atthasdef
  AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
  AND EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent
      WHERE i.inhrelid = c.oid AND p.attname = a.attname AND p.atthasdef)
"""

SEQUENCES: Final = f"""
SELECT 'sequence', format('%I.%I', n.nspname, c.relname),
    format('CREATE %sSEQUENCE %I.%I AS %s %s',
        CASE WHEN c.relpersistence = 'u' THEN 'UNLOGGED ' END, n.nspname, c.relname,
        format_type(q.seqtypid, -1), {_SEQUENCE_OPTIONS}),
    'pg_class', c.oid, ''
FROM pg_sequence q JOIN pg_class c ON c.oid = q.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
  AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_class'::regclass
      AND i.objid = c.oid AND i.deptype = 'i')
"""

SEQUENCE_OWNERS: Final = f"""
SELECT 'sequence owner', format('%I.%I', n.nspname, c.relname),
    format('ALTER SEQUENCE %I.%I OWNED BY %I.%I.%I', n.nspname, c.relname, tn.nspname, t.relname,
        a.attname),
    NULL, NULL, format('%I.%I', tn.nspname, t.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'
  AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {NOT_OURS}
  AND {NOT_OF_AN_EXTENSION.format("c")}
"""

QUERIES: Final = (TABLES, DEFAULTS, SEQUENCES, SEQUENCE_OWNERS)
