"""The same on PostgreSQL, where a session belongs to the parent and its locks end with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL

import bequest

from .controller import CHILDREN, ROWS, WORKERS, rows_in
from .test_forks import survived, told


def text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "controller.bequest")


def test_children_that_commit_while_bequest_publishes_are_all_in_the_object(
    postgresql_database: URL, store: str
) -> None:
    seen = told("under_load", text_of(postgresql_database), store, "with", "")
    assert seen["failed"] == 0
    assert seen["stored"]
    assert rows_in(store) == seen["written"] + CHILDREN * ROWS
    assert bequest.verify(store, postgresql_database).ok


def test_the_parent_publishes_what_its_workers_commit(postgresql_database: URL, store: str) -> None:
    seen = told("preload", text_of(postgresql_database), store)
    assert seen["codes"] == [0] * WORKERS
    assert seen["workers"] == [{"threads": [], "handles": []}] * WORKERS
    assert (seen["stored"], seen["rows"]) == (True, WORKERS * ROWS)


def test_a_child_that_started_leads_when_its_parent_is_killed(
    postgresql_database: URL, store: str, tmp_path: Path
) -> None:
    events, last = survived(
        "succession", text_of(postgresql_database), store, events=tmp_path / "events"
    )
    assert events.index("waiting") < events.index("leading")
    assert last == {"stored": True}
