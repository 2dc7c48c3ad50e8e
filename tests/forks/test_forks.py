"""A fork of the controller's process disturbs neither the child nor the backup."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import bequest

from .controller import CHILDREN, ROWS, WORKERS, rows_in

SECONDS = 120


def told(story: str, *arguments: object) -> Any:
    """What a controller of its own process saw."""
    command = [sys.executable, "-m", "tests.forks.controller", story, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def survived(story: str, *arguments: object, events: Path) -> tuple[list[str], dict[str, Any]]:
    """The events of a controller whose first process ends on the way, and its last facts."""
    command = [sys.executable, "-m", "tests.forks.controller", story, *map(str, arguments)]
    with (events.parent / "errors").open("w+") as errors:
        subprocess.run(
            [*command, str(events)], stdout=errors, stderr=errors, timeout=SECONDS, check=False
        )
        deadline = time.monotonic() + SECONDS
        while "done " not in (text := events.read_text()):
            assert time.monotonic() < deadline, errors.seek(0) or errors.read()
            time.sleep(0.05)
    *lines, last = text.splitlines()
    return [line.strip() for line in lines], json.loads(last.removeprefix("done "))


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'controller.db'}"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "controller.bequest")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_children_that_commit_while_bequest_publishes_all_get_the_lock(
    database: str, store: str, mode: str
) -> None:
    seen = told("under_load", database, store, "with", mode)
    without = told("under_load", database + "-without", store, "without", mode)
    assert seen["failed"] == without["failed"] == 0
    assert seen["stored"]
    assert rows_in(store) == seen["written"] + CHILDREN * ROWS
    assert bequest.verify(store, database).ok


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_children_that_are_forked_during_a_cut_all_get_the_lock(database: str, mode: str) -> None:
    assert told("while_read", database, mode)["failed"] == 0


def test_under_a_server_that_preloads_the_parent_publishes_what_its_workers_commit(
    database: str, store: str
) -> None:
    seen = told("preload", database, store)
    assert seen["codes"] == [0] * WORKERS
    assert seen["workers"] == [{"threads": [], "handles": []}] * WORKERS
    assert seen["stored"]
    assert seen["rows"] == WORKERS * ROWS


def test_a_daemon_that_starts_after_its_forks_publishes(
    database: str, store: str, tmp_path: Path
) -> None:
    events, last = survived("daemonise", database, store, events=tmp_path / "events")
    assert events.count("leading") >= 2
    assert last == {"stored": True, "again": True}
    assert bequest.verify(store, database).ok


def test_a_child_that_commits_after_its_parent_has_ended_says_that_nobody_publishes(
    database: str, store: str, tmp_path: Path
) -> None:
    events, _ = survived("orphan", database, store, events=tmp_path / "events")
    assert events[-1] == "failed"


def test_a_child_that_started_leads_when_its_parent_is_killed(
    database: str, store: str, tmp_path: Path
) -> None:
    events, last = survived("succession", database, store, events=tmp_path / "events")
    assert events.index("waiting") < events.index("leading")
    assert last == {"stored": True}


def test_a_child_neither_holds_nor_gives_back_the_locks_of_its_parent(database: str) -> None:
    seen = told("lock_is_kept", database)
    assert seen == {"while_held": [[False, False]] * 2, "afterwards": [True, True]}


def test_every_way_of_forking_works_in_every_thread(database: str, store: str) -> None:
    seen = told("all_ways", database, store)
    assert set(seen["codes"]) == {0}
    assert seen["rows"] == 3 + len(seen["codes"]) - 1
    assert bequest.verify(store, database).ok
