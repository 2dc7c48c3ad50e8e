"""What the number of tables costs: a publish of one row, the install, and its longest lock."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bequest

from ..bench import Bench, forget, url
from ..measure import Figure

TITLE = "many tables: a publish of one row, the install, and its longest write lock (SQLite)"
PEERS = ()
FEW, SOME, MANY = 50, 500, 2_000

_PROBE = """
import select, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
longest = 0.0
print("ready", flush=True)
while time.time() < float(sys.argv[2]):
    begin = time.perf_counter()
    db.execute("BEGIN IMMEDIATE")
    longest = max(longest, time.perf_counter() - begin)
    db.execute("ROLLBACK")
    time.sleep(0.0005)
    if select.select([sys.stdin], [], [], 0)[0]:
        break
print(longest)
"""


def run(bench: Bench) -> Iterator[Figure]:
    few, many = [], []
    for _ in range(bench.few):
        few.append(_flush(bench, FEW))
        many.append(_flush(bench, MANY))
    ratios = tuple(mine / base for mine, base in zip(many, few, strict=True))
    note = f"{1000 * sorted(few)[len(few) // 2]:.1f} ms with {FEW}"
    yield Figure(f"flush of one row, {MANY} tables", f"{FEW} tables", ratios, limit=1.2, note=note)
    installs = [(_install(bench, SOME), _install(bench, MANY)) for _ in range(bench.few)]
    ratios = tuple(many[0] / some[0] * SOME / MANY for some, many in installs)
    note = f"{sorted(many[0] for _, many in installs)[len(installs) // 2]:.2f} s for {MANY}"
    yield Figure(
        f"install, per table, {MANY} tables", f"{SOME} tables", ratios, limit=1.25, note=note
    )
    waits = tuple(1000 * many[1] for _, many in installs)
    note = "longest wait of a writer in another process, its own sleeps included"
    yield Figure(f"longest write lock of an install of {MANY}", "-", waits, "ms", 100, note=note)


def _flush(bench: Bench, tables: int) -> float:
    """The median of the seconds that a flush of one changed row takes."""
    database, store = _controller(bench, tables), bench.fresh("store")
    backup = bequest.Backup(url(database), str(store))
    backup.flush(None)
    db = sqlite3.connect(database, isolation_level=None, timeout=30)
    taken: list[float] = []
    for number in range(bench.times(60, 20)):
        db.execute("UPDATE t1 SET name = ? WHERE id = 1", (f"name {number}",))
        begin = time.perf_counter()
        backup.flush(None)
        taken.append(time.perf_counter() - begin)
    db.close()
    backup.stop()
    forget(database, store)
    return sorted(taken)[len(taken) // 2]


def _install(bench: Bench, tables: int) -> tuple[float, float]:
    """Seconds of an install, and the longest wait of another writer meanwhile."""
    database = _controller(bench, tables)
    until = str(time.time() + 300)
    with subprocess.Popen(
        [sys.executable, "-c", _PROBE, str(database), until],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as probe:
        assert probe.stdin is not None
        assert probe.stdout is not None
        probe.stdout.readline()
        begin = time.perf_counter()
        bequest.install(url(database))
        taken = time.perf_counter() - begin
        probe.stdin.write("\n")
        probe.stdin.flush()
        longest = float(probe.stdout.readline())
    forget(database)
    return taken, longest


def _controller(bench: Bench, tables: int) -> Path:
    path = bench.fresh(f"{tables}-tables.db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN")
    for number in range(1, tables + 1):
        db.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, name TEXT UNIQUE, state INT)")
        db.execute(f"INSERT INTO t{number} VALUES (1, 'one', 0)")
    db.execute("COMMIT")
    db.close()
    return path
