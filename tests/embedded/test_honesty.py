"""What was not stored is never called stored, and no choice of tables empties a backup unheard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

import bequest


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'controller.db'}")
    with engine.begin() as connection:
        for table in ("sites", "session_a"):
            connection.execute(text(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY)"))
            connection.execute(text(f"INSERT INTO {table} VALUES (1), (2)"))
    yield engine
    engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "controller.bequest")


def test_one_glob_needs_no_list_around_it(engine: Engine, store: str) -> None:
    report = bequest.backup(engine, store, include="sites")  # type: ignore[arg-type]
    assert (report.tables, report.rows) == (1, 2)
    report = bequest.backup(engine, store, exclude="session_*")  # type: ignore[arg-type]
    assert (report.tables, report.rows) == (1, 2)


def test_a_choice_that_leaves_no_table_is_refused_and_the_object_stays(
    engine: Engine, store: str
) -> None:
    bequest.backup(engine, store)
    with pytest.raises(bequest.Refused, match="leaves none"):
        bequest.backup(engine, store, include=("sitess",))
    assert bequest.inspect(store).rows == 4
    with pytest.raises(bequest.Refused, match="leaves none"):
        bequest.backup(engine, store)
    assert bequest.backup(engine, store, include=("*",)).rows == 4


def test_tables_that_are_left_out_are_named(engine: Engine, store: str) -> None:
    report = bequest.backup(engine, store, exclude=("session_*",))
    assert report.not_covered == (("session_a", "left out by the choice of tables"),)
    assert bequest.inspect(store).not_covered == report.not_covered


def test_a_scheduled_controller_publishes_a_last_time_when_it_stops(
    engine: Engine, store: str
) -> None:
    backup = bequest.Backup(engine, store, mode="schedule")
    backup.start()
    backup.flush()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (3)"))
    assert backup.stop()
    assert bequest.verify(store, engine).ok
    assert bequest.status(engine).pending_transactions == 0


def test_a_superseded_controller_does_not_make_an_object_that_is_gone(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    bequest.backup(engine, store)
    bequest.restore(store, f"sqlite:///{tmp_path / 'heir.db'}", adopt=True)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (3)"))
    with pytest.raises(bequest.Superseded):
        bequest.backup(engine, store)
    Path(store).unlink()
    with pytest.raises(bequest.Superseded, match="is gone"):
        bequest.backup(engine, store)
    assert bequest.status(engine).pending_mutations == 1, "its journal is kept"
    assert bequest.backup(f"sqlite:///{tmp_path / 'heir.db'}", store).epoch == 2
