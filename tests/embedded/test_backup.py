"""A controller that embeds `Backup`: current to the last commit, and never disturbed by it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import bequest


class Base(DeclarativeBase):
    pass


class Site(Base):
    __tablename__ = "sites"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'controller.db'}")

    @event.listens_for(engine, "connect")
    def wal(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")

    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "controller.bequest")


class Events:
    """Collects events and lets a test wait for one."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._changed = threading.Condition()

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        with self._changed:
            self.seen.append((name, facts))
            self._changed.notify_all()

    def wait(self, name: str, count: int = 1) -> None:
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: sum(seen == name for seen, _ in self.seen) >= count, 30
            )
        assert arrived, f"no {name} among {self.seen}"


def add(engine: Engine, name: str) -> None:
    with Session(engine) as session:
        session.add(Site(name=name))
        session.commit()


def names(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        found = [row[0] for row in db.execute("SELECT name FROM sites ORDER BY id")]
    db.close()
    return found


def test_flush_returns_when_all_that_was_committed_is_restorable(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    with bequest.Backup(engine, store) as backup:
        for number in range(5):
            add(engine, f"site {number}")
            backup.flush(timeout=30)
            target = tmp_path / f"new{number}.db"
            bequest.restore(store, f"sqlite:///{target}", adopt=False)
            assert names(target) == [f"site {done}" for done in range(number + 1)]


def test_a_commit_wakes_the_backup_without_being_asked(engine: Engine, store: str) -> None:
    events = Events()
    with bequest.Backup(engine, store, on_event=events):
        events.wait("published")
        add(engine, "one")
        events.wait("published", 2)
    assert bequest.verify(store, engine).ok


def test_bulk_core_and_raw_writes_are_all_captured(engine: Engine, store: str) -> None:
    with bequest.Backup(engine, store) as backup:
        backup.flush()
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO sites (name) VALUES ('raw')"))
            connection.execute(
                Site.__table__.insert(), [{"name": str(number)} for number in range(1000)]
            )
            connection.execute(text("UPDATE sites SET name = 'x' || name WHERE id % 3 = 0"))
            connection.execute(text("DELETE FROM sites WHERE id % 7 = 0"))
        report = backup.flush()
        assert bequest.verify(store, engine).ok
        assert report.serial >= 2


def test_a_rolled_back_transaction_leaves_no_trace(engine: Engine, store: str) -> None:
    with bequest.Backup(engine, store) as backup:
        serial = backup.flush().serial
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO sites (name) VALUES ('never')"))
            connection.rollback()
        assert backup.flush().serial == serial
    assert bequest.inspect(store).rows == 0


def test_an_async_engine_is_accepted(tmp_path: Path, store: str) -> None:
    async def controller() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        with bequest.Backup(engine, store) as backup:
            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO sites (name) VALUES ('async')"))
            await asyncio.to_thread(backup.flush)
        await engine.dispose()

    asyncio.run(controller())
    assert bequest.inspect(store).rows == 1


def test_a_missing_store_is_loud_and_never_the_controllers_problem(
    engine: Engine, tmp_path: Path
) -> None:
    events = Events()
    away = tmp_path / "away"
    store = str(away / "controller.bequest")
    with bequest.Backup(engine, store, on_event=events) as backup:
        events.wait("failed")
        for number in range(20):
            add(engine, str(number))
        status = backup.status()
        assert status.state == "failing"
        assert status.pending_transactions > 0
        assert status.last_error
        away.mkdir()
        backup.flush(timeout=30)
        assert backup.status().pending_transactions == 0
        assert backup.status().state == "ok"
    assert bequest.verify(store, engine).ok


def test_stop_never_says_stored_when_nothing_was(engine: Engine, store: str) -> None:
    add(engine, "one")
    with engine.connect() as blocker:
        blocker.exec_driver_sql("BEGIN EXCLUSIVE")
        backup = bequest.Backup(engine.url, store)
        backup.start()
        assert not backup.stop(timeout=0.5)
    assert not Path(store).exists()
    assert bequest.status(engine).state == "behind"


def test_an_object_that_vanished_is_made_again_and_said_so(engine: Engine, store: str) -> None:
    bequest.backup(engine, store)
    Path(store).unlink()
    events = Events()
    with bequest.Backup(engine, store, on_event=events):
        events.wait("vanished")
    assert bequest.verify(store, engine).ok


def test_a_database_never_published_is_waiting_since_its_installation(engine: Engine) -> None:
    add(engine, "one")
    bequest.install(engine)
    status = bequest.status(engine)
    assert status.state == "behind"
    assert status.pending_transactions == 1
    assert status.pending_seconds >= 0
    assert status.last_success is None


def test_a_callback_that_raises_disturbs_nothing(engine: Engine, store: str) -> None:
    def broken(name: str, facts: dict[str, Any]) -> None:
        raise RuntimeError("the callback is broken")

    with bequest.Backup(engine, store, on_event=broken) as backup:
        add(engine, "one")
        backup.flush()
    assert bequest.verify(store, engine).ok


def test_new_tables_and_columns_are_noticed_while_running(engine: Engine, store: str) -> None:
    with bequest.Backup(engine, store) as backup:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE later (id INTEGER PRIMARY KEY, v)"))
            connection.execute(text("INSERT INTO later VALUES (1, 'before')"))
        backup.flush()
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO later VALUES (2, 'after')"))
            connection.execute(text("ALTER TABLE sites ADD COLUMN note TEXT DEFAULT 'n'"))
        add(engine, "one")
        backup.flush()
        assert bequest.verify(store, engine).ok
    assert bequest.inspect(store).tables["later"]["rows"] == 2


def test_excluded_tables_stay_out(engine: Engine, store: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE session_a (id INTEGER PRIMARY KEY)"))
    with bequest.Backup(engine, store, exclude=("session_*",)) as backup:
        backup.flush()
    assert set(bequest.inspect(store).tables) == {"sites"}


def test_the_restored_controller_goes_on_and_the_old_one_is_fenced(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    events = Events()
    with bequest.Backup(engine, store, on_event=events) as old:
        add(engine, "inherited")
        before = old.flush()
        report = bequest.restore(store, f"sqlite:///{tmp_path / 'new.db'}", adopt=True)
        assert report.adopted
        assert report.epoch == before.epoch + 1
        successor = create_engine(f"sqlite:///{tmp_path / 'new.db'}")
        add(successor, "from the new one")
        with bequest.Backup(successor, store) as new:
            after = new.flush()
            assert after.lineage == before.lineage
            assert after.epoch == before.epoch + 1
            assert bequest.inspect(store).base_serial == 1, "no second full upload"
            add(engine, "from the old one")
            events.wait("superseded")
            assert old.status().state == "superseded"
            with pytest.raises(bequest.Superseded):
                old.flush()
        assert bequest.verify(store, successor).ok
        successor.dispose()
    assert names(tmp_path / "new.db") == ["inherited", "from the new one"]


def test_a_fresh_controller_cannot_overwrite_the_backup(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    add(engine, "precious")
    bequest.backup(engine, store)
    good = Path(store).read_bytes()
    fresh = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    Base.metadata.create_all(fresh)
    events = Events()
    with bequest.Backup(fresh, store, on_event=events) as backup:
        events.wait("refused")
        with pytest.raises(bequest.Refused, match="--replace"):
            backup.flush()
    fresh.dispose()
    assert Path(store).read_bytes() == good


def test_schedule_mode_backs_up_at_the_first_enable(engine: Engine, store: str) -> None:
    events = Events()
    add(engine, "one")
    with bequest.Backup(engine, store, mode="schedule", on_event=events) as backup:
        events.wait("published")
        add(engine, "two")
        assert backup.status().state == "ok"
        assert backup.backup_now().action == "append"
    assert bequest.verify(store, engine).ok


def test_wrong_arguments_are_usage_errors(engine: Engine, store: str) -> None:
    with pytest.raises(bequest.UsageError, match="mode"):
        bequest.Backup(engine, store, mode="hourly")  # type: ignore[arg-type]
    with pytest.raises(bequest.UsageError):
        bequest.Backup(engine, store, schedule="every day")
    with pytest.raises(bequest.UsageError):
        bequest.Backup(engine, store, timezone="Mars/Olympus")
    with pytest.raises(bequest.UsageError):
        bequest.Backup("sqlite://", store)
    with pytest.raises(bequest.UsageError):
        bequest.Backup(engine, "gopher://host/file")


WORKER = """
import sys, bequest
def say(name, facts):
    print(name, flush=True)
with bequest.Backup(sys.argv[1], sys.argv[2], on_event=say):
    sys.stdin.read()
"""


def test_of_several_processes_one_publishes_and_another_takes_over(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", WORKER, url, store]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    with start() as first:
        assert [line(first), line(first)] == ["leading", "published"]
        with start() as second:
            assert line(second) == "waiting"
            add(engine, "one")
            assert line(first) == "published"
            first.send_signal(signal.SIGKILL)
            assert line(second) == "leading"
            add(engine, "two")
            assert line(second) == "published"
            second.send_signal(signal.SIGKILL)
    assert bequest.verify(store, engine).ok
