"""What is built around the tables once their rows are there: keys, indexes, views, triggers ..."""

from __future__ import annotations

from typing import Final

from .definitions_types import NOT_OF_AN_EXTENSION
from .shapes import NOT_OURS

_ABOUT: Final = "format('%I.%I', n.nspname, c.relname)"
_OF: Final = "format('%I on %I.%I', {0}, n.nspname, c.relname)"
_TABLE: Final = f"""
pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND {NOT_OURS}
    AND c.relpersistence <> 't' AND {NOT_OF_AN_EXTENSION.format("c")}
"""

CONSTRAINTS: Final = f"""
SELECT CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' ELSE 'key' END,
    {_OF.format("k.conname")},
    format('ALTER TABLE %s%I.%I ADD CONSTRAINT %I %s%s',
        CASE WHEN k.contype IN ('p', 'u', 'x') OR (k.contype = 'f' AND c.relkind <> 'p')
            THEN 'ONLY ' END,
        n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid),
        (SELECT format(E';\\nALTER INDEX %I.%I SET (%s)', n.nspname, i.relname,
             array_to_string(i.reloptions, ', '))
         FROM pg_class i WHERE i.oid = k.conindid AND k.contype IN ('p', 'u', 'x')
           AND i.reloptions IS NOT NULL)),
    'pg_constraint', k.oid, {_ABOUT}
FROM pg_constraint k JOIN {_TABLE} ON c.oid = k.conrelid
WHERE (k.contype IN ('p', 'u', 'x') OR (k.contype = 'c' AND k.conislocal)
    OR (k.contype = 'f' AND k.conparentid = 0))
"""

INDEXES: Final = f"""
SELECT 'index', format('%I.%I', n.nspname, x.relname), pg_get_indexdef(x.oid),
    'pg_class', x.oid, {_ABOUT}
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN {_TABLE} ON c.oid = i.indrelid
WHERE c.relkind IN ('r', 'p', 'm') AND (i.indisvalid OR c.relkind = 'p')
  AND NOT EXISTS (SELECT 1 FROM pg_constraint k
      WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT 'index partition', format('%I.%I', n.nspname, x.relname),
    format('ALTER INDEX %I.%I ATTACH PARTITION %I.%I', pn.nspname, p.relname, n.nspname, x.relname),
    NULL, NULL, {_ABOUT}
FROM pg_inherits h JOIN pg_index i ON i.indexrelid = h.inhrelid
JOIN pg_class x ON x.oid = i.indexrelid JOIN {_TABLE} ON c.oid = i.indrelid
JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
UNION ALL
SELECT 'index option', format('%I.%I', n.nspname, x.relname),
    format('ALTER TABLE %I.%I CLUSTER ON %I', n.nspname, c.relname, x.relname),
    NULL, NULL, {_ABOUT}
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN {_TABLE} ON c.oid = i.indrelid
WHERE i.indisclustered
UNION ALL
SELECT 'index option', format('%I.%I column %s', n.nspname, x.relname, a.attnum),
    format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', n.nspname, x.relname, a.attnum,
        a.attstattarget),
    NULL, NULL, {_ABOUT}
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN {_TABLE} ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = x.oid AND a.attstattarget >= 0
"""

TABLE_OPTIONS: Final = f"""
SELECT 'table option', format('replica identity of %I.%I', n.nspname, c.relname),
    format('ALTER TABLE ONLY %I.%I REPLICA IDENTITY %s', n.nspname, c.relname,
        CASE c.relreplident WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL' ELSE (
            SELECT format('USING INDEX %I', x.relname) FROM pg_index i
            JOIN pg_class x ON x.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND i.indisreplident) END),
    NULL, NULL, {_ABOUT}
FROM {_TABLE} WHERE c.relkind IN ('r', 'p') AND (c.relreplident IN ('n', 'f') OR (
    c.relreplident = 'i' AND EXISTS (
        SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)))
UNION ALL
SELECT 'row security', format('%I.%I', n.nspname, c.relname),
    concat_ws(E';\\n',
        CASE WHEN c.relrowsecurity THEN
            format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', n.nspname, c.relname) END,
        CASE WHEN c.relforcerowsecurity THEN
            format('ALTER TABLE ONLY %I.%I FORCE ROW LEVEL SECURITY', n.nspname, c.relname) END),
    NULL, NULL, {_ABOUT}
FROM {_TABLE} WHERE c.relkind IN ('r', 'p') AND (c.relrowsecurity OR c.relforcerowsecurity)
"""

VIEWS: Final = f"""
SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, {_ABOUT},
    format(E'CREATE %sVIEW %I.%I%s%s AS\\n%s%s',
        CASE c.relkind WHEN 'm' THEN 'MATERIALIZED ' END, n.nspname, c.relname,
        (SELECT format(' USING %I', m.amname) FROM pg_am m
         WHERE m.oid = c.relam AND m.amname <> 'heap'),
        ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
        rtrim(pg_get_viewdef(c.oid), ';'),
        CASE c.relkind WHEN 'm' THEN E'\\nWITH NO DATA' END),
    'pg_class', c.oid, {_ABOUT}
FROM {_TABLE} WHERE c.relkind IN ('v', 'm')
"""

STATISTICS: Final = f"""
SELECT 'statistics', format('%I.%I', sn.nspname, s.stxname),
    pg_get_statisticsobjdef(s.oid) || CASE WHEN (to_jsonb(s) ->> 'stxstattarget')::int >= 0 THEN
        format(E';\\nALTER STATISTICS %I.%I SET STATISTICS %s', sn.nspname, s.stxname,
            to_jsonb(s) ->> 'stxstattarget') ELSE '' END,
    'pg_statistic_ext', s.oid, {_ABOUT}
FROM pg_statistic_ext s JOIN pg_namespace sn ON sn.oid = s.stxnamespace
JOIN {_TABLE} ON c.oid = s.stxrelid
"""

RULES: Final = f"""
SELECT 'rule', {_OF.format("r.rulename")},
    rtrim(pg_get_ruledef(r.oid), ';') || CASE r.ev_enabled WHEN 'O' THEN '' ELSE
        format(E';\\nALTER TABLE %I.%I %s RULE %I', n.nspname, c.relname, CASE r.ev_enabled
            WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
            r.rulename) END,
    'pg_rewrite', r.oid, {_ABOUT}
FROM pg_rewrite r JOIN {_TABLE} ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'
"""

_STATE: Final = """
CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN
    'ENABLE ALWAYS' ELSE 'ENABLE' END
"""

TRIGGERS: Final = f"""
SELECT 'trigger', {_OF.format("t.tgname")},
    pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' ELSE
        format(E';\\nALTER TABLE %I.%I %s TRIGGER %I', n.nspname, c.relname, {_STATE},
            t.tgname) END,
    'pg_trigger', t.oid, {_ABOUT}
FROM pg_trigger t JOIN {_TABLE} ON c.oid = t.tgrelid JOIN pg_proc f ON f.oid = t.tgfoid
JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND fn.nspname <> 'bequest'
UNION ALL
SELECT 'table option', format('trigger %I on %I.%I', t.tgname, n.nspname, c.relname),
    format('ALTER TABLE ONLY %I.%I %s TRIGGER %I', n.nspname, c.relname, {_STATE}, t.tgname),
    NULL, NULL, {_ABOUT}
FROM pg_trigger t JOIN pg_trigger p ON p.oid = t.tgparentid AND p.tgenabled <> t.tgenabled
JOIN {_TABLE} ON c.oid = t.tgrelid JOIN pg_proc f ON f.oid = t.tgfoid
JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE t.tgconstraint = 0 AND fn.nspname <> 'bequest'
"""

POLICIES: Final = f"""
SELECT 'policy', {_OF.format("p.polname")},
    format('CREATE POLICY %I ON %I.%I%s%s%s%s%s', p.polname, n.nspname, c.relname,
        CASE WHEN NOT p.polpermissive THEN ' AS RESTRICTIVE' END,
        CASE p.polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT'
            WHEN 'w' THEN ' FOR UPDATE' WHEN 'd' THEN ' FOR DELETE' END,
        CASE WHEN p.polroles <> '{{0}}' THEN (
            SELECT ' TO ' || string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname)
            FROM pg_roles r WHERE r.oid = ANY (p.polroles)) END,
        ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
        ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
    'pg_policy', p.oid, {_ABOUT}
FROM pg_policy p JOIN {_TABLE} ON c.oid = p.polrelid
"""

REFRESHES: Final = f"""
SELECT 'refresh', {_ABOUT}, format('REFRESH MATERIALIZED VIEW %I.%I', n.nspname, c.relname),
    'refresh', c.oid, {_ABOUT}
FROM {_TABLE} WHERE c.relkind = 'm' AND c.relispopulated
"""

QUERIES: Final = (
    CONSTRAINTS,
    INDEXES,
    TABLE_OPTIONS,
    VIEWS,
    STATISTICS,
    RULES,
    TRIGGERS,
    POLICIES,
    REFRESHES,
)
