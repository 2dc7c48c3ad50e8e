"""Random schemas and random SQL on a real database: what is restored is what was there.

Promises 1, 2 and 8. After every publish the folded object equals the tables; at the end a restore
into a new database equals the source, value by value and byte by byte.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bequest
from bequest import registry
from bequest.publisher import Publisher
from tests.format import plain_reader

NAMES = ["plain", "Mixed Case", 'quo"ted', "größe", "select"]
KEYS = [
    "id INTEGER PRIMARY KEY",
    "id INTEGER PRIMARY KEY AUTOINCREMENT",
    "id TEXT PRIMARY KEY NOT NULL",
    "id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL",
    "id PRIMARY KEY",
    "id NUMERIC NOT NULL PRIMARY KEY",
    "id INT",
]
UNIQUES = [
    "b",
    "b UNIQUE",
    "b TEXT COLLATE NOCASE UNIQUE",
    "b INT UNIQUE ON CONFLICT REPLACE",
    "b NOT NULL DEFAULT 1 UNIQUE",
]
EXTRAS = [
    "c",
    "c REFERENCES {parent} ON DELETE CASCADE ON UPDATE CASCADE",
    "c REFERENCES {parent} ON DELETE SET NULL",
    "c, g AS (coalesce(b, '') || 'x') VIRTUAL UNIQUE",
    "c, g AS (abs(c)) STORED",
    "rowid, oid",
    "c, UNIQUE (b, c)",
    "c CHECK (c IS NOT 99)",
]
INDEXES = [
    "",
    "CREATE UNIQUE INDEX {index} ON {table} (lower(b)) WHERE b IS NOT NULL",
    "CREATE UNIQUE INDEX {index} ON {table} (b, a) WHERE a > 1",
    "CREATE INDEX {index} ON {table} (a)",
]
TRIGGERS = [
    "",
    "CREATE TRIGGER {trigger} AFTER INSERT ON {table} BEGIN"
    " UPDATE {table} SET a = 7 WHERE b IS NEW.b; END",
    "CREATE TRIGGER {trigger} BEFORE DELETE ON {table} WHEN OLD.a IS 2 BEGIN"
    " SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER {trigger} AFTER UPDATE ON {table} WHEN NEW.a IS NOT 8 BEGIN"
    " DELETE FROM {table} WHERE a IS 3; END",
]
VALUES = [
    "1",
    "2",
    "3",
    "'1'",
    "'a'",
    "'A'",
    "NULL",
    "1.0",
    "-0.0",
    "9223372036854775807",
    "1e999",
    "x'00ff'",
    "'nul' || char(0) || 'end'",
    "CAST(x'ff61' AS TEXT)",
    "99",
]
CONFLICTS = ["", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ABORT ", "OR ROLLBACK "]

value = st.sampled_from(VALUES)
conflict = st.sampled_from(CONFLICTS)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@st.composite
def table(draw: st.DrawFn, name: str, parent: str) -> list[str]:
    key = draw(st.sampled_from(KEYS))
    columns = [key, "a INT", draw(st.sampled_from(UNIQUES)), draw(st.sampled_from(EXTRAS))]
    options = ""
    if "PRIMARY KEY" in key and "AUTOINCREMENT" not in key and draw(st.booleans()):
        options = " WITHOUT ROWID"
    made = [f"CREATE TABLE {quoted(name)} ({', '.join(columns)}){options}"]
    made.append(draw(st.sampled_from(INDEXES)))
    made.append(draw(st.sampled_from(TRIGGERS)))
    return [
        text.format(
            table=quoted(name),
            parent=quoted(parent),
            index=quoted(f"i {name}"),
            trigger=quoted(f"t {name}"),
        )
        for text in made
        if text
    ]


@st.composite
def schema(draw: st.DrawFn) -> list[str]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    made: list[str] = []
    for number, name in enumerate(names):
        made += draw(table(name, names[max(0, number - 1)]))
    return made


@st.composite
def statement(draw: st.DrawFn) -> str:
    name = quoted(draw(st.sampled_from(NAMES[:3])))
    kind = draw(st.integers(0, 27))
    if kind <= 8:
        row = ", ".join(draw(st.lists(value, min_size=3, max_size=3)))
        return f"INSERT {draw(conflict)}INTO {name} (id, a, b) VALUES ({row})"
    if kind <= 10:
        rows = draw(st.lists(st.tuples(value, value), min_size=1, max_size=3))
        text = ", ".join(f"({a}, {b})" for a, b in rows)
        return f"INSERT {draw(conflict)}INTO {name} (a, b) VALUES {text}"
    if kind == 11:
        return (
            f"INSERT INTO {name} (id, b) VALUES ({draw(value)}, {draw(value)})"
            f" ON CONFLICT DO UPDATE SET a = {draw(value)}"
        )
    if kind <= 15:
        column = draw(st.sampled_from(["id", "a", "b", "c", "rowid"]))
        where = draw(st.sampled_from(["a", "b", "id"]))
        change = f"{column} = {draw(value)} WHERE {where} IS {draw(value)}"
        return f"UPDATE {draw(conflict)}{name} SET {change}"
    if kind == 16:
        return f"UPDATE {draw(conflict)}{name} SET a = a + 1"
    if kind <= 18:
        return f"DELETE FROM {name} WHERE a IS {draw(value)}"
    return draw(
        st.sampled_from(
            [
                "BEGIN",
                "COMMIT",
                "ROLLBACK",
                "SAVEPOINT s",
                "ROLLBACK TO s",
                "RELEASE s",
                "VACUUM",
                "PRAGMA recursive_triggers = ON",
                "PRAGMA user_version = 5",
                f"DELETE FROM {name}",
                f"ALTER TABLE {name} ADD COLUMN d DEFAULT 'dd'",
                f"ALTER TABLE {name} DROP COLUMN a",
                f"ALTER TABLE {name} RENAME COLUMN b TO bb",
                f"ALTER TABLE {name} RENAME TO renamed",
                f"DROP TABLE {name}",
                "CREATE TABLE later (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)",
                "INSERT INTO later (a, b) VALUES (1, 2)",
                f"CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, a, b)",
                f"CREATE TRIGGER late AFTER INSERT ON {name}"
                f" BEGIN DELETE FROM {name} WHERE a IS 1; END",
                "DROP TRIGGER IF EXISTS late",
                "ANALYZE",
            ]
        )
    )


step = st.one_of(statement(), statement(), statement(), st.just("publish"), st.just("other"))


def content(path: Path) -> dict[str, object]:
    """All that a database says, exact to the byte; Bequest's own things left out."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        ours = "name NOT LIKE 'bequest~_%' ESCAPE '~' AND name NOT LIKE 'sqlite~_stat%' ESCAPE '~'"
        objects = db.execute(
            f"SELECT type, name, tbl_name, sql FROM sqlite_master WHERE {ours}"
            " AND tbl_name NOT LIKE 'bequest~_%' ESCAPE '~' ORDER BY 1, 2"
        ).fetchall()
        found: dict[str, object] = {
            "schema": [row for row in objects if row[1] != "sqlite_sequence"]
        }
        for kind, name, _, _ in objects:
            if kind == "table":
                listed = db.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
                columns = [row[1] for row in listed]
                exact = ", ".join(
                    f"typeof({quoted(column)}), hex(CAST({quoted(column)} AS BLOB))"
                    for column in columns
                )
                rows = db.execute(f"SELECT {exact} FROM {quoted(name)}").fetchall()
                found[name] = sorted(rows)
        # Nothing but an AUTOINCREMENT table can make this one; once made, it stays, even empty.
        found.setdefault("sqlite_sequence", [])
        found["user_version"] = db.execute("PRAGMA user_version").fetchone()
        return found


class Scene:
    """A database under random SQL with a publisher beside it."""

    def __init__(self, folder: Path, made: list[str], journal_mode: str) -> None:
        self.path = folder / "controller.db"
        self.store = folder / "controller.bequest"
        self.db = self._connect()
        self.db.execute(f"PRAGMA journal_mode = {journal_mode}")
        for text in made:
            self.run(text)
        url = f"sqlite:///{self.path}"
        self.source = registry.open_source(url)
        self.source.install()
        self.publisher = Publisher(
            self.source, registry.open_store(str(self.store)), registry.system_clock()
        )
        self.publish()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=0.2)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = OFF")
        return db

    def run(self, text: str) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.db.execute(text).fetchall()

    def other(self) -> None:
        """Go on in another connection, as another process would."""
        self.db.close()
        self.db = self._connect()

    def publish(self) -> None:
        if self.db.in_transaction:
            self.db.execute("COMMIT") if self._commits() else self.db.execute("ROLLBACK")
        self.publisher.publish()
        report = bequest.verify(str(self.store), f"sqlite:///{self.path}")
        assert report.differences == ()

    def _commits(self) -> bool:
        with contextlib.suppress(sqlite3.Error):
            self.db.execute("SAVEPOINT probe")
            self.db.execute("RELEASE probe")
            return not self.db.execute("PRAGMA foreign_key_check").fetchall()
        return False

    def close(self) -> None:
        self.db.close()
        self.source.close()


def scenario(made: list[str], steps: list[str], journal_mode: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bequest-differential-"))
    scene = Scene(folder, made, journal_mode)
    special: dict[str, Callable[[], None]] = {"publish": scene.publish, "other": scene.other}
    try:
        for text in steps:
            special.get(text, lambda text=text: scene.run(text))()
        scene.publish()
        before = content(scene.path)
        restored = folder / "restored.db"
        report = bequest.restore(str(scene.store), f"sqlite:///{restored}", adopt=False)
        assert report.verified
        assert content(restored) == before
        plain_reader.read(scene.store.read_bytes())
    finally:
        scene.close()
        shutil.rmtree(folder)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(schema(), st.lists(step, max_size=25), st.sampled_from(["wal", "delete"]))
def test_what_is_restored_is_what_was_there(
    made: list[str], steps: list[str], journal_mode: str
) -> None:
    scenario(made, steps, journal_mode)
