"""The row of memory is emptied by hand, as a script that truncates every table does it."""

from __future__ import annotations

from pathlib import Path

import pytest

import bequest

from .controller import Make, controller

__all__ = ["controller"]


def test_a_memory_that_somebody_emptied_is_made_again(controller: Make, tmp_path: Path) -> None:
    c = controller("CREATE TABLE t (id int PRIMARY KEY)")
    store = str(tmp_path / "o")
    bequest.backup(c.url, store)
    c("TRUNCATE bequest.bequest_memory")
    with pytest.raises(bequest.Refused, match="another controller"):
        bequest.backup(c.url, store)
    assert bequest.backup(c.url, str(tmp_path / "another")).action == "create"
