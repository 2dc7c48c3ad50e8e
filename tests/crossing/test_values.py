"""A value that crossed equals its origin under the canonical form, and no other value does."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from bequest.errors import Refused
from bequest.model import Catalog, Row, SchemaObject, Value
from bequest_adapters.databases.crossing import cross, pair
from bequest_adapters.databases.crossing.bridges import SnapshotCrossing

from .both import blocks_of, fill_sqlite, one_column, sqlite_blocks, sqlite_catalog, sqlite_rows

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NUMERICS = st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: format(d, "f"))
SIZED = st.decimals(-(10**8) + 1, 10**8 - 1, places=2, allow_nan=False).map(
    lambda d: format(d if d else abs(d), ".2f")
)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
).map(json.dumps)
FORMS: dict[str, tuple[str, st.SearchStrategy[Value]]] = {
    "bigint": ("int", INT64),
    "smallint": ("int", st.integers(-(2**15), 2**15 - 1)),
    "boolean": ("bool", st.integers(0, 1)),
    "double precision": ("float", st.floats()),
    "text": ("text", TEXT),
    "character varying(9)": ("text", TEXT),
    "bytea": ("bytes", st.binary()),
    "uuid": ("uuid", st.uuids(allow_nil=True).map(lambda u: u.bytes)),
    "date": ("date", st.integers(-(2**31), 2**31 - 1)),
    "time without time zone": ("time", st.integers(0, 86_400_000_000)),
    "timestamp without time zone": ("timestamp", INT64),
    "timestamp(3) with time zone": ("timestamptz", INT64),
    "numeric": ("numeric", NUMERICS | st.sampled_from(["NaN", "Infinity", "1.10", "0.000"])),
    "numeric(10,2)": ("numeric", SIZED | st.just("NaN")),
    "jsonb": ("json", JSON),
    "json": ("text", JSON),
    "interval": ("output", TEXT),
    "inet": ("output", TEXT),
    "text[]": (
        "output",
        st.sampled_from(['{a,"b,c",NULL,"NULL"}', "[0:1]={a,b}", "{}", "{{},{}}"]),
    ),
}


def carried(catalog: Catalog, values: Sequence[Value]) -> tuple[SnapshotCrossing, list[Row]]:
    """The values, and what a real SQLite gives back for them."""
    crossing = cross(catalog, {}, "postgresql", "sqlite", blocks_of(catalog, values))
    (table,) = catalog.tables
    converted = crossing.convert(table, [(value,) for value in values])
    with closing(sqlite3.connect(":memory:")) as db:
        fill_sqlite(db, crossing.catalog, {1: converted})
        found = sqlite_rows(db, crossing.catalog.tables[0])
    canonical = crossing.canonical(crossing.catalog.tables[0], found)
    assert [repr(row) for row in canonical] == [repr(row) for row in converted]
    return crossing, found


@pytest.mark.parametrize("kind", FORMS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_form_of_postgresql_survives_sqlite(kind: str, data: st.DataObject) -> None:
    form, strategy = FORMS[kind]
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=5))
    catalog = one_column(kind, form)
    crossing, found = carried(catalog, values)
    table, target = catalog.tables[0], crossing.catalog.tables[0]
    source, back = crossing.canonical_source(table), crossing.canonical_target(target)
    assert [source((value,)) for value in values] == [back(row) for row in found]
    (bridge,) = pair(crossing.catalog, "sqlite", catalog, "postgresql").bridges
    assert [bridge.canonical_source()(row) for row in found] == [
        bridge.canonical_target()((value,)) for value in values
    ]


@pytest.mark.parametrize("kind", FORMS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_what_differs_in_postgresql_differs_in_sqlite(kind: str, data: st.DataObject) -> None:
    form, strategy = FORMS[kind]
    first, second = data.draw(strategy), data.draw(strategy)
    catalog = one_column(kind, form)
    crossing, found = carried(catalog, [first, second])
    source = crossing.canonical_source(catalog.tables[0])
    back = crossing.canonical_target(crossing.catalog.tables[0])
    assert (source((first,)) == source((second,))) == (back(found[0]) == back(found[1]))


DECLARED: dict[str, st.SearchStrategy[Value]] = {
    "INTEGER": INT64,
    "BOOLEAN": st.integers(0, 1),
    "FLOAT": st.floats(allow_nan=False),
    "VARCHAR(3)": TEXT,
    "TEXT": TEXT,
    "BLOB": st.binary() | TEXT,
    "": INT64 | st.floats(allow_nan=False) | TEXT | st.binary(),
    "CHAR(32)": st.uuids().map(lambda u: u.hex) | st.just("short"),
    "DATE": st.dates().map(date.isoformat),
    "TIME": st.times().map(time.isoformat),
    "DATETIME": st.datetimes().map(str) | st.datetimes().map(datetime.isoformat),
    "TIMESTAMP": st.datetimes(timezones=st.timezones()).map(str) | st.integers(0, 2**40),
    "NUMERIC(10, 2)": st.decimals(-999, 999, places=2).map(float),
    "NUMERIC": st.floats(allow_nan=False) | INT64,
    "JSON": JSON,
}


@pytest.mark.parametrize("declared", DECLARED)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_sqlite_to_postgresql_and_back_has_equal_digests(
    declared: str, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | DECLARED[declared], min_size=1, max_size=5))
    with closing(sqlite3.connect(":memory:")) as db, closing(sqlite3.connect(":memory:")) as again:
        db.execute(f"CREATE TABLE t (v {declared})")
        db.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        catalog = sqlite_catalog(db)
        rows = sqlite_blocks(db, catalog)
        there = cross(catalog, {}, "sqlite", "postgresql", rows)
        (table,), (middle,) = catalog.tables, there.catalog.tables
        first = sqlite_rows(db, table)
        arrived = there.convert(table, first)
        back = cross(
            there.catalog, {}, "postgresql", "sqlite", lambda: iter([(middle, list(arrived))])
        )
        fill_sqlite(again, back.catalog, {1: back.convert(middle, arrived)})
        last = sqlite_rows(again, back.catalog.tables[0])
    one = [there.canonical_source(table)(row) for row in first]
    two = [there.canonical_target(middle)(row) for row in arrived]
    (bridge,) = pair(back.catalog, "sqlite", there.catalog, "postgresql").bridges
    assert one == two == [bridge.canonical_source()(row) for row in last]


@pytest.mark.parametrize(
    ("declared", "values", "becomes"),
    [
        ("BOOLEAN", [0, 1, None], "boolean"),
        ("BOOLEAN", [0, 2], "bigint"),
        ("DATETIME", ["2026-11-22 10:15:00.000000", "2026-11-22T10:15:00"],
         "timestamp without time zone"),
        ("DATETIME", ["2026-11-22 10:15:00+02:00", "2026-11-22T10:15:00Z"],
         "timestamp with time zone"),
        ("DATETIME", ["2026-11-22 10:15:00", "yesterday"], "text"),
        ("DATETIME", [1763806500], "bigint"),
        ("DATE", ["2026-11-22"], "date"),
        ("TIME", ["10:15:00.000000"], "time without time zone"),
        ("JSON", ['{"a": 1}', "5"], "jsonb"),
        ("JSON", ["NaN"], "text"),
        ("NUMERIC(10, 2)", [1.5, 2], "numeric(10,2)"),
        ("NUMERIC(10, 2)", [1.125], "numeric"),
        ("VARCHAR(3)", ["abc"], "character varying(3)"),
        ("VARCHAR(3)", ["abcd"], "text"),
        ("CHAR(32)", ["0" * 12 + "4" + "0" * 3 + "8" + "0" * 15], "uuid"),
        ("CHAR(32)", ["d41d8cd98f00b204e9800998ecf8427e"[::-1]], "character varying(32)"),
        ("BLOB", [b"\0"], "bytea"),
        ("BLOB", ["a\0b"], "bytea"),
        ("TEXT", ["a", b"b"], "bytea"),
        ("FLOAT", [1.5], "double precision"),
        ("BIGINT", [5], "bigint"),
        ("", [], "text"),
    ],
)  # fmt: skip
def test_the_values_decide_the_type(declared: str, values: list[Value], becomes: str) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE t (v {declared})")
        db.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        catalog = sqlite_catalog(db)
        crossing = cross(catalog, {}, "sqlite", "postgresql", sqlite_blocks(db, catalog))
    assert crossing.catalog.tables[0].columns[0].type == becomes


@pytest.mark.parametrize("value", ["'a' || char(0) || 'b'", "CAST(x'61ff' AS TEXT)"])
def test_text_that_postgresql_cannot_hold_is_refused_by_key_and_never_shown(value: str) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE secrets (id INTEGER PRIMARY KEY, token TEXT)")
        db.execute(f"INSERT INTO secrets VALUES (41, 'fine'), (42, {value})")
        catalog = sqlite_catalog(db)
        with pytest.raises(Refused) as refused:
            cross(catalog, {}, "sqlite", "postgresql", sqlite_blocks(db, catalog))
    message = str(refused.value)
    assert "'secrets'" in message
    assert "'token'" in message
    assert "id = 42" in message
    assert "a\0b" not in message


POINT = SchemaObject(
    "type", '"public"."pt"', "", 'CREATE TYPE "public"."pt" AS ("x" integer, "y z" text)'
)


@pytest.mark.parametrize(
    ("kind", "text", "becomes"),
    [
        ("integer[]", "{1,2,NULL}", [1, 2, None]),
        ("integer[]", "{{1,2},{3,4}}", [[1, 2], [3, 4]]),
        ("integer[]", "[0:1]={1,2}", {"bounds": "[0:1]", "elements": [1, 2]}),
        ("text[]", r'{"a\"b","c\\d","","NULL",NULL,"{x}","a,b"}',
         ['a"b', "c\\d", "", "NULL", None, "{x}", "a,b"]),
        ("boolean[]", "{t,f}", [True, False]),
        ("numeric[]", "{1.10}", ["1.10"]),
        ("double precision[]", "{1.5,NaN}", [1.5, "NaN"]),
        ("box[]", "{(1,1),(0,0);(2,2),(1,1)}", ["(1,1),(0,0)", "(2,2),(1,1)"]),
        ("public.pt", '(1,"a ""b"", c")', {"x": 1, "y z": 'a "b", c'}),
        ("public.pt", '(,"")', {"x": None, "y z": ""}),
        ("public.pt[]", r'{"(1,\"a b\")",NULL}', [{"x": 1, "y z": "a b"}, None]),
        ("int4range", "[1,5)", {"lower": 1, "upper": 5, "bounds": "[)"}),
        ("int4range", "empty", {"empty": True}),
        ("tsrange", '["2026-01-01 00:00:00",)',
         {"lower": "2026-01-01 00:00:00", "upper": None, "bounds": "[)"}),
        ("int4multirange", "{[1,3),[5,7)}",
         [{"lower": 1, "upper": 3, "bounds": "[)"}, {"lower": 5, "upper": 7, "bounds": "[)"}]),
        ("public.hstore", r'"a"=>"1", "b\"c"=>NULL', {"a": "1", 'b"c': None}),
    ],
)  # fmt: skip
def test_what_is_composed_becomes_json_that_means_the_same(
    kind: str, text: str, becomes: object
) -> None:
    _, [(found,)] = carried(one_column(kind, "output", POINT), [text])
    assert json.loads(str(found)) == becomes


READ: list[tuple[str, str, sa.types.TypeEngine[object], Value, object]] = [
    ("boolean", "bool", sa.Boolean(), 1, True),
    ("timestamp without time zone", "timestamp", sa.DateTime(), 0, datetime(2000, 1, 1)),
    ("date", "date", sa.Date(), 1, date(2000, 1, 2)),
    ("time without time zone", "time", sa.Time(), 1, time(0, 0, 0, 1)),
    ("uuid", "uuid", sa.Uuid(), b"\1" * 16, UUID(bytes=b"\1" * 16)),
    ("numeric(10,2)", "numeric", sa.Numeric(10, 2), "1.10", Decimal("1.10")),
    ("jsonb", "json", sa.JSON(), '{"a": [1]}', {"a": [1]}),
    ("jsonb", "json", sa.JSON(), "5", 5),
    ("bytea", "bytes", sa.LargeBinary(), b"\0", b"\0"),
    ("double precision", "float", sa.Float(), math.inf, math.inf),
]


@pytest.mark.parametrize(("kind", "form", "type_", "value", "reads"), READ)
def test_sqlalchemy_reads_in_sqlite_what_it_would_read_in_postgresql(
    kind: str, form: str, type_: sa.types.TypeEngine[object], value: Value, reads: object
) -> None:
    catalog = one_column(kind, form)
    crossing = cross(catalog, {}, "postgresql", "sqlite", blocks_of(catalog, [value]))
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql(crossing.catalog.tables[0].sql)
        (converted,) = crossing.convert(catalog.tables[0], [(value,)])
        connection.exec_driver_sql("INSERT INTO t VALUES (?)", converted)
        assert (
            connection.execute(sa.select(sa.column("v", type_)).select_from(sa.text("t"))).scalar()
            == reads
        )
    engine.dispose()


def test_a_numeric_that_would_lose_digits_is_text_and_said_so() -> None:
    exact = "12345678901234567890.123456789"
    crossing, [(found,)] = carried(one_column("numeric", "numeric"), [exact])
    assert found == exact
    assert crossing.catalog.tables[0].columns[0].type == "TEXT"
    assert [name for name, why in crossing.losses if "digits" in why] == ["t.v"]


def test_a_moment_that_python_cannot_hold_is_text_and_named_by_its_place() -> None:
    crossing, [(found,)] = carried(one_column("timestamp without time zone", "timestamp"),
                                   [2**63 - 1])  # fmt: skip
    assert found == "infinity"
    assert any("beyond Python's datetime" in why for _, why in crossing.losses)
