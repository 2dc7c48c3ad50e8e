"""Promises 2 to 9 hold for the shipped engine in a simulated world, whatever the seed.

A million steps and more; `python -m tests.simulation --seeds N --processes P` goes on from there.
"""

from __future__ import annotations

import pytest

from .shrink import attempt, story
from .world import World, live

SHARDS = 8
SEEDS_PER_SHARD = 400
STEPS_PER_SHARD = 125_000
NIGHTLY_SEEDS_PER_SHARD = 8000


def run(first: int, seeds: int) -> int:
    steps = 0
    for seed in range(first, first + seeds):
        world = World(seed)
        try:
            live(world)
        except AssertionError:
            failure = attempt(seed)
            pytest.fail(story(failure) if failure else f"seed {seed} failed once", pytrace=False)
        steps += world.steps
    return steps


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_promises_hold_and_the_object_becomes_current(shard: int) -> None:
    assert run(shard * SEEDS_PER_SHARD, SEEDS_PER_SHARD) >= STEPS_PER_SHARD


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_promises_hold_all_night(shard: int) -> None:
    run(100_000 + shard * NIGHTLY_SEEDS_PER_SHARD, NIGHTLY_SEEDS_PER_SHARD)


def test_a_seed_tells_the_same_story_twice() -> None:
    def told(seed: int) -> list[str]:
        lines: list[str] = []
        live(World(seed, tell=lines.append))
        return lines

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_every_kind_of_fault_and_event_happens() -> None:
    from .bucket import BODY_FAULTS, WRITE_FAULTS
    from .world import WEIGHTS

    seen: set[str] = set()
    for seed in range(300):
        world = World(seed)
        fault, run_event = world._fault, {name: getattr(world, f"do_{name}") for name in WEIGHTS}

        def noted(thread, fault=fault):  # type: ignore[no-untyped-def]
            seen.add(kind := fault(thread))
            return kind

        world._fault = noted  # type: ignore[method-assign]
        for name, event in run_event.items():
            noting = lambda name=name, event=event, **how: (seen.add(name), event(**how))  # noqa: E731
            setattr(world, f"do_{name}", noting)
        live(world)
    assert seen >= {*WRITE_FAULTS, *BODY_FAULTS, *WEIGHTS, "busy", "killed"}
