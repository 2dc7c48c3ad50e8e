"""A restore gives exactly the snapshot's state, in one transaction, or leaves all as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

import bequest
from bequest.errors import Denied, Refused
from bequest.model import Catalog, Column, SchemaObject, Table
from bequest_adapters.databases.postgresql.target import open_target
from tests.servers.postgresql import PostgresqlServer, connect

from . import rich
from .dumps import dump


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "object")


def execute(database: URL, *statements: str) -> None:
    with connect(database) as db:
        for statement in statements:
            db.execute(statement.encode())


def answer(database: URL, query: str) -> object:
    with connect(database) as db:
        row = db.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def small(database: URL, store: str) -> None:
    """A small source and its object."""
    execute(
        database, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'ä')"
    )
    bequest.backup(database, store)


def test_everything_comes_back_as_pg_dump_sees_it(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    rich.make(postgresql_database)
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=True)
        assert dump(postgresql, target) == dump(postgresql, postgresql_database)
        assert bequest.verify(store, target).differences == ()


def test_the_new_controller_continues_the_object_without_a_rewrite(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    rich.make(postgresql_database)
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        assert bequest.restore(store, target, adopt=True).adopted
        execute(target, "INSERT INTO app.hashed VALUES ('new', 1)")
        assert bequest.backup(target, store).action == "append"
        assert bequest.verify(store, target).ok


def test_materialized_views_are_filled_and_sequences_go_on(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    rich.make(postgresql_database)
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=True)
        assert answer(target, "SELECT n FROM app.a_counts") == 50
        names = ("app.tickets", "app.unused", "app.device_id_seq", "app.gap_c_seq")
        for name in names:
            query = f"SELECT nextval('{name}')"
            assert answer(target, query) == answer(postgresql_database, query)


def test_a_database_with_data_is_refused_and_stays(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    hidden = "ALTER TABLE mine ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    for content in (
        "CREATE TABLE mine (); INSERT INTO mine DEFAULT VALUES",
        "CREATE SCHEMA s; CREATE TABLE s.p (i int) PARTITION BY LIST (i);"
        "CREATE TABLE s.d PARTITION OF s.p DEFAULT; INSERT INTO s.p VALUES (1)",
        f"CREATE TABLE mine (i int); INSERT INTO mine VALUES (1); {hidden}",
    ):
        with postgresql.database() as target:
            execute(target, content)
            before = dump(postgresql, target)
            with pytest.raises(Refused, match="--force"):
                bequest.restore(store, target, adopt=True)
            assert dump(postgresql, target) == before


def test_tables_without_rows_are_put_aside_and_replaced(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    with postgresql.database() as target:
        execute(
            target,
            "CREATE TABLE t (id serial PRIMARY KEY, other text)",
            "CREATE TYPE colour AS ENUM ('red')",
            "CREATE TABLE alembic_version (version_num text)",
            "INSERT INTO alembic_version VALUES ('r1')",
        )
        report = bequest.restore(store, target, if_empty=True, if_exists=True, adopt=True)
        assert report.kept is not None
        assert (report.adopted, report.skipped) == (True, None)
        assert answer(target, "SELECT v FROM t") == "ä"
        aside = answer(target, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^bequest_kept'")
        assert answer(target, f'SELECT version_num FROM "{aside}".alembic_version') == "r1"
        again = bequest.restore(store, target, if_empty=True, adopt=True)
        assert "holds data already" in str(again.skipped)


def test_a_capture_that_began_on_the_empty_database_is_forgotten(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    with postgresql.database() as target:
        bequest.install(target)
        bequest.restore(store, target, adopt=True)
        execute(target, "INSERT INTO t VALUES (2, 'b')")
        assert bequest.backup(target, store).action == "append"


def test_force_keeps_the_old_data_under_another_name(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    with postgresql.database() as target:
        execute(
            target,
            "CREATE TABLE t (id serial PRIMARY KEY, old text)",
            "INSERT INTO t (old) VALUES ('precious')",
            'CREATE SCHEMA "Other"',
            'CREATE VIEW "Other".v AS SELECT * FROM public.t',
        )
        bequest.install(target)
        report = bequest.restore(store, target, force=True, adopt=True)
        # The schema itself is a new one, with rights of its own.
        new, source = (
            dump(postgresql, database, "--table=public.*")
            for database in (target, postgresql_database)
        )
        assert new == source
        kept = answer(target, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^bequest_kept.*O'")
        assert report.kept is not None
        assert str(kept).startswith(report.kept.removeprefix("schemas ").removesuffix("*"))
        assert answer(target, f'SELECT old FROM "{kept}".v') == "precious"
        execute(target, f"INSERT INTO \"{kept}\".v (old) VALUES ('still writable')")
        assert bequest.backup(target, store).rows == 1
        assert bequest.verify(store, target).ok


def test_force_is_refused_while_others_are_connected(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    with postgresql.database() as target:
        execute(target, "CREATE TABLE mine (id int)")
        with (
            connect(target, application_name="the controller"),
            pytest.raises(Refused, match="the controller"),
        ):
            bequest.restore(store, target, force=True, adopt=True)
        assert answer(target, "SELECT to_regclass('public.mine')::text") == "mine"


KILLED = """
import sys, bequest
def progress(phase, done, total):
    if phase == {phase!r}:
        print(phase, flush=True)
        sys.stdin.read()
bequest.restore({store!r}, {target!r}, progress=progress, adopt=True)
"""


@pytest.mark.parametrize("phase", ["loading", "verifying"])
def test_a_restore_that_is_killed_leaves_nothing(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str, phase: str
) -> None:
    rich.make(postgresql_database)
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        before = dump(postgresql, target)
        url = target.render_as_string(hide_password=False)
        code = KILLED.format(store=store, target=url, phase=phase)
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == phase
            process.send_signal(signal.SIGKILL)
        with connect(target) as db:
            # Ours until the server has rolled the dead session back.
            db.execute(f"SELECT pg_advisory_lock({0x62657175657374})")
        assert dump(postgresql, target) == before
        bequest.restore(store, target, adopt=True)
        assert dump(postgresql, target) == dump(postgresql, postgresql_database)


def test_a_missing_extension_is_named_before_anything_is_touched(
    postgresql: PostgresqlServer, postgresql_database: URL
) -> None:
    before = dump(postgresql, postgresql_database)
    extension = SchemaObject("extension", "nowhere", "", "CREATE EXTENSION nowhere")
    table = Table(1, "t", (Column("a", "integer"),), (), "CREATE TABLE public.t (a int)", "public")
    with (
        pytest.raises(Refused, match="nowhere"),
        open_target(postgresql_database).replace(force=False) as loading,
    ):
        loading.create(Catalog((table,), (extension,)), {})
    assert dump(postgresql, postgresql_database) == before


def test_an_extension_comes_back_with_what_uses_it(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    offered = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"
    if not answer(postgresql_database, offered):
        pytest.skip("no extension to try it with")
    execute(
        postgresql_database,
        "CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext",
        "CREATE TABLE t (id int PRIMARY KEY, v ext.vector(3), a ext.vector[])",
        "INSERT INTO t VALUES (1, '[1,2.5,-3]', ARRAY['[0.1]'::ext.vector])",
        "CREATE INDEX ON t USING hnsw (v ext.vector_l2_ops)",
    )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=True)
        assert dump(postgresql, target) == dump(postgresql, postgresql_database)


def test_a_role_without_superuser_rights_restores_into_its_own_database(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'ä')",
        "CREATE POLICY nobody ON t USING (false)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "COMMENT ON EXTENSION plpgsql IS 'not mine'",
    )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        execute(
            target,
            "CREATE ROLE restorer LOGIN",
            f"ALTER DATABASE {target.database} OWNER TO restorer",
        )
        try:
            bequest.restore(store, target.set(username="restorer"), adopt=False)
            assert answer(target, "SELECT v FROM t") == "ä"
            owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'"
            assert answer(target, owner) == "restorer"
        finally:
            execute(
                target,
                f"ALTER DATABASE {target.database} OWNER TO CURRENT_USER",
                "DROP OWNED BY restorer; DROP ROLE restorer",
            )


def test_a_role_that_may_not_create_is_told_before_anything_is_touched(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    with postgresql.database() as target:
        execute(target, "CREATE ROLE stranger LOGIN")
        try:
            with pytest.raises(Denied, match="stranger"):
                bequest.restore(store, target.set(username="stranger"), adopt=True)
        finally:
            execute(target, "DROP ROLE stranger")


def test_a_grant_to_a_role_that_is_not_there_is_left_out_and_named(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE ROLE passing",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "GRANT SELECT ON t TO passing",
        "CREATE POLICY p ON t TO passing USING (true)",
    )
    bequest.backup(postgresql_database, store)
    execute(postgresql_database, "DROP OWNED BY passing; DROP ROLE passing")
    with postgresql.database() as target:
        report = bequest.restore(store, target, adopt=True)
        named = [name for name, reason in report.not_covered if "passing" in reason]
        assert named == ["policy p on public.t", "grant TABLE public.t to passing"]


def test_functions_that_rely_on_the_search_path_do_not_stop_a_restore(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(
        postgresql_database,
        "CREATE FUNCTION helper(n int) RETURNS int LANGUAGE sql AS 'SELECT n'",
        "CREATE FUNCTION known(n int) RETURNS bool IMMUTABLE LANGUAGE plpgsql"
        " AS 'BEGIN RETURN helper(n) = n; END'",
        "CREATE DOMAIN known_number AS int CHECK (known(VALUE))",
        "CREATE TABLE a (n int PRIMARY KEY CHECK (known(n)), k known_number,"
        " g bool GENERATED ALWAYS AS (known(n)) STORED)",
        "INSERT INTO a VALUES (1, 2)",
    )
    if int(str(answer(postgresql_database, "SHOW server_version_num"))) < 170000:
        # Newer servers themselves take the search path away from these.
        execute(
            postgresql_database,
            "CREATE INDEX ON a (known(n))",
            "CREATE MATERIALIZED VIEW m AS SELECT known(n) FROM a",
        )
    bequest.backup(postgresql_database, store)
    with postgresql.database() as target:
        bequest.restore(store, target, adopt=True)
        assert bequest.verify(store, target).ok


def test_text_that_the_target_cannot_hold_is_refused_and_nothing_is_left(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    execute(postgresql_database, "CREATE TABLE t (v text)", "INSERT INTO t VALUES ('漢')")
    bequest.backup(postgresql_database, store)
    options = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with postgresql.database(options) as target:
        with pytest.raises(Refused, match="ENCODING"):
            bequest.restore(store, target, adopt=True)
        assert answer(target, "SELECT to_regclass('public.t')") is None


def test_two_restores_exclude_each_other(
    postgresql: PostgresqlServer, postgresql_database: URL, store: str
) -> None:
    small(postgresql_database, store)
    with postgresql.database() as target, connect(target) as db:
        db.execute(f"SELECT pg_advisory_lock({0x62657175657374})")
        with pytest.raises(Refused, match="Another restore"):
            bequest.restore(store, target, adopt=True)
