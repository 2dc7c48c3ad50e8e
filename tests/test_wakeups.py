"""A commit is noticed at once, wherever it comes from, and noticing it never disturbs anybody."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine
from watchdog.events import FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from bequest.errors import Unreachable
from bequest_adapters.wakeups import files
from bequest_adapters.wakeups.commits import wake_on_commit
from bequest_adapters.wakeups.files import wake_on_file

PATIENCE_SECONDS = 20.0


class Bell:
    """Counts, and lets a test wait for the next ring."""

    def __init__(self) -> None:
        self.rings = 0
        self._rung = threading.Event()

    def ring(self) -> None:
        self.rings += 1
        self._rung.set()

    def reset(self) -> None:
        self.rings = 0
        self._rung.clear()

    def rung(self) -> bool:
        return self._rung.wait(PATIENCE_SECONDS)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "controller.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE site (name TEXT)")
        connection.commit()
    return path


@pytest.fixture
def engine(database: Path) -> Generator[Engine]:
    engine = create_engine(f"sqlite:///{database}")
    yield engine
    engine.dispose()


def insert(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO site VALUES ('Utrecht')")
        connection.commit()


INSERT = text("INSERT INTO site VALUES ('Utrecht')")


class TestCommitsInThisProcess:
    def test_a_commit_wakes(self, engine: Engine, bell: Bell) -> None:
        undo = wake_on_commit(engine, bell.ring)
        with engine.begin() as connection:
            connection.execute(INSERT)
        assert bell.rings
        undo()

    def test_the_last_wake_comes_after_the_commit(self, engine: Engine, database: Path) -> None:
        seen: list[int] = []

        def look() -> None:
            with closing(sqlite3.connect(database)) as other:
                seen.append(other.execute("SELECT count(*) FROM site").fetchone()[0])

        undo = wake_on_commit(engine, look)
        with engine.begin() as connection:
            connection.execute(INSERT)
        undo()
        assert seen[-1] == 1

    def test_reading_and_rolling_back_do_not_wake(self, engine: Engine, bell: Bell) -> None:
        undo = wake_on_commit(engine, bell.ring)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        with engine.connect() as connection:
            connection.execute(INSERT)
            connection.rollback()
        assert not bell.rings
        undo()

    def test_a_commit_followed_by_a_read_on_one_connection_wakes_after_it(
        self, engine: Engine, bell: Bell
    ) -> None:
        undo = wake_on_commit(engine, bell.ring)
        with engine.connect() as connection:
            connection.execute(INSERT)
            connection.commit()
            bell.reset()
            connection.execute(text("SELECT 1"))
        assert bell.rings
        undo()

    def test_what_goes_round_sqlalchemys_transactions_wakes(
        self, engine: Engine, bell: Bell
    ) -> None:
        undo = wake_on_commit(engine, bell.ring)
        with closing(engine.raw_connection()) as connection:
            connection.cursor().execute("INSERT INTO site VALUES ('raw')")
            connection.commit()
        assert bell.rings
        undo()

    def test_a_wake_that_fails_reaches_the_log_and_not_the_application(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> None:
            raise RuntimeError("broken")

        undo = wake_on_commit(engine, broken)
        with caplog.at_level(logging.ERROR, "bequest"):
            with engine.begin() as connection:
                connection.execute(INSERT)
        undo()
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM site")).scalar() == 1
        assert "the next poll finds the commit" in caplog.text

    def test_undone_it_is_silent_also_after_the_pool_was_made_anew(
        self, engine: Engine, bell: Bell
    ) -> None:
        undo = wake_on_commit(engine, bell.ring)
        engine.dispose()
        with engine.begin() as connection:
            connection.execute(INSERT)
        assert bell.rings
        undo()
        undo()
        bell.reset()
        with engine.begin() as connection:
            connection.execute(INSERT)
        assert not bell.rings

    def test_two_may_listen_on_one_engine(self, engine: Engine, bell: Bell) -> None:
        other = Bell()
        undo = [wake_on_commit(engine, bell.ring), wake_on_commit(engine, other.ring)]
        undo[0]()
        with engine.begin() as connection:
            connection.execute(INSERT)
        assert (bell.rings, bool(other.rings)) == (0, True)
        undo[1]()

    def test_an_asynchronous_engine_wakes(self, database: Path, bell: Bell) -> None:
        async def commit() -> None:
            engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
            undo = wake_on_commit(engine, bell.ring)
            async with engine.begin() as connection:
                await connection.execute(INSERT)
            undo()
            await engine.dispose()

        asyncio.run(commit())
        assert bell.rings


@pytest.fixture
def watch(bell: Bell) -> Generator[Callable[[Path], None]]:
    stops: list[Callable[[], None]] = []

    def begin(path: Path) -> None:
        stops.append(wake_on_file(path, bell.ring))

    yield begin
    for stop in stops:
        stop()


Watch = Callable[[Path], None]


class TestFilesOfAnotherProcess:
    @pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
    def test_a_commit_wakes(self, database: Path, bell: Bell, watch: Watch, mode: str) -> None:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            watch(database)
            bell.reset()
            connection.execute("INSERT INTO site VALUES ('Utrecht')")
            connection.commit()
            assert bell.rung()

    @pytest.mark.parametrize(
        ("event", "concerns"),
        [
            (FileModifiedEvent("/ctl/ctl.db"), True),
            (FileModifiedEvent("/ctl/ctl.db-wal"), True),
            (FileMovedEvent("/ctl/new", "/ctl/ctl.db"), True),
            (FileModifiedEvent("/ctl/ctl.db-other"), False),
            (FileCreatedEvent("/ctl/app.log"), False),
            (FileMovedEvent("/ctl/new", "/ctl/other"), False),
        ],
    )
    def test_only_the_databases_own_files_do(
        self, bell: Bell, event: FileSystemEvent, concerns: bool
    ) -> None:
        own = frozenset({"/ctl/ctl.db", "/ctl/ctl.db-wal"})
        files._Handler(own, bell.ring).dispatch(event)  # pyright: ignore[reportPrivateUsage]
        assert bool(bell.rings) == concerns

    def test_a_database_that_is_deleted_and_made_again_is_still_watched(
        self, database: Path, bell: Bell, watch: Watch
    ) -> None:
        watch(database)
        database.unlink()
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE site (name TEXT)")
        assert bell.rung()
        bell.reset()
        insert(database)
        assert bell.rung()

    def test_a_database_that_is_moved_into_place_wakes(
        self, database: Path, bell: Bell, watch: Watch
    ) -> None:
        watch(database)
        other = database.with_name("other")
        other.write_bytes(database.read_bytes())
        bell.reset()
        other.rename(database)
        assert bell.rung()

    def test_a_symbolic_link_is_followed(
        self, database: Path, bell: Bell, watch: Watch, tmp_path: Path
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "elsewhere" / "link.db"
        link.symlink_to(database)
        watch(link)
        bell.reset()
        insert(database)
        assert bell.rung()

    def test_a_burst_is_followed_by_looking_and_misses_nothing(
        self, database: Path, bell: Bell, watch: Watch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked = threading.Event()
        look: Any = files._FileWatch._look  # pyright: ignore[reportPrivateUsage]

        def noticed(*arguments: Any, **named: Any) -> None:
            looked.set()
            look(*arguments, **named)

        monkeypatch.setattr(files._FileWatch, "_look", noticed)  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(files, "BURST_EVENTS", 5)
        monkeypatch.setattr(files, "BURST_SECONDS", PATIENCE_SECONDS)
        watch(database)
        for _ in range(20):
            insert(database)
        assert looked.wait(PATIENCE_SECONDS)
        for _ in range(3):
            bell.reset()
            insert(database)
            assert bell.rung()

    def test_where_the_system_gives_no_events_it_looks_and_says_so(
        self,
        database: Path,
        bell: Bell,
        watch: Watch,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def full() -> None:
            raise OSError(24, "inotify instance limit reached")

        monkeypatch.setattr(files, "Observer", full)
        with caplog.at_level(logging.WARNING, "bequest"):
            watch(database)
        assert "max_user_instances" in caplog.text
        assert bell.rung()  # its first look is taken: from here on a change is a change
        bell.reset()
        insert(database)
        assert bell.rung()

    def test_an_absent_folder_is_an_error_that_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match="Create it"):
            wake_on_file(tmp_path / "absent" / "controller.db", lambda: None)

    def test_stopped_it_is_silent(self, database: Path, bell: Bell) -> None:
        wake_on_file(database, bell.ring)()
        bell.reset()
        insert(database)
        assert not bell.rings
        assert "bequest-files" not in {thread.name for thread in threading.enumerate()}
