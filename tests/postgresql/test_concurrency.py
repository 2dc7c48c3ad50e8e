"""Eight writers on the same rows: at every cut the fold equals the tables. Promises 1 and 2."""

from __future__ import annotations

import random
import threading
from contextlib import suppress

import psycopg
import pytest

from .controller import Controller, Make, controller

__all__ = ["controller"]

SCHEMA = """
CREATE TABLE a (id int PRIMARY KEY, v int NOT NULL, u int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE b (k text PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE p (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0); CREATE TABLE p1 PARTITION OF p DEFAULT;
CREATE TABLE h (at timestamptz DEFAULT clock_timestamp(), delta int);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN UPDATE a SET v = v + 1 WHERE id = (NEW.id + 1) % 20 AND v < 100; RETURN NULL; END $$;
CREATE TRIGGER f AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION f();
INSERT INTO a SELECT i, 0, i FROM generate_series(0, 19) i;
"""


class Writer(threading.Thread):
    """Random transactions until told to stop; every statement may fail, as an application's may."""

    def __init__(self, controller: Controller, seed: int, stop: threading.Event) -> None:
        super().__init__(name=f"writer {seed}")
        self._db = controller.another(options="-cdeadlock_timeout=20ms")
        self._random = random.Random(seed)
        self._stop_now = stop
        self.committed = 0
        self.unexpected: list[str] = []

    def run(self) -> None:
        try:
            while not self._stop_now.is_set():
                self._transaction()
        finally:
            self._db.close()

    def _transaction(self) -> None:
        level = self._random.choice(["READ COMMITTED", "SERIALIZABLE", "REPEATABLE READ"])
        try:
            self._db.execute(f"BEGIN ISOLATION LEVEL {level}")
            for _ in range(self._random.randint(1, 5)):
                self._step()
            if self._random.random() < 0.1:
                self._stop_now.wait(0.05)
            self._db.execute(self._random.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))
            self.committed += 1
        except psycopg.Error as error:
            # Only what would have failed without capture: conflicts, deadlocks and constraints.
            if not (error.sqlstate or "").startswith(("40", "23")):
                self.unexpected.append(repr(error))
            with suppress(psycopg.Error):
                self._db.execute("ROLLBACK")

    def _step(self) -> None:
        n = self._random.randint(0, 19)
        statement = self._random.choice(STATEMENTS).format(n=n, m=self._random.randint(0, 19))
        if self._random.random() < 0.3:
            self._db.execute("SAVEPOINT s")
            try:
                self._db.execute(statement)
            except psycopg.errors.UniqueViolation:
                self._db.execute("ROLLBACK TO s")
            if self._random.random() < 0.3:
                self._db.execute("ROLLBACK TO s")
            return
        self._db.execute(statement)


STATEMENTS = [
    "INSERT INTO a VALUES ({n}, 0, {n}) ON CONFLICT (id) DO UPDATE SET v = a.v + 1",
    "UPDATE a SET v = v + 1 WHERE id = {n}",
    "UPDATE a SET v = v + 1 WHERE id % 5 = {n} % 5",
    "UPDATE a SET id = {m} WHERE id = {n}",
    "DELETE FROM a WHERE id = {n}",
    "INSERT INTO b VALUES ('k{m}', {n}) ON CONFLICT (k) DO UPDATE SET a = excluded.a",
    "DELETE FROM b WHERE a < {n}",
    "INSERT INTO p VALUES ({n}, {m} % 3) ON CONFLICT DO NOTHING",
    "UPDATE p SET part = ({m} + 1) % 3 WHERE id = {n}",
    "DELETE FROM p1 WHERE id = {n}",
    "INSERT INTO h (delta) VALUES ({n}), ({n})",
    "UPDATE h SET delta = {m} WHERE delta = {n}",
    "DELETE FROM h WHERE delta = {n}",
]


@pytest.mark.parametrize(
    "cuts", [pytest.param(60, id="ci"), pytest.param(2000, id="long", marks=pytest.mark.nightly)]
)
def test_at_every_cut_the_fold_is_the_tables(controller: Make, cuts: int) -> None:
    c = controller(SCHEMA)
    stop = threading.Event()
    writers = [Writer(c, seed, stop) for seed in range(8)]
    for writer in writers:
        writer.start()
    try:
        for number in range(cuts):
            c.check()
            if number % 10 == 0:
                c.source.trim(c.memory.position)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    c.check()
    assert sum(writer.committed for writer in writers) > cuts
    assert [writer.unexpected for writer in writers] == [[]] * 8
