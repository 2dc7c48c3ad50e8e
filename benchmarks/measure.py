"""What a measurement is: ratios taken side by side, their spread, and whether the goal is met.

Times on a shared machine mean little. What is compared is therefore measured in turns within one
run, each turn gives one ratio, and the median of the ratios is judged. CPU seconds, of this process
and its children, stand beside the wall clock where the two can differ.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True, slots=True)
class Taken:
    """What one piece of work took, in seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``limit`` is the goal's number: not above it, or not below.

    Without ``values`` it tells of what is not built.
    """

    what: str
    peer: str
    values: tuple[float, ...]
    unit: str = "x"
    limit: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def goal(self) -> str:
        if self.limit is None:
            return "-"
        return f"{'>=' if self.at_least else '<='} {self.limit:g}{_suffix(self.unit)}"

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "-"
        if not self.values:
            return "MISSED"
        met = self.median >= self.limit if self.at_least else self.median <= self.limit
        return "met" if met else "MISSED"

    @property
    def shown(self) -> str:
        if not self.values:
            return "not built"
        low, high, unit = min(self.values), max(self.values), _suffix(self.unit)
        spread = f" ({low:.3g} - {high:.3g})" if len(self.values) > 1 else ""
        return f"{self.median:.3g}{unit}{spread}"


@dataclass(slots=True)
class Turns:
    """Pieces of work done in turns: ``takes[name][round]``."""

    takes: dict[str, list[Taken]] = field(default_factory=dict[str, list[Taken]])

    def ratios(self, mine: str, peer: str, *, cpu: bool = False) -> tuple[float, ...]:
        """One ratio per round."""
        pairs = zip(self.takes[mine], self.takes[peer], strict=True)
        if cpu:
            return tuple(a.cpu / max(b.cpu, 1e-6) for a, b in pairs)
        return tuple(a.wall / b.wall for a, b in pairs)

    def median(self, name: str) -> float:
        return statistics.median(taken.wall for taken in self.takes[name])


def in_turns(rounds: int, works: dict[str, Callable[[int], object]]) -> Turns:
    """Do every work once per round, each told the round's number; odd rounds backwards."""
    turns = Turns({name: [] for name in works})
    for number in range(rounds):
        order = list(works) if number % 2 == 0 else list(reversed(works))
        for name in order:
            turns.takes[name].append(timed(partial(works[name], number)))
    return turns


def timed(work: Callable[[], object]) -> Taken:
    """Wall and CPU seconds of ``work``, its children's included."""
    cpu, begin = cpu_seconds(), time.perf_counter()
    work()
    return Taken(time.perf_counter() - begin, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _suffix(unit: str) -> str:
    return unit if unit == "x" else f" {unit}"
