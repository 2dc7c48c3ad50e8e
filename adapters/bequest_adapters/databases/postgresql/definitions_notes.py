"""Comments and grants, and what a snapshot does not cover.

Owners are not recorded in the definitions: what is restored belongs to the role that restores. So
the owner's own rights are said of CURRENT_USER.
"""

from __future__ import annotations

from typing import Final

from .definitions_types import NOT_OF_AN_EXTENSION
from .shapes import NOT_OURS

COMMENTS: Final = """
SELECT 'comment', o.type || ' ' || o.identity,
    format('COMMENT ON %s %s IS %L',
        CASE WHEN o.type LIKE '% column' THEN 'COLUMN' WHEN o.type LIKE '% constraint'
                THEN 'CONSTRAINT'
            WHEN o.type = 'composite type' THEN 'TYPE' WHEN o.type = 'statistics object'
                THEN 'STATISTICS'
            ELSE upper(o.type) END,
        coalesce((SELECT format('%I ON DOMAIN %s', k.conname, k.contypid::regtype)
            FROM pg_constraint k WHERE d.classoid = 'pg_constraint'::regclass
              AND k.oid = d.objoid AND k.contypid <> 0), o.identity), d.description),
    d.classoid::regclass::text, d.objoid, ''
FROM pg_description d
CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) o
WHERE (d.objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass AND o.identity = 'public'
        AND d.description <> 'standard public schema')
  AND NOT EXISTS (
      SELECT 1 FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
      WHERE d.classoid = 'pg_extension'::regclass AND e.oid = d.objoid
        AND a.comment = d.description)
"""

# Each source: catalog, identifier, kind for acldefault, words after ON, owner, ACL.
_HOLDERS: Final = f"""
SELECT 'pg_class'::text AS catalog, c.oid, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END AS kind,
    format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname,
        c.relname) AS target, '' AS columns, c.relowner AS owner, c.relacl AS acl
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND {NOT_OURS}
  AND {NOT_OF_AN_EXTENSION.format("c")}
UNION ALL
SELECT 'pg_class', c.oid, 'c', format('TABLE %I.%I', n.nspname, c.relname),
    format(' (%I)', a.attname), c.relowner, a.attacl
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm')
  AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
UNION ALL
SELECT 'pg_proc', p.oid, 'f', format('ROUTINE %s', p.oid::regprocedure), '', p.proowner, p.proacl
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proacl IS NOT NULL AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("p")}
UNION ALL
SELECT 'pg_type', t.oid, 'T', format('TYPE %I.%I', n.nspname, t.typname), '', t.typowner, t.typacl
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typacl IS NOT NULL AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")}
UNION ALL
SELECT 'pg_namespace', n.oid, 'n', format('SCHEMA %I', n.nspname), '', n.nspowner, n.nspacl
FROM pg_namespace n
WHERE n.nspacl IS NOT NULL AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("n")}
  AND NOT EXISTS (SELECT 1 FROM pg_init_privs i WHERE i.classoid = 'pg_namespace'::regclass
      AND i.objoid = n.oid AND i.initprivs = n.nspacl)
"""

_GRANTEE: Final = """
CASE WHEN x.grantee = 0 THEN 'PUBLIC' WHEN x.grantee = h.owner THEN 'CURRENT_USER'
    ELSE quote_ident(pg_get_userbyid(x.grantee)) END
"""

# A schema public that was made anew has no privileges on record that it came with.
_PUBLIC: Final = """
ARRAY[makeaclitem(h.owner, h.owner, 'USAGE', false), makeaclitem(h.owner, h.owner, 'CREATE', false),
    makeaclitem(0, h.owner, 'USAGE', false),
    makeaclitem(0, h.owner, CASE WHEN current_setting('server_version_num')::int < 150000
        THEN 'CREATE' ELSE 'USAGE' END, false)]
"""

GRANTS: Final = f"""
WITH holders AS ({_HOLDERS}), given AS (
    SELECT h.catalog, h.oid, h.target, h.columns, {_GRANTEE} AS grantee, x.privilege_type,
        x.is_grantable
    FROM holders h CROSS JOIN LATERAL aclexplode(h.acl) x
), usual AS (
    SELECT h.catalog, h.oid, h.target, h.columns, {_GRANTEE} AS grantee, x.privilege_type,
        x.is_grantable
    FROM holders h CROSS JOIN LATERAL aclexplode(CASE WHEN h.target = 'SCHEMA public'
        THEN coalesce((SELECT i.initprivs FROM pg_init_privs i
              WHERE i.classoid = 'pg_namespace'::regclass AND i.objoid = h.oid), {_PUBLIC})
        ELSE acldefault(h.kind::"char", h.owner) END) x
), revoked AS (
    SELECT catalog, oid, target, columns, grantee, privilege_type FROM usual
    EXCEPT SELECT catalog, oid, target, columns, grantee, privilege_type FROM given
), granted AS (SELECT * FROM given EXCEPT SELECT * FROM usual)
SELECT 'grant', format('revoked: %s%s from %s', target, columns, grantee),
    format('REVOKE %s ON %s FROM %s',
        string_agg(privilege_type || columns, ', ' ORDER BY privilege_type), target, grantee),
    catalog, oid, ''
FROM revoked GROUP BY catalog, oid, target, columns, grantee
UNION ALL
SELECT 'grant', format('%s%s to %s%s', target, columns, grantee,
        CASE WHEN is_grantable THEN ' with grant option' END),
    format('GRANT %s ON %s TO %s%s',
        string_agg(privilege_type || columns, ', ' ORDER BY privilege_type), target, grantee,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END),
    catalog, oid, ''
FROM granted GROUP BY catalog, oid, target, columns, grantee, is_grantable
"""

DEFAULT_PRIVILEGES: Final = """
WITH holders AS (
    SELECT d.oid, d.defaclrole AS owner, d.defaclacl AS acl, d.defaclobjtype AS kind,
        d.defaclnamespace AS space,
        format('FOR ROLE %I%s', pg_get_userbyid(d.defaclrole),
            (SELECT format(' IN SCHEMA %I', n.nspname) FROM pg_namespace n
             WHERE n.oid = d.defaclnamespace)) AS scope,
        CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
            WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END AS target
    FROM pg_default_acl d
), given AS (
    SELECT h.oid, h.scope, h.target, x.grantee, x.privilege_type, x.is_grantable
    FROM holders h CROSS JOIN LATERAL aclexplode(h.acl) x
), usual AS (
    SELECT h.oid, h.scope, h.target, x.grantee, x.privilege_type, x.is_grantable
    FROM holders h CROSS JOIN LATERAL aclexplode(
        acldefault(CASE h.kind WHEN 'S' THEN 's' ELSE h.kind END::"char", h.owner)) x
    WHERE h.space = 0
), revoked AS (
    SELECT oid, scope, target, grantee, privilege_type FROM usual
    EXCEPT SELECT oid, scope, target, grantee, privilege_type FROM given
), granted AS (SELECT * FROM given EXCEPT SELECT * FROM usual),
told AS (
    SELECT scope, target, grantee, 'GRANT' AS verb, 'TO' AS word,
        string_agg(privilege_type, ', ' ORDER BY privilege_type) AS rights,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM granted GROUP BY scope, target, grantee, is_grantable
    UNION ALL
    SELECT scope, target, grantee, 'REVOKE', 'FROM',
        string_agg(privilege_type, ', ' ORDER BY privilege_type), ''
    FROM revoked GROUP BY scope, target, grantee
)
SELECT 'default privilege', format('%s: %s %s %s%s', scope, target, lower(word), g.role, option),
    format('ALTER DEFAULT PRIVILEGES %s %s %s ON %s %s %s%s', scope, verb, rights, target, word,
        g.role, option),
    NULL, NULL, ''
FROM told CROSS JOIN LATERAL (SELECT CASE WHEN grantee = 0 THEN 'PUBLIC'
    ELSE quote_ident(pg_get_userbyid(grantee)) END AS role) g
"""

NOT_COVERED: Final = f"""
SELECT format('%I.%I', n.nspname, c.relname), 'a foreign table: its rows live elsewhere',
    'pg_class', c.oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f' AND {NOT_OURS}
UNION ALL
SELECT format('%I.%I', n.nspname, t.typname),
    CASE t.typtype WHEN 'r' THEN 'a range type with a canonical function' ELSE
        'a base type: it is made of C functions, outside any extension' END, 'pg_type', t.oid
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")} AND (
    t.typtype = 'b' AND t.typelem = 0
    OR EXISTS (SELECT 1 FROM pg_range r WHERE r.rngtypid = t.oid AND r.rngcanonical <> 0))
UNION ALL
SELECT format('operator class %I.%I', n.nspname, o.opcname), 'operator classes are not recorded',
    'pg_opclass', o.oid
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("o")}
UNION ALL
SELECT format('operator family %I.%I', n.nspname, o.opfname), 'operator families are not recorded',
    'pg_opfamily', o.oid
FROM pg_opfamily o JOIN pg_namespace n ON n.oid = o.opfnamespace
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("o")}
UNION ALL
SELECT format('conversion %I.%I', n.nspname, o.conname), 'conversions are not recorded',
    'pg_conversion', o.oid
FROM pg_conversion o JOIN pg_namespace n ON n.oid = o.connamespace
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("o")}
UNION ALL
SELECT format('language %I', l.lanname), 'languages outside an extension are not recorded',
    'pg_language', l.oid
FROM pg_language l WHERE l.oid >= 16384 AND {NOT_OF_AN_EXTENSION.format("l")}
UNION ALL
SELECT format('access method %I', m.amname), 'access methods are not recorded', 'pg_am', m.oid
FROM pg_am m WHERE m.oid >= 16384 AND {NOT_OF_AN_EXTENSION.format("m")}
UNION ALL
SELECT format('foreign server %I', s.srvname), 'it holds addresses and passwords of other servers',
    'pg_foreign_server', s.oid
FROM pg_foreign_server s
UNION ALL
SELECT format('publication %I', p.pubname), 'replication is set up per server', 'pg_publication',
    p.oid
FROM pg_publication p
UNION ALL
SELECT format('event trigger %I', v.evtname), 'it needs a superuser', 'pg_event_trigger', v.oid
FROM pg_event_trigger v JOIN pg_proc f ON f.oid = v.evtfoid
JOIN pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname <> 'bequest' AND {NOT_OF_AN_EXTENSION.format("v")}
UNION ALL
SELECT format('%I.%I', n.nspname, c.relname), 'a table of an extension, with rows of your own',
    NULL, NULL
FROM pg_extension e CROSS JOIN LATERAL unnest(e.extconfig) AS x(oid)
JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
UNION ALL
SELECT format('tablespace %I', t.spcname),
    'what lies in it is restored into the default tablespace', NULL, NULL
FROM pg_tablespace t WHERE EXISTS (SELECT 1 FROM pg_class c WHERE c.reltablespace = t.oid
    AND t.spcname <> 'pg_global')
UNION ALL
SELECT 'large objects', format('%s of them: triggers do not see them', count(*)), NULL, NULL
FROM pg_largeobject_metadata HAVING count(*) > 0
UNION ALL
SELECT 'security labels', format('%s of them', count(*)), NULL, NULL
FROM pg_seclabel HAVING count(*) > 0
ORDER BY 1, 2
"""

QUERIES: Final = (COMMENTS, GRANTS, DEFAULT_PRIVILEGES)
