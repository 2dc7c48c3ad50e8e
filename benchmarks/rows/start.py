"""From nothing to the first stored backup; what an import and ``--help`` cost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import bequest

from ..bench import Bench, forget, url
from ..measure import Figure, timed

TITLE = "start to first stored backup, import, --help"
PEERS = ()


def run(bench: Bench) -> Iterator[Figure]:
    python = sys.executable
    works = {
        "python -c pass": [python, "-c", "pass"],
        "import bequest": [python, "-c", "import bequest"],
        "bequest --help": [python, "-m", "bequest_adapters.cli", "--help"],
    }
    goals = {"import bequest": 150.0, "bequest --help": 300.0}
    rounds = bench.times(9, 5)
    for name, command in works.items():
        taken = [timed(lambda command=command: _quiet(command)) for _ in range(rounds)]
        # Nothing is waited for in an import: on an idle machine its CPU time is its time.
        cpu = tuple(1000 * each.cpu for each in taken)
        note = f"wall {1000 * min(each.wall for each in taken):.0f} ms at best"
        yield Figure(f"{name}, CPU", "-", cpu, "ms", goals.get(name), note=note)
    yield Figure("embedded start", "-", tuple(_starts(bench)), "ms", 300.0, note="10k rows, file")


def _starts(bench: Bench) -> Iterator[float]:
    for _ in range(bench.times(5, 3)):
        database, store = bench.controller(bench.small), bench.fresh("store")
        backup = bequest.Backup(url(database), str(store))
        taken = timed(lambda backup=backup: _first(backup))
        backup.stop()
        yield 1000 * taken.wall
        forget(database, store)


def _first(backup: bequest.Backup) -> None:
    backup.start()
    backup.flush()


def _quiet(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
