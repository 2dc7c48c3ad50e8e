"""A change that no journal tells, such as DDL, is not stored yet either, and status says so."""

from __future__ import annotations

from pathlib import Path

import bequest
from tests.restore.kinds import Kind, kind

__all__ = ["kind"]


def test_a_changed_schema_is_behind_until_it_is_published(kind: Kind, tmp_path: Path) -> None:
    url, store = kind.new("controller"), str(tmp_path / "o")
    kind.run(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    bequest.backup(url, store)
    assert bequest.status(url).state == "ok"
    kind.run(url, "ALTER TABLE t ADD COLUMN v INTEGER DEFAULT 1")
    found = bequest.status(url)
    assert (found.state, found.pending_transactions) == ("behind", 1)
    assert bequest.backup(url, store).action == "rewrite"
    found = bequest.status(url)
    assert (found.state, found.pending_transactions) == ("ok", 0)
    assert bequest.verify(store, url).ok


def test_a_restored_database_is_not_behind(kind: Kind, tmp_path: Path) -> None:
    url, store, new = kind.new("controller"), str(tmp_path / "o"), kind.new("new")
    kind.run(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    kind.run(url, "INSERT INTO t VALUES (1)")
    bequest.backup(url, store)
    bequest.restore(store, new, adopt=True)
    assert bequest.status(new).state == "ok"
    assert bequest.backup(new, store).action == "unchanged"
