"""A restored database knows what it inherited from the moment in which it exists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

import bequest
from bequest import replay


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "o.bequest")


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Engine]:
    """The controller's database, with one empty table."""
    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sites(id INTEGER PRIMARY KEY, name TEXT)"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database, of either kind, for an object that comes from SQLite."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        url = request.getfixturevalue("postgresql_database")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def killed_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(replay, "settle_in", die)


def test_killed_after_the_commit_it_goes_on_publishing_without_another_restore(
    old: Engine, new: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with old.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (1, 'a')"))
    bequest.backup(old, store)
    with monkeypatch.context() as patch:
        killed_after_the_commit(patch)
        with pytest.raises(Killed):
            bequest.restore(store, new.url, adopt=True)
    with pytest.raises(bequest.Superseded):
        bequest.backup(old, store)
    with new.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (2, 'b')"))
    report = bequest.backup(new, store)
    assert (report.epoch, report.serial, report.rows) == (2, 3, 2)
    assert bequest.verify(store, new).ok


def test_what_is_written_before_the_first_backup_is_journalled(
    old: Engine, new: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bequest.backup(old, store)
    with monkeypatch.context() as patch:
        killed_after_the_commit(patch)
        with pytest.raises(Killed):
            bequest.restore(store, new.url, adopt=True)
    with new.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (2, 'b')"))
    assert bequest.status(new).pending_mutations == 1


def test_what_is_written_while_the_restore_settles_in_is_published(
    old: Engine, new: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bequest.backup(old, store)
    settle_in = replay.settle_in

    def started_meanwhile(*arguments: Any, **options: Any) -> None:
        with new.begin() as connection:
            connection.execute(text("INSERT INTO sites VALUES (2, 'b')"))
        settle_in(*arguments, **options)

    monkeypatch.setattr(replay, "settle_in", started_meanwhile)
    bequest.restore(store, new.url, adopt=True)
    bequest.backup(new, store)
    assert bequest.verify(store, new).ok


def test_what_is_published_while_the_restore_settles_in_stays_known(
    old: Engine, new: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bequest.backup(old, store)
    settle_in = replay.settle_in

    def published_meanwhile(*arguments: Any, **options: Any) -> None:
        bequest.backup(new, store)
        settle_in(*arguments, **options)

    monkeypatch.setattr(replay, "settle_in", published_meanwhile)
    bequest.restore(store, new.url, adopt=True)
    with new.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (2, 'b')"))
    assert bequest.backup(new, store).action == "append"


def test_it_is_its_predecessors_heir_even_when_the_object_was_deleted_meanwhile(
    old: Engine, new: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bequest.backup(old, store)
    with monkeypatch.context() as patch:
        killed_after_the_commit(patch)
        with pytest.raises(Killed):
            bequest.restore(store, new.url, adopt=True)
    Path(store).unlink()
    assert bequest.backup(new, store).epoch == 2
    with pytest.raises(bequest.Superseded):
        bequest.backup(old, store)
