"""From a seed that fails to a short story: fewer events, then the trace of what is left.

Every irregular event of a run has the number of the step that chose it. A mask turns some of them
into nothing; the rest of the run goes on from the same seed. Masks are tried in ever smaller
chunks (Zeller's ddmin) and kept while the run still breaks the same promise.
"""

from __future__ import annotations

from dataclasses import dataclass

from .promises import Broken
from .world import World, live

TRIALS = 600


@dataclass
class Failure:
    """A run that broke a promise."""

    seed: int
    masked: frozenset[int]
    broken: Broken
    steps: int
    marked: tuple[int, ...]


def attempt(seed: int, masked: frozenset[int] = frozenset()) -> Failure | None:
    """Run a seed; ``None`` when all promises held."""
    world = World(seed, masked=masked)
    try:
        live(world)
    except AssertionError as error:
        broken = error if isinstance(error, Broken) else Broken("ports", str(error))
        left = tuple(step for step in world.marked if step not in masked)
        return Failure(seed, masked, broken, world.steps, left)
    return None


def shrink(failure: Failure, trials: int = TRIALS) -> Failure:
    """The same seed and promise with as few irregular events as ``trials`` runs can find."""
    best, size = failure, max(1, len(failure.marked) // 2)
    while trials > 0:
        smaller = False
        for start in range(0, len(best.marked), size):
            chunk = frozenset(best.marked[start : start + size])
            trials -= 1
            found = attempt(failure.seed, best.masked | chunk)
            if found is None or found.broken.promise != failure.broken.promise:
                continue
            if len(found.marked) < len(best.marked):
                best, smaller = found, True
                break
            if trials <= 0:
                break
        if not smaller and size == 1:
            break
        size = size if smaller else size // 2
    return best


def trace(failure: Failure) -> list[str]:
    """What happened, a line a step."""
    lines: list[str] = []
    world: World | None = None

    def tell(text: str) -> None:
        lines.append(f"{world.steps if world is not None else 0:5} {text}")

    world = World(failure.seed, masked=failure.masked, tell=tell)
    try:
        live(world)
    except AssertionError as error:
        lines.append(f"{world.steps:5} BROKEN {error}")
        return [line for line in lines if "is killed" not in line or "<-" in line]
    raise RuntimeError(f"seed {failure.seed} did not fail again: it is not deterministic")


def story(failure: Failure) -> str:
    """Seed, promise and the shortest trace found, for a person."""
    small = shrink(failure)
    lines = [line for line in trace(small) if "time passes" not in line]
    if len(lines) > 120:
        lines = [*lines[:20], f"      ... {len(lines) - 120} lines ...", *lines[-100:]]
    masked = " ".join(str(step) for step in sorted(small.masked))
    return "\n".join(
        [
            f"Seed {failure.seed} breaks promise {failure.broken}",
            f"{failure.steps} steps, {len(failure.marked)} irregular events; "
            f"shrunk to {small.steps} steps, {len(small.marked)} events:",
            *lines,
            f"Replay: python -m tests.simulation --seed {failure.seed}",
            f"Replay what is shown: ... --seed {failure.seed} --masked {masked}"
            if masked and len(masked) < 4000
            else "",
        ]
    )
