"""Commits per second of one writer while a sidecar follows it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import bequest

from .. import litestream
from ..bench import Bench, forget, url
from ..measure import Figure

TITLE = "commit throughput of the writer beside a sidecar (share of none)"
PEERS = ("litestream",)


def run(bench: Bench) -> Iterator[Figure]:
    goals = {"NORMAL": 0.80, "FULL": 0.97}
    for synchronous, goal in goals.items():
        rates: dict[str, list[float]] = {"none": [], "bequest": [], "litestream": []}
        for _ in range(bench.few):
            for name, found in rates.items():
                found.append(_rate(bench, name, synchronous))
        for name, limit in (("bequest", goal), ("litestream", None)):
            pairs = zip(rates[name], rates["none"], strict=True)
            shares = tuple(mine / none for mine, none in pairs)
            note = f"{sorted(rates['none'])[len(rates['none']) // 2]:.0f} commits/s with none"
            what = f"{name}, synchronous {synchronous}"
            yield Figure(what, "no sidecar", shares, limit=limit, at_least=True, note=note)


def _rate(bench: Bench, sidecar: str, synchronous: str) -> float:
    database, place = bench.controller(bench.small), bench.fresh("backup")
    beside = {
        "none": lambda: nullcontext(),
        "bequest": lambda: _bequest(database, place),
        "litestream": lambda: _litestream(bench, database, place),
    }[sidecar]
    with beside():
        rate = commits_per_second(database, synchronous, bench.times(3, 1))
    forget(database, place)
    return rate


def commits_per_second(database: Path, synchronous: str, seconds: float) -> float:
    """One writer's rate over ``seconds``, one row a commit."""
    db = sqlite3.connect(database, isolation_level=None, timeout=30)
    db.execute(f"PRAGMA synchronous = {synchronous}")
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        row = 1 + count * 7919 % 900
        db.execute("UPDATE device SET state = state + 1, name = name || '' WHERE id = ?", (row,))
        count += 1
    taken = time.perf_counter() - begin
    db.close()
    return count / taken


@contextmanager
def _bequest(database: Path, store: Path) -> Generator[None]:
    bequest.backup(url(database), str(store))
    command = [sys.executable, "-m", "bequest_adapters.cli", "run"]
    command += ["--database", url(database), "--store", str(store)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_one_publish(database, store)
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the sidecar ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def _wait_for_one_publish(database: Path, store: Path) -> None:
    before = store.stat().st_size
    db = sqlite3.connect(database, isolation_level=None, timeout=30)
    db.execute("UPDATE device SET state = state + 1 WHERE id = 1")
    db.close()
    for _ in range(300):
        if store.stat().st_size != before:
            return
        time.sleep(0.1)
    raise RuntimeError("the sidecar published nothing within 30 s")


@contextmanager
def _litestream(bench: Bench, database: Path, replica: Path) -> Generator[None]:
    config = bench.fresh("litestream.yml")
    with litestream.replicating(database, litestream.to_file(replica), config):
        litestream.settled(replica)
        yield
