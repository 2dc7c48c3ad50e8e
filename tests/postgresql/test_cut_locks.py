"""A rewrite holds the lock of what it is reading for one block only, and never waits holding one.

So no controller meets a deadlock, and its DDL waits for one block at most (promise 6).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest import registry
from bequest.publisher import Publisher
from bequest_adapters.clock import SystemClock
from bequest_adapters.databases.postgresql import cut as cutting
from bequest_adapters.databases.postgresql import ranges, reading
from bequest_adapters.databases.postgresql.connection import Connection
from bequest_adapters.databases.postgresql.members import Member


@pytest.fixture
def database(postgresql_database: URL) -> Iterator[URL]:
    with closing(connected(postgresql_database)) as connection:
        connection.execute("CREATE TABLE a(id int PRIMARY KEY)")
        connection.execute("CREATE TABLE b(id int PRIMARY KEY)")
        connection.execute("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        connection.execute("CREATE DOMAIN d AS int")
    return postgresql_database


def connected(url: URL) -> psycopg.Connection:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True)


def test_a_cut_that_cannot_have_one_table_lets_the_others_go(database: URL, tmp_path: Path) -> None:
    bequest.backup(database, str(tmp_path / "o"))
    source = registry.open_source(database)
    stop = threading.Event()

    def cut() -> None:
        while not stop.is_set():
            with suppress(bequest.Unreachable), source.cut(source.recall()):
                pass

    with closing(connected(database)) as holder, closing(connected(database)) as writer:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
        cutting = threading.Thread(target=cut)
        cutting.start()
        try:
            writer.execute("SET lock_timeout = '200ms'")
            for number in range(25):
                writer.execute(f"ALTER TABLE a ADD COLUMN c{number} int".encode())
                time.sleep(0.02)
        finally:
            holder.execute("ROLLBACK")
            stop.set()
            cutting.join()
            source.close()
    assert bequest.backup(database, str(tmp_path / "o")).action == "rewrite"
    assert bequest.verify(str(tmp_path / "o"), database).ok


@pytest.mark.parametrize("what", ["FUNCTION f()", "DOMAIN d", "SCHEMA public", "TABLE a"])
def test_a_comment_on_anything_reaches_the_object(database: URL, tmp_path: Path, what: str) -> None:
    store = str(tmp_path / "o")
    bequest.backup(database, store)
    with closing(connected(database)) as connection:
        connection.execute(f"COMMENT ON {what} IS 'said later'".encode())
    assert bequest.backup(database, store).action == "rewrite"
    assert bequest.verify(store, database).ok


ROWS = 100_000
PATIENCE = "SET lock_timeout = '10s'"


@pytest.fixture
def large(database: URL, monkeypatch: pytest.MonkeyPatch) -> URL:
    """Reading table b takes some hundred blocks; a is read before it and c after it."""
    monkeypatch.setattr(reading, "BLOCK_ROWS", 1000)
    monkeypatch.setattr(ranges, "WHOLE_BYTES", 0)
    with closing(connected(database)) as connection:
        connection.execute("ALTER TABLE b ADD v text; CREATE TABLE c(id int PRIMARY KEY)")
        for table in "ac":
            connection.execute(f"INSERT INTO {table} SELECT generate_series(1, 10)".encode())
        connection.execute(f"INSERT INTO b SELECT i, i::text FROM generate_series(1, {ROWS}) i")
    return database


def publish(database: URL, store: str, heard: Callable[[int], None]) -> bequest.PublishReport:
    with (
        closing(registry.open_source(database)) as source,
        closing(registry.open_store(store)) as opened,
    ):
        source.install()
        progress = lambda _, done, __: heard(done)  # noqa: E731
        return Publisher(source, opened, SystemClock(), progress=progress).publish(rewrite=True)


@pytest.mark.parametrize("table", ["a", "c"])
def test_ddl_on_another_table_is_over_before_the_rewrite_is(
    large: URL, tmp_path: Path, table: str
) -> None:
    store, order = str(tmp_path / "o"), []

    def heard(rows: int) -> None:
        if rows > ROWS // 4 and "altered" not in order:
            with closing(connected(large)) as db:
                db.execute(PATIENCE)
                db.execute(f"ALTER TABLE {table} ADD y int; TRUNCATE {table}".encode())
                order.append("altered")
                assert db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)
        if rows > ROWS:
            order.append("read")

    publish(large, store, heard)
    assert order[0] == "altered"
    assert "read" in order
    bequest.backup(large, store)
    assert bequest.verify(store, large).ok


def test_ddl_on_the_table_that_is_read_waits_for_one_block_and_so_do_those_behind_it(
    large: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, order = str(tmp_path / "o"), list[str]()
    threads: list[threading.Thread] = []
    look = cutting.is_unchanged

    def statement(name: str, sql: str) -> None:
        with closing(connected(large)) as db:
            db.execute(PATIENCE)
            db.execute(sql.encode())
            order.append(name)

    def waiting(number: int) -> None:
        sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'b'::regclass"
        with closing(connected(large)) as db:
            while db.execute(sql).fetchone() != (number,):
                time.sleep(0.001)

    def queued(connection: Connection, member: Member) -> bool:
        """Under the lock of one block: let others queue for the table."""
        if member.sql == '"public"."b"' and order.count("block") < 50:
            order.append("block")
            if order.count("block") == 50:
                for number, (name, sql) in enumerate(
                    [("altered", "ALTER TABLE b ADD y int"), ("selected", "SELECT FROM b LIMIT 1")]
                ):
                    threads.append(threading.Thread(target=statement, args=(name, sql)))
                    threads[-1].start()
                    waiting(number + 1)
        return look(connection, member)

    def heard(rows: int) -> None:
        if len(threads) == 2:
            for thread in threads:
                thread.join()
        if rows > ROWS:
            order.append("read")

    monkeypatch.setattr(cutting, "is_unchanged", queued)
    publish(large, store, heard)
    others = [name for name in order if name != "block"]
    assert sorted(others[:2]) == ["altered", "selected"]
    assert others[2] == "read"
    assert bequest.verify(store, large).ok


def test_a_table_that_is_truncated_all_the_time_keeps_no_rewrite_from_its_end(
    large: URL, tmp_path: Path
) -> None:
    store = str(tmp_path / "o")

    def heard(rows: int) -> None:
        if 20 < rows < ROWS:  # table b is being read, and c is not yet
            with closing(connected(large)) as db:
                db.execute(f"{PATIENCE}; TRUNCATE c; INSERT INTO c VALUES ({rows})".encode())

    assert publish(large, store, heard).action == "create"
    bequest.backup(large, store)
    assert bequest.verify(store, large).ok


def test_an_install_that_waits_for_one_partition_holds_no_other(database: URL) -> None:
    with closing(connected(database)) as holder, closing(registry.open_source(database)) as source:
        holder.execute(
            "CREATE TABLE p (id int) PARTITION BY LIST (id);"
            "CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);"
            "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)"
        )
        holder.execute("BEGIN; LOCK TABLE p1 IN ACCESS EXCLUSIVE MODE")
        installing = threading.Thread(target=source.install)
        installing.start()
        waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'p1'::regclass"
        while not holder.execute(waits).fetchall():
            time.sleep(0.001)
        # A deadlock, if the other one holds it and waits on.
        holder.execute("LOCK TABLE p0 IN ACCESS EXCLUSIVE MODE; COMMIT")
        installing.join()
        assert source.installed()
