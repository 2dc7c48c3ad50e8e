"""A cut never waits for one table while it holds another, so no controller meets a deadlock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest import registry


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
