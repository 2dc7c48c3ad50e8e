"""Whatever the controller does, the copy has its rows after each look, and verifies at last."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

import bequest

LIMITS = bequest.Limits(tail_share=1000.0)
VALUES = [None, -1, 0, 1, 2, 3, 1.0, -0.0, 2.5, float("inf"), "", "a", "A", "b", "1", b"a", 2**62]
TABLES = {
    "plain": "CREATE TABLE plain (id INTEGER PRIMARY KEY AUTOINCREMENT, v, u UNIQUE)",
    "keyless": "CREATE TABLE keyless (id, v, u)",
    "text": "CREATE TABLE text (id TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, v, u UNIQUE)",
    "packed": "CREATE TABLE packed (id NOT NULL, v NOT NULL, u, PRIMARY KEY (id, v)) WITHOUT ROWID",
    "opaque": "CREATE TABLE opaque (rowid, oid, _rowid_, id, v, u)",
}
CHANGES = [
    *["INSERT OR REPLACE INTO {t} (id, v, u) VALUES (?1, ?2, ?3)"] * 5,
    *["UPDATE OR REPLACE {t} SET {c} = ?1 WHERE {c} IS ?2 OR u IS ?3"] * 4,
    *["DELETE FROM {t} WHERE id IS ?1 OR u IS ?2 OR v IS ?3"] * 2,
]


def state(db: sqlite3.Connection, table: str) -> list[str]:
    return sorted(map(repr, db.execute(f"SELECT * FROM {table}").fetchall()))


@pytest.mark.parametrize("seed", range(3))
def test_the_copy_is_the_controller_after_each_look(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    source, warm = f"sqlite:///{tmp_path / 'ctl.db'}", f"sqlite:///{tmp_path / 'warm.db'}"
    store = str(tmp_path / "o.bequest")
    applied = 0
    with closing(sqlite3.connect(tmp_path / "ctl.db", isolation_level=None)) as db:
        for sql in TABLES.values():
            db.execute(sql)
        db.execute(
            "CREATE TRIGGER moved AFTER UPDATE ON plain BEGIN"
            " INSERT INTO keyless VALUES (new.id, old.v, new.v); END"
        )
        for look in range(40):
            for _ in range(dice.randrange(1, 8)):
                names = {"t": dice.choice(sorted(TABLES)), "c": dice.choice(["id", "v", "u"])}
                with suppress(sqlite3.IntegrityError):
                    db.execute(dice.choice(CHANGES).format(**names), dice.choices(VALUES, k=3))
            if look % 15 == 14:
                db.execute(dice.choice(["VACUUM", f"CREATE TABLE extra{look} (x)"]))
            bequest.backup(source, store, limits=LIMITS)
            if dice.random() < 0.3:  # the next look has several publishes to apply
                continue
            report = bequest.follow(store, warm, once=True)
            assert report is not None
            applied += report.action == "applied"
            with closing(sqlite3.connect(tmp_path / "warm.db")) as copy:
                for table in [*TABLES, "sqlite_sequence"]:
                    assert state(copy, table) == state(db, table), (look, table)
    assert applied > 15
    bequest.promote(warm)
    assert bequest.verify(store, warm).differences == ()
