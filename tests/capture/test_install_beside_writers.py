"""Installing takes short turns, waits where others are busy, and survives being interrupted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import make_url

from bequest.errors import Unreachable
from bequest.model import Memory
from bequest_adapters.databases.sqlite import installing, open_source
from bequest_adapters.databases.sqlite.installing import Pace
from tests.capture_sqlite import Controller

TABLES: Final = 80
STATEMENT_SECONDS: Final = 0.001


class Observed(sqlite3.Connection):
    """Notes what is done in each write transaction, on a clock that each statement moves on."""

    now = 0.0
    step = STATEMENT_SECONDS
    inside = False
    transactions: list[list[str]]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.now += self.step
        found = super().execute(sql, parameters)
        if sql in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
            self.transactions.append([])
        elif self.inside:
            self.transactions[-1].append(sql)
        self.inside = self.in_transaction and bool(self.transactions) and sql != "BEGIN"
        return found


class Place:
    """A database of many tables, the installer's connection, and another one that never waits."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(f"PRAGMA journal_mode = {mode}")
            db.execute("BEGIN")
            for number in range(TABLES):
                db.execute(f"CREATE TABLE t{number}(id INTEGER PRIMARY KEY, a UNIQUE)")
            db.execute("COMMIT")
        self.ours = sqlite3.connect(path, isolation_level=None, factory=Observed)
        self.ours.transactions = []
        self.other = sqlite3.connect(path, isolation_level=None, timeout=0)
        for connection in (self.ours, self.other):
            sqlite3.Connection.execute(connection, "PRAGMA synchronous = OFF")
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def install(self) -> bool:
        return installing.install(self.ours, None, None, pace=self.pace())

    def pace(self) -> Pace:
        # By this clock the file was written just now.
        return Pace(lambda: self.ours.now, lambda: 0.0, self._sleep, busy_seconds=2.0)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.ours.now += seconds
        assert not self.ours.in_transaction, "nothing may be held while others have their turn"
        self.meanwhile()

    def close(self) -> None:
        self.ours.close()
        self.other.close()


@pytest.fixture(params=["wal", "delete"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(tmp_path / "app.db", request.param)
    yield made
    made.close()


def test_the_write_lock_is_held_for_a_few_statements_at_a_time(place: Place) -> None:
    assert place.install()
    turns = place.ours.transactions
    assert len(turns) > 10
    most = installing.BATCH_SECONDS / STATEMENT_SECONDS + 10
    ddl = [sum("TRIGGER" in sql for sql in turn) for turn in turns]
    assert max(ddl) <= most
    assert sum(ddl) == 6 * TABLES + 1, "nothing is made twice"


def test_statements_that_seem_to_take_no_time_do_not_make_long_turns(place: Place) -> None:
    place.ours.step = 0.0
    assert place.install()
    ddl = [sum("TRIGGER" in sql for sql in turn) for turn in place.ours.transactions]
    assert max(ddl) <= installing.BATCH_STATEMENTS


def test_between_two_turns_others_write_without_ever_waiting(place: Place) -> None:
    written = 0

    def write() -> None:
        nonlocal written
        place.other.execute("BEGIN")
        place.other.execute("SELECT count(*) FROM t0").fetchall()
        place.other.execute("INSERT INTO t0(a) VALUES (?)", (written,))
        place.other.execute("COMMIT")
        written += 1

    place.meanwhile = write
    assert place.install()
    assert written >= len(place.ours.transactions) - 1
    (objects,) = place.other.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    assert place.pauses[-1] >= 0.9 * 2 * installing.PARSE_SECONDS * objects, (
        "who writes gets the time to read the schema again"
    )


def test_the_number_of_statements_is_linear_in_the_number_of_tables(tmp_path: Path) -> None:
    counts: list[int] = []
    for tables in (50, 100, 200):
        with closing(sqlite3.connect(tmp_path / f"{tables}.db", isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            for number in range(tables):
                db.execute(f"CREATE TABLE t{number}(id INTEGER PRIMARY KEY, a UNIQUE)")
            said: list[str] = []
            db.set_trace_callback(said.append)
            assert installing.install(db, None, None, pace=Pace(sleep=lambda _: None))
            counts.append(sum("CREATE" in sql or "DROP" in sql for sql in said))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


def test_a_busy_writer_is_waited_for(place: Place) -> None:
    place.other.execute("BEGIN IMMEDIATE")
    place.other.execute("INSERT INTO t0(a) VALUES (1)")
    place.meanwhile = lambda: (
        place.other.execute("COMMIT") if place.other.in_transaction and place.ours.now > 1 else None
    )
    assert place.install()
    assert place.other.execute("SELECT count(*) FROM t0").fetchone() == (1,)


def test_a_writer_that_never_ends_is_left_alone(place: Place) -> None:
    place.other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        place.install()
    place.other.execute("INSERT INTO t0(a) VALUES (1)")
    place.other.execute("COMMIT")


def test_a_reader_in_rollback_mode_does_not_make_us_keep_new_readers_out(tmp_path: Path) -> None:
    place = Place(tmp_path / "app.db", "delete")
    place.other.execute("BEGIN")
    place.other.execute("SELECT * FROM t0").fetchall()
    readers = 0

    def read() -> None:
        nonlocal readers
        with closing(sqlite3.connect(place.path, timeout=0)) as newcomer:
            newcomer.execute("SELECT * FROM t1").fetchall()
        readers += 1
        if place.ours.now > 1 and place.other.in_transaction:
            place.other.execute("ROLLBACK")

    place.meanwhile = read
    assert place.install()
    assert readers > 10
    place.close()


def test_while_the_controller_makes_its_schema_nothing_is_begun(place: Place) -> None:
    made = 0

    def migrate() -> None:
        nonlocal made
        if made < 20:
            assert place.ours.transactions == []
            place.other.execute(f"CREATE TABLE late{made}(id INTEGER PRIMARY KEY)")
            made += 1

    place.meanwhile = migrate
    assert place.install()
    assert made == 20
    source = open_source(make_url(f"sqlite:///{place.path}"))
    assert not source.install()
    with source.cut(Memory()) as cut:
        assert len(cut.catalog().tables) == TABLES + made
    source.close()


def test_a_schema_that_moves_between_two_turns_is_planned_for_again(place: Place) -> None:
    moved = 0

    def migrate() -> None:
        nonlocal moved
        if len(place.ours.transactions) in (3, 6) and moved < len(place.ours.transactions) / 3:
            moved += 1
            place.other.execute(f"CREATE TABLE late{moved}(id INTEGER PRIMARY KEY)")
            place.other.execute(f"DROP TABLE t{moved}")

    place.meanwhile = migrate
    assert place.install()
    assert moved == 2
    source = open_source(make_url(f"sqlite:///{place.path}"))
    assert not source.install()
    source.close()


def test_a_schema_that_never_rests_ends_in_an_error_that_may_be_tried_again(place: Place) -> None:
    made = 0

    def migrate() -> None:
        nonlocal made
        made += 1
        place.other.execute(f"CREATE TABLE late{made}(id INTEGER PRIMARY KEY)")
        place.ours.now += 1.0

    place.meanwhile = migrate
    with pytest.raises(Unreachable, match="changed all the time"):
        place.install()


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_a_crash_between_two_turns_leaves_what_is_known_not_to_be_whole(
    place: Place, turns: int
) -> None:
    def crash() -> None:
        if len(place.ours.transactions) >= turns:
            raise KeyboardInterrupt

    place.meanwhile = crash
    with pytest.raises(KeyboardInterrupt):
        place.install()
    source = open_source(make_url(f"sqlite:///{place.path}"))
    place.other.execute("INSERT INTO t0(a) VALUES ('written meanwhile')")
    with source.cut(Memory(position="1:1:x")) as cut:
        assert cut.stale
        assert cut.fault
        assert cut.position == ""
    (before,) = _settings(place, "installation")
    source.close()
    place.close()
    app = Controller(place.path)
    assert not app.source.install()
    assert app("SELECT value FROM bequest_settings WHERE name = 'installation'") == [before]
    app("INSERT INTO t1(a) VALUES (1)")
    app("INSERT OR REPLACE INTO t0(a) VALUES ('written meanwhile')")
    app.check()
    app.close()


def _settings(place: Place, name: str) -> list[Any]:
    sql = "SELECT value FROM bequest_settings WHERE name = ?"
    return place.other.execute(sql, (name,)).fetchall()


def test_a_small_database_is_installed_in_one_transaction(tmp_path: Path) -> None:
    with closing(
        sqlite3.connect(tmp_path / "app.db", isolation_level=None, factory=Observed)
    ) as db:
        db.transactions = []
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)")
        pace = Pace(monotonic=lambda: db.now, sleep=lambda _: setattr(db, "now", db.now + 0.1))
        assert installing.install(db, None, None, pace=pace)
        assert len(db.transactions) == 1
        before = list(db.transactions)
        assert not installing.install(db, None, None)
        assert db.transactions == before, "nothing to do takes no lock"


def test_removal_takes_short_turns_as_well(place: Place) -> None:
    assert place.install()
    place.ours.transactions.clear()
    installing.uninstall(place.ours, place.pace())
    assert len(place.ours.transactions) > 10
    found = place.other.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'bequest%'")
    assert found.fetchone() == (0,)


def test_tables_that_exchange_their_names_exchange_their_triggers(tmp_path: Path) -> None:
    app = Controller(tmp_path / "app.db", "CREATE TABLE a(x PRIMARY KEY); CREATE TABLE b(y)")
    app.db.executescript(
        "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b"
    )
    assert app.source.install()
    assert not app.source.install()
    app.rebase()
    app("INSERT INTO a VALUES (1)")
    app("INSERT INTO b VALUES (2)")
    app.check()
    app.close()
