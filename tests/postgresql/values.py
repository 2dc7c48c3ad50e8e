"""Every built-in type with its awkward values. Grouped under the name that pg_type gives it."""

from __future__ import annotations

from typing import Final

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "bool": ("true", "false"),
    "bytea": (r"'\x'", r"'\x00ff5c27'"),
    "char": ("'x'", "''", "'\\377'"),
    "name": ("'a name'", "''"),
    "int8": ("9223372036854775807", "'-9223372036854775808'", "0"),
    "int2": ("32767", "'-32768'"),
    "int4": ("2147483647", "'-2147483648'"),
    "oid": ("4294967295", "0"),
    "text": ("''", "'NULL'", r"E'\t\n\r\\'", "'\\N'", "'\\.'", "'äöü 漢字 🙂'", "U&'\\FEFF'"),
    "bpchar": ("'padded   '", "''"),
    "varchar": ("'trailing   '",),
    "json": ("""'{"b": 1,  "a": 1, "a": [null, 1e400, "\\u0000"]}'""", "'null'"),
    "jsonb": ("""'{"b": 1.50, "a": [null, -0, 1e400]}'""", "'\"text\"'", "'null'"),
    "float4": ("'NaN'", "'-0'", "'Infinity'", "'1e-45'", "3.4028235e38", "0.1"),
    "float8": ("'NaN'", "'-0'", "'-Infinity'", "'5e-324'", "1.7976931348623157e308", "0.1"),
    "numeric": (
        "'NaN'", "'Infinity'", "'-Infinity'", "1.10", "-0.000", "0", "1e-1000",
        "repeat('9', 1000)::numeric", "(repeat('1', 500) || '.' || repeat('7', 500))::numeric",
    ),
    "money": ("'-92233720368547758.08'", "'1234.50'"),
    "date": ("'infinity'", "'-infinity'", "'4714-11-24 BC'", "'5874897-12-31'", "'2000-02-29'"),
    "time": ("'00:00'", "'24:00'", "'23:59:59.999999'"),
    "timetz": ("'12:00:00.123456+15:59:59'", "'24:00-15:59'"),
    "timestamp": (
        "'infinity'", "'-infinity'", "'4714-11-24 00:00 BC'", "'294276-12-31 23:59:59.999999'",
        "'1999-12-31 23:59:59.999999'", "'0001-01-01 BC'", "'10000-01-01'",
    ),
    "timestamptz": (
        "'infinity'", "'-infinity'", "'4714-11-24 00:00+00 BC'", "'2024-07-01 12:00+05:45'",
        "'294276-12-31 23:59:59.999999+00'",
    ),
    "interval": (
        "'0'", "'-178000000 years'", "'1 mon -1 day +00:00:00.000001'", "'1 year -1 mon'",
        "'-1 mon 1 day -02:03:04.5'",
    ),
    "uuid": ("'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    "inet": ("'10.1.2.3/8'", "'::1'", "'fe80::1/64'", "'10.0.0.0'"),
    "cidr": ("'10.0.0.0/8'", "'2001:db8::/32'"),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "macaddr8": ("'08:00:2b:ff:fe:01:02:03'",),
    "bit": ("B'1'", "B'0'"),
    "varbit": ("B''", "B'10110'"),
    "point": ("'(1e300,-0)'", "'(NaN,Infinity)'"),
    "line": ("'{1,-2,3.5}'",),
    "lseg": ("'[(0,0),(1,1.1)]'",),
    "box": ("'(2,2),(1,1)'",),
    "path": ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
    "polygon": ("'((0,0),(1,1),(2,0.1))'",),
    "circle": ("'<(1,2),3.3>'",),
    "tsvector": ("''", "'a:1A b:2,3B ''it''''s'':4'"),
    "tsquery": ("''", "'a & !(b | c:*A) <2> d'"),
    "jsonpath": ("'$.a[*] ? (@ > 1)'",),
    "pg_lsn": ("'FFFFFFFF/FFFFFFFF'", "'0/0'"),
    "txid_snapshot": ("'10:20:10,14,15'",),
    "pg_snapshot": ("'10:20:10,14,15'",),
    "xid": ("'4294967295'",),
    "xid8": ("'18446744073709551615'",),
    "cid": ("'7'",),
    "tid": ("'(4294967294,65535)'",),
    "int2vector": ("'1 -2 3'", "''"),
    "oidvector": ("'1 2 3'",),
    "refcursor": ("'a cursor'",),
    "aclitem": ("'postgres=r/postgres'",),
    "regclass": ("'pg_class'", "'-'", "'123456789'", "'information_schema.tables'"),
    "regtype": ("'int4'", "'timestamp with time zone[]'"),
    "regproc": ("'now'", "'-'"),
    "regprocedure": ("'pg_catalog.lower(text)'",),
    "regoper": ("'||/'",),
    "regoperator": ("'+(int4,int4)'",),
    "regrole": ("'postgres'", "'pg_monitor'"),
    "regnamespace": ("'pg_catalog'",),
    "regconfig": ("'english'",),
    "regdictionary": ("'simple'",),
    "regcollation": ("'\"C\"'",),
    "regdatabase": ("'template1'",),
    "int4range": ("'empty'", "'[1,5)'", "'(,)'"),
    "int8range": ("'[-9223372036854775808,)'",),
    "numrange": ("'[1.10,NaN]'", "'(1.0,2.00]'"),
    "tsrange": ("'[-infinity,infinity]'", "'[\"4714-11-24 00:00:00 BC\",2000-01-01)'"),
    "tstzrange": ("'[2024-01-01 00:00+02,2024-01-02 00:00+02)'",),
    "daterange": ("'[2024-01-01,infinity)'",),
    "int4multirange": ("'{}'", "'{[1,3),[5,7)}'"),
    "int8multirange": ("'{[1,)}'",),
    "nummultirange": ("'{[1.10,2.00]}'",),
    "tsmultirange": ("'{[2000-01-01,2001-01-01)}'",),
    "tstzmultirange": ("'{[2000-01-01,2001-01-01)}'",),
    "datemultirange": ("'{[2000-01-01,2001-01-01)}'",),
}  # fmt: skip

WITHOUT_ARRAY: Final = frozenset({"int2vector", "oidvector"})
"""Arrays of their own, of which the server prints no array that it reads."""

NEEDS_LIBXML: Final[dict[str, tuple[str, ...]]] = {
    "xml": ("'<a>text</a>'", "'text <b/> text'", "'<!-- c --><a b=\"1\"/>'"),
}

NOBODY_STORES: Final = frozenset(
    {
        # Their input functions refuse every value, so that nothing can put one back.
        "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "gtsvector",
        "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_ddl_command",
    }
)  # fmt: skip
