"""A start script may restore each time: it happens once, and two at once do not get in each
other's way."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

import bequest

from .controller import Controller, contents


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.publish()
    return made


def start(store: str, url: str) -> bequest.RestoreReport:
    return bequest.restore(store, url, if_empty=True, if_exists=True, adopt=True)


def test_an_empty_database_and_an_object_lead_to_a_restore_once(
    controller: Controller, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert start(controller.store, url).adopted
    again = start(controller.store, url)
    assert "holds data already" in str(again.skipped)
    assert (again.rows, again.adopted) == (0, False)
    assert bequest.status(url).epoch == 2


def test_without_an_object_nothing_happens(tmp_path: Path) -> None:
    report = start(str(tmp_path / "none"), f"sqlite:///{tmp_path / 'new.db'}")
    assert "no object" in str(report.skipped)
    assert not any(tmp_path.iterdir())


def test_each_condition_stands_for_itself(controller: Controller, tmp_path: Path) -> None:
    with pytest.raises(bequest.SnapshotMissing):
        bequest.restore(
            str(tmp_path / "none"), f"sqlite:///{tmp_path / 'a.db'}", if_empty=True, adopt=True
        )
    with pytest.raises(bequest.Refused, match="holds data"):
        bequest.restore(controller.store, controller.url, if_exists=True, adopt=True)


def test_two_that_start_at_once_restore_once(controller: Controller, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    together = threading.Barrier(4)
    reports: list[bequest.RestoreReport] = []

    def begin() -> None:
        together.wait()
        reports.append(start(controller.store, url))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.adopted for report in reports) == [False, False, False, True]
    assert bequest.status(url).epoch == 2
    assert contents(tmp_path / "new.db") == contents(controller.path)
    assert bequest.backup(url, controller.store).action == "unchanged"
    assert not [path.name for path in tmp_path.iterdir() if "restoring" in path.name]


def test_a_second_restore_without_the_condition_is_refused_at_once(
    controller: Controller, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with bequest.registry.open_target(url).alone(0):
        with pytest.raises(bequest.Refused, match="Another restore"):
            bequest.restore(controller.store, url, adopt=True)
    assert bequest.restore(controller.store, url, adopt=True).adopted


TABLES = (
    "CREATE TABLE tenant (id INTEGER PRIMARY KEY, name TEXT)",
    "CREATE VIEW names AS SELECT name FROM tenant",
    "CREATE VIRTUAL TABLE words USING fts5(word)",
    "CREATE TABLE alembic_version (version_num TEXT NOT NULL)",
    "INSERT INTO alembic_version VALUES ('r1')",
)


def made(path: Path, *statements: str) -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return f"sqlite:///{path}"


def test_tables_that_a_controller_made_before_its_restore_are_in_nobodys_way(
    controller: Controller, tmp_path: Path
) -> None:
    url = made(tmp_path / "new.db", *TABLES)
    report = start(controller.store, url)
    assert (report.adopted, report.skipped) == (True, None)
    assert contents(tmp_path / "new.db") == contents(controller.path)
    with closing(sqlite3.connect(str(report.kept))) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("r1",)]


def test_a_plain_restore_replaces_tables_without_rows(
    controller: Controller, tmp_path: Path
) -> None:
    url = made(tmp_path / "new.db", *TABLES)
    found = bequest.preflight(controller.store, url, adopt=True)
    assert found.ok
    assert "no rows" in str(found.checks)
    assert bequest.restore(controller.store, url, adopt=False).kept


@pytest.mark.parametrize(
    "row", ["INSERT INTO tenant VALUES (1, 'x')", "INSERT INTO words VALUES ('x')"]
)
def test_one_row_is_data(controller: Controller, tmp_path: Path, row: str) -> None:
    url = made(tmp_path / "new.db", *TABLES, row)
    assert "holds data already" in str(start(controller.store, url).skipped)
    with pytest.raises(bequest.Refused, match="no rows, or --force"):
        bequest.restore(controller.store, url, adopt=False)


def test_a_table_that_cannot_be_looked_into_is_data(controller: Controller, tmp_path: Path) -> None:
    url = made(
        tmp_path / "new.db",
        "PRAGMA writable_schema = ON",
        "INSERT INTO sqlite_master VALUES ('table', 'far', 'far', 0,"
        " 'CREATE VIRTUAL TABLE far USING unknown_module(x)')",
    )
    assert "holds data already" in str(start(controller.store, url).skipped)
