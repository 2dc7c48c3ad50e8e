"""A large snapshot or restore leaves the application's garbage collector as it found it."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest

from bequest.collector import ALLOCATIONS, seldom_collecting


@pytest.fixture(autouse=True)
def thresholds() -> Generator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_it_runs_seldom_until_the_last_of_several_is_through() -> None:
    with seldom_collecting():
        with seldom_collecting():
            assert gc.get_threshold() == (ALLOCATIONS, 10, 10)
        assert gc.get_threshold() == (ALLOCATIONS, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_it_is_put_back_after_a_failure() -> None:
    with pytest.raises(ValueError, match="no rows"), seldom_collecting():
        raise ValueError("no rows")
    assert gc.get_threshold() == (700, 10, 10)


def test_one_that_the_application_turned_off_stays_off() -> None:
    gc.set_threshold(0, 10, 10)
    with seldom_collecting():
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold()[0] == 0
