"""The controller may change its schema as it likes: it never fails, and nothing is missed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import URL, make_url

from bequest.errors import Denied, Unreachable, UsageError
from bequest.model import Memory, Selection
from bequest_adapters.databases.sqlite import open_source
from tests.capture_sqlite import Make, controller

__all__ = ["controller"]

RICH = """
    CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c, d NOT NULL DEFAULT 1, spare,
      g AS (a || 'x'));
    CREATE UNIQUE INDEX one ON t(a);
    CREATE UNIQUE INDEX two ON t(lower(a), b) WHERE b > 3;
    CREATE UNIQUE INDEX three ON t(g);
"""

CHANGES = {
    "drop a column": "ALTER TABLE t DROP COLUMN spare",
    "drop another": "ALTER TABLE t DROP COLUMN d",
    "add a column": "ALTER TABLE t ADD COLUMN e DEFAULT 7",
    "rename an indexed column": "ALTER TABLE t RENAME COLUMN a TO aa",
    "rename the key": "ALTER TABLE t RENAME COLUMN id TO key",
    "rename a predicate's column": "ALTER TABLE t RENAME COLUMN b TO bb",
    "rename the table": "ALTER TABLE t RENAME TO renamed",
    "new table": "CREATE TABLE u(a)",
    "drop and make again": "DROP TABLE t; CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
    "drop an index": "DROP INDEX two",
    "new unique index": "CREATE UNIQUE INDEX four ON t(c)",
    "a trigger that is newer than ours": (
        "CREATE TRIGGER late AFTER INSERT ON t BEGIN SELECT RAISE(IGNORE); END"
    ),
    "new view": "CREATE VIEW v AS SELECT * FROM t",
    "our trigger dropped": "DROP TRIGGER bequest_1_au",
    "the limit's trigger dropped": "DROP TRIGGER bequest_journal_limit",
    "the journal dropped": "DROP TABLE bequest_journal",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_once_and_capture_goes_on(controller: Make, change: str) -> None:
    app = controller(RICH)
    app("INSERT INTO t(id, a, b) VALUES (1, 'x', 4), (2, 'y', 5)")
    app.check()
    app.db.executescript(CHANGES[change])
    assert app.fault()
    assert app.source.install()
    assert not app.source.install()
    assert app.fault(), "a mended capture must not be trusted before the next rewrite"
    app.rebase()
    assert app.fault() == ""
    # A connection that itself dropped a table believes so until it next reads the schema.
    (table,) = app("SELECT name FROM sqlite_schema WHERE name IN ('t', 'renamed')")[0]
    key, name = [row[1] for row in app(f"PRAGMA table_info({table})")][:2]
    app(f"INSERT OR REPLACE INTO {table}({key}, {name}) VALUES (7, 'x'), (8, 'z')")
    app(f"DELETE FROM {table} WHERE {name} = 'y'")
    app.check()


@pytest.mark.parametrize("change", CHANGES)
def test_the_application_may_write_before_anybody_noticed(controller: Make, change: str) -> None:
    if change == "the journal dropped":
        pytest.xfail("somebody dropped Bequest's own table: no trigger can survive that")
    app = controller(RICH)
    app.db.executescript(CHANGES[change])
    (table,) = app("SELECT name FROM sqlite_schema WHERE name IN ('t', 'renamed')")[0]
    names = [row[1] for row in app(f"PRAGMA table_info({table})")]
    app(f"INSERT OR REPLACE INTO {table}({names[0]}, {names[1]}) VALUES (1, 'x'), (2, 'y')")
    app(f"UPDATE {table} SET {names[1]} = 'z' WHERE {names[0]} = 1")
    app(f"DELETE FROM {table}")


def test_a_column_without_an_index_can_always_be_dropped(controller: Make) -> None:
    script = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, lower, b); "
    script += "CREATE UNIQUE INDEX i ON t(lower(a)) WHERE length(a) > 1; "
    script += "CREATE UNIQUE INDEX j ON t(a, id)"
    app = controller(script)
    app("ALTER TABLE t DROP COLUMN lower")
    app("ALTER TABLE t DROP COLUMN b")
    assert app.fault() == "the schema changed"


def test_alembic_batch_mode_rebuilds_a_table(controller: Make, tmp_path: Path) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT); CREATE TABLE other(x)")
    app("INSERT INTO t VALUES (1, 'x')")
    engine = sa.create_engine(f"sqlite:///{app.path}")
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("t", recreate="always") as batch:
            batch.alter_column("a", existing_type=sa.Text, nullable=False)
        connection.execute(sa.text("INSERT INTO t VALUES (2, 'y')"))
    engine.dispose()
    assert app.fault()
    assert app.source.install()
    app.rebase()
    app("UPDATE t SET a = 'z'")
    app.check()
    assert len(app.base["t"]) == 2


def test_vacuum_renumbers_only_tables_without_a_key(controller: Make) -> None:
    keyed = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", name="keyed.db")
    keyless = controller("CREATE TABLE t(a)", name="keyless.db")
    for app in (keyed, keyless):
        app("INSERT INTO t(a) VALUES (1), (2), (3)")
        app("DELETE FROM t WHERE a = 1")
        app.check()
        app("VACUUM")
    keyed.check()
    assert keyless.fault()
    assert keyless.source.install()
    assert keyless.fault()
    keyless.rebase()
    keyless("DELETE FROM t WHERE a = 3")
    keyless.check()


def test_a_harmless_change_is_not_even_written_down(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
    app("VACUUM")
    before = app("SELECT * FROM bequest_settings")
    version = app("PRAGMA data_version")
    app.check()
    assert not app.source.install()
    app.source.remember(app.memory, durable=True)
    assert app.fault() == ""
    assert app("PRAGMA data_version") == version
    assert app("SELECT * FROM bequest_settings") == before


def test_analyze_is_no_change_of_the_schema(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t(a)")
    app("INSERT INTO t VALUES (1, 1)")
    app("ANALYZE")
    app.check()
    assert ("sqlite_stat1", "statistics: run ANALYZE after a restore") in app.catalog().not_covered


def test_a_selection_of_tables(controller: Make) -> None:
    app = controller(
        "CREATE TABLE Session_one(a PRIMARY KEY); CREATE INDEX i ON Session_one(a);"
        "CREATE TABLE t(id INTEGER PRIMARY KEY); CREATE TABLE u(id INTEGER PRIMARY KEY);"
        "CREATE TRIGGER g AFTER INSERT ON Session_one BEGIN DELETE FROM t; END",
        selection=Selection(exclude=("session_*",)),
    )
    assert [table.name for table in app.catalog().tables] == ["t", "u"]
    assert app.catalog().objects == ()
    app("INSERT INTO t VALUES (1)")
    app("INSERT INTO Session_one VALUES (1)")
    app("ALTER TABLE Session_one ADD COLUMN more")
    app.check()
    assert not app.source.install(None)
    assert app.source.install(Selection(include=("u",)))
    assert app.fault()
    assert [table.name for table in app.catalog().tables] == ["u"]
    assert app.source.install(Selection())
    assert len(app.catalog().tables) == 3


def test_numbers_of_tables_are_never_used_twice(controller: Make) -> None:
    app = controller("CREATE TABLE a(x); CREATE TABLE b(x)")
    app("DROP TABLE b")
    app.source.install()
    app("CREATE TABLE c(x)")
    app.source.install()
    assert [(table.id, table.name) for table in app.catalog().tables] == [(1, "a"), (3, "c")]


def test_the_catalog_can_be_replayed_in_its_order(controller: Make) -> None:
    app = controller(
        """
        CREATE VIEW first AS SELECT * FROM v;
        CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, s AS (a) STORED);
        CREATE TRIGGER one AFTER INSERT ON t BEGIN SELECT 1; END;
        CREATE TRIGGER two AFTER INSERT ON t BEGIN SELECT 2; END;
        CREATE INDEX i ON t(a);
        CREATE VIEW v AS SELECT * FROM t;
        CREATE VIRTUAL TABLE words USING fts5(a);
        CREATE TABLE w(a PRIMARY KEY, b UNIQUE) WITHOUT ROWID;
        """
    )
    app("INSERT INTO t(a) VALUES (1)")
    app("PRAGMA user_version = 7")
    app("PRAGMA application_id = 8")
    catalog = app.catalog()
    assert [table.name for table in catalog.tables] == ["t", "w"]
    assert [(found.type, found.name) for found in catalog.objects] == [
        ("index", "i"), ("virtual", "words"), ("view", "first"), ("view", "v"),
        ("trigger", "one"), ("trigger", "two"),
    ]  # fmt: skip
    assert {"words", "words_data"} <= {name for name, _ in catalog.not_covered}
    with app.source.cut(app.memory) as cut:
        assert cut.attributes() == {
            "user_version": 7, "application_id": 8, "sequence:t": 1, "encoding": "UTF-8",
            "page_size": 4096, "auto_vacuum": 0, "journal_mode": "delete",
        }  # fmt: skip
    app("INSERT INTO words VALUES ('hello')")
    app.check()
    copy = sqlite3.connect(":memory:")
    for each in (*catalog.tables, *catalog.objects):
        copy.execute(each.sql)
    copy.close()


def test_an_empty_database(controller: Make) -> None:
    app = controller()
    assert app.catalog().tables == ()
    app.check()


def test_a_cut_is_one_moment(controller: Make) -> None:
    app = controller("PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY)")
    app("INSERT INTO t VALUES (1)")
    with app.source.cut(app.memory) as cut:
        app("INSERT INTO t VALUES (2)")
        (table,) = cut.catalog().tables
        assert list(cut.scan(table)) == [[(1,)]]
        assert [mutation.key for mutation in cut.mutations()] == [(1,)]
        assert list(cut.lookup(table, [(1,), (2,)])) == [(1,)]
        assert app.source.pending(app.memory).mutations == 2
    app.check()


def test_a_database_in_memory_is_refused() -> None:
    for url in (
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
    ):
        with pytest.raises(UsageError, match="memory"):
            open_source(make_url(url))


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    missing = open_source(make_url(f"sqlite:///{tmp_path}/none.db"))
    with pytest.raises(Denied, match="no database"):
        missing.recall()
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.db").write_text("this is not a database, only text" * 100)
    text = open_source(make_url(f"sqlite:///{tmp_path}/text.db"))
    with pytest.raises(Denied, match="not an SQLite database"):
        text.install()
    text.close()


def test_a_uri_names_the_same_file(controller: Make, tmp_path: Path) -> None:
    app = controller("CREATE TABLE t(a)", name="with space%41?.db")
    file = f"file:{tmp_path}/with%20space%2541%3F.db"
    for driver, mode in (("sqlite", {}), ("sqlite", {"mode": "ro"}), ("sqlite+aiosqlite", {})):
        source = open_source(URL.create(driver, database=file, query={"uri": "true", **mode}))
        assert source.installed()
        assert source.name == app.source.name
        source.close()
    source = open_source(URL.create("sqlite", database=f"{file}?mode=ro", query={"uri": "true"}))
    assert not source.install(), "nothing to do needs no permission"
    with pytest.raises(Denied, match="cannot be written"):
        source.uninstall()
    source.close()


def test_a_locked_database_may_be_tried_again(
    controller: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bequest_adapters.databases.sqlite.connection.BUSY_SECONDS", 0.05)
    app = controller("CREATE TABLE t(a)")
    app("BEGIN EXCLUSIVE")
    with pytest.raises(Unreachable, match="locked"):
        app.source.recall()
    app("ROLLBACK")
    app.source.remember(Memory(serial=3), durable=True)
    assert app.source.recall().serial == 3


def test_revisions_are_the_controllers_own(controller: Make) -> None:
    app = controller("CREATE TABLE t(a)")

    def revisions() -> tuple[str, ...]:
        with app.source.cut(app.memory) as cut:
            return cut.revisions()

    assert revisions() == ()
    app("CREATE TABLE alembic_version(version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    app("INSERT INTO alembic_version VALUES ('beef'), ('ace')")
    assert revisions() == ("ace", "beef")
