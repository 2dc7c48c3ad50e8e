"""One publisher, errors that say what to do, rights that are asked first. Promises 5, 6 and 9."""

from __future__ import annotations

import contextlib
import threading

import pytest
from sqlalchemy import URL
from sqlalchemy.engine import make_url

import bequest
from bequest.errors import BequestError, Denied, Unreachable, UsageError
from bequest.model import Memory, Selection
from bequest_adapters.databases.postgresql import open_source
from bequest_adapters.databases.postgresql.connection import locate
from tests.servers.postgresql import PostgresqlServer, connect

from .controller import Make, controller

__all__ = ["controller"]

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int);"


def test_only_one_publishes_and_a_lost_session_gives_the_right_back(controller: Make) -> None:
    c = controller(TABLE)
    second = open_source(c.url)
    try:
        with c.source.exclusive(1):
            c.source.remember(Memory(token="first"), durable=True)
            with pytest.raises(Unreachable), second.exclusive(0):
                pass
            c("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            with second.exclusive(5):
                second.remember(Memory(token="second"), durable=True)
                # Whoever lost the right cannot write either.
                with pytest.raises(Unreachable):
                    c.source.remember(Memory(token="first"), durable=True)
        assert c.source.recall().token == "second"
    finally:
        second.close()


def test_there_is_one_leader_and_its_end_makes_room(controller: Make) -> None:
    c = controller(TABLE)
    second = open_source(c.url)
    try:
        assert c.source.lead()
        assert c.source.lead()
        assert not second.lead()
        c("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert second.lead()
        assert not c.source.lead()
    finally:
        second.close()


def test_a_connection_that_broke_is_made_anew(controller: Make) -> None:
    c = controller(TABLE)
    c(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'bequest' AND datname = current_database()"
    )
    assert c.source.recall().serial == 0


def test_installing_waits_for_writers_briefly_and_makes_none_fail(controller: Make) -> None:
    c = controller(TABLE)
    c("CREATE TABLE busy (id int PRIMARY KEY); SET lock_timeout = '2s'")
    with c.another() as writer:
        writer.execute("BEGIN; INSERT INTO busy VALUES (1)")
        installing = threading.Thread(target=c.source.install)
        installing.start()
        c("INSERT INTO busy VALUES (2)")
        c("INSERT INTO t VALUES (1, 1)")
        writer.execute("COMMIT")
        installing.join()
    c.rebase()
    c("INSERT INTO busy VALUES (3)")
    c.check()


def test_installing_twice_changes_nothing_and_uninstalling_leaves_nothing(controller: Make) -> None:
    c = controller(TABLE + "CREATE SCHEMA s; CREATE TABLE s.t (id int) PARTITION BY LIST (id)")
    assert not c.source.install()
    c("INSERT INTO t VALUES (1, 1)")
    c.check()
    c.source.uninstall()
    assert c("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
    assert c("SELECT nspname FROM pg_namespace WHERE nspname = 'bequest'") == []
    assert not c.source.installed()
    assert c.source.recall().serial == 0
    with c.source.cut(Memory()) as cut:
        assert cut.stale
        assert cut.fault


def test_a_selection_takes_triggers_away_again(controller: Make) -> None:
    c = controller(TABLE + "CREATE TABLE u (id int)")
    assert c.source.install(Selection(exclude=("u",)))
    assert [table.name for table in c.catalog().tables] == ["t"]
    assert c("SELECT 1 FROM pg_trigger WHERE tgrelid = 'u'::regclass") == []


def test_an_idle_poll_sees_commits_and_schema_changes(controller: Make) -> None:
    c = controller(TABLE)
    idle = c.source.idle  # type: ignore[attr-defined]
    c.check()
    assert idle()
    c("CREATE TEMP TABLE elsewhere (id int); INSERT INTO elsewhere VALUES (1)")
    assert idle()
    c("INSERT INTO t VALUES (1, 1)")
    assert not idle()
    c.check()
    assert idle()
    c("ALTER TABLE t ADD w int")
    assert not idle()


def test_what_is_pending_is_counted(controller: Make) -> None:
    c = controller(TABLE)
    assert c.source.pending(Memory(serial=1, position=c.memory.position)).mutations == 0
    c("BEGIN; INSERT INTO t VALUES (1, 1), (2, 2); UPDATE t SET v = 2; COMMIT")
    c("TRUNCATE t")
    found = c.source.pending(Memory(serial=1, position=c.memory.position))
    assert (found.transactions, found.mutations) == (2, 5)


def test_a_role_without_rights_is_told_all_that_it_lacks(controller: Make) -> None:
    c = controller("")
    c("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN; CREATE SCHEMA s")
    c("CREATE TABLE s.t (id serial PRIMARY KEY); CREATE TABLE mine (id int)")
    source = open_source(c.url.set(username="weak"))
    try:
        c.source.uninstall()
        with pytest.raises(Denied, match="GRANT CREATE ON DATABASE"):
            source.install()
        c(f'GRANT CREATE ON DATABASE "{c.url.database}" TO weak')
        with pytest.raises(Denied) as caught:
            source.install()
        wanted = [line for line in str(caught.value).splitlines() if line.startswith("GRANT")]
        assert 'GRANT USAGE ON SCHEMA "s" TO "weak";' in wanted
        assert 'GRANT SELECT ON SEQUENCE "s"."t_id_seq" TO "weak";' in wanted
        for line in wanted:
            c(line)
        assert source.install()
        c("INSERT INTO s.t DEFAULT VALUES")
        with source.cut(Memory()) as cut:
            assert cut.attributes() == {"sequence s.t_id_seq": "1 true"}
        c("ALTER TABLE mine ENABLE ROW LEVEL SECURITY; ALTER TABLE mine FORCE ROW LEVEL SECURITY")
        c("ALTER TABLE mine OWNER TO weak")
        with pytest.raises(UsageError, match="BYPASSRLS"):
            source.install()
    finally:
        source.close()
        c("DROP OWNED BY weak CASCADE; DROP ROLE weak")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@h:1/d",
        "postgresql+psycopg2://u:secret@h:1/d?sslmode=disable",
        "postgresql+asyncpg://u:secret@h:1/d?ssl=disable&prepared_statement_cache_size=0",
        "postgresql+pg8000://u:secret@h:1/d?sslmode=disable",
    ],
)
def test_the_url_of_any_driver_is_understood(url: str) -> None:
    address = locate(make_url(url))
    wanted = {"user": "u", "password": "secret", "host": "h", "port": "1", "dbname": "d"}
    assert {key: address.parameters[key] for key in wanted} == wanted
    assert address.parameters.get("sslmode", "disable") == "disable"
    assert address.name == "postgresql://h:1/d"


def test_no_message_holds_the_password(postgresql: PostgresqlServer) -> None:
    with postgresql.database() as url, connect(url) as db:
        db.execute("DROP ROLE IF EXISTS locked")
        db.execute("CREATE ROLE locked LOGIN PASSWORD 'right' IN ROLE with_password")
        closed = url.set(username="locked", password="hunter2")
        for target, kind in (
            (closed, Denied),
            (closed.set(host="127.0.0.1", port=1), Unreachable),
            (url.set(database="nowhere", password="hunter2"), Denied),
        ):
            with pytest.raises(kind) as caught:
                open_source(target).recall()
            error: BaseException | None = caught.value
            while error is not None:
                assert "hunter2" not in str(error)
                error = error.__cause__
        source = open_source(url.set(username="locked", password="right"))
        assert source.recall() == Memory()
        source.close()
        db.execute("DROP ROLE locked")


def test_an_engine_of_any_kind_can_be_given(postgresql_database: URL, tmp_path: object) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_engine(postgresql_database)
    with engine.begin() as db:
        db.execute(text(TABLE))
    with bequest.Backup(engine, f"{tmp_path}/one.bequest") as backup:
        with engine.begin() as db:
            db.execute(text("INSERT INTO t VALUES (1, 1)"))
        backup.flush()
    assert bequest.verify(f"{tmp_path}/one.bequest", engine).ok
    engine.dispose()
    lazy = create_async_engine(postgresql_database)
    report = bequest.Backup(lazy, f"{tmp_path}/two.bequest")
    assert report.backup_now().rows == 1
    report.stop()
    report._source.close()


def test_a_standby_is_refused(controller: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    c = controller(TABLE)
    c(f'ALTER DATABASE "{c.url.database}" SET default_transaction_read_only = on')
    source = open_source(c.url)
    try:
        assert not source.install()  # pinned: only a server that cannot be written refuses
    finally:
        source.close()
        c(f'ALTER DATABASE "{c.url.database}" RESET default_transaction_read_only')
    from bequest_adapters.databases.postgresql import grants

    monkeypatch.setattr(grants, "_SERVER", "SELECT true, current_user, current_database()")
    with pytest.raises(Denied, match="standby"):
        c.source.install()


def test_errors_are_bequest_s_own(controller: Make) -> None:
    c = controller(TABLE)
    with c.another() as other:
        other.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unreachable, match="locked by another"):
            c.rebase()
    with contextlib.suppress(BequestError), c.source.cut(c.memory) as cut:
        assert cut.fault == ""
        c(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'bequest' AND datname = current_database()"
        )
        with pytest.raises(Unreachable):
            list(cut.mutations())
    c.check()
