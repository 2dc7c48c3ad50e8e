"""The p99 of a controller while a large rewrite runs: in a thread, and in a process of its own."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bequest
from bequest import Limits

from ..bench import Bench, forget, url
from ..measure import Figure, percentile

TITLE = "the controller's p99 while a large rewrite runs"
PEERS = ()


def run(bench: Bench) -> Iterator[Figure]:
    """Two ways in turns; what ships is the process of its own for a database of 16 MiB or more."""
    ratios: dict[str, list[float]] = {"thread": [], "process": []}
    idle_ms: list[float] = []
    for _ in range(bench.few):
        for way, found in ratios.items():
            database, store = bench.controller(bench.normal), bench.fresh("store")
            apart = 0 if way == "process" else 1 << 40
            backup = bequest.Backup(
                url(database), str(store), limits=Limits(rewrite_apart_bytes=apart)
            )
            bequest.install(url(database))
            idle = percentile(transactions(database, 2.0), 0.99)
            worker = threading.Thread(target=backup.backup_now)
            worker.start()
            busy = percentile(
                _transactions(database, lambda _, worker=worker: not worker.is_alive()), 0.99
            )
            worker.join()
            backup.stop()
            found.append(busy / idle)
            idle_ms.append(1000 * idle)
            forget(database, store)
    ours = tuple(ratios["process"])
    yield Figure("a process of its own, of lower priority", "idle", ours, limit=1.5)
    yield Figure("a thread", "idle", tuple(ratios["thread"]), note="what was not chosen")
    yield Figure("idle p99", "-", tuple(idle_ms), "ms")


def transactions(database: Path, seconds: float) -> list[float]:
    """Seconds of each small transaction, for so many seconds."""
    return _transactions(database, lambda begun: time.monotonic() - begun > seconds)


def _transactions(database: Path, over: Callable[[float], bool]) -> list[float]:
    """Seconds of each small transaction, one every 2 ms, until ``over``."""
    db = sqlite3.connect(database, isolation_level=None, timeout=30)
    db.execute("PRAGMA synchronous = NORMAL")
    begun, taken, number = time.monotonic(), list[float](), 0
    while not over(begun) or len(taken) < 100:
        begin = time.perf_counter()
        db.execute("UPDATE device SET state = state + 1 WHERE id = ?", (1 + number % 900,))
        db.execute("SELECT name FROM interface WHERE device_id = ?", (1 + number % 900,)).fetchall()
        taken.append(time.perf_counter() - begin)
        number += 1
        time.sleep(0.002)
    db.close()
    return taken
