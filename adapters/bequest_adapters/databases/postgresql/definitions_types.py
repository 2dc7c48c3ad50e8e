"""Schemas, extensions, collations, types, functions, operators, casts: what tables may need."""

from __future__ import annotations

from typing import Final

from .shapes import KEPT, NOT_OURS

NOT_OF_AN_EXTENSION: Final = (
    "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.deptype = 'e'"
    " AND e.classid = {0}.tableoid AND e.objid = {0}.oid)"
)

SCHEMAS: Final = f"""
SELECT 'schema', n.nspname, format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname),
       'pg_namespace', n.oid, ''
FROM pg_namespace n WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("n")}
"""

EXTENSIONS: Final = """
SELECT 'extension', e.extname,
       format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I', e.extname, n.nspname),
       'pg_extension', e.oid, ''
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.oid >= 16384
"""

COLLATIONS: Final = f"""
SELECT 'collation', format('%I.%I', n.nspname, c.collname),
       format('CREATE COLLATION %I.%I (provider = %s%s%s%s%s%s)', n.nspname, c.collname,
           CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
           CASE WHEN NOT c.collisdeterministic THEN ', deterministic = false' END,
           ', locale = ' || quote_literal(coalesce(j ->> 'colllocale', j ->> 'colliculocale')),
           ', rules = ' || quote_literal(j ->> 'collicurules'),
           ', lc_collate = ' || quote_literal(c.collcollate),
           ', lc_ctype = ' || quote_literal(c.collctype)),
       'pg_collation', c.oid, ''
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
CROSS JOIN LATERAL to_jsonb(c) AS j
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
"""

ENUMS: Final = f"""
SELECT 'type', format('%I.%I', n.nspname, t.typname),
       format('CREATE TYPE %I.%I AS ENUM (%s)', n.nspname, t.typname,
           (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
            FROM pg_enum e WHERE e.enumtypid = t.oid)),
       'pg_type', t.oid, ''
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'e' AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")}
"""

DOMAINS: Final = f"""
SELECT 'domain', format('%I.%I', n.nspname, t.typname),
       format('CREATE DOMAIN %I.%I AS %s%s%s%s%s', n.nspname, t.typname,
           format_type(t.typbasetype, t.typtypmod),
           (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname) FROM pg_collation c
            JOIN pg_namespace cn ON cn.oid = c.collnamespace
            WHERE c.oid = t.typcollation AND t.typcollation <> b.typcollation),
           ' DEFAULT ' || t.typdefault,
           CASE WHEN t.typnotnull THEN ' NOT NULL' END,
           (SELECT string_agg(
                format(' CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), ''
                ORDER BY k.conname)
            FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'
              AND k.convalidated)),
       'pg_type', t.oid, ''
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN pg_type b ON b.oid = t.typbasetype
WHERE t.typtype = 'd' AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")}
"""

DOMAIN_CHECKS: Final = f"""
SELECT 'check', format('%I.%I: %I', n.nspname, t.typname, k.conname),
       format('ALTER DOMAIN %I.%I ADD CONSTRAINT %I %s', n.nspname, t.typname, k.conname,
           pg_get_constraintdef(k.oid)),
       'pg_constraint', k.oid, ''
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid
JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE k.contype = 'c' AND NOT k.convalidated AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")}
"""

COMPOSITES: Final = f"""
SELECT 'type', format('%I.%I', n.nspname, t.typname),
       format('CREATE TYPE %I.%I AS (%s)', n.nspname, t.typname,
           (SELECT string_agg(format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname) FROM pg_collation c
                 JOIN pg_namespace cn ON cn.oid = c.collnamespace
                 WHERE c.oid = a.attcollation AND a.attcollation <> y.typcollation)),
                ', ' ORDER BY a.attnum)
            FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)),
       'pg_type', t.oid, ''
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")}
"""

RANGES: Final = f"""
SELECT 'type', format('%I.%I', n.nspname, t.typname),
       format('CREATE TYPE %I.%I AS RANGE (subtype = %s%s%s%s%s)', n.nspname, t.typname,
           format_type(r.rngsubtype, -1),
           (SELECT format(', multirange_type_name = %I.%I', mn.nspname, m.typname)
            FROM pg_type m JOIN pg_namespace mn ON mn.oid = m.typnamespace
            WHERE m.oid = (to_jsonb(r) ->> 'rngmultitypid')::oid),
           (SELECT format(', subtype_opclass = %I.%I', os.nspname, o.opcname)
            FROM pg_opclass o JOIN pg_namespace os ON os.oid = o.opcnamespace
            WHERE o.oid = r.rngsubopc),
           (SELECT format(', collation = %I.%I', cs.nspname, c.collname)
            FROM pg_collation c JOIN pg_namespace cs ON cs.oid = c.collnamespace
            JOIN pg_type s ON s.oid = r.rngsubtype
            WHERE c.oid = r.rngcollation AND c.oid <> s.typcollation),
           ', subtype_diff = ' || nullif(r.rngsubdiff::text, '-')),
       'pg_type', t.oid, ''
FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE r.rngcanonical = 0 AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("t")}
"""

_SIGNATURE: Final = (
    "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))"
)

FUNCTIONS: Final = f"""
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, {_SIGNATURE},
       rtrim(pg_get_functiondef(p.oid), E'\\n'), 'pg_proc', p.oid, ''
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind <> 'a' AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("p")}
  AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass
    AND i.objid = p.oid AND i.deptype = 'i')
"""

AGGREGATES: Final = f"""
SELECT 'aggregate', {_SIGNATURE},
       format('CREATE AGGREGATE %I.%I(%s) (%s)', n.nspname, p.proname,
           CASE WHEN p.pronargs = 0 THEN '*' ELSE pg_get_function_arguments(p.oid) END,
           concat_ws(', ',
               'SFUNC = ' || a.aggtransfn::regproc, 'STYPE = ' || format_type(a.aggtranstype, -1),
               'SSPACE = ' || nullif(a.aggtransspace, 0),
               'FINALFUNC = ' || nullif(a.aggfinalfn::regproc::text, '-'),
               CASE WHEN a.aggfinalextra THEN 'FINALFUNC_EXTRA' END,
               CASE WHEN a.aggfinalfn <> 0 THEN 'FINALFUNC_MODIFY = ' || fm.word END,
               'COMBINEFUNC = ' || nullif(a.aggcombinefn::regproc::text, '-'),
               'SERIALFUNC = ' || nullif(a.aggserialfn::regproc::text, '-'),
               'DESERIALFUNC = ' || nullif(a.aggdeserialfn::regproc::text, '-'),
               'INITCOND = ' || quote_literal(a.agginitval),
               'MSFUNC = ' || nullif(a.aggmtransfn::regproc::text, '-'),
               'MINVFUNC = ' || nullif(a.aggminvtransfn::regproc::text, '-'),
               CASE WHEN a.aggmtranstype <> 0
                   THEN 'MSTYPE = ' || format_type(a.aggmtranstype, -1) END,
               'MSSPACE = ' || nullif(a.aggmtransspace, 0),
               'MFINALFUNC = ' || nullif(a.aggmfinalfn::regproc::text, '-'),
               CASE WHEN a.aggmfinalextra THEN 'MFINALFUNC_EXTRA' END,
               CASE WHEN a.aggmfinalfn <> 0 THEN 'MFINALFUNC_MODIFY = ' || mm.word END,
               'MINITCOND = ' || quote_literal(a.aggminitval),
               (SELECT format('SORTOP = OPERATOR(%I.%s)', os.nspname, o.oprname)
                FROM pg_operator o JOIN pg_namespace os ON os.oid = o.oprnamespace
                WHERE o.oid = a.aggsortop),
               CASE p.proparallel WHEN 's' THEN 'PARALLEL = SAFE'
                   WHEN 'r' THEN 'PARALLEL = RESTRICTED' END,
               CASE WHEN a.aggkind = 'h' THEN 'HYPOTHETICAL' END)),
       'pg_proc', p.oid, ''
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_aggregate a ON a.aggfnoid = p.oid
JOIN (VALUES ('r', 'READ_ONLY'), ('s', 'SHAREABLE'), ('w', 'READ_WRITE')) fm(code, word)
  ON fm.code = a.aggfinalmodify::text
JOIN (VALUES ('r', 'READ_ONLY'), ('s', 'SHAREABLE'), ('w', 'READ_WRITE')) mm(code, word)
  ON mm.code = a.aggmfinalmodify::text
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("p")}
"""

OPERATORS: Final = f"""
SELECT 'operator', format('%I.%s(%s, %s)', n.nspname, o.oprname,
           coalesce(format_type(nullif(o.oprleft, 0), -1), 'NONE'), format_type(o.oprright, -1)),
       format('CREATE OPERATOR %I.%s (%s)', n.nspname, o.oprname, concat_ws(', ',
           'FUNCTION = ' || o.oprcode::regproc,
           'LEFTARG = ' || format_type(nullif(o.oprleft, 0), -1),
           'RIGHTARG = ' || format_type(nullif(o.oprright, 0), -1),
           (SELECT format('COMMUTATOR = OPERATOR(%I.%s)', m.nspname, c.oprname)
            FROM pg_operator c JOIN pg_namespace m ON m.oid = c.oprnamespace
            WHERE c.oid = o.oprcom),
           (SELECT format('NEGATOR = OPERATOR(%I.%s)', m.nspname, c.oprname)
            FROM pg_operator c JOIN pg_namespace m ON m.oid = c.oprnamespace
            WHERE c.oid = o.oprnegate),
           'RESTRICT = ' || nullif(o.oprrest::regproc::text, '-'),
           'JOIN = ' || nullif(o.oprjoin::regproc::text, '-'),
           CASE WHEN o.oprcanhash THEN 'HASHES' END, CASE WHEN o.oprcanmerge THEN 'MERGES' END)),
       'pg_operator', o.oid, ''
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oprcode <> 0 AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("o")}
"""

CASTS: Final = f"""
SELECT 'cast', format('(%s AS %s)', format_type(c.castsource, -1), format_type(c.casttarget, -1)),
       format('CREATE CAST (%s AS %s) %s%s', format_type(c.castsource, -1),
           format_type(c.casttarget, -1),
           CASE c.castmethod WHEN 'b' THEN 'WITHOUT FUNCTION' WHEN 'i' THEN 'WITH INOUT'
               ELSE 'WITH FUNCTION ' || c.castfunc::regprocedure END,
           CASE c.castcontext WHEN 'a' THEN ' AS ASSIGNMENT' WHEN 'i' THEN ' AS IMPLICIT' END),
       'pg_cast', c.oid, ''
FROM pg_cast c WHERE c.oid >= 16384 AND {NOT_OF_AN_EXTENSION.format("c")}
  AND NOT EXISTS (SELECT 1 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid IN (c.castsource, c.casttarget) AND n.nspname ~ '^{KEPT}')
  AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_cast'::regclass
    AND i.objid = c.oid AND i.deptype = 'i')
"""

TEXT_SEARCH: Final = f"""
SELECT 'text search', format('dictionary %I.%I', n.nspname, d.dictname),
       format('CREATE TEXT SEARCH DICTIONARY %I.%I (TEMPLATE = %I.%I%s)', n.nspname, d.dictname,
           tn.nspname, t.tmplname, ', ' || d.dictinitoption),
       'pg_ts_dict', d.oid, ''
FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace
JOIN pg_ts_template t ON t.oid = d.dicttemplate JOIN pg_namespace tn ON tn.oid = t.tmplnamespace
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("d")}
UNION ALL
SELECT 'text search', format('configuration %I.%I', n.nspname, c.cfgname),
       format('CREATE TEXT SEARCH CONFIGURATION %I.%I (PARSER = %I.%I)', n.nspname, c.cfgname,
           pn.nspname, p.prsname) || coalesce((
           SELECT string_agg(format(E';\\nALTER TEXT SEARCH CONFIGURATION %I.%I ADD MAPPING FOR %I '
                   'WITH %s', n.nspname, c.cfgname, m.alias, m.dictionaries), '' ORDER BY m.alias)
           FROM (SELECT k.alias, string_agg(m.mapdict::regdictionary::text, ', '
                     ORDER BY m.mapseqno) AS dictionaries
                 FROM pg_ts_config_map m JOIN ts_token_type(c.cfgparser) k
                   ON k.tokid = m.maptokentype
                 WHERE m.mapcfg = c.oid GROUP BY k.alias) m), ''),
       'pg_ts_config', c.oid, ''
FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
JOIN pg_ts_parser p ON p.oid = c.cfgparser JOIN pg_namespace pn ON pn.oid = p.prsnamespace
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
"""

QUERIES: Final = (
    SCHEMAS,
    EXTENSIONS,
    COLLATIONS,
    ENUMS,
    DOMAINS,
    DOMAIN_CHECKS,
    COMPOSITES,
    RANGES,
    FUNCTIONS,
    AGGREGATES,
    OPERATORS,
    CASTS,
    TEXT_SEARCH,
)
"""Each yields kind, name, statement, catalog, identifier, table."""
