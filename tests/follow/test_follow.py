"""A followed database is the object's state at one cut at every moment, and can take over."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest import registry

LIMITS = bequest.Limits(tail_share=1000.0)
WAIT_SECONDS = 60.0


class Pair:
    """A controller that publishes, and a warm copy that follows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ctl.db"
        self.warm_path = folder / "warm.db"
        self.source = f"sqlite:///{self.path}"
        self.warm = f"sqlite:///{self.warm_path}"
        self.store = str(folder / "o.bequest")
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.write(
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE)",
            "CREATE TABLE audit (what)",
            "CREATE TRIGGER tell AFTER INSERT ON t BEGIN INSERT INTO audit VALUES (new.v); END",
            "CREATE TABLE words (w TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, n) WITHOUT ROWID",
            "INSERT INTO t (v) VALUES ('a'), ('b')",
        )
        self.publish()

    def write(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            if not statements[0].startswith("PRAGMA"):
                db.execute("BEGIN")
            for statement in statements:
                db.execute(statement)
            if db.in_transaction:
                db.execute("COMMIT")

    def publish(self, *, rewrite: bool = False) -> Any:
        return bequest.backup(self.source, self.store, limits=LIMITS, rewrite=rewrite)

    def change(self, *statements: str) -> Any:
        self.write(*statements)
        return self.publish()

    def hear(self, name: str, facts: dict[str, Any]) -> None:
        self.events.append((name, facts))

    def follow(self) -> Any:
        return bequest.follow(self.store, self.warm, once=True, on_event=self.hear)

    def heard(self) -> list[str]:
        return [name for name, _ in self.events]

    def equal(self) -> bool:
        tables = ("t", "audit", "words", "sqlite_sequence")
        return [rows(self.path, name) for name in tables] == [
            rows(self.warm_path, name) for name in tables
        ]


def rows(path: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_what_is_published_is_applied_without_reading_the_rest_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pair.follow().action == "reloaded"
    pair.change("INSERT INTO t (v) VALUES ('c')")
    pair.change("DELETE FROM t WHERE id = 1", "INSERT INTO words VALUES ('One', 1)")
    pair.change("DELETE FROM words", "INSERT INTO words VALUES ('one', 2)")
    monkeypatch.setattr(sys.modules["bequest.follow"], "opened", None)
    report = pair.follow()
    assert (report.action, report.publishes, report.serial) == ("applied", 3, 4)
    assert pair.equal()
    assert pair.follow().action == "unchanged"


def test_rows_that_exchange_a_unique_value_are_no_conflict(pair: Pair) -> None:
    pair.follow()
    swap = "UPDATE t SET v = '{}' WHERE id = {}"
    pair.change(swap.format("x", 1), swap.format("a", 2), swap.format("b", 1))
    assert pair.follow().action == "applied"
    assert pair.equal()


def test_the_controllers_triggers_do_not_fire_a_second_time(pair: Pair) -> None:
    pair.follow()
    pair.change("INSERT INTO t (v) VALUES ('c')")
    pair.follow()
    assert rows(pair.warm_path, "audit") == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE t ADD COLUMN w", "DROP TABLE words", "CREATE INDEX i ON t (v)", ""],
    ids=["column added", "table dropped", "index made", "compacted"],
)
def test_a_rewritten_base_is_loaded_whole(pair: Pair, change: str) -> None:
    pair.follow()
    if change:
        pair.write(change)
    pair.write("INSERT INTO t (v) VALUES ('c')")
    pair.publish(rewrite=True)
    assert pair.follow().action == "reloaded"
    assert rows(pair.warm_path, "t") == rows(pair.path, "t")
    pair.change("INSERT INTO t (v) VALUES ('d')")
    assert pair.follow().action == "applied"
    assert rows(pair.warm_path, "t") == rows(pair.path, "t")


def test_whoever_writes_to_it_is_refused(pair: Pair) -> None:
    pair.follow()
    with closing(sqlite3.connect(pair.warm_path)) as db:
        for statement in ("INSERT INTO t (v) VALUES (1)", "UPDATE t SET v = 1", "DELETE FROM t"):
            with pytest.raises(sqlite3.IntegrityError, match="until it is promoted"):
                db.execute(statement)
    with pytest.raises(bequest.Refused, match="bequest promote"):
        bequest.backup(pair.warm, pair.store)
    with pytest.raises(bequest.Refused, match="bequest promote"):
        bequest.install(pair.warm)
    with pytest.raises(bequest.Refused, match="bequest promote"):
        bequest.uninstall(pair.warm)
    assert bequest.status(pair.warm).state == "following"
    assert pair.follow().action == "unchanged"


def test_an_embedded_backup_on_it_says_so_and_publishes_nothing(pair: Pair) -> None:
    pair.follow()
    heard = threading.Event()

    def hear(name: str, _: dict[str, Any]) -> None:
        if name == "refused":
            heard.set()

    with bequest.Backup(pair.warm, pair.store, on_event=hear):
        assert heard.wait(WAIT_SECONDS)
    assert bequest.inspect(pair.store).serial == 1


def test_what_gets_round_the_guards_is_found_said_and_undone(pair: Pair) -> None:
    pair.follow()
    with closing(sqlite3.connect(pair.warm_path)) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM t")
        db.commit()
    assert pair.follow().action == "reloaded"
    assert "altered" in pair.heard()
    assert pair.equal()


def test_an_object_of_another_controller_is_refused(pair: Pair, tmp_path: Path) -> None:
    pair.follow()
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    present = bequest.inspect(pair.store)
    named = f"{present.lineage}/{present.serial}"
    bequest.backup(f"sqlite:///{tmp_path / 'other.db'}", pair.store, replace=named)
    with pytest.raises(bequest.Refused, match="another controller"):
        pair.follow()
    assert pair.equal()


def test_an_older_object_changes_nothing_and_is_said_once(pair: Pair, tmp_path: Path) -> None:
    shutil.copy(pair.store, tmp_path / "old")
    pair.change("INSERT INTO t (v) VALUES ('c')")
    pair.follow()
    shutil.copy(tmp_path / "old", pair.store)
    assert pair.follow().action == "unchanged"
    assert pair.heard() == ["older"]
    assert pair.equal()


def test_a_database_that_holds_data_is_not_touched(pair: Pair) -> None:
    with closing(sqlite3.connect(pair.warm_path)) as db:
        db.execute("CREATE TABLE own (x)")
        db.execute("INSERT INTO own VALUES (1)")
        db.commit()
    with pytest.raises(bequest.Refused, match="holds data"):
        pair.follow()
    assert rows(pair.warm_path, "own") == [(1,)]


def test_tables_without_a_row_give_way_and_are_kept(pair: Pair) -> None:
    with closing(sqlite3.connect(pair.warm_path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, of_another_release)")
        db.execute("CREATE TABLE alembic_version (version_num TEXT PRIMARY KEY)")
        db.execute("INSERT INTO alembic_version VALUES ('7')")
        db.commit()
    report = pair.follow()
    assert report.action == "reloaded"
    assert pair.equal()
    assert rows(Path(report.kept), "alembic_version") == [("7",)]
    assert rows(Path(report.kept), "t") == []
    pair.change("INSERT INTO t (v) VALUES ('later')")
    assert (pair.follow().action, pair.equal()) == ("applied", True)
    assert bequest.verify(pair.store, pair.warm).ok
    assert pair.publish(rewrite=True).action == "rewrite"
    report = pair.follow()
    assert (report.action, report.kept) == ("reloaded", None)
    assert bequest.promote(pair.warm).epoch == 2


def test_a_captured_database_without_rows_is_not_taken_for_a_copy(pair: Pair) -> None:
    with closing(sqlite3.connect(pair.warm_path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    bequest.backup(pair.warm, f"{pair.store}-of-its-own")
    with pytest.raises(bequest.Refused, match="captured itself"):
        pair.follow()
    assert bequest.status(pair.warm).state == "ok"


def test_an_adoption_elsewhere_is_followed_and_said(pair: Pair, tmp_path: Path) -> None:
    pair.follow()
    new = f"sqlite:///{tmp_path / 'new.db'}"
    bequest.restore(pair.store, new, adopt=True)
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        db.execute("INSERT INTO t (v) VALUES ('after')")
        db.commit()
    bequest.backup(new, pair.store, limits=LIMITS)
    report = pair.follow()
    assert (report.epoch, pair.heard()) == (2, ["adopted"])
    assert rows(pair.warm_path, "t") == rows(tmp_path / "new.db", "t")


def test_a_promoted_database_has_everything_and_publishes_on(pair: Pair) -> None:
    pair.follow()
    pair.change("INSERT INTO t (v) VALUES ('last moment')")
    report = bequest.promote(pair.warm)
    assert (report.epoch, report.serial) == (2, 3)
    assert pair.equal()
    with pytest.raises(bequest.Superseded):
        pair.change("INSERT INTO t (v) VALUES ('too late')")
    with closing(sqlite3.connect(pair.warm_path)) as db:
        db.execute("INSERT INTO t (v) VALUES ('new era')")
        db.commit()
        assert ("new era",) in db.execute("SELECT * FROM audit").fetchall()
    published = bequest.backup(pair.warm, pair.store, limits=LIMITS)
    assert (published.action, published.epoch) == ("append", 2)
    assert bequest.verify(pair.store, pair.warm).ok
    with pytest.raises(bequest.Refused, match="does not follow"):
        bequest.promote(pair.warm)


@pytest.mark.parametrize("method", ["release", "released"])
def test_a_promotion_that_was_interrupted_is_completed_by_the_next(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    pair.follow()
    kind = type(registry.open_following(pair.warm))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kind, method, killed)
        with pytest.raises(KeyboardInterrupt):
            bequest.promote(pair.warm)
    if method == "released":
        with pytest.raises(bequest.Refused, match="bequest promote"):
            pair.follow()
    bequest.promote(pair.warm)
    assert bequest.verify(pair.store, pair.warm).ok
    assert bequest.backup(pair.warm, pair.store).epoch >= 2


def test_a_busy_controller_is_followed_to_its_last_serial(pair: Pair) -> None:
    stop, reached = threading.Event(), threading.Event()
    goal = [0]

    def hear(name: str, facts: dict[str, Any]) -> None:
        if goal[0] and facts.get("serial", 0) >= goal[0]:
            reached.set()

    arguments = {"poll": 0.05, "stop": stop, "on_event": hear}
    thread = threading.Thread(target=bequest.follow, args=(pair.store, pair.warm), kwargs=arguments)
    thread.start()
    with bequest.Backup(pair.source, pair.store, limits=LIMITS) as backup:
        for number in range(60):
            pair.write(f"INSERT INTO t (v) VALUES ({number})")
            if number % 10 == 0:
                backup.flush()
        goal[0] = backup.flush().serial
        pair.write("INSERT INTO t (v) VALUES ('end')")
        backup.flush()
    assert reached.wait(WAIT_SECONDS)
    stop.set()
    thread.join()
    pair.follow()
    assert pair.equal()


FOLLOWER = "import sys, bequest; bequest.follow(*sys.argv[1:], poll=0.05)"


def test_a_follower_killed_at_any_moment_stands_at_a_cut(pair: Pair) -> None:
    """Both rows of each transaction are there or none, after each of many kills."""
    for round_ in range(12):
        follower = subprocess.Popen([sys.executable, "-c", FOLLOWER, pair.store, pair.warm])
        try:
            for number in range(4):
                name = f"{round_}-{number}"
                pair.change(
                    f"INSERT INTO t (v) VALUES ('{name}')",
                    f"INSERT INTO words VALUES ('{name}', 1)",
                )
        finally:
            follower.send_signal(signal.SIGKILL)
            follower.wait()
        if not pair.warm_path.exists() or not pair.warm_path.stat().st_size:
            continue
        with closing(sqlite3.connect(pair.warm_path)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone():
                continue
            first = {row[0] for row in db.execute("SELECT v FROM t WHERE v NOT IN ('a', 'b')")}
            assert first == {row[0] for row in db.execute("SELECT w FROM words")}
    pair.follow()
    assert pair.equal()
    assert bequest.promote(pair.warm).epoch == 2


def test_the_object_is_found_again_from_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    bequest.follow("o.bequest?keep=1", pair.warm, once=True)
    monkeypatch.chdir("/")
    assert bequest.status(pair.warm).store == f"{(tmp_path / 'o.bequest').as_uri()}?keep=1"
    assert bequest.promote(pair.warm).epoch == 2


def test_a_warm_copy_equals_the_object_though_its_triggers_wait(pair: Pair) -> None:
    pair.follow()
    assert bequest.verify(pair.store, pair.warm).ok
    assert bequest.diff(pair.store, database=pair.warm).equal
    with closing(sqlite3.connect(pair.warm_path)) as db:
        db.execute("CREATE INDEX mine ON audit (what)")
    assert not bequest.verify(pair.store, pair.warm).ok


def test_damage_that_hides_whose_the_object_is_is_told(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.follow()
    data = bytearray(Path(pair.store).read_bytes())
    data[len(data) // 2] ^= 1
    Path(pair.store).write_bytes(bytes(data))
    with pytest.raises(bequest.SnapshotDamaged):
        pair.follow()
    assert pair.equal()
