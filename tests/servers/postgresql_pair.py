"""A PostgreSQL primary and its physical standby, for what a failover may lose.

Replication is asynchronous. The standby can be cut off, so that it misses what is written later,
and take over when the primary has crashed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import URL

from .postgresql import PostgresqlServer, as_nobody, new_folder, served, started

PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class PostgresqlPair:
    """Two servers, each by the URL of its superuser. ``folder`` holds the primary."""

    primary: PostgresqlServer
    standby: PostgresqlServer
    folder: Path

    def catch_up(self) -> None:
        """Wait until the standby has all that the primary has committed."""
        with self.primary.connect() as db:
            (position,) = one(db, "SELECT pg_current_wal_flush_lsn()::text")
        with self.standby.connect() as db:
            wait_for(db, f"pg_last_wal_replay_lsn() >= '{position}'")

    def cut_off(self) -> None:
        """Let nothing more reach the standby."""
        with self.standby.connect() as db:
            db.execute("ALTER SYSTEM SET primary_conninfo = ''")
            db.execute("SELECT pg_reload_conf()")
            wait_for(db, "NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")

    def crash(self) -> None:
        """End the primary as a crash would."""
        process = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(process, signal.SIGQUIT)
        with suppress(psycopg.OperationalError):
            while True:
                self.primary.connect().close()
                time.sleep(0.01)

    def promote(self) -> PostgresqlServer:
        """Let the standby take over; it can be written to at return."""
        with self.standby.connect() as db:
            assert one(db, f"SELECT pg_promote(true, {int(PATIENCE_SECONDS)})") == (True,)
        return self.standby

    def fail_over(self) -> PostgresqlServer:
        """Crash the primary, and the standby takes over."""
        self.crash()
        return self.promote()

    def on_standby(self, url: URL) -> URL:
        """The same database on the standby."""
        return url.set(port=self.standby.url.port)


def one(db: psycopg.Connection, sql: str) -> tuple[object, ...]:
    row = db.execute(sql.encode()).fetchone()
    assert row is not None
    return row


def wait_for(db: psycopg.Connection, condition: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while one(db, f"SELECT {condition}") != (True,):
        if time.monotonic() > deadline:
            raise TimeoutError(condition)
        time.sleep(0.01)


@pytest.fixture
def postgresql_pair() -> Generator[PostgresqlPair, None, None]:
    """A new pair for each test: a failover uses it up."""
    with new_folder() as first, started(first) as primary:
        with new_folder() as second:
            copy(primary, second)
            assert primary.programs is not None
            with served(primary.programs, second) as standby:
                yield PostgresqlPair(primary, standby, first)


def copy(primary: PostgresqlServer, folder: Path) -> None:
    """Fill ``folder`` with a standby of the primary's."""
    port = str(primary.url.port)
    program = [primary.program("pg_basebackup"), "-D", str(folder / "data")]
    options = ["-h", "127.0.0.1", "-p", port, "-U", "postgres", "-R", "-c", "fast", "-N"]
    subprocess.run([*as_nobody(), *program, *options], check=True, cwd=folder)
