"""A temporary folder without room is told as any other fault, and passes when there is room."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest import spool


@pytest.fixture
def url(tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "ctl.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
        db.execute("INSERT INTO t VALUES (1, randomblob(100000))")
        db.commit()
    return f"sqlite:///{tmp_path / 'ctl.db'}"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Every write to a temporary file fails, by the kernel's own word, until it is undone."""
    monkeypatch.setattr(spool, "SPOOL_BYTES", 1000)
    patch = pytest.MonkeyPatch()
    patch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b", buffering=0))  # noqa: SIM115
    yield patch
    patch.undo()


def test_a_publish_fails_by_name_and_the_next_one_succeeds(
    url: str, tmp_path: Path, full: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "o")
    with pytest.raises(bequest.AccessError, match="TMPDIR"):
        bequest.backup(url, store)
    assert "temporary folder" in str(bequest.status(url).last_error)
    assert not (tmp_path / "o").exists()
    full.undo()
    assert bequest.backup(url, store).rows == 1
    assert bequest.status(url).last_error is None


def test_a_running_backup_says_failed(url: str, tmp_path: Path, full: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    backup = bequest.Backup(url, str(tmp_path / "o"), on_event=lambda *event: heard.append(event))
    with pytest.raises(bequest.AccessError, match="TMPDIR"):
        backup.flush(0.0)
    assert "temporary folder" in str(backup.status().last_error)
    full.undo()
    assert backup.flush(5.0).action == "create"
    backup.stop()


def test_reading_an_object_fails_by_name_and_changes_nothing(
    url: str, tmp_path: Path, full: pytest.MonkeyPatch
) -> None:
    full.undo()
    store = str(tmp_path / "o")
    bequest.backup(url, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        target = f"sqlite:///{tmp_path / 'new.db'}"
        found = bequest.preflight(store, target, adopt=True)
        assert "temporary folder" in str(found.fault)
        with pytest.raises(bequest.AccessError, match="nowhere"):
            bequest.restore(store, target, adopt=True)
        report = bequest.drill(store)
        assert "temporary folder" in str(report.error)
    assert not (tmp_path / "new.db").exists()
