"""A database that is named by a symbolic link is the file that the link leads to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import registry


@pytest.fixture(params=["wal", "delete"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    (tmp_path / "data").mkdir()
    (tmp_path / "link.db").symlink_to("data/c.db")
    with closing(sqlite3.connect(tmp_path / "data" / "c.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO sites (name) VALUES ('here')")
        yield tmp_path


def test_it_is_published(folder: Path) -> None:
    link, store = f"sqlite:///{folder}/link.db", str(folder / "o.bequest")
    with bequest.Backup(link, store) as backup:
        assert backup.flush().rows == 1
        with closing(sqlite3.connect(folder / "data" / "c.db", isolation_level=None)) as connection:
            connection.execute("INSERT INTO sites (name) VALUES ('there')")
        assert backup.flush().rows == 2
    assert bequest.verify(store, link).ok
    assert not list(folder.glob("link.db-*"))


def test_link_and_file_have_one_leader(folder: Path) -> None:
    with (
        closing(registry.open_source(f"sqlite:///{folder}/link.db")) as first,
        closing(registry.open_source(f"sqlite:///{folder}/data/c.db")) as second,
    ):
        assert first.lead()
        assert not second.lead()
        with first.exclusive(0), pytest.raises(bequest.Unreachable), second.exclusive(0):
            raise AssertionError("two of them publish")


def test_messages_name_what_was_given(folder: Path) -> None:
    with closing(registry.open_source(f"sqlite:///{folder}/link.db")) as source:
        assert source.name == f"sqlite:///{folder}/link.db"


def test_a_link_that_is_turned_to_another_file_is_noticed(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "data" / "new.db")) as connection:
        connection.execute("CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT)")
    with closing(registry.open_source(f"sqlite:///{folder}/link.db")) as source:
        source.install()
        (folder / "link.db").unlink()
        (folder / "link.db").symlink_to("data/new.db")
        with pytest.raises(bequest.Denied, match="leads to another file now"), source.exclusive(0):
            raise AssertionError("the old file is published under the new one's name")
