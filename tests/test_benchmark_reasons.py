"""A goal that is missed says why, from the one table that the document shows."""

from __future__ import annotations

import pytest
from benchmarks.measure import Figure
from benchmarks.reasons import reasons, why
from benchmarks.rows import ROWS


def test_every_row_of_the_benchmark_has_a_reason_at_hand() -> None:
    assert {row for row, _, _ in reasons()} == ROWS.keys()


@pytest.mark.parametrize(("row", "words"), [(row, words) for row, words, _ in reasons()])
def test_no_reason_hides_behind_one_that_is_found_first(row: str, words: str) -> None:
    figure = Figure(words.partition(", of ")[0], words.partition(", of ")[2] or "-", (2.0,))
    expected = next(reason for name, said, reason in reasons() if (name, said) == (row, words))
    assert why(row, figure) == expected.replace("`", "")


def test_a_goal_without_a_reason_is_not_passed_over() -> None:
    assert "not explained yet" in why("snapshot", Figure("beauty", "-", (1.0,), limit=2.0))


def test_what_is_not_built_counts_as_missed() -> None:
    figure = Figure("flight", "walking", (), limit=1.1)
    assert (figure.shown, figure.verdict) == ("not built", "MISSED")
