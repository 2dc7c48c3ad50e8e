"""Bequest's rare own writes: whoever reads and then writes never fails because one came between."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from bequest.model import Selection
from bequest_adapters.apart import Apart
from bequest_adapters.databases.sqlite import installation, installing, open_source, writing_apart
from bequest_adapters.databases.sqlite.connection import locate
from bequest_adapters.databases.sqlite.identity import Identity, Known, read_identity
from bequest_adapters.databases.sqlite.turns import Crowded, Door, Looking, Turn, turn_at

from .controllers import ENVIRONMENT

PROGRAM = Path(__file__).with_name("writer.py")
ADDED = "INSERT INTO device VALUES (NULL, 'added')"


def database(path: Path, journal: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE device (id INTEGER PRIMARY KEY, name)")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return database(tmp_path / "controller.db", "WAL")


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """The controller's connection, which never waits."""
    with closing(connect(path)) as found:
        yield found


def connect(path: Path) -> sqlite3.Connection:
    found = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    found.execute("SELECT * FROM device").fetchall()
    return found


@contextmanager
def writer(path: Path, kind: str = "door") -> Generator[Callable[[str], str]]:
    """Another process that writes for Bequest; each call is a step, and returns its answer."""
    command = [sys.executable, str(PROGRAM), str(path), kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:

        def step(line: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield step


def read_then_write(db: sqlite3.Connection) -> None:
    """What fails when somebody commits in between, whatever the timeout."""
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM device").fetchone()
    time.sleep(0.02)
    db.execute(ADDED)
    db.execute("COMMIT")


def write(db: sqlite3.Connection) -> None:
    db.execute(ADDED)


def names(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT name FROM device ORDER BY id")]


@contextmanager
def later(work: Callable[[sqlite3.Connection], object], db: sqlite3.Connection) -> Generator[None]:
    """Run ``work`` in a thread; at the end wait for it, and raise what it raised."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work, db)
        yield
        running.result()


def test_the_door_stays_open_while_somebody_is_inside(path: Path, db: sqlite3.Connection) -> None:
    with writer(path) as step:
        db.execute("BEGIN")
        db.execute("SELECT * FROM device").fetchall()
        assert step("enter") == "False"
        step("leave")
        db.execute(ADDED)
        assert step("enter") == "False"
        step("leave")
        db.execute("COMMIT")
        assert step("enter") == "True"
        step("leave")


@pytest.mark.parametrize("worked_in", [True, False])
@pytest.mark.parametrize("work", [read_then_write, write])
def test_newcomers_without_a_timeout_wait_at_the_door_and_see_what_was_committed(
    work: Callable[[sqlite3.Connection], object],
    worked_in: bool,
    path: Path,
    db: sqlite3.Connection,
) -> None:
    if worked_in:  # SQLite would begin the log again
        db.execute("PRAGMA wal_checkpoint").fetchone()
    with writer(path) as step:
        assert step("enter") == "True"
        assert step("write") == "True"
        with later(work, db):
            time.sleep(0.05)
            step("commit")
            step("leave")
    assert names(db) == ["ours", "added"]


def test_without_the_door_the_same_newcomer_fails(path: Path, db: sqlite3.Connection) -> None:
    """The tests above on a writer that is broken on purpose."""
    with writer(path, "any") as step:
        step("enter")
        step("write")
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM device").fetchone()
        step("commit")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            db.execute(ADDED)
        db.execute("ROLLBACK")


def test_the_log_is_not_begun_again_behind_the_door(path: Path, db: sqlite3.Connection) -> None:
    """SQLite would open the door for a moment."""
    db.execute(ADDED)
    assert db.execute("PRAGMA wal_checkpoint").fetchone()[0] == 0
    log = path.with_name(path.name + "-wal")
    before = log.read_bytes()
    with writer(path) as step:
        for line in ("enter", "write", "commit", "leave"):
            step(line)
    assert log.read_bytes().startswith(before)
    assert names(db) == ["added", "ours"]


def test_what_is_read_while_the_door_is_closed_waits_for_no_longer(
    path: Path, db: sqlite3.Connection
) -> None:
    with writer(path) as step:
        step("enter")
        with later(lambda db: db.execute("SELECT * FROM device").fetchall(), db):
            time.sleep(0.05)
            step("leave")


def test_a_crash_behind_the_door_opens_it(path: Path, db: sqlite3.Connection) -> None:
    with writer(path) as step:
        step("enter")
        step("write")
    read_then_write(db)
    assert names(db) == ["added"]


def test_a_reader_of_another_process_is_seen_before_the_commit(path: Path) -> None:
    with closing(connect(path)) as ours, writer(path, "any") as reader:
        turn = Looking(str(path), crowded=False)
        assert turn.enter(ours)
        assert turn.may_commit()
        ours.execute("ROLLBACK")
        reader("enter")
        assert not turn.may_commit()
        assert not turn.enter(ours)


def test_a_reader_of_the_same_process_is_seen_before_the_beginning(
    path: Path, db: sqlite3.Connection
) -> None:
    with closing(connect(path)) as ours:
        db.execute("BEGIN")
        db.execute("SELECT * FROM device").fetchall()
        assert not Looking(str(path), crowded=False).enter(ours)
        db.execute("COMMIT")


def test_looking_drops_no_lock_of_the_process_that_looks(
    path: Path, db: sqlite3.Connection
) -> None:
    db.execute("BEGIN IMMEDIATE")
    with closing(connect(path)) as ours:
        assert not Looking(str(path), crowded=False).enter(ours)
    with writer(path) as step:
        assert step("enter") == "False"
    db.execute("COMMIT")


def test_in_a_rollback_journal_nothing_is_begun_while_somebody_reads(tmp_path: Path) -> None:
    path = database(tmp_path / "controller.db", "DELETE")
    with closing(connect(path)) as db, closing(connect(path)) as ours:
        turn = turn_at(str(path))
        db.execute("BEGIN")
        db.execute("SELECT * FROM device").fetchall()
        assert not turn.enter(ours)
        db.execute(ADDED)
        db.execute("COMMIT")
        assert turn.enter(ours)
        ours.execute(ADDED)
        assert turn.may_commit()
        ours.execute("COMMIT")


def advance(clock: list[float], seconds: float) -> None:
    clock[0] += seconds


class Crowd:
    """Threads of a controller that read, then write, again and again, and never wait."""

    def __init__(self, path: Path, count: int = 2) -> None:
        self._path = path
        self._stop = threading.Event()
        self.done = 0
        self.failures: list[str] = []
        self._turn = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with closing(connect(self._path)) as db:
            while not self._stop.is_set():
                with self._turn:  # among themselves they agree
                    try:
                        read_then_write(db)
                        self.done += 1
                    except sqlite3.OperationalError as error:
                        self.failures.append(str(error))
                        if db.in_transaction:
                            db.execute("ROLLBACK")
                time.sleep(0.002)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = database(tmp_path / "large.db", "WAL")
    with closing(connect(path)) as db:
        db.execute("BEGIN")
        for number in range(60):
            db.execute(f"CREATE TABLE t{number}(id INTEGER PRIMARY KEY, a UNIQUE)")
        db.execute("COMMIT")
    return path


def test_installing_beside_a_crowd_in_the_same_process_fails_nobody(large: Path) -> None:
    source = open_source(make_url(f"sqlite:///{large}"))
    with Crowd(large) as crowd:
        assert source.install()
        source.uninstall()
    assert not source.installed()
    source.close()
    assert crowd.failures == []
    assert crowd.done > 5


def test_where_somebody_is_inside_or_was_a_moment_ago_another_process_is_to_write(
    path: Path, db: sqlite3.Connection
) -> None:
    now = [0.0]
    touched = installing.Pace(lambda: now[0], lambda: 0.0, lambda seconds: advance(now, seconds))
    with closing(connect(path)) as ours:
        with pytest.raises(Crowded):
            installing.install(
                ours, None, None, pace=touched, turn=turn_at(str(path), crowded=True)
            )
        db.execute("BEGIN")
        db.execute("SELECT * FROM device").fetchall()
        time.sleep(2 * installing.QUIET_SECONDS)
        with pytest.raises(Crowded):
            installing.install(ours, None, None, turn=turn_at(str(path), crowded=True))
        assert not ours.in_transaction


def test_installing_at_any_moment_fails_the_crowd(large: Path) -> None:
    """The test above on an installer that is broken on purpose."""
    with Crowd(large) as crowd, closing(connect(large)) as ours:
        installing.install(ours, None, None, turn=Turn())
    assert crowd.failures != []


@pytest.mark.parametrize("answered", [None, ("null", 0), ("", 1)])
def test_where_no_process_can_be_started_it_is_written_here(
    answered: Any, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(make_url(f"sqlite:///{large}"))
    asked: list[str] = []

    def ask(_: Apart, __: str, request: dict[str, Any]) -> Any:
        asked.append(request["do"])
        return answered

    monkeypatch.setattr(Apart, "ask", ask)
    with closing(connect(large)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM device").fetchall()
        monkeypatch.setattr(Looking, "patience_seconds", 0.1)
        assert source.install()
    assert source.installed()
    source.close()
    assert asked == ["install"]


def test_who_never_ends_a_read_is_not_waited_for_without_end(
    path: Path, db: sqlite3.Connection
) -> None:
    db.execute("BEGIN")
    db.execute("SELECT * FROM device").fetchall()
    now = [0.0]
    pace = installing.Pace(lambda: now[0], lambda: 0.0, lambda seconds: advance(now, seconds))
    with closing(connect(path)) as ours:
        assert installing.install(ours, None, None, pace=pace)
    assert Looking(str(path), crowded=False).patience_seconds < now[0] < 15


def test_the_process_does_what_was_asked_for(large: Path) -> None:
    location = locate(make_url(f"sqlite:///{large}"))
    identity = Identity("1" * 32, "a lineage", 7, ("2" * 32,))
    known = Known(identity, 5, Selection(("t1*",)))
    requests = (
        writing_apart.install_request(location, Selection(exclude=("t2",)), 300, known),
        writing_apart.identity_request(location, replace(identity, epoch=8)),
        writing_apart.uninstall_request(location),
    )
    found: list[tuple[bool, Identity]] = []
    with closing(connect(large)) as db:
        for request in requests:
            assert Apart().ask(writing_apart.__name__, request) == ("true\n", 0)
            found.append((installation.installed(db), read_identity(db)))
    assert found == [(True, identity), (True, replace(identity, epoch=8)), (False, Identity())]


def test_a_door_is_for_an_open_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Door(str(tmp_path / "none.db"), 1)
