"""Whatever the controller does, the copy has its rows after each look, and verifies at last."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import bequest

LIMITS = bequest.Limits(tail_share=1000.0)
VALUES = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([1.0, -0.0, 2.5, float("inf"), "", "a", "A", "1", b"a", b"\x00", 2**63 - 1]),
)
TABLES = {
    "plain": "CREATE TABLE plain (id INTEGER PRIMARY KEY AUTOINCREMENT, v, u UNIQUE)",
    "keyless": "CREATE TABLE keyless (id, v, u)",
    "text": "CREATE TABLE text (id TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, v, u UNIQUE)",
    "packed": "CREATE TABLE packed (id NOT NULL, v NOT NULL, u, PRIMARY KEY (id, v)) WITHOUT ROWID",
    "opaque": "CREATE TABLE opaque (rowid, oid, _rowid_, id, v, u)",
}
NAMES = st.sampled_from(sorted(TABLES))
VERBS = st.sampled_from(["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"])


class Copies(RuleBasedStateMachine):
    """A controller, its object, and a copy that looks now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="bequest-copies-"))
        self.db = sqlite3.connect(self.home / "ctl.db", isolation_level=None)
        for sql in TABLES.values():
            self.db.execute(sql)
        self.db.execute(
            "CREATE TRIGGER moved AFTER UPDATE ON plain BEGIN"
            " INSERT INTO keyless VALUES (new.id, old.v, new.v); END"
        )
        self.store = str(self.home / "o.bequest")
        self.look()

    def teardown(self) -> None:
        self.db.close()
        warm = f"sqlite:///{self.home / 'warm.db'}"
        bequest.promote(warm)
        assert bequest.verify(self.store, warm).differences == ()
        assert bequest.backup(warm, self.store, limits=LIMITS).action in ("unchanged", "rewrite")
        shutil.rmtree(self.home)

    def run(self, sql: str, *values: Any) -> None:
        with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
            self.db.execute(sql, values)

    @rule(table=NAMES, verb=VERBS, id=VALUES, v=VALUES, u=VALUES)
    def insert(self, table: str, verb: str, id: Any, v: Any, u: Any) -> None:
        self.run(f"{verb} INTO {table} (id, v, u) VALUES (?, ?, ?)", id, v, u)

    @rule(table=NAMES, column=st.sampled_from(["id", "v", "u"]), old=VALUES, new=VALUES)
    def update(self, table: str, column: str, old: Any, new: Any) -> None:
        self.run(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {column} IS ?", new, old)

    @rule(table=NAMES, value=VALUES)
    def delete(self, table: str, value: Any) -> None:
        self.run(f"DELETE FROM {table} WHERE id IS ? OR u IS ?", value, value)

    @rule(
        what=st.sampled_from(
            [
                "VACUUM",
                "CREATE TABLE IF NOT EXISTS extra (x)",
                "DROP TABLE IF EXISTS extra",
                "PRAGMA user_version = 7",
            ]
        )
    )
    def change_schema(self, what: str) -> None:
        self.run(what)

    @rule()
    def publish(self) -> None:
        bequest.backup(f"sqlite:///{self.home / 'ctl.db'}", self.store, limits=LIMITS)

    @rule()
    def look(self) -> None:
        self.publish()
        bequest.follow(self.store, f"sqlite:///{self.home / 'warm.db'}", once=True)
        with closing(sqlite3.connect(self.home / "warm.db")) as warm:
            for table in [*TABLES, "sqlite_sequence"]:
                assert state(warm, table) == state(self.db, table), table

    @invariant()
    def a_reader_finds_a_whole_copy(self) -> None:
        with closing(sqlite3.connect(self.home / "warm.db")) as warm:
            assert warm.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def state(db: sqlite3.Connection, table: str) -> list[str]:
    return sorted(map(repr, db.execute(f"SELECT * FROM {table}").fetchall()))


Copies.TestCase.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
TestCopies = Copies.TestCase
