"""Between real servers: what one engine held, the other holds, and a comparison says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import URL

from bequest.model import Catalog, Row, Selection, Table, TableDigest
from bequest.ports import Target
from bequest.snapshot.digest import DigestBuilder
from bequest_adapters.databases import sqlite
from bequest_adapters.databases.crossing import cross, pair
from bequest_adapters.databases.crossing.bridges import SnapshotCrossing
from bequest_adapters.databases.postgresql.catalog import read_catalog
from bequest_adapters.databases.postgresql.forms import prepare
from bequest_adapters.databases.postgresql.reading import scan
from bequest_adapters.databases.postgresql.shapes import read_shapes
from bequest_adapters.databases.postgresql.target import open_target
from tests.postgresql.rich import RICH
from tests.servers.postgresql import connect

from .both import Blocks, sqlite_blocks, sqlite_catalog, sqlite_sequences

METADATA = sa.MetaData()
TENANT = sa.Table(
    "tenant",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False, unique=True),
    sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("made", sa.DateTime, server_default=sa.func.current_timestamp()),
    sa.Column("day", sa.Date),
    sa.Column("clock", sa.Time),
    sa.Column("budget", sa.Numeric(10, 2)),
    sa.Column("ratio", sa.Float),
    sa.Column("settings", sa.JSON),
    sa.Column("token", sa.Uuid),
    sa.Column("photo", sa.LargeBinary),
    sa.Column("tier", sa.Enum("gold", "base", name="tier", create_constraint=True)),
)
DEVICE = sa.Table(
    "Device",
    METADATA,
    sa.Column("tenant", sa.ForeignKey("tenant.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("note", sa.Text),
    sa.Index("by_note", "note", sqlite_where=sa.text("note IS NOT NULL")),
)
ODDITIES = """
CREATE TABLE loose (a, b TEXT COLLATE NOCASE UNIQUE, c DATETIME);
INSERT INTO loose VALUES (1, 'One', '2026-11-22 10:15:00'), ('two', NULL, 1763806500);
CREATE TABLE orphan (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER REFERENCES tenant);
INSERT INTO orphan VALUES (90, 404);
DELETE FROM orphan; INSERT INTO orphan VALUES (5, 404);
CREATE VIEW v AS SELECT 1;
"""


def fill(path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for number in range(1, 30):
            row = {
                "id": number, "name": f"tenant {number}", "active": number % 2 == 0,
                "day": sa.func.date("now"), "clock": None, "budget": round(number * 1.1, 2),
                "ratio": number / 3, "settings": {"limit": number, "é": [1.5, None]},
                "photo": bytes([number]), "tier": "gold",
            }  # fmt: skip
            connection.execute(TENANT.insert().values(row))
            connection.execute(DEVICE.insert().values(tenant=number, number=2**40, note="x"))
    engine.dispose()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(ODDITIES)


def load(target: Target, crossing: SnapshotCrossing, blocks: Blocks) -> None:
    targets = {table.id: table for table in crossing.catalog.tables}
    with target.replace(force=False) as loading:
        loading.create(crossing.catalog, crossing.attributes)
        for table, rows in blocks():
            loading.load(targets[table.id], crossing.convert(table, rows))
        loading.finish()
        for table, rows in blocks():
            given = DigestBuilder()
            given.add(crossing.convert(table, rows))
            read = DigestBuilder()
            for block in loading.scan(targets[table.id]):
                read.add(crossing.canonical(targets[table.id], block))
            assert read.result() == given.result(), table.name
    target.close()


@contextmanager
def postgresql_state(url: URL) -> Iterator[tuple[Catalog, Blocks]]:
    with closing(connect(url)) as db:
        prepare(db)
        with db.transaction():
            names = [(shape.schema, shape.name) for shape in read_shapes(db)]
            numbers = {name: number for number, name in enumerate(names, 1)}
            catalog = read_catalog(db, numbers, Selection())

            def rows(table: Table) -> list[Row]:
                return [row for block in scan(db, table) for row in block]

            yield catalog, lambda: ((table, rows(table)) for table in catalog.tables)


def canonical_digests(
    first: Catalog, dialect: str, one: Blocks, second: Catalog, two: Blocks
) -> tuple[dict[str, TableDigest], dict[str, TableDigest]]:
    other = "postgresql" if dialect == "sqlite" else "sqlite"
    pairing = pair(first, dialect, second, other)
    assert not pairing.differences
    left = {table.id: rows for table, rows in one()}
    right = {table.id: rows for table, rows in two()}
    found: tuple[dict[str, TableDigest], dict[str, TableDigest]] = ({}, {})
    for bridge in pairing.bridges:
        for side, rows, change in (
            (found[0], left[bridge.source.id], bridge.canonical_source()),
            (found[1], right[bridge.target.id], bridge.canonical_target()),
        ):
            builder = DigestBuilder()
            builder.add(map(change, rows))
            side[bridge.source.name] = builder.result()
    return found


def test_sqlite_to_a_real_postgresql_and_back(postgresql_database: URL, tmp_path: Path) -> None:
    fill(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        catalog, blocks = sqlite_catalog(db), sqlite_blocks(db, sqlite_catalog(db))
        there = cross(catalog, sqlite_sequences(db), "sqlite", "postgresql", blocks)
        load(open_target(postgresql_database), there, blocks)
        assert {name for name, _ in there.losses} == {"loose.a", "loose.b", "loose.c", "v"}
        with postgresql_state(postgresql_database) as (middle, middle_blocks):
            one, two = canonical_digests(catalog, "sqlite", blocks, middle, middle_blocks)
            assert one == two
            assert all(digest.rows for digest in one.values())
            attributes = {"sequence public.orphan_id_seq": "90 true"}
            back = cross(middle, attributes, "postgresql", "sqlite", middle_blocks)
            url = URL.create("sqlite", database=str(tmp_path / "b.db"))
            load(sqlite.open_target(url), back, middle_blocks)
            with closing(sqlite3.connect(tmp_path / "b.db")) as again:
                last = sqlite_catalog(again)
                three, four = canonical_digests(
                    last, "sqlite", sqlite_blocks(again, last), middle, middle_blocks
                )
            assert three == four == one
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    with engine.connect() as connection:
        row = connection.execute(sa.select(TENANT).where(TENANT.c.id == 3)).one()
        assert (str(row.budget), row.active, row.settings["limit"]) == ("3.30", False, 3)
    engine.dispose()


def test_postgresql_goes_on_where_sqlite_stopped(postgresql_database: URL, tmp_path: Path) -> None:
    fill(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        catalog, blocks = sqlite_catalog(db), sqlite_blocks(db, sqlite_catalog(db))
        there = cross(catalog, sqlite_sequences(db), "sqlite", "postgresql", blocks)
        load(open_target(postgresql_database), there, blocks)
    with closing(connect(postgresql_database)) as db:
        assert db.execute("INSERT INTO orphan DEFAULT VALUES RETURNING id").fetchone() == (91,)
        made = db.execute("INSERT INTO tenant (name) VALUES ('new') RETURNING id, active, made")
        number, active, when = made.fetchone() or (0, None, None)
        assert (number, active) == (30, True)
        assert when is not None
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            db.execute("INSERT INTO orphan (tenant) VALUES (405)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            db.execute("INSERT INTO loose (b) VALUES ('ONE')")
        with pytest.raises(psycopg.errors.CheckViolation):
            db.execute("UPDATE tenant SET tier = 'iron'")
        db.execute("DELETE FROM tenant WHERE id = 1")
        assert db.execute('SELECT count(*) FROM "Device" WHERE tenant = 1').fetchone() == (0,)


EVERYTHING = r"""
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'it''s fine');
CREATE DOMAIN app.percent AS numeric(5, 2) CHECK (VALUE >= 0);
CREATE TYPE app.address AS (street text, number int);
CREATE TABLE every (
    id bigserial PRIMARY KEY, b bool DEFAULT true, s smallint, i int DEFAULT 5, r real, d float8,
    n numeric, n2 numeric(12, 3), t text DEFAULT 'it''s', v varchar(9), c char(4), y bytea, u uuid,
    da date DEFAULT CURRENT_DATE, ti time, ts timestamp, tz timestamptz DEFAULT now(),
    iv interval, tt timetz, m money, j json, jb jsonb, ia int[], ta text[], mo app.mood,
    p app.percent, ad app.address, aa app.address[], r4 int4range, tr tstzrange,
    mr int4multirange, ip inet, mac macaddr, bi bit(3), vb varbit, tv tsvector, po point,
    g int GENERATED ALWAYS AS (i * 2) STORED,
    CHECK (i > 0), CHECK (v IN ('a', 'b')), CHECK (b OR i <> 3.5), CHECK (t ~ 'x*'));
INSERT INTO every SELECT g, g % 2 = 0, g, g, g / 3.0, 'NaN', '1.10', 1.5, E'a\nb''"\\', 'a', 'ab',
    '\x00ff', gen_random_uuid(), 'infinity', '24:00', '0044-03-15 10:00:00.5 BC',
    '12026-01-01 00:00+05', '1 mon -3 days 04:05:06.7', '10:00+02', 12.34, '{"b": 1.10, "a" : 2}',
    '{"b": 1.10, "a": {"x": [1, null, true, "é"]}}', '[0:1]={1,2}', '{a,"b,\"c",NULL}',
    'it''s fine', 99.5, ROW('a, "b"', 3)::app.address, ARRAY[ROW('x', NULL)::app.address, NULL],
    '[1,5)', '["2026-01-01 00:00+00",)', '{[1,3),[5,7)}', '10.0.0.1/8', '08:00:2b:01:02:03', B'101',
    B'1', to_tsvector('simple', 'fat cat'), '(1,2)' FROM generate_series(1, 40) g;
INSERT INTO every (id, d, n, ts, tz, jb, j) VALUES
    (1000, '-0', 'NaN', 'infinity', '2026-01-01 12:00+02', '5', ' 5.0 '), (1001, '-infinity',
    12345678901234567890.123456789, '2026-01-01', '-infinity', '1e300', '"x"');
SELECT setval('every_id_seq', 2000);
CREATE TABLE app.child (a int, "B c" text NOT NULL, e bigint REFERENCES every ON DELETE CASCADE
    DEFERRABLE INITIALLY DEFERRED, PRIMARY KEY (a, "B c"));
INSERT INTO app.child VALUES (1, 'x', 1000);
CREATE TABLE bare (v text); INSERT INTO bare VALUES ('twice'), ('twice'), (NULL);
CREATE TABLE parts (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)
    PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10);
INSERT INTO parts (v) VALUES ('a'), ('b');
CREATE UNIQUE INDEX by_t ON every (id, t) WHERE v = 'a';
CREATE INDEX by_lower ON every (lower(t) DESC NULLS LAST);
CREATE INDEX by_words ON every USING gin (tv);
CREATE VIEW app.seen AS SELECT 1 AS one;
CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tg BEFORE INSERT ON bare FOR EACH ROW EXECUTE FUNCTION app.f();
"""


def test_every_type_of_a_real_postgresql_to_sqlite(
    postgresql_database: URL, tmp_path: Path
) -> None:
    with closing(connect(postgresql_database)) as db:
        db.execute(EVERYTHING.encode())
    url = URL.create("sqlite", database=str(tmp_path / "b.db"))
    with postgresql_state(postgresql_database) as (catalog, blocks):
        attributes = {"sequence public.every_id_seq": "2000 true"}
        crossing = cross(catalog, attributes, "postgresql", "sqlite", blocks)
        load(sqlite.open_target(url), crossing, blocks)
        with closing(sqlite3.connect(tmp_path / "b.db")) as db:
            found = sqlite_catalog(db)
            one, two = canonical_digests(
                catalog, "postgresql", blocks, found, sqlite_blocks(db, found)
            )
            assert one == two
            assert {table.name for table in found.tables} == {"every", "app_child", "bare", "parts"}
            names = {item.name for item in found.objects}
            db.execute("PRAGMA foreign_keys = ON")
            assert not db.execute("PRAGMA foreign_key_check").fetchall()
            db.execute("INSERT INTO every (v) VALUES ('a')")
            new = db.execute(
                "SELECT id, b, i, t, tz IS NULL FROM every ORDER BY id DESC"
            ).fetchone()
            assert new == (2001, 1, 5, "it's", 0)
            with pytest.raises(sqlite3.IntegrityError):
                db.execute("INSERT INTO every (i) VALUES (0)")
            with pytest.raises(sqlite3.IntegrityError):
                db.execute("UPDATE every SET mo = 'glad'")
    assert names == {"by_t", "by_lower"}
    lost = {name for name, _ in crossing.losses}
    assert lost >= {"every.g", "every.n", "every.ts", "every.d", "every.ia", "public.by_words"}
    assert lost >= {"app.seen", "app.f()", "tg on public.bare", "every: CHECK every_t_check"}
    assert not lost & {"every.id", "every.b", "every.t", "every.mo", "every.u", "every.n2"}


def test_a_database_with_everything_that_postgresql_has_crosses(
    postgresql_database: URL, tmp_path: Path
) -> None:
    with closing(connect(postgresql_database)) as db:
        for part in RICH.split("-- commit"):
            db.execute(part.encode())
    url = URL.create("sqlite", database=str(tmp_path / "b.db"))
    with postgresql_state(postgresql_database) as (catalog, blocks):
        load(sqlite.open_target(url), cross(catalog, {}, "postgresql", "sqlite", blocks), blocks)
        with closing(sqlite3.connect(tmp_path / "b.db")) as db:
            found = sqlite_catalog(db)
            one, two = canonical_digests(
                catalog, "postgresql", blocks, found, sqlite_blocks(db, found)
            )
    assert one == two
    assert one["device"].rows == 50


def test_a_comparison_finds_one_value_that_differs(
    postgresql_database: URL, tmp_path: Path
) -> None:
    fill(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        catalog, blocks = sqlite_catalog(db), sqlite_blocks(db, sqlite_catalog(db))
        there = cross(catalog, {}, "sqlite", "postgresql", blocks)
        load(open_target(postgresql_database), there, blocks)
        with closing(connect(postgresql_database)) as other:
            other.execute("UPDATE tenant SET made = made + interval '1 microsecond' WHERE id = 7")
        with postgresql_state(postgresql_database) as (middle, middle_blocks):
            one, two = canonical_digests(catalog, "sqlite", blocks, middle, middle_blocks)
    assert {name for name in one if one[name] != two[name]} == {"tenant"}
