"""An argument that cannot be meant is told in a sentence, before anything is done."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest


@pytest.fixture
def url(tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "ctl.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES (1)")
        db.commit()
    return f"sqlite:///{tmp_path / 'ctl.db'}"


@pytest.mark.parametrize("store", [None, 5, b"x", [], object(), ""])
def test_what_is_no_store(url: str, store: Any) -> None:
    for use in (
        lambda: bequest.backup(url, store),
        lambda: bequest.verify(store),
        lambda: bequest.Backup(url, store),
        lambda: bequest.restore(store, url, adopt=True),
    ):
        with pytest.raises(bequest.UsageError, match="store"):
            use()


def test_a_path_is_a_store(url: str, tmp_path: Path) -> None:
    assert bequest.backup(url, tmp_path / "o").rows == 1
    assert bequest.verify(tmp_path / "o", url).ok


WRONG: dict[str, list[Any]] = {
    "include": [5, [1], b"x"],
    "exclude": [5, [1]],
    "limits": [3, {}],
    "files": [5, "a", None, [5]],
    "files_limit": [-1, 1.5, "1", True],
    "files_ignore": [5, [b"x"]],
}
WRONG_BACKUP: dict[str, list[Any]] = {
    **WRONG,
    "schedule": [5],
    "timezone": [5],
    "drill_schedule": [5],
    "on_event": [5, "print"],
}
WRONG_RESTORE: dict[str, list[Any]] = {
    "at": [True, 1.5, b"1"],
    "tables": [5, [1]],
    "exclude": [5],
    "version": [5],
    "force": ["x", 1],
    "adopt": ["x", 1],
    "if_empty": [1],
    "dry_run": ["yes"],
    "files_to": [5],
    "progress": [5],
}


def cases(wrong: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in wrong.items() for value in values]


WRONG_ONCE: dict[str, list[Any]] = {**WRONG, "accept_files": ["no", 1, None], "replace": [1, b"x"]}


@pytest.mark.parametrize(("name", "value"), cases(WRONG_ONCE))
def test_backup_names_a_wrong_argument(url: str, tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(bequest.UsageError, match=f"{name} is .*must be"):
        bequest.backup(url, str(tmp_path / "o"), **{name: value})
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("name", "value"), cases(WRONG_BACKUP))
def test_the_backup_object_names_a_wrong_argument(
    url: str, tmp_path: Path, name: str, value: Any
) -> None:
    with pytest.raises(bequest.UsageError, match=f"{name} is .*must be"):
        bequest.Backup(url, str(tmp_path / "o"), **{name: value})


@pytest.mark.parametrize(("name", "value"), cases(WRONG_RESTORE))
def test_restore_names_a_wrong_argument(url: str, tmp_path: Path, name: str, value: Any) -> None:
    bequest.backup(url, str(tmp_path / "o"))
    new = f"sqlite:///{tmp_path / 'new.db'}"
    for verb in (bequest.restore, bequest.preflight):
        if verb is bequest.preflight and name in ("dry_run", "progress"):
            continue
        with pytest.raises(bequest.UsageError, match=f"{name} is .*must be"):
            verb(str(tmp_path / "o"), new, **{name: value})
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, "x", True])
def test_a_time_to_wait_is_a_number(url: str, tmp_path: Path, seconds: Any) -> None:
    backup = bequest.Backup(url, str(tmp_path / "o"))
    for wait in (backup.flush, backup.stop):
        with pytest.raises(bequest.UsageError, match="timeout"):
            wait(seconds)
    with pytest.raises(bequest.UsageError, match="lock_seconds"):
        bequest.Limits(lock_seconds=seconds)
    assert backup.flush(None).action == "create"
    backup.stop()


def test_a_missing_argument_stays_pythons_own_error(url: str) -> None:
    with pytest.raises(TypeError, match="store"):
        bequest.backup(url)  # type: ignore[call-arg]
