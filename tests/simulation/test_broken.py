"""The simulation finds bugs: engines broken on purpose do not survive it."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from .broken import BREAKS, RARE, Break
from .shrink import attempt, story

SEEDS = 8000
"""The rarest of them shows in one seed of a thousand; most show within ten."""


def tried(break_it: Break) -> ParameterSet:
    marks = [pytest.mark.nightly, pytest.mark.timeout(3000)] if break_it in RARE else []
    return pytest.param(break_it, marks=marks, id=break_it.__name__.replace("_", " "))


@pytest.mark.parametrize("break_it", [tried(each) for each in BREAKS])
def test_a_broken_engine_is_caught(break_it: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    assert any(attempt(seed) for seed in range(SEEDS)), f"{SEEDS} seeds did not tell it apart"


def test_a_failure_is_told_with_its_seed_and_in_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[0](monkeypatch)
    failure = next(found for seed in range(SEEDS) if (found := attempt(seed)))
    told = story(failure)
    assert f"python -m tests.simulation --seed {failure.seed}" in told
    assert "BROKEN" in told
    assert len(told.splitlines()) < 140
