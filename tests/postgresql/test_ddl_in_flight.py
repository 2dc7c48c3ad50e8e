"""DDL and transactions while rewrites and appends are read: every object is the state at one cut.

Promise 2. Each transaction keeps the same numbers in three tables, one of them partitioned,
whatever else it does to them. So an object whose tables differ was not read at one cut.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest import registry
from bequest.errors import Unreachable
from bequest.publisher import Publisher
from bequest.snapshot.fold import Snapshot
from bequest_adapters.databases.postgresql import ranges
from tests.servers.postgresql import connect

STEPS = 10
PATIENCE_SECONDS = 60.0
TABLES = ("a", "b", "p")
SCHEMA = """
CREATE TABLE a (id int PRIMARY KEY, v int);
CREATE TABLE b (v int, id int);
CREATE TABLE p (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE p0 PARTITION OF p FOR VALUES FROM (MINVALUE) TO (150);
CREATE TABLE p1 PARTITION OF p DEFAULT;
"""
FILL = "INSERT INTO {t} (id, v) SELECT i, i + {n} FROM generate_series(1, 300) i"
ON_ALL = [
    ["DELETE FROM {t} WHERE id % 7 = {n} % 7"],
    ["UPDATE {t} SET v = v + {n}"],
    ["UPDATE {t} SET id = -id"],
    ["DELETE FROM {t}", FILL],
    ["TRUNCATE {t}", FILL],
    ["TRUNCATE {t}", FILL, "DELETE FROM {t} WHERE id < 250"],
]
ON_ONE = [
    "ALTER TABLE a ALTER v TYPE bigint",
    "ALTER TABLE a ALTER v TYPE int",
    "ALTER TABLE b ALTER v TYPE numeric; ALTER TABLE b ALTER v TYPE int",
    "ALTER TABLE b ADD COLUMN IF NOT EXISTS c int DEFAULT 5",
    "ALTER TABLE b DROP IF EXISTS c",
    "ALTER TABLE a RENAME v TO o; ALTER TABLE a ADD v int; UPDATE a SET v = o;ALTER TABLE a DROP o",
    "CREATE TABLE n AS SELECT id, v FROM b; DROP TABLE b; ALTER TABLE n RENAME TO b",
    "ALTER TABLE p DETACH PARTITION p0; ALTER TABLE p0 ALTER v SET DEFAULT 1;"
    "ALTER TABLE p ATTACH PARTITION p0 FOR VALUES FROM (MINVALUE) TO (150)",
]
ALONE = ["CLUSTER a USING a_pkey", "VACUUM FULL b", "VACUUM a", "VACUUM FULL p0", "ANALYZE"]


class Migrations(threading.Thread):
    """Some transactions; after every `STEPS` of them one publish must have been made."""

    def __init__(self, url: URL, seed: int, steps: int) -> None:
        super().__init__(name="migrations")
        self._url = url
        self._random = random.Random(seed)
        self._steps = steps
        self.failed: list[str] = []
        self.published = threading.Event()

    def run(self) -> None:
        with closing(connect(self._url)) as db:
            for number in range(self._steps):
                try:
                    for statement in self._step(number):
                        db.execute(statement.encode())
                except psycopg.Error as error:
                    self.failed.append(repr(error))
                    return
                time.sleep(self._random.choice([0, 0, 0.01, 0.1]))
                if number % STEPS == 0:
                    self.published.clear()
                    if not self.published.wait(PATIENCE_SECONDS):
                        return

    def _step(self, number: int) -> list[str]:
        kind = self._random.random()
        if kind < 0.15:
            return [self._random.choice(ALONE)]
        if kind < 0.4:
            return [f"BEGIN; {self._random.choice(ON_ONE)}; COMMIT"]
        statements = self._random.choice(ON_ALL)
        return [
            "BEGIN",
            *(each.format(t=table, n=number) for table in TABLES for each in statements),
            "COMMIT",
        ]


def tables(store: str) -> dict[str, Counter[tuple[object, ...]]]:
    """The numbers that the object holds."""
    with open(store, "rb") as stream:
        snapshot = Snapshot.open(stream)
        found = {name: Counter[tuple[object, ...]]() for name in TABLES}
        for table, rows in snapshot.rows():
            names = [column.name for column in table.columns]
            at = names.index("id"), names.index("v")
            found[table.name].update(tuple(int(row[i] or 0) for i in at) for row in rows)
    return found


@pytest.mark.parametrize(
    ("seed", "steps"),
    [
        pytest.param(1, 100, id="ci"),
        *(pytest.param(n, 2000, id=f"long {n}", marks=pytest.mark.nightly) for n in range(2, 6)),
    ],
)
def test_every_object_is_the_state_at_one_cut(
    postgresql_database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, steps: int
) -> None:
    monkeypatch.setattr(ranges, "WHOLE_BYTES", 0)
    monkeypatch.setattr(ranges, "FIRST_SLOTS", 32)
    monkeypatch.setattr(ranges, "GROWTH", 1)
    store, published = str(tmp_path / "o"), 0
    with closing(connect(postgresql_database)) as db:
        db.execute(SCHEMA)
        for table in TABLES:
            db.execute(FILL.format(t=table, n=0).encode())
    migrations = Migrations(postgresql_database, seed, steps)
    with (
        closing(registry.open_source(postgresql_database)) as source,
        closing(registry.open_store(store)) as opened,
    ):
        source.install()
        publisher = Publisher(source, opened, registry.system_clock())
        migrations.start()
        while migrations.is_alive():
            with suppress(Unreachable):
                publisher.publish(rewrite=published % 3 == 0)
                published += 1
                migrations.published.set()
                found = tables(store)
                assert found["a"] == found["b"] == found["p"]
        migrations.join()
        publisher.publish()
    assert migrations.failed == []
    assert published >= steps // STEPS
    assert bequest.verify(store, postgresql_database).ok
