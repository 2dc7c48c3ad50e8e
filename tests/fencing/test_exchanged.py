"""A database whose file is exchanged while it is published is never taken for the one before."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest_adapters.databases.sqlite.source import SqliteSource

from .machines import SqliteMachine, backup, sites_in


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.parametrize("other", ["clone", "foreign"])
@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in-place"])
def test_a_rewrite_never_holds_the_state_of_a_file_that_came_between(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    journal_mode: str,
    other: str,
    in_place: bool,
) -> None:
    store = str(tmp_path / "o.bequest")
    machine = SqliteMachine.made(tmp_path)
    path = str(machine.path)
    _execute(path, f"PRAGMA journal_mode = {journal_mode}")
    machine.write("Utrecht")
    backup(machine, store)
    between = machine.clone() if other == "clone" else SqliteMachine.made(tmp_path)
    if other == "foreign":
        backup(between, str(tmp_path / "other.bequest"))
    _execute(str(between.path), f"PRAGMA journal_mode = {journal_mode}")
    between.write("Gouda")
    machine.write("Delft")
    backup(machine, store)
    stored = sites_in(store, tmp_path)
    _settle(path)
    _settle(str(between.path))
    cut = SqliteSource.cut
    exchanged: list[str] = []

    def exchanging(self: SqliteSource, *given: Any, **options: Any) -> Any:
        if not exchanged and self.name.endswith(path):
            exchanged.append(path)
            _exchange(str(between.path), path, in_place)
        return cut(self, *given, **options)

    monkeypatch.setattr(SqliteSource, "cut", exchanging)
    # Through a connection that was open before, it may publish what it began with.
    with suppress(bequest.BequestError):
        backup(machine, store, rewrite=True)
    assert exchanged
    assert sites_in(store, tmp_path) == stored


def _execute(path: str, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)


def _settle(path: str) -> None:
    _execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")


def _exchange(source: str, path: str, in_place: bool) -> None:
    if not in_place:
        for suffix in ("-wal", "-shm"):
            Path(path + suffix).unlink(missing_ok=True)
        os.rename(source, path)
        return
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(path)) as new:
        old.backup(new)
