"""What is rare comes back too, or is named: families of tables, kept schemas and others."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest.errors import Refused
from bequest_adapters.databases.postgresql import target_place
from tests.servers.postgresql import PostgresqlServer, connect

from .dumps import dump


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "object")


def execute(database: URL, *statements: str) -> None:
    with connect(database) as db:
        for statement in statements:
            db.execute(statement.encode())


def answers(database: URL, query: str) -> list[tuple[object, ...]]:
    with connect(database) as db:
        return db.execute(query.encode()).fetchall()


def test_a_family_of_tables_is_made_parents_first(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE c_grandparent (g int)",
        "CREATE TABLE child (v text) INHERITS (parent, c_grandparent)",
        "CREATE TABLE a_grandchild () INHERITS (child); CREATE TYPE pair AS (p parent)",
        "CREATE TABLE a_row (id int PRIMARY KEY, p parent); INSERT INTO child VALUES (1, 2, 'c')",
        "INSERT INTO a_row VALUES (1, ROW(5)); INSERT INTO a_grandchild VALUES (3, 4, 'g')",
    )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=True)
        assert dump(postgresql, target) == dump(postgresql, postgresql_database)


def test_what_force_kept_is_neither_captured_nor_watched(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(postgresql_database, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        execute(
            target,
            "CREATE TABLE alembic_version (version_num text); CREATE TABLE old (id serial)",
            "INSERT INTO alembic_version VALUES ('of the old'); COMMENT ON TABLE old IS 'old'",
            "CREATE TYPE mood AS ENUM ('a'); CREATE CAST (mood AS int) WITH INOUT",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO pg_monitor",
        )
        bequest.restore(store, target, force=True, adopt=True)
        found = bequest.inspect(store)
        assert found.revisions == ()
        ((kept,),) = answers(target, "SELECT nspname FROM pg_namespace WHERE nspname ~ '_kept_'")
        execute(
            target,
            f'INSERT INTO "{kept}".old DEFAULT VALUES; ALTER TABLE "{kept}".old ADD v text',
            f"COMMENT ON COLUMN \"{kept}\".old.v IS 'new'; INSERT INTO t VALUES (2)",
        )
        assert bequest.backup(target, store).action == "append"
        with postgresql.database() as third:
            bequest.restore(store, third, adopt=False)
            assert bequest.verify(store, third).ok


def test_force_gives_the_schema_public_its_owner_and_rights_again(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(postgresql_database, "CREATE TABLE t (id int PRIMARY KEY)")
    bequest.backup(postgresql_database, store)
    rights = (
        "SELECT nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname = 'public'"
    )
    with postgresql.database() as target:
        execute(
            target,
            "CREATE TABLE old (id int)",
            "GRANT CREATE ON SCHEMA public TO pg_monitor WITH GRANT OPTION",
            "COMMENT ON SCHEMA public IS 'ours'",
        )
        before = answers(target, rights)
        bequest.restore(store, target, force=True, adopt=True)
        assert answers(target, rights) == before


def test_a_missing_extension_is_named_by_the_preflight(
    postgresql: PostgresqlServer,
    postgresql_database: URL,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = "SELECT FROM pg_available_extensions WHERE name = 'vector'"
    assert answers(postgresql_database, offered)
    execute(postgresql_database, "CREATE EXTENSION vector; CREATE TABLE t (v vector(2))")
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        found = {each["name"]: each for each in bequest.preflight(store, target, adopt=True).checks}
        assert found["extensions"]["level"] == "ok"
        monkeypatch.setattr(target_place, "_AVAILABLE", "SELECT 'plpgsql'")
        report = bequest.preflight(store, target, adopt=True)
        found = {each["name"]: each for each in report.checks}
        assert "lacks the extension vector" in found["extensions"]["text"]
        assert isinstance(report.fault, Refused)


def test_rows_of_a_foreign_partition_are_left_out_and_named(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    # A foreign table that nobody can read: whoever tries, fails.
    execute(
        postgresql_database,
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w",
        "CREATE TABLE p (id int, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE near (v text, id int)",
        "ALTER TABLE p ATTACH PARTITION near FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE deep PARTITION OF p FOR VALUES FROM (20) TO (30) PARTITION BY RANGE (id)",
        "CREATE TABLE deepest PARTITION OF deep FOR VALUES FROM (20) TO (25)",
        "CREATE FOREIGN TABLE far PARTITION OF p FOR VALUES FROM (10) TO (20) SERVER s",
        "INSERT INTO p VALUES (1, 'a'), (2, 'b'), (21, 'c')",
    )
    first = bequest.backup(postgresql_database, store)
    assert first.rows == 3
    assert [name for name, _ in first.not_covered if "far" in name] == ["public.far"]
    execute(
        postgresql_database,
        "UPDATE p SET v = 'A' WHERE id = 1; INSERT INTO near VALUES ('d', 4)",
        "DELETE FROM p WHERE id = 21; INSERT INTO deep VALUES (22, 'e')",
    )
    assert bequest.backup(postgresql_database, store).action == "append"
    assert bequest.verify(store, postgresql_database).differences == ()
    with postgresql.database() as target:
        assert bequest.restore(store, target, adopt=True).verified
        rows = answers(target, "SELECT * FROM p ORDER BY 1")
        assert rows == [(1, "A"), (2, "b"), (4, "d"), (22, "e")]


def test_views_in_a_circle_are_left_out_and_named(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW a AS SELECT id FROM t",
        "CREATE VIEW b AS SELECT id FROM a; CREATE OR REPLACE VIEW a AS SELECT id FROM b",
        "CREATE VIEW sound AS SELECT id FROM t; CREATE VIEW of_a AS SELECT id FROM a",
    )
    named = {name for name, _ in bequest.backup(postgresql_database, store).not_covered}
    assert named >= {"view public.a", "view public.b", "view public.of_a"}
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=True)
        assert answers(target, "SELECT * FROM sound") == []
        with pytest.raises(psycopg.errors.UndefinedTable):
            answers(target, "SELECT * FROM a")


def test_a_value_that_names_something_made_later_is_refused_with_its_reason(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE TABLE t (id regclass PRIMARY KEY); CREATE VIEW later AS SELECT 1 AS a",
        "INSERT INTO t VALUES ('t'), ('later')",
    )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        with pytest.raises(Refused, match="made after the rows"):
            bequest.restore(store, target, adopt=True)
        assert answers(target, "SELECT relname FROM pg_class WHERE relname = 't'") == []


def test_what_belongs_to_the_server_is_named_as_not_covered(
    postgresql_database: URL, store: str
) -> None:
    name = postgresql_database.database
    execute(
        postgresql_database,
        f"ALTER DATABASE {name} SET work_mem = '5MB'",
        "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 password=secret' PUBLICATION p"
        " WITH (connect = false, enabled = false, slot_name = NONE, create_slot = false)",
        "CREATE TEXT SEARCH PARSER words (START = prsd_start, GETTOKEN = prsd_nexttoken,"
        " END = prsd_end, LEXTYPES = prsd_lextype)",
        "CREATE TEXT SEARCH CONFIGURATION of_words (PARSER = words)",
        "CREATE TABLE t (id int PRIMARY KEY)",
    )
    try:
        report = bequest.backup(postgresql_database, store)
    finally:
        execute(postgresql_database, "DROP SUBSCRIPTION feed")
    named = dict(report.not_covered)
    assert {"setting work_mem of the database", "subscription feed"} <= named.keys()
    assert {"text search parser public.words", "text search configuration public.of_words"} <= {
        *named
    }
    assert not any("secret" in reason for reason in named.values())


def test_a_part_of_the_tables_is_restored_with_what_it_refers_to(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE TYPE mood AS ENUM ('a')",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        'CREATE TABLE "Site" (id serial PRIMARY KEY, m mood)',
        "CREATE TABLE a_log (id serial PRIMARY KEY, at timestamptz DEFAULT now())",
        'CREATE TABLE device (id int PRIMARY KEY, site int REFERENCES "Site", n int DEFAULT one())',
        "CREATE TABLE phone (number text) INHERITS (device)",
        "CREATE INDEX ON a_log (at); CREATE VIEW log_view AS SELECT * FROM a_log",
        "COMMENT ON TABLE a_log IS 'long'; CREATE INDEX ON phone (number)",
        "INSERT INTO \"Site\" (m) VALUES ('a'); INSERT INTO device VALUES (1, 1), (2, NULL)",
        "INSERT INTO phone VALUES (3, 1, 1, '+31'); INSERT INTO a_log DEFAULT VALUES",
    )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        report = bequest.restore(store, target, tables=["phone"], adopt=False)
        assert report.tables == 3
        made = answers(
            target,
            "SELECT relname FROM pg_class c WHERE relkind IN ('r', 'v', 'S')"
            " AND relnamespace = 'public'::regnamespace ORDER BY 1",
        )
        assert made == [("Site",), ("Site_id_seq",), ("device",), ("phone",)]
        assert answers(target, "SELECT id FROM device ORDER BY 1") == [(1,), (2,), (3,)]
        assert answers(target, "INSERT INTO \"Site\" (m) VALUES ('a') RETURNING id") == [(2,)]
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            execute(target, "INSERT INTO device VALUES (9, 9)")


def test_a_part_has_its_schemas_and_types_though_missing_tables_bear_their_names(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE SCHEMA app; CREATE SCHEMA mood; CREATE TYPE mood.app AS ENUM ('a')",
        "CREATE TABLE app.t (id int PRIMARY KEY, m mood.app DEFAULT 'a')",
        "CREATE TABLE public.app (id int); CREATE TABLE mood.mood (id int)",
        "CREATE VIEW app.seen AS SELECT * FROM public.app; INSERT INTO app.t VALUES (1)",
    )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        report = bequest.restore(store, target, tables=["app.t"], adopt=False)
        assert report.left_out == (("view app.seen", "it names public.app"),)
        assert answers(target, "SELECT * FROM app.t") == [(1, "a")]


def test_a_view_that_is_computed_for_the_first_time_is_published_as_such(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        "CREATE MATERIALIZED VIEW v AS SELECT * FROM t WITH NO DATA",
    )
    bequest.backup(postgresql_database, store)
    execute(postgresql_database, "REFRESH MATERIALIZED VIEW v")
    bequest.backup(postgresql_database, store)
    assert bequest.verify(store, postgresql_database).ok
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=False)
        assert answers(target, "SELECT * FROM v") == [(1,)]
    execute(postgresql_database, "REFRESH MATERIALIZED VIEW v")
    assert bequest.backup(postgresql_database, store).action == "unchanged"


def test_force_keeps_schemas_whose_long_names_begin_alike(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(postgresql_database, "CREATE TABLE t (id int PRIMARY KEY)")
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        for end in ("a", "b"):
            name = 60 * "s" + end
            execute(target, f"CREATE SCHEMA {name}; CREATE TABLE {name}.t AS SELECT '{end}' AS v")
        bequest.restore(store, target, force=True, adopt=False)
        kept = answers(target, "SELECT nspname FROM pg_namespace WHERE nspname ~ '_kept_'")
        assert len(kept) == 2
        found = {answers(target, f'SELECT v FROM "{name}".t')[0][0] for (name,) in kept}
        assert found == {"a", "b"}
