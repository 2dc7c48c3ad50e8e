"""The controller comes first: when the database will not take what Bequest writes, it goes on.

The status says what is wrong and what to do, and when that is over nobody has to do anything.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest import registry
from bequest.backup import read_status
from bequest.errors import AccessError
from bequest.publisher import Publisher
from bequest.watcher import Watcher
from bequest_adapters.databases.sqlite import connection as connecting
from bequest_adapters.databases.sqlite import sidefile
from tests.simulation.small_world import Clock
from tests.simulation.test_publish import Daily

HARM = {
    "a full disk": ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
    "a read-only database": ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
}


class Scene:
    """A controller's database, Bequest beside it, and a way to harm only what Bequest writes."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, journal_mode: str) -> None:
        self.path, self.place = folder / "controller.db", str(folder / "object")
        self.url = f"sqlite:///{self.path}"
        self.handed_out: list[sqlite3.Connection] = []
        self.harm = ""
        connect = connecting.connect

        def harmed(location: Any) -> sqlite3.Connection:
            made = connect(location)
            self.handed_out.append(made)
            if self.harm:
                made.execute(self.harm)
            return made

        patch.setattr(connecting, "BUSY_SECONDS", 0.05)
        patch.setattr(connecting, "connect", harmed)
        self.controller = sqlite3.connect(self.path, isolation_level=None, timeout=0.05)
        self.controller.execute(f"PRAGMA journal_mode = {journal_mode}")
        self.controller.execute("CREATE TABLE devices (id INTEGER PRIMARY KEY, name)")
        self.source, self.store = registry.open_source(self.url), registry.open_store(self.place)
        self.source.install()
        self.clock, self.events = Clock(), list[str]()
        publisher = Publisher(self.source, self.store, self.clock, mode="per-change")
        self.watcher = Watcher(
            self.source,
            publisher,
            self.clock,
            lambda name, facts: self.events.append(f"{name} {facts.get('error', '')}"),
            mode="per-change",
            schedule=Daily(),
        )
        self.publisher = publisher
        self.written = 0

    def strike(self, statement: str) -> None:
        self.harm = statement
        for each in self.handed_out:
            try:
                each.execute(statement)
            except sqlite3.ProgrammingError:
                continue  # closed by now

    def write(self) -> None:
        self.written += 1
        self.controller.execute("INSERT INTO devices VALUES (?, ?)", (self.written, "x" * 500))

    def tick(self) -> str:
        self.clock.now += 120
        self.watcher.tick()
        return self.events[-1]

    def is_current(self) -> bool:
        report = bequest.verify(self.place, self.url)
        return report.ok and report.tables["devices"]["rows"] == self.written

    def close(self) -> None:
        self.controller.close()
        self.source.close()
        self.store.close()


@pytest.fixture(params=["wal", "delete"])
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Scene]:
    found = Scene(tmp_path, monkeypatch, request.param)
    found.write()
    assert found.tick().startswith("published")
    yield found
    found.close()


@pytest.mark.parametrize("harm", HARM)
def test_what_bequest_cannot_write_it_need_not(harm: str, scene: Scene) -> None:
    strike, heal = HARM[harm]
    scene.strike(strike)
    for _ in range(50):
        scene.write()
    assert scene.tick().startswith("published")
    assert scene.is_current()
    scene.strike(heal)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_without_room_beside_the_database_the_controller_goes_on_and_the_status_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(sidefile, "_write", full)
        for _ in range(50):
            scene.write()
        failure = scene.tick()
        assert failure.startswith("failed")
        assert os.strerror(number) in failure
        status = read_status(scene.source, scene.clock, scene.publisher.last_error)
        assert status.state == "failing"
        assert status.pending_mutations >= 50
    scene.write()
    scene.tick()
    assert scene.is_current()
    assert bequest.status(scene.url).state == "ok"


def test_a_database_that_somebody_keeps_locked(scene: Scene) -> None:
    (mode,) = scene.controller.execute("PRAGMA journal_mode").fetchone()
    scene.write()
    scene.controller.execute("BEGIN EXCLUSIVE")
    scene.write()
    told = scene.tick()
    scene.controller.execute("COMMIT")
    if mode == "wal":  # nobody reads what is not committed, and nobody waits for it
        assert told.startswith("published")
    else:
        assert told.startswith("failed")
        assert "locked by another connection" in told
    scene.tick()
    assert scene.is_current()


def test_a_cut_that_stays_open_does_not_keep_a_wal_writer_waiting(scene: Scene) -> None:
    (mode,) = scene.controller.execute("PRAGMA journal_mode").fetchone()
    with scene.source.cut(scene.source.recall()) as cut:
        assert cut.catalog().tables
        if mode == "wal":
            scene.write()
    scene.write()
    scene.tick()
    assert scene.is_current()


def test_a_full_disk_fails_the_controller_as_it_would_without_bequest(scene: Scene) -> None:
    (pages,) = scene.controller.execute("PRAGMA page_count").fetchone()
    scene.controller.execute(f"PRAGMA max_page_count = {pages + 2}")
    said = ""
    while not said:
        try:
            scene.write()
        except sqlite3.OperationalError as error:
            said = str(error)
    assert said == "database or disk is full"
    scene.written -= 1  # that one was rolled back, whole
    scene.tick()
    assert scene.is_current()
    scene.controller.execute("PRAGMA max_page_count = 1000000")
    scene.write()
    scene.tick()
    assert scene.is_current()


def test_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    with closing(registry.open_source(f"sqlite:///{tmp_path}/later.db")) as source:
        with pytest.raises(AccessError, match="start the controller once"):
            source.install()
        assert not (tmp_path / "later.db").exists()
