"""A read without a lock: it counts only when it saw one committed state, and it harms nobody."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bequest_adapters.databases.sqlite.connection import Connections, locate
from bequest_adapters.databases.sqlite.quiet import Moved, Quiet

SPILLING = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 5")
db.execute("PRAGMA synchronous = OFF")
print("ready", flush=True)
for number in range(1, 10**9):
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE a SET v = ?, pad = randomblob(200)", (number,))
    db.execute("UPDATE b SET v = ?", (number,))
    if number == int(sys.argv[2]):
        print("spilled", flush=True)
        sys.stdin.read()
    db.execute("COMMIT" if number % 2 else "ROLLBACK")
"""
BOTH = "SELECT v FROM a UNION SELECT v FROM b"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "controller.db"
    with closing(sqlite3.connect(found)) as db, db:
        db.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, v, pad)")
        db.execute("CREATE TABLE b (id INTEGER PRIMARY KEY, v)")
        db.executemany("INSERT INTO a VALUES (?, 0, randomblob(200))", [(n,) for n in range(200)])
        db.executemany("INSERT INTO b VALUES (?, 0)", [(n,) for n in range(20)])
    return found


def spilling(path: Path, stop_at: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SPILLING, str(path), str(stop_at)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_counts_is_one_committed_state_although_half_ones_reach_the_file(path: Path) -> None:
    quiet, counted, discarded = Quiet(str(path)), 0, 0
    with spilling(path, 0) as writer:
        while counted < 30 or not discarded:
            try:
                with quiet.look() as db:
                    rows = db.execute(BOTH).fetchall()
            except Moved:
                discarded += 1
                continue
            assert len(rows) == 1
            counted += 1
        writer.kill()
    quiet.close()


def test_a_hot_journal_is_left_to_who_may_lock(path: Path) -> None:
    with spilling(path, 3) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "spilled\n"
        writer.send_signal(signal.SIGKILL)
    journal = path.with_name(path.name + "-journal")
    assert journal.exists()
    quiet = Quiet(str(path))
    with pytest.raises(Moved), quiet.look() as db:
        db.execute(BOTH).fetchall()
    assert journal.exists()
    quiet.close()
    connections = Connections(locate(make_url(f"sqlite:///{path}")))
    assert connections.read(lambda db: db.execute(BOTH).fetchall(), 0.1) == [(1,)]
    assert not journal.exists()
    connections.close()


def test_looking_drops_no_lock_of_the_process_that_looks(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as controller:
        controller.execute("BEGIN IMMEDIATE")
        quiet = Quiet(str(path))
        with quiet.look() as db:
            assert db.execute(BOTH).fetchall() == [(0,)]
        quiet.close()
        code = (
            "import sqlite3, sys\n"
            "sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
        assert "database is locked" in other.stderr
        controller.execute("COMMIT")


def test_nobody_reads_while_the_same_process_is_writing_pages(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as controller:
        quiet = Quiet(str(path))
        controller.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Moved, match="somebody is writing"), quiet.look():
            raise AssertionError("it read")
        controller.execute("COMMIT")
        with quiet.look() as db:
            assert db.execute(BOTH).fetchall() == [(0,)]
        quiet.close()
