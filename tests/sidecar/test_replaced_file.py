"""A database file that another one replaces is noticed by the process that publishes it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import bequest


def test_a_file_in_the_place_of_another_is_not_published_for_it(tmp_path: Path) -> None:
    path, store = tmp_path / "ctl.db", str(tmp_path / "o")
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with bequest.Backup(f"sqlite:///{path}", store) as backup:
        backup.flush(timeout=10)
        shutil.copy(path, tmp_path / "older")
        with closing(sqlite3.connect(path)) as db:
            db.execute("INSERT INTO t VALUES (1)")
            db.commit()
        backup.flush(timeout=10)
        os.replace(tmp_path / "older", path)
        with closing(sqlite3.connect(path)) as db:
            db.execute("INSERT INTO t VALUES (2)")
            db.commit()
        with pytest.raises(bequest.Refused, match="not an earlier state of this database"):
            backup.flush(timeout=10)
    assert bequest.inspect(store).tables["t"]["rows"] == 1
