"""Run the simulation: `python -m tests.simulation --seeds 20000 --processes 2`; or one seed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("", "schema", "engine", "adapters")]

from tests.simulation.shrink import attempt, story, trace  # noqa: E402
from tests.simulation.world import World, live  # noqa: E402

CHUNK = 250


def run(first: int, count: int) -> tuple[int, list[int]]:
    """Steps done, and the seeds that failed."""
    steps, failed = 0, []
    for seed in range(first, first + count):
        world = World(seed)
        try:
            live(world)
        except AssertionError:
            failed.append(seed)
        steps += world.steps
    return steps, failed


def soak(first: int, seeds: int, processes: int) -> int:
    begun, steps, failed = time.perf_counter(), 0, list[int]()
    chunks = [(at, min(CHUNK, first + seeds - at)) for at in range(first, first + seeds, CHUNK)]
    for done, found in results(chunks, processes):
        steps += done
        failed += found
        for seed in found:
            print(f"seed {seed} failed", flush=True)
    seconds = time.perf_counter() - begun
    print(f"{seeds} seeds, {steps} steps in {seconds:.1f} s: {steps / seconds:.0f} steps/s")
    for seed in failed[:3]:
        failure = attempt(seed)
        print(story(failure) if failure else f"seed {seed} failed once and not again")
    return 1 if failed else 0


def results(chunks: list[tuple[int, int]], processes: int) -> Iterator[tuple[int, list[int]]]:
    if processes == 1:
        yield from (run(*chunk) for chunk in chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, *zip(*chunks, strict=True))


def replay(seed: int, masked: frozenset[int], shrunk: bool) -> int:
    failure = attempt(seed, masked)
    if failure is None:
        print(f"seed {seed}: all promises held")
        return 0
    print(story(failure) if shrunk else "\n".join(trace(failure)))
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds to live through")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="one seed again, shrunk and told")
    parser.add_argument("--whole", action="store_true", help="tell it without shrinking")
    parser.add_argument("--masked", type=int, nargs="*", default=[], help="events to leave out")
    options = parser.parse_args()
    if options.seed is not None:
        masked = frozenset(options.masked)
        return replay(options.seed, masked, not options.whole and not masked)
    return soak(options.first, options.seeds, options.processes)


if __name__ == "__main__":
    sys.exit(main())
