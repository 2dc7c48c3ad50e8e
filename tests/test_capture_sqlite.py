"""Every mutation by any statement of any client is in the journal (promise 1, on SQLite)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bequest.model import Memory
from bequest_adapters.databases.sqlite import open_source
from tests.capture_sqlite import Make, controller

__all__ = ["controller"]


SHAPES = {
    "rowid alias": "CREATE TABLE t(k INTEGER PRIMARY KEY, v UNIQUE, w)",
    "not null key": "CREATE TABLE t(k TEXT NOT NULL PRIMARY KEY, v UNIQUE, w)",
    "no case key": "CREATE TABLE t(k TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, v UNIQUE, w)",
    "nullable key": "CREATE TABLE t(k TEXT PRIMARY KEY, v UNIQUE, w)",
    "untyped key": "CREATE TABLE t(k NOT NULL PRIMARY KEY, v UNIQUE, w)",
    "descending": "CREATE TABLE t(k INTEGER PRIMARY KEY DESC, v UNIQUE, w)",
    "no key": "CREATE TABLE t(k, v UNIQUE, w)",
    "without rowid": "CREATE TABLE t(k TEXT PRIMARY KEY, v UNIQUE, w) WITHOUT ROWID",
    "without rowid, no case": (
        "CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY, v UNIQUE, w) WITHOUT ROWID"
    ),
    "without rowid, untyped": "CREATE TABLE t(k PRIMARY KEY, v UNIQUE, w) WITHOUT ROWID",
    "strict": "CREATE TABLE t(k ANY NOT NULL PRIMARY KEY, v ANY UNIQUE, w ANY) STRICT",
    "key columns reversed": "CREATE TABLE t(v NOT NULL, k NOT NULL, w, PRIMARY KEY(k, v))",
    "column named rowid": "CREATE TABLE t(k, v UNIQUE, w, rowid, oid)",
    "all aliases taken": "CREATE TABLE t(k, v UNIQUE, w, rowid, oid, _rowid_)",
    "autoincrement": "CREATE TABLE t(k INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE, w)",
}

STATEMENTS = [
    "INSERT INTO t(k, v, w) VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)",
    "INSERT OR IGNORE INTO t(k, v, w) VALUES (1, 9, 9), (7, 1, 9)",
    "UPDATE t SET w = w + 10",
    "INSERT OR REPLACE INTO t(k, v, w) VALUES (5, 1, 5)",
    "INSERT OR REPLACE INTO t(k, v, w) VALUES (2, 3, 6)",
    "UPDATE OR REPLACE t SET v = 4 WHERE v = 1",
    "UPDATE OR REPLACE t SET k = 2 WHERE v = 4",
    "REPLACE INTO t(k, v, w) VALUES (11, 11, 11), (12, 11, 12), (12, 13, 13)",
    "UPDATE t SET k = k + 100",
    "INSERT INTO t(k, v, w) VALUES (50, 50, NULL) ON CONFLICT DO NOTHING",
    "DELETE FROM t WHERE w = 6",
    "DELETE FROM t",
]


@pytest.mark.parametrize("recursive", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_table_and_statement(controller: Make, shape: str, recursive: int) -> None:
    app = controller(SHAPES[shape])
    app(f"PRAGMA recursive_triggers = {recursive}")
    for statement in STATEMENTS:
        try:
            app(statement)
        except sqlite3.IntegrityError:
            assert "key columns" in shape or "rowid" in shape or "UPDATE t" in statement
        app.check()


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE"])
def test_every_journal_mode(controller: Make, mode: str) -> None:
    app = controller(f"PRAGMA journal_mode = {mode}; CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    for number in range(5):
        app("INSERT INTO t(b) VALUES (?)", [number])
        app.check()


@pytest.mark.parametrize(
    ("index", "first", "second"),
    [
        ("t(a COLLATE NOCASE)", ("Name", 1), ("nAME", 1)),
        ("t(a COLLATE RTRIM)", ("x", 1), ("x  ", 1)),
        ("t(a, b)", ("x", 1), ("x", 1)),
        ("t(a) WHERE b > 5", ("x", 6), ("x", 7)),
        ("t(lower(a))", ("AB", 1), ("ab", 1)),
        ("t(lower(a) DESC, b) WHERE a IS NOT NULL -- why\n", ("AB", 1), ("ab", 1)),
        ("t(a || ',' || b)", ("p", 1), ("p", 1)),
        ("t(CASE WHEN b = 1 THEN a END)", ("q", 1), ("q", 1)),
        ("t(CASE WHEN a = 5 THEN b END)", ("5", 1), ("5", 1)),
        ("t(CASE WHEN b = '1' THEN a END)", ("q", 1), ("q", 1)),
        ("t(json_extract(a, '$.n'))", ('{"n":1}', 1), ('{ "n":1 }', 2)),
        ("t(a ->> '$.n')", ('{"n":1}', 1), ('{ "n":1 }', 2)),
        ("t(abs(id % 2), a)", ("q", 1), ("q", 1)),
        ("t(g)", ("X", 1), ("x", 1)),
        ("t(g, s)", ("X", 2), ("x", 2)),
        ("t(n)", (None, 1), (None, 2)),
        ("t(coalesce(n, 'x'))", (None, 1), (None, 2)),
    ],
)
def test_rows_replaced_through_a_unique_index(
    controller: Make, index: str, first: tuple[object, int], second: tuple[object, int]
) -> None:
    app = controller(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER,"
        " n TEXT NOT NULL DEFAULT fallback, g AS (lower(a)) VIRTUAL, s AS (b * 2) STORED);"
        f"CREATE UNIQUE INDEX i ON {index}"
    )
    insert = "INSERT OR REPLACE INTO t(id, a, b, n) VALUES (?, ?, ?, NULL)"
    app.db.execute(insert, (1, *first))
    app.check()
    app.db.execute(insert, (3, *second))
    assert app("SELECT count(*) FROM t") == [(1,)]
    app.check()
    app("INSERT INTO t(id, a, b, n) VALUES (6, '[900]', 900, 'other')")
    app.check()
    app(
        "UPDATE OR REPLACE t SET id = 8, (a, b, n) = (SELECT a, b, n FROM t WHERE id = 3)"
        " WHERE id = 6"
    )
    app.check()


@pytest.mark.parametrize("declared", ["TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"])
@pytest.mark.parametrize("default", ["1", "'1'", "(1)", "-1.0", "word", "x'31'"])
def test_a_default_collides_as_its_column_keeps_it(
    controller: Make, declared: str, default: str
) -> None:
    app = controller(
        f"CREATE TABLE t(id INTEGER PRIMARY KEY, d {declared} NOT NULL DEFAULT {default});"
        "CREATE UNIQUE INDEX i ON t(coalesce(d, 0))"
    )
    for number in (1, 2):
        app("INSERT OR REPLACE INTO t VALUES (?, NULL)", [number])
        app.check()
    assert app("SELECT id FROM t") == [(2,)]


def test_conflict_clauses_of_the_table_itself(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE ON CONFLICT REPLACE, b)")
    app("INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 1)")
    app.check()
    app("INSERT INTO t VALUES (3, 'x', 2)")
    app("UPDATE t SET a = 'x' WHERE id = 2")
    assert app("SELECT id FROM t") == [(2,)]
    app.check()


def test_a_row_replaced_by_its_hidden_rowid(controller: Make) -> None:
    app = controller("CREATE TABLE t(k TEXT NOT NULL PRIMARY KEY, v)")
    app("INSERT INTO t(rowid, k) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    app.check()
    app("INSERT OR REPLACE INTO t(rowid, k) VALUES (1, 'z')")
    app("UPDATE OR REPLACE t SET oid = 3 WHERE k = 'b'")
    assert app("SELECT k FROM t ORDER BY rowid") == [("z",), ("b",), ("d",)]
    app.check()


def test_the_rowid_may_change_under_another_name(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE u(v)")
    app("INSERT INTO t VALUES (1, 1)")
    app("INSERT INTO u VALUES (1)")
    app.check()
    app("UPDATE t SET rowid = 7")
    app("UPDATE u SET _rowid_ = 7")
    app.check()
    assert app("SELECT id FROM t") == [(7,)]


def test_tables_named_new_and_old(controller: Make) -> None:
    app = controller(
        'CREATE TABLE "New"(id INTEGER PRIMARY KEY, a UNIQUE);'
        "CREATE TABLE old(id INTEGER PRIMARY KEY, a UNIQUE);"
    )
    for table in ("New", "old"):
        app(f"INSERT INTO {table} VALUES (1, 'x'), (2, 'y')")
        app.check()
        app(f"INSERT OR REPLACE INTO {table} VALUES (3, 'x')")
        app(f"UPDATE OR REPLACE {table} SET a = 'x' WHERE id = 2")
        app.check()


def test_names_of_every_kind(controller: Make) -> None:
    names = ["select", 'Über "uns"', "it's", "a.b", "naïve table", "[x]", "`y`", "日本"]
    script = "".join(
        'CREATE TABLE "{0}"("{0}" TEXT NOT NULL PRIMARY KEY, "É" UNIQUE, "é", "a b");'.format(
            name.replace('"', '""')
        )
        for name in names
    )
    app = controller(script)
    for name in names:
        table = '"' + name.replace('"', '""') + '"'
        app(f"INSERT INTO {table} VALUES ('k', 1, 2, 3), ('l', 2, 2, 3)")
        app(f"UPDATE {table} SET \"a b\" = 4, {table} = 'm' WHERE {table} = 'k'")
        app(f"INSERT OR REPLACE INTO {table} VALUES ('n', 2, 2, 3)")
        app.check()


VALUES: list[object] = [
    None, 0, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), -float("inf"), 5e-324, 1e300, "", "a\0b",
    "é日本😀", b"", b"\0\xff", "1", "1.0", " 1",
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_every_value_as_key_and_content(controller: Make, encoding: str) -> None:
    app = controller(
        f"PRAGMA encoding = '{encoding}';"
        "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE u(k NOT NULL PRIMARY KEY, v)"
    )
    for value in VALUES[1:]:
        app.db.execute("INSERT INTO t VALUES (?, ?)", (value, value))
        app.db.execute("INSERT INTO u VALUES (?, ?)", (value, value))
    app.check()
    assert len(app.base["t"]) == len(VALUES) - 1
    app("UPDATE t SET v = NULL")
    app("DELETE FROM u WHERE typeof(k) = 'text'")
    app.check()


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_text_that_is_not_valid(controller: Make, encoding: str) -> None:
    app = controller(
        f"PRAGMA encoding = '{encoding}'; CREATE TABLE t(k TEXT NOT NULL PRIMARY KEY, v TEXT)"
    )
    app("INSERT INTO t VALUES ('good', 'good')")
    app("INSERT INTO t VALUES (CAST(x'ff00d8ff' AS TEXT), CAST(x'c300d8c3' AS TEXT))")
    app.check()
    assert len(app.base["t"]) == 2
    app("UPDATE t SET v = 'x'")
    app.check()
    app("DELETE FROM t")
    app.check()
    assert app.base["t"] == {}


def test_one_is_not_one_point_zero(controller: Make) -> None:
    app = controller("CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE s(k, v);")
    app("INSERT INTO t VALUES (1, 'int')")
    app.check()
    app("INSERT OR REPLACE INTO t VALUES (1.0, 'real')")
    app.check()
    app("UPDATE t SET k = 1")
    app.check()
    assert app("SELECT typeof(k) FROM t") == [("integer",)]


def test_cascades(controller: Make) -> None:
    app = controller(
        """
        CREATE TABLE p(id TEXT NOT NULL PRIMARY KEY, u UNIQUE);
        CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
        CREATE TABLE n(id INTEGER PRIMARY KEY, p DEFAULT 'a'
          REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE);
        CREATE TABLE r(id INTEGER PRIMARY KEY, up REFERENCES r(id) ON DELETE CASCADE);
        CREATE TABLE x(k PRIMARY KEY REFERENCES p ON UPDATE CASCADE ON DELETE CASCADE)
          WITHOUT ROWID;
        """
    )
    app("PRAGMA foreign_keys = ON")
    app("INSERT INTO p VALUES ('a', 1), ('b', 2), ('c', 3), ('d', 4)")
    for table in ("c", "n"):
        app(f"INSERT INTO {table}(p) VALUES ('a'), ('b'), ('c'), ('d')")
    app("INSERT INTO x VALUES ('a'), ('b'), ('c')")
    app("INSERT INTO r VALUES (1, NULL), (2, 1), (3, 2), (4, 3)")
    app.check()
    for statement in (
        "UPDATE p SET id = 'z' WHERE id = 'a'",
        "DELETE FROM p WHERE id = 'b'",
        "INSERT OR REPLACE INTO p VALUES ('e', 3)",
        "DELETE FROM r WHERE id = 1",
        "DELETE FROM p",
    ):
        app(statement)
        app.check()
    assert app("SELECT count(*) FROM c") == [(0,)]


def test_savepoints_and_rollbacks_leave_no_phantom(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)")
    app("INSERT INTO t VALUES (1, 1), (2, 2)")
    for conflict in ("FAIL", "ABORT", "IGNORE", "ROLLBACK"):
        app("BEGIN")
        app("SAVEPOINT one")
        app("INSERT INTO t VALUES (?, ?)", [10 + len(conflict), conflict])
        app("SAVEPOINT two")
        app("DELETE FROM t WHERE id = 2")
        app("ROLLBACK TO two")
        try:
            app(
                f"INSERT OR {conflict} INTO t SELECT id + 100, a + 100 FROM t WHERE id < 3"
                " UNION ALL SELECT NULL, 1"
            )
        except sqlite3.IntegrityError:
            assert conflict != "IGNORE"
        if app.db.in_transaction:
            app("RELEASE one")
            app("COMMIT")
        app.check()
        app("DELETE FROM t WHERE id > 99")
    app("BEGIN")
    app("DELETE FROM t")
    app("ROLLBACK")
    app.check()
    assert not app.mutations()


def test_upserts(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, n DEFAULT 0, b UNIQUE)")
    upsert = (
        "INSERT INTO t(a, b) VALUES (?, ?) ON CONFLICT(a) DO UPDATE SET n = n + 1, b = excluded.b"
        " ON CONFLICT(b) DO UPDATE SET a = excluded.a RETURNING id"
    )
    for pair in ((1, 1), (2, 2), (1, 5), (7, 2)):
        app.db.execute(upsert, pair).fetchall()
        app.check()


def test_triggers_of_the_application(controller: Make) -> None:
    app = controller(
        """
        CREATE TABLE t(id INTEGER PRIMARY KEY, v, stamp, a UNIQUE);
        CREATE TABLE audit(t, what);
        CREATE VIEW shown AS SELECT id, v FROM t;
        CREATE TRIGGER stamp AFTER INSERT ON t BEGIN
          UPDATE t SET stamp = 'new' WHERE id = NEW.id; INSERT INTO audit VALUES (NEW.id, 'i'); END;
        CREATE TRIGGER again AFTER UPDATE OF v ON t BEGIN
          UPDATE t SET stamp = 'changed' WHERE id = NEW.id; END;
        CREATE TRIGGER veto BEFORE UPDATE ON t WHEN NEW.v = 'veto' BEGIN SELECT RAISE(IGNORE); END;
        CREATE TRIGGER late AFTER UPDATE ON t WHEN NEW.v = 'late' BEGIN SELECT RAISE(IGNORE); END;
        CREATE TRIGGER gone BEFORE DELETE ON t WHEN OLD.v = 'keep' BEGIN
          SELECT RAISE(ABORT, 'kept'); END;
        CREATE TRIGGER move BEFORE INSERT ON t WHEN NEW.v = 'drop' BEGIN
          DELETE FROM t WHERE id = 1; END;
        CREATE TRIGGER through INSTEAD OF INSERT ON shown BEGIN
          INSERT INTO t(id, v) VALUES (NEW.id, NEW.v); END;
        """
    )
    for statement in (
        "INSERT INTO t(id, v) VALUES (1, 'a'), (2, 'b'), (3, 'keep')",
        "UPDATE t SET v = 'veto' WHERE id = 1",
        "UPDATE t SET v = 'late' WHERE id = 2",
        "INSERT INTO t(v) VALUES ('drop')",
        "INSERT INTO shown VALUES (90, 'view')",
        "DELETE FROM t WHERE v <> 'keep'",
    ):
        app(statement)
        app.check()
    with pytest.raises(sqlite3.IntegrityError, match="kept"):
        app("DELETE FROM t")
    app.check()
    assert app("SELECT count(*) FROM audit") == [(5,)]


def test_writers_that_attach_the_database(controller: Make, tmp_path: Path) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)")
    other = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    other.execute("CREATE TABLE t(id, x)")
    other.execute("CREATE TABLE bequest_journal(other)")
    other.execute("CREATE TEMP TABLE bequest_journal(other)")
    other.execute("ATTACH ? AS app", (str(app.path),))
    other.execute("INSERT INTO app.t VALUES (1, 'x'), (2, 'y')")
    other.execute("INSERT OR REPLACE INTO app.t VALUES (3, 'x')")
    assert other.execute("SELECT count(*) FROM temp.bequest_journal").fetchone() == (0,)
    other.close()
    app.check()
    assert len(app.base["t"]) == 2


def test_a_foreign_shell_as_writer(controller: Make) -> None:
    app = controller(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE); CREATE UNIQUE INDEX i ON t(lower(a))"
    )
    script = (
        "INSERT INTO t VALUES (1, 'x'), (2, 'y'); INSERT OR REPLACE INTO t VALUES (3, 'X');"
        "UPDATE t SET id = 9 WHERE id = 2;"
    )
    shell = shutil.which("sqlite3")
    if shell:
        subprocess.run([shell, str(app.path), script], check=True)
    else:
        program = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
        subprocess.run([sys.executable, "-c", program, str(app.path), script], check=True)
    app.check()
    assert [row[0] for row in app("SELECT id FROM t ORDER BY id")] == [3, 9]


def test_the_application_sees_the_same_answers(controller: Make, tmp_path: Path) -> None:
    script = "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b)"
    app = controller(script)
    plain = sqlite3.connect(tmp_path / "plain.db", isolation_level=None)
    plain.execute(script)
    for statement in (
        "INSERT INTO t(a) VALUES (1), (2), (3) RETURNING id, a",
        "INSERT OR REPLACE INTO t(a) VALUES (2) RETURNING id",
        "UPDATE t SET b = 1 WHERE id > 1 RETURNING id",
        "UPDATE OR REPLACE t SET a = 1 WHERE a = 2 RETURNING *",
        "DELETE FROM t WHERE id = 3 RETURNING a",
        "INSERT INTO t(a) VALUES (1) ON CONFLICT DO NOTHING",
        "DELETE FROM t",
    ):
        answers = []
        for db in (app.db, plain):
            cursor = db.execute(statement)
            rows = cursor.fetchall()
            said = db.execute("SELECT last_insert_rowid(), changes()").fetchone()
            answers.append((rows, cursor.lastrowid, cursor.rowcount, said))
        assert answers[0] == answers[1]
        app.check()
    plain.close()


@pytest.mark.parametrize("columns", [1, 1999, 2000])
def test_few_and_many_columns(controller: Make, columns: int) -> None:
    names = ", ".join(f"c{index}" for index in range(columns))
    app = controller(
        f"CREATE TABLE t({names}); CREATE TABLE k(c0 INTEGER PRIMARY KEY, {names[3:] or 'x'})"
    )
    app("INSERT INTO t(c0) VALUES (1), (2)")
    app("INSERT INTO k(c0) VALUES (1), (2)")
    app("UPDATE t SET c0 = 3 WHERE c0 = 1")
    app("UPDATE k SET c0 = 3 WHERE c0 = 1")
    app.check()


def test_keys_longer_than_the_journal_had_columns(controller: Make) -> None:
    names = ", ".join(f"c{index} NOT NULL" for index in range(9))
    keys = ", ".join(f"c{index}" for index in range(9))
    app = controller(f"CREATE TABLE t({names}, v, PRIMARY KEY({keys}))")
    app(
        f"INSERT INTO t VALUES ({', '.join('12345678')}, 9, 'v'), ({', '.join('12345678')}, 8, 'w')"
    )
    app("UPDATE t SET c8 = 7 WHERE c8 = 8")
    app.check()
    wide = ", ".join(f"d{index}" for index in range(200))
    app(f"CREATE TABLE w({wide}, PRIMARY KEY({wide})) WITHOUT ROWID")
    app.source.install()
    app.rebase()
    app(f"INSERT INTO w VALUES ({', '.join('1' * 200)})")
    app.check()


def test_a_collation_that_only_the_application_knows(controller: Make) -> None:
    app = controller("CREATE TABLE seed(a)")
    app.db.create_collation("backwards", lambda left, right: (left < right) - (left > right))
    app("CREATE TABLE t(k TEXT COLLATE backwards PRIMARY KEY, v) WITHOUT ROWID")
    app("CREATE TABLE u(k TEXT NOT NULL COLLATE backwards PRIMARY KEY, v TEXT COLLATE backwards)")
    app.source.install()
    app.rebase()
    for table in ("t", "u"):
        app(f"INSERT INTO {table} VALUES ('a', 1), ('b', 2), ('c', 3)")
        app(f"UPDATE {table} SET v = 4 WHERE k = 'b'")
        app(f"DELETE FROM {table} WHERE k = 'a'")
        app.check()
    other = sqlite3.connect(app.path)
    other.execute("UPDATE u SET v = 5")  # worked without that collation before capture, too
    other.commit()
    other.close()
    app.check()


def test_lookup_in_many_chunks(controller: Make) -> None:
    app = controller(
        "CREATE TABLE t(a NOT NULL, b TEXT COLLATE NOCASE, c, PRIMARY KEY(a, b)) WITHOUT ROWID"
    )
    app("BEGIN")
    app.db.executemany("INSERT INTO t VALUES (?, ?, 0)", ((n, f"k{n}") for n in range(5000)))
    app("COMMIT")
    app.check()
    assert len(app.base["t"]) == 5000


def test_blocks_are_bounded_in_rows_and_bytes(controller: Make) -> None:
    app = controller("CREATE TABLE big(a); CREATE TABLE many(a)")
    app(
        "INSERT INTO big WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 20) SELECT zeroblob(1000000) FROM n"
    )
    app(
        "INSERT INTO many WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 70000) SELECT i FROM n"
    )
    with app.source.cut(app.memory) as cut:
        sizes = {
            table.name: [len(block) for block in cut.scan(table)] for table in cut.catalog().tables
        }
    assert max(sizes["big"]) <= 5
    assert (max(sizes["many"]), sum(sizes["many"])) == (256, 70000)


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate"])
def test_a_long_read_of_all_rows_blocks_no_writer(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "controller.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE t (v)")
        db.execute("INSERT INTO t VALUES ('before')")
        source = open_source(make_url(f"sqlite:///{path}"))
        source.install()
        with source.cut(Memory()) as cut:
            assert not cut.stale
            blocks = cut.scan(cut.catalog().tables[0])
            db.execute("INSERT INTO t VALUES ('meanwhile')")
            assert [row[1] for block in blocks for row in block] == ["before"]
            assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
        source.close()
