"""A controller's database for the restore tests: sites, their routers, and the routers' links."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import bequest

SCHEMA = """
CREATE TABLE region (code TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE site (id INTEGER PRIMARY KEY, name TEXT NOT NULL, region TEXT REFERENCES "region");
CREATE TABLE router (id INTEGER PRIMARY KEY AUTOINCREMENT, site INTEGER REFERENCES site(id), v);
CREATE TABLE session (token TEXT PRIMARY KEY, note TEXT DEFAULT 'REFERENCES audit');
CREATE TABLE audit (line);
CREATE VIEW sessions AS SELECT token FROM session;
CREATE VIEW routers AS SELECT router.id, site.name FROM router JOIN site ON site.id = router.site;
CREATE TRIGGER noted AFTER DELETE ON router BEGIN INSERT INTO audit VALUES (old.id); END;
CREATE INDEX router_site ON router (site);
INSERT INTO region VALUES ('eu', 'Europe'), ('us', 'States');
INSERT INTO site VALUES (1, 'Utrecht', 'eu'), (2, 'Delft', 'eu');
INSERT INTO router (site, v) VALUES (1, 'a'), (1, 'b'), (2, 'c');
INSERT INTO session VALUES ('t1', NULL);
"""


class Controller:
    """One database and the object that it publishes."""

    def __init__(self, folder: Path, name: str = "controller", schema: str = SCHEMA) -> None:
        self.path = folder / f"{name}.db"
        self.url = f"sqlite:///{self.path}"
        self.store = str(folder / "o.bequest")
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(schema)

    def write(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    def publish(self) -> bequest.PublishReport:
        return bequest.backup(self.url, self.store)

    def fall_silent(self, seconds: float = 3600.0) -> None:
        """Let the last publish be so long ago."""
        then = time.time() - seconds
        os.utime(self.store, (then, then))


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def contents(path: Path) -> dict[str, list[str]]:
    """All of a controller's rows, as text, for comparing two databases."""
    with closing(sqlite3.connect(path)) as db:
        names = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT LIKE 'bequest%' AND name NOT LIKE 'sqlite%'"
            )
        ]
        return {name: sorted(map(repr, db.execute(f'SELECT * FROM "{name}"'))) for name in names}


Make = Callable[[], Controller]
