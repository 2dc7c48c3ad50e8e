"""No statement of a controller fails, and no row differs, because Bequest is there (SQLite).

The same controller works without Bequest, with `bequest run` beside it and with `bequest.Backup`
inside it. What is compared is the set of statements that failed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .controllers import Plan, check, outcomes

KINDS: dict[str, tuple[str, str, float, int]] = {
    "deferred, WAL": ("deferred", "WAL", 5, 1),
    "deferred, WAL, no timeout": ("deferred", "WAL", 0, 1),
    "immediate, WAL": ("immediate", "WAL", 5, 1),
    "immediate, WAL, no timeout": ("immediate", "WAL", 0, 1),
    "autocommit, WAL, no timeout": ("autocommit", "WAL", 0, 1),
    "savepoints, WAL, no timeout": ("savepoints", "WAL", 0, 1),
    "long readers, WAL, no timeout": ("long readers", "WAL", 0, 1),
    "schema at start, WAL": ("schema at start", "WAL", 5, 1),
    "schema at start, WAL, no timeout": ("schema at start", "WAL", 0, 1),
    "schema at start, DELETE": ("schema at start", "DELETE", 5, 1),
    "like Django, WAL": ("like Django", "WAL", 5, 1),
    "ORM with NullPool, WAL": ("ORM with NullPool", "WAL", 5, 1),
    "ORM with BEGIN, WAL": ("ORM with BEGIN", "WAL", 5, 1),
    "aiosqlite, WAL": ("aiosqlite", "WAL", 5, 1),
    "three processes, WAL": ("immediate", "WAL", 30, 3),
    "three processes in turns, WAL, no timeout": ("taking turns", "WAL", 0, 3),
    "deferred, DELETE": ("deferred", "DELETE", 5, 1),
    "deferred, DELETE, no timeout": ("deferred", "DELETE", 0, 1),
    "immediate, PERSIST, no timeout": ("immediate", "PERSIST", 0, 1),
    "autocommit, TRUNCATE, no timeout": ("autocommit", "TRUNCATE", 0, 1),
    "like Django, DELETE": ("like Django", "DELETE", 5, 1),
    "three processes, DELETE": ("immediate", "DELETE", 30, 3),
}


@pytest.mark.parametrize(
    "count",
    [pytest.param(500, id="ci"), pytest.param(10_000, id="full", marks=pytest.mark.nightly)],
)
@pytest.mark.parametrize("name", KINDS)
def test_the_same_statements_fail_as_without_bequest(name: str, count: int, tmp_path: Path) -> None:
    kind, journal, timeout, processes = KINDS[name]
    if kind.startswith("ORM") and count == 500:  # they take five times as long
        count = 200
    if kind == "schema at start":  # every 250th is one
        count *= 2
    plan = Plan(kind, journal, timeout, count, processes=processes)
    check(outcomes(plan, tmp_path), least_publishes=3)


@settings(
    max_examples=2, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32),
    journal=st.sampled_from(["WAL", "DELETE", "TRUNCATE", "PERSIST"]),
    timeout=st.sampled_from([0.0, 5.0]),
)
def test_nor_do_others_fail_in_a_mixture_of_all(
    seed: int, journal: str, timeout: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = Plan("mixed", journal, timeout, 300, seed=seed)
    check(outcomes(plan, tmp_path_factory.mktemp("mixed")), least_publishes=1)
