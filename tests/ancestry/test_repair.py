"""A copy that was made while capture was broken does not pass for a descendant of its original."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from bequest.model import Memory
from bequest_adapters.databases.sqlite import SqliteSource, open_source


def opened(path: Path) -> closing[SqliteSource]:
    return closing(open_source(make_url(f"sqlite:///{path}")))


def run(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def test_what_no_journal_row_names_tells_two_copies_apart_after_the_repair(tmp_path: Path) -> None:
    path, copy = tmp_path / "c.db", tmp_path / "copy.db"
    run(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a');")
    with opened(path) as source:
        source.install()
        run(path, "INSERT INTO t VALUES (2, 'b');")
        shutil.copy(path, copy)
        # A rebuilt table has lost its triggers: this row is in no journal.
        run(
            path,
            "CREATE TABLE n (id INTEGER PRIMARY KEY, v); INSERT INTO n SELECT * FROM t;"
            "DROP TABLE t; ALTER TABLE n RENAME TO t; INSERT INTO t VALUES (3, 'c');",
        )
        assert source.install()
        with source.cut(Memory()) as cut:
            origin = cut.origin("")
        assert source.descends(origin) is True
    with opened(copy) as source:
        assert source.descends(origin) is False
