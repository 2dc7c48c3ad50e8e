"""No statement of a controller fails, and no row differs, because Bequest is there (PostgreSQL)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from tests.servers.postgresql import PostgresqlServer, connect

from .controllers import PATIENCE_SECONDS, beside

DEVICES = 40
Transaction = Callable[[psycopg.Connection, random.Random, int], None]


def prepare(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE device (id int PRIMARY KEY, name text UNIQUE, state int NOT NULL)")
    db.execute("CREATE TABLE event (id int PRIMARY KEY, what text)")
    db.execute("INSERT INTO device SELECT n, 'device ' || n, 0 FROM generate_series(0, 39) n")


def think(choice: random.Random) -> None:
    time.sleep(0.02 if choice.random() < 0.05 else 0.0005)


def change(db: psycopg.Connection, choice: random.Random, number: int) -> None:
    db.execute("UPDATE device SET state = state + 1 WHERE id = %s", (choice.randrange(DEVICES),))
    if number % 50 == 25:
        db.execute("INSERT INTO device VALUES (%s, 'device 1', 0)", (1000 + number,))
    if number % 5 == 0:
        db.execute("INSERT INTO event VALUES (%s, %s)", (number, "x" * (number % 90)))


def read_committed(db: psycopg.Connection, choice: random.Random, number: int) -> None:
    with db.transaction():
        db.execute("SELECT state FROM device WHERE id = %s", (choice.randrange(DEVICES),))
        think(choice)
        change(db, choice, number)


def serializable(db: psycopg.Connection, choice: random.Random, number: int) -> None:
    with db.transaction():
        db.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        db.execute("SELECT sum(state) FROM device")
        think(choice)
        change(db, choice, number)


def impatient(db: psycopg.Connection, choice: random.Random, number: int) -> None:
    with db.transaction():
        db.execute("SET LOCAL lock_timeout = '20ms'")
        db.execute("SELECT state FROM device WHERE id = 3 FOR UPDATE")
        think(choice)
        change(db, choice, number)


def nowait(db: psycopg.Connection, choice: random.Random, number: int) -> None:
    with db.transaction():
        db.execute("LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE NOWAIT")
        db.execute("SELECT state FROM device ORDER BY id FOR UPDATE NOWAIT")
        think(choice)
        change(db, choice, number)


KINDS: dict[str, Transaction] = {
    "read committed": read_committed,
    "serializable": serializable,
    "lock timeout of 20 ms": impatient,
    "NOWAIT": nowait,
}


@contextmanager
def at_work(way: str, url: URL, store: Path) -> Generator[None]:
    """Bequest beside, inside, or not at all."""
    address = url.render_as_string(hide_password=False)
    if way == "without":
        yield
    elif way == "beside":
        with beside(address, store) as sidecar:
            yield
            sidecar.end()
            assert sidecar.published() > 3
    else:
        published: list[Any] = []
        backup = bequest.Backup(
            url, str(store), on_event=lambda name, _: published.append(name == "published")
        )
        with backup:
            backup.flush(PATIENCE_SECONDS)
            yield
        assert sum(published) > 3


def work(url: URL, kind: Transaction, count: int) -> list[tuple[int, str]]:
    """Which transactions failed, and why."""
    failures: list[tuple[int, str]] = []
    choice = random.Random(1)
    with connect(url) as db:
        for number in range(count):
            try:
                kind(db, choice, number)
            except psycopg.Error as error:
                failures.append((number, type(error).__name__))
    return failures


@pytest.mark.parametrize(
    "count",
    [pytest.param(500, id="ci"), pytest.param(10_000, id="full", marks=pytest.mark.nightly)],
)
@pytest.mark.parametrize("name", KINDS)
def test_the_same_statements_fail_as_without_bequest(
    name: str, count: int, postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    found: dict[str, Any] = {}

    def run(way: str) -> None:
        with postgresql.database() as url:
            with connect(url) as db:
                prepare(db)
            with at_work(way, url, tmp_path / way):
                failures = work(url, KINDS[name], count)
            with connect(url) as db:
                rows = [
                    db.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()
                    for table in ("device", "event")
                ]
            found[way] = failures, rows

    threads = [threading.Thread(target=run, args=(way,)) for way in ("without", "beside", "inside")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [kind for _, kind in found["without"][0]] == ["UniqueViolation"] * (count // 50)
    assert found["beside"] == found["without"]
    assert found["inside"] == found["without"]
