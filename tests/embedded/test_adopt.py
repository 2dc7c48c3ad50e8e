"""A restore adopts: it says so in the object before the new database exists, or changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest import registry
from bequest.model import Mark, Stat


@pytest.fixture
def old(tmp_path: Path) -> str:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        db.execute("INSERT INTO t VALUES (1, 'first')")
        db.commit()
    bequest.backup(f"sqlite:///{path}", str(tmp_path / "o.bequest"))
    return f"sqlite:///{path}"


class Meddled:
    """A real store in front of which something happens before each append or after it."""

    def __init__(
        self, path: Path, before: Callable[[], None] = lambda: None, broken: Exception | None = None
    ) -> None:
        self._store = registry.open_store(str(path))
        self._before = before
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        self._before()
        stat = self._store.append(data, onto=onto, mark=mark)
        if self._broken is not None:
            raise self._broken
        return stat


def write(database: str, value: str) -> None:
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as db:
        db.execute("INSERT INTO t (v) VALUES (?)", (value,))
        db.commit()


def values(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT v FROM t ORDER BY id")]


def test_what_the_old_controller_published_meanwhile_is_taken_too(old: str, tmp_path: Path) -> None:
    left = ["second", "third"]

    def publish() -> None:
        if left:
            write(old, left.pop(0))
            bequest.backup(old, str(tmp_path / "o.bequest"))

    report = bequest.restore(
        Meddled(tmp_path / "o.bequest", publish), f"sqlite:///{tmp_path / 'new.db'}", adopt=True
    )
    assert report.adopted
    assert values(tmp_path / "new.db") == ["first", "second", "third"]
    with pytest.raises(bequest.Superseded):
        bequest.backup(old, str(tmp_path / "o.bequest"))
    assert bequest.status(old).state == "superseded"


def test_a_publish_before_the_preflight_s_look_is_taken_too(old: str, tmp_path: Path) -> None:
    left = ["second", "third"]

    class Busy(Meddled):
        def head(self) -> Stat | None:
            if left:
                write(old, left.pop(0))
                bequest.backup(old, str(tmp_path / "o.bequest"))
            return self._store.head()

    new = tmp_path / "new.db"
    assert bequest.restore(Busy(tmp_path / "o.bequest"), f"sqlite:///{new}", adopt=True).adopted
    assert values(new) == ["first", "second", "third"]


def test_an_object_that_never_rests_leaves_the_target_as_it_was(old: str, tmp_path: Path) -> None:
    def publish() -> None:
        write(old, "more")
        bequest.backup(old, str(tmp_path / "o.bequest"))

    with pytest.raises(bequest.Conflict, match="still publishing"):
        bequest.restore(
            Meddled(tmp_path / "o.bequest", publish), f"sqlite:///{tmp_path / 'new.db'}", adopt=True
        )
    assert not (tmp_path / "new.db").exists()
    assert bequest.backup(old, str(tmp_path / "o.bequest")).action == "unchanged"


def test_a_lost_answer_to_the_adoption_is_recognised(old: str, tmp_path: Path) -> None:
    store = Meddled(tmp_path / "o.bequest", broken=bequest.Unreachable("the answer was lost"))
    report = bequest.restore(store, f"sqlite:///{tmp_path / 'new.db'}", adopt=True)
    assert report.adopted
    write(f"sqlite:///{tmp_path / 'new.db'}", "goes on")
    after = bequest.backup(f"sqlite:///{tmp_path / 'new.db'}", str(tmp_path / "o.bequest"))
    assert (after.action, after.epoch, after.serial) == ("append", 2, 3)


def test_a_copy_adopts_nothing_and_can_overwrite_nothing(old: str, tmp_path: Path) -> None:
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    assert not bequest.restore(str(tmp_path / "o.bequest"), copy, adopt=False).adopted
    with pytest.raises(bequest.Refused):
        bequest.backup(copy, str(tmp_path / "o.bequest"))
    assert bequest.backup(old, str(tmp_path / "o.bequest")).action == "unchanged"


def test_a_second_restore_supersedes_the_first(old: str, tmp_path: Path) -> None:
    store = str(tmp_path / "o.bequest")
    first, second = (f"sqlite:///{tmp_path / name}" for name in ("first.db", "second.db"))
    assert bequest.restore(store, first, adopt=True).epoch == 2
    assert bequest.restore(store, second, adopt=True).epoch == 3
    for superseded in (old, first):
        with pytest.raises(bequest.Superseded):
            bequest.backup(superseded, store)
    assert bequest.backup(second, store).action == "unchanged"


def test_a_dry_run_touches_neither_object_nor_target(old: str, tmp_path: Path) -> None:
    before = (tmp_path / "o.bequest").read_bytes()
    report = bequest.restore(
        str(tmp_path / "o.bequest"), f"sqlite:///{tmp_path / 'new.db'}", dry_run=True, adopt=True
    )
    assert report.dry_run
    assert not (tmp_path / "new.db").exists()
    assert (tmp_path / "o.bequest").read_bytes() == before
    assert bequest.backup(old, str(tmp_path / "o.bequest")).action == "unchanged"
