"""One row, one commit, through the ORM: with capture, with Continuum, with neither."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from ..bench import Bench
from ..measure import Figure

TITLE = "capture: ORM single-row commit, SQLite in WAL mode"
PEERS = ("sqlalchemy_continuum",)


def run(bench: Bench) -> Iterator[Figure]:
    for synchronous in ("NORMAL", "FULL"):
        for capture, limit in (("bequest", 1.06), ("continuum", None)):
            yield Figure(
                f"{capture}, synchronous {synchronous}",
                "no capture",
                tuple(_ratios(bench, capture, synchronous)),
                limit=limit,
            )


def _ratios(bench: Bench, capture: str, synchronous: str) -> Iterator[float]:
    for _ in range(bench.few):
        taken = orm(bench, capture, synchronous, bench.times(600, 200), 0)
        yield statistics.median(taken["other"]) / statistics.median(taken["plain"])


def orm(
    bench: Bench, capture: str, synchronous: str, commits: int, bulk: int
) -> dict[str, list[float]]:
    """What `benchmarks.orm` measured, in a process of its own."""
    folder = bench.fresh(capture)
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.orm", capture, synchronous]
    command += [str(commits), str(bulk), str(folder)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[float]] = json.loads(said.stdout)
    return found
