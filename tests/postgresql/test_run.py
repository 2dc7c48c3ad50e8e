"""A sidecar beside a busy application, DDL in between: it ends with an object that is equal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from tests.servers.postgresql import connect
from tests.servers.s3_server import S3Server

# As pgbench has it: three tables with keys, a history without one.
SCHEMA = """
CREATE TABLE branches (bid int PRIMARY KEY, bbalance int NOT NULL DEFAULT 0);
CREATE TABLE tellers (tid int PRIMARY KEY, bid int NOT NULL, tbalance int NOT NULL DEFAULT 0);
CREATE TABLE accounts (aid int PRIMARY KEY, abalance int NOT NULL DEFAULT 0, filler char(84));
CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamptz);
INSERT INTO branches SELECT generate_series(1, 2);
INSERT INTO tellers SELECT i, 1 + i % 2 FROM generate_series(1, 20) i;
INSERT INTO accounts SELECT i FROM generate_series(1, 2000) i;
"""
TRANSACTION = """
BEGIN;
UPDATE accounts SET abalance = abalance + {delta} WHERE aid = {aid};
UPDATE tellers SET tbalance = tbalance + {delta} WHERE tid = {tid};
UPDATE branches SET bbalance = bbalance + {delta} WHERE bid = 1 + {tid} % 2;
INSERT INTO history VALUES ({tid}, 1 + {tid} % 2, {aid}, {delta}, now());
COMMIT
"""
DDL = [
    "ALTER TABLE accounts ADD note text DEFAULT 'n'",
    "CREATE TABLE later (id serial PRIMARY KEY, v text); INSERT INTO later (v) VALUES ('a')",
    "ALTER TABLE tellers ALTER tbalance TYPE bigint",
    "ALTER TABLE accounts DISABLE TRIGGER ALL; UPDATE accounts SET abalance = -1 WHERE aid < 5;"
    "ALTER TABLE accounts ENABLE TRIGGER ALL",
    "TRUNCATE history",
    "ALTER TABLE branches RENAME TO offices; ALTER TABLE offices RENAME TO branches",
    "CREATE INDEX ON accounts (abalance)",
    "INSERT INTO later (v) SELECT 'x' FROM generate_series(1, 3000)",
]


class Client(threading.Thread):
    """Commits one transaction after another until told to stop."""

    def __init__(self, url: URL, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"client {number}")
        self._db = connect(url)
        self._number = number
        self._stop_now = stop
        self.failures: list[str] = []

    def run(self) -> None:
        count = self._number
        while not self._stop_now.wait(0.005):
            count += 7
            try:
                self._db.execute(
                    TRANSACTION.format(delta=count % 11, aid=count % 2000 + 1, tid=count % 20 + 1)
                )
            except psycopg.Error as error:
                if not isinstance(error, psycopg.errors.DeadlockDetected):
                    self.failures.append(repr(error))
                with suppress(psycopg.Error):
                    self._db.execute("ROLLBACK")
        self._db.close()


@pytest.mark.parametrize(
    "pause", [pytest.param(0.5, id="ci"), pytest.param(8, id="long", marks=pytest.mark.nightly)]
)
def test_a_sidecar_under_load_with_ddl_ends_equal(
    postgresql_database: URL, ministack: S3Server, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(postgresql_database) as db:
        db.execute(SCHEMA)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    store = ministack.url(ministack.new_key())
    shown = postgresql_database.set(password=None).render_as_string()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if postgresql_database.password:
        environment["PGPASSWORD"] = str(postgresql_database.password)
    command = [sys.executable, "-m", "bequest_adapters.cli", "run", "--json"]
    command += ["--database", shown, "--store", store, "--mode", "per-change"]
    stop = threading.Event()
    clients = [Client(postgresql_database, number, stop) for number in range(4)]
    sidecar = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        for client in clients:
            client.start()
        for sql in DDL:
            time.sleep(pause)  # the load itself is the event
            with connect(postgresql_database) as db:
                db.execute(sql)
        stop.wait(pause)
    finally:
        stop.set()
        for client in clients:
            client.join()
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(60) == 0
    assert [client.failures for client in clients] == [[]] * 4
    status = bequest.status(postgresql_database)
    assert status.pending_transactions == 0, json.dumps(dict(status))
    report = bequest.verify(store, postgresql_database)
    assert report.ok, report.differences
