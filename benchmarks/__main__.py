"""Bequest beside its peers and its limits, on the same data in one run.

    python -m benchmarks [--rows 10k,1m,5m] [--only NAME]... [--quick] [--results FOLDER]

Prints goal, figure and verdict per row; writes JSON and plots. A peer that is missing ends the run
before it begins. `docs/performance.md` explains the figures.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from . import peers
from .bench import Bench
from .results import Results, facts
from .rows import ROWS

_SUFFIXES = {"k": 1_000, "m": 1_000_000}


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    # One row takes the store away, and Bequest says so: that is no line of the table.
    logging.getLogger("bequest").setLevel(logging.CRITICAL)
    names = arguments.only or list(ROWS)
    needed = {peer for name in names for peer in ROWS[name].PEERS} | {"matplotlib"}
    peers.require(sorted(needed))
    sizes = _sizes(arguments.rows or ("10k,100k,200k" if arguments.quick else "10k,1m,5m"))
    programs = {"sqlite3", "zstd", "litestream", "pg_dump"} & needed
    results = Results(facts(sizes, {name: peers.version(name) for name in sorted(programs)}))
    with tempfile.TemporaryDirectory(prefix="bequest-bench-") as folder:
        rounds = 3 if arguments.quick else 5
        bench = Bench(Path(folder), *sizes, rounds=rounds, quick=arguments.quick)
        for name in names:
            begin = time.monotonic()
            results.begin(name, ROWS[name].TITLE)
            for figure in ROWS[name].run(bench):
                results.add(name, figure)
            results.seconds[name] = time.monotonic() - begin
    results.write(arguments.results)
    missed = results.missed()
    print(f"\n{len(missed)} goals missed" + "".join(f"\n  {line}" for line in missed))
    print(f"Took {sum(results.seconds.values()):.0f} s. Results are in {arguments.results}.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rows", help="small, normal and large state, such as 10k,1m,5m")
    parser.add_argument("--only", action="append", choices=list(ROWS), help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: a try-out")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results"))
    return parser.parse_args()


def _sizes(said: str) -> tuple[int, int, int]:
    small, normal, large = (_count(part) for part in said.split(","))
    return small, normal, large


def _count(said: str) -> int:
    factor = _SUFFIXES.get(said[-1].lower(), 1)
    return int(float(said.rstrip("kKmM")) * factor)


if __name__ == "__main__":
    main()
