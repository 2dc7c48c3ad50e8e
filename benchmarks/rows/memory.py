"""The peak of memory of a snapshot and of a restore, at the normal and the large size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from ..bench import Bench, forget, url
from ..measure import Figure
from ..peers import program

TITLE = "memory, either direction, normal and large"
PEERS = ("sqlite3", "zstd")
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def run(bench: Bench) -> Iterator[Figure]:
    peaks: dict[tuple[str, int], float] = {}
    for rows in (bench.normal, bench.large):
        database, store, new = bench.controller(rows), bench.fresh("store"), bench.fresh("new.db")
        for what, code in (
            ("snapshot", f"import bequest; bequest.backup({url(database)!r}, {str(store)!r})"),
            (
                "restore",
                f"import bequest; bequest.restore({str(store)!r}, {url(new)!r}, adopt=False)",
            ),
        ):
            peaks[what, rows] = peak_mib([sys.executable, "-c", code])
            yield Figure(f"{what}, {rows} rows", "-", (peaks[what, rows],), "MiB", 160)
        peer = peak_mib([program("sqlite3"), str(database), ".dump"])
        yield Figure(f"snapshot, {rows} rows", "sqlite3 .dump", (peer,), "MiB")
        forget(database, store, new)
    if bench.large > bench.normal:
        for what in ("snapshot", "restore"):
            growth = peaks[what, bench.large] / peaks[what, bench.normal]
            yield Figure(f"{what}, large to normal", "itself", (growth,), limit=1.2)


def peak_mib(command: list[str]) -> float:
    """The largest resident set of ``command``, in MiB."""
    said = subprocess.run(
        [sys.executable, "-c", _PEAK, *command], check=True, capture_output=True, text=True
    )
    return int(said.stdout) / 1024
