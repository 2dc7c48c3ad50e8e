"""A restore into SQLite gives exactly the snapshot's state, or leaves everything as it was."""

# ruff: noqa: PT012 - what must raise here is the end of a context that is entered and used first

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from bequest.errors import BequestError, Denied, Refused, SnapshotDamaged, UsageError
from bequest.model import Catalog, Column, Row, Selection, Table, Value
from bequest_adapters.databases.sqlite import target_file
from bequest_adapters.databases.sqlite.catalog import read_schema
from bequest_adapters.databases.sqlite.target import SqliteTarget, open_target

PRAGMAS = ("user_version", "application_id", "page_size", "encoding", "auto_vacuum", "journal_mode")
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
SIMPLE = Catalog(
    (Table(1, "t", (Column("i"), Column("v")), (0,), "CREATE TABLE t (i PRIMARY KEY, v)"),)
)

Rows = dict[str, list[Row]]
Snapshot = tuple[Catalog, dict[str, Value], Rows]


def escaped(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = escaped
    return connection


def build(
    path: Path, script: str, prepare: Callable[[sqlite3.Connection], object] | None = None
) -> None:
    with closing(connect(path)) as connection:
        if prepare is not None:
            prepare(connection)
        connection.executescript(script)


def taken(path: Path) -> Snapshot:
    """What a snapshot of ``path`` would hold."""
    with closing(connect(path)) as connection:
        schema = read_schema(connection)
        numbers = {table.name: number for number, table in enumerate(schema.tables, 1)}
        catalog = schema.catalog(Selection(), numbers)
        attributes = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS}
        if connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name='sqlite_sequence'"
        ).fetchone():
            for name, value in connection.execute("SELECT name, seq FROM sqlite_sequence"):
                attributes[f"sequence:{name}"] = value
        return catalog, attributes, {t.name: rows_of(connection, t) for t in catalog.tables}


def rows_of(connection: sqlite3.Connection, table: Table) -> list[Row]:
    names = ", ".join('"' + column.name.replace('"', '""') + '"' for column in table.columns)
    name = table.name.replace('"', '""')
    return connection.execute(f'SELECT {names} FROM "{name}"').fetchall()


def fill(target: SqliteTarget, snapshot: Snapshot, *, force: bool = False) -> Rows:
    """Restore, and give the rows that were read back."""
    catalog, attributes, rows = snapshot
    read: Rows = {}
    with target.replace(force=force) as loading:
        loading.create(catalog, attributes)
        for table in catalog.tables:
            loading.load(table, rows[table.name])
        with loading.finishing():
            for table in catalog.tables:
                read[table.name] = [row for block in loading.scan(table) for row in block]
    return read


def exact(rows: Sequence[Row]) -> list[str]:
    """Rows such that -0.0 differs from 0.0, and 1 from 1.0."""
    return sorted(repr(row) for row in rows)


def restored(tmp_path: Path, script: str, **how: Any) -> Path:
    """Make a database by ``script``, restore it, and check that everything is the same."""
    source, copy = tmp_path / "source.db", tmp_path / "copy.db"
    build(source, script, **how)
    snapshot = taken(source)
    read = fill(SqliteTarget(str(copy)), snapshot)
    for name, rows in snapshot[2].items():
        assert exact(read[name]) == exact(rows), name
    _, attributes, found = taken(copy)
    assert attributes == snapshot[1]
    for name, rows in snapshot[2].items():
        assert exact(found[name]) == exact(rows), name
    with closing(connect(source)) as one, closing(connect(copy)) as other:
        assert other.execute(SCHEMA).fetchall() == one.execute(SCHEMA).fetchall()
    assert names(tmp_path) == ["copy.db", "source.db"]
    return copy


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def simple(rows: int, word: str = "new") -> Snapshot:
    return SIMPLE, {}, {"t": [(number, f"{word}-{number}") for number in range(rows)]}


def words(path: Path) -> set[str]:
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {text.split("-")[0] for (text,) in connection.execute("SELECT v FROM t")}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "controller.db"
    build(path, "CREATE TABLE t (i PRIMARY KEY, v); INSERT INTO t VALUES (1, 'old-1')")
    return path


# --- exactly the snapshot's state


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    def values(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE v (i INTEGER PRIMARY KEY, any, t TEXT, r REAL, n NUMERIC)")
        odd: list[Any] = [
            2**63 - 1, -(2**63), 0.0, -0.0, float("inf"), float("-inf"), 5e-324, 1, 1.0,
            "", "nul\0inside", "ünï 🚀", b"", b"\0\xff", None, "1", "1e3", " 7 ",
        ]  # fmt: skip
        connection.executemany(
            "INSERT INTO v (any, t, r, n) VALUES (?1, ?1, ?1, ?1)", [(o,) for o in odd]
        )
        for bad in (b"\xff", b"caf\xe9 \0 x", b"\xed\xa0\x80", "é".encode() + b"\xc3"):
            connection.execute(
                "INSERT INTO v (any, t) VALUES (CAST(? AS TEXT), CAST(?1 AS TEXT))", (bad,)
            )
        connection.executemany("INSERT INTO v (any) VALUES (?)", [(n,) for n in range(100)])

    restored(tmp_path, "", prepare=values)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_text_survives_in_the_other_encodings(tmp_path: Path, encoding: str) -> None:
    codec = encoding.replace("UTF-16", "utf-16-")

    def values(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA encoding='{encoding}'")
        connection.execute("CREATE TABLE v (t TEXT)")
        lone = "a\ud800b".encode(codec, "surrogatepass")
        connection.execute("INSERT INTO v VALUES ('plain ü 🚀'), (CAST(? AS TEXT))", (lone,))

    restored(tmp_path, "", prepare=values)


def test_tables_of_every_kind_and_odd_names_come_back(tmp_path: Path) -> None:
    restored(
        tmp_path,
        """
        CREATE TABLE "select" ("from" INTEGER PRIMARY KEY, "a""b" TEXT, [c]]d] TEXT);
        """.replace("[c]]d]", "`c]d`")
        + """
        INSERT INTO "select" VALUES (1, 'x', 'y');
        CREATE TABLE "Größe ""quoted"" 'x'" (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID;
        INSERT INTO "Größe ""quoted"" 'x'" VALUES (1, 2), (2, 1);
        CREATE TABLE strict (a INT PRIMARY KEY, b ANY, c TEXT) STRICT;
        INSERT INTO strict VALUES (1, '007', 'x'), (2, 7, NULL), (3, x'00', '');
        CREATE TABLE computed (a INTEGER PRIMARY KEY, b TEXT,
            v AS (upper(b)) VIRTUAL UNIQUE, s TEXT AS (b || a) STORED);
        INSERT INTO computed (b) VALUES ('one'), ('two');
        CREATE TABLE bare (x, y);
        INSERT INTO bare (rowid, x, y) VALUES (7, 1, 1), (3, 1, 1), (-5, NULL, NULL);
        CREATE TABLE hides (rowid TEXT, oid TEXT);
        INSERT INTO hides (_rowid_, rowid, oid) VALUES (9, 'a', 'b');
        CREATE TABLE nullable (k TEXT PRIMARY KEY, v);
        INSERT INTO nullable VALUES (NULL, 1), (NULL, 2);
        CREATE TABLE grown (a INTEGER PRIMARY KEY);
        INSERT INTO grown VALUES (1);
        ALTER TABLE grown ADD COLUMN b TEXT NOT NULL DEFAULT 'later';
        CREATE UNIQUE INDEX "partial index" ON grown (lower(b) DESC, a) WHERE a > 0;
        CREATE INDEX folded ON strict (c COLLATE NOCASE);
        PRAGMA user_version = -3; PRAGMA application_id = 2147483647;
        """,
    )


def test_views_and_triggers_come_back_in_any_order_and_do_not_fire(tmp_path: Path) -> None:
    copy = restored(
        tmp_path,
        """
        CREATE TABLE a (i INTEGER PRIMARY KEY, v);
        CREATE TABLE log (v);
        CREATE VIEW early AS SELECT * FROM late;
        CREATE VIEW late AS SELECT i, "literal" AS w FROM a;
        CREATE TRIGGER first AFTER INSERT ON a BEGIN INSERT INTO log VALUES ('first'); END;
        CREATE TRIGGER second AFTER INSERT ON a BEGIN INSERT INTO log VALUES ('second'); END;
        CREATE TRIGGER instead INSTEAD OF INSERT ON early
            BEGIN INSERT INTO a VALUES (NEW.i, 1); END;
        INSERT INTO a VALUES (1, 2);
        """,
    )
    with closing(connect(copy)) as connection:
        connection.execute("INSERT INTO early (i) VALUES (5)")
        fired = connection.execute("SELECT v FROM log ORDER BY rowid").fetchall()
    assert fired == [("second",), ("first",)] * 2


def test_rows_that_break_their_own_rules_come_back(tmp_path: Path) -> None:
    restored(
        tmp_path,
        """
        PRAGMA foreign_keys = OFF;
        PRAGMA ignore_check_constraints = ON;
        CREATE TABLE child (i INTEGER PRIMARY KEY, p REFERENCES parent (i), CHECK (i < 10));
        CREATE TABLE parent (i INTEGER PRIMARY KEY);
        INSERT INTO child VALUES (50, 999);
        """,
    )


def test_double_quoted_text_in_an_old_schema_is_accepted(tmp_path: Path) -> None:
    restored(
        tmp_path,
        """
        CREATE TABLE old (a TEXT DEFAULT "none", CHECK (a <> "never"));
        CREATE INDEX i ON old (a) WHERE a <> "none";
        INSERT INTO old VALUES ('x');
        """,
    )


@pytest.mark.parametrize("kept", ["('a', 100), ('b', 'text'), ('gone', 5)", "('b', 3)", ""])
def test_sequences_are_exactly_those_recorded(tmp_path: Path, kept: str) -> None:
    restored(
        tmp_path,
        f"""
        CREATE TABLE a (i INTEGER PRIMARY KEY AUTOINCREMENT);
        CREATE TABLE b (i INTEGER PRIMARY KEY AUTOINCREMENT);
        INSERT INTO a VALUES (7);
        DELETE FROM sqlite_sequence;
        {"INSERT INTO sqlite_sequence VALUES " + kept + ";" if kept else ""}
        """,
    )


def test_sequences_outlive_the_last_autoincrement_table(tmp_path: Path) -> None:
    restored(
        tmp_path,
        """
        CREATE TABLE a (i INTEGER PRIMARY KEY AUTOINCREMENT);
        DROP TABLE a;
        INSERT INTO sqlite_sequence VALUES ('a', 9);
        """,
    )


@pytest.mark.parametrize("page_size", [512, 65536])
def test_the_shape_of_the_file_comes_back(tmp_path: Path, page_size: int) -> None:
    restored(
        tmp_path,
        f"PRAGMA page_size={page_size}; PRAGMA auto_vacuum=2; PRAGMA journal_mode=WAL;"
        "CREATE TABLE t (v); INSERT INTO t VALUES (zeroblob(100000))",
    )


def test_an_index_over_a_tables_text_finds_it_again(tmp_path: Path) -> None:
    source, copy = tmp_path / "source.db", tmp_path / "copy.db"
    build(
        source,
        "CREATE TABLE doc (i INTEGER PRIMARY KEY, body); INSERT INTO doc VALUES (4, 'hello world');"
        "CREATE VIRTUAL TABLE find USING fts5(body, content='doc', content_rowid='i');",
    )
    fill(SqliteTarget(str(copy)), taken(source))
    with closing(connect(copy)) as connection:
        assert connection.execute("SELECT rowid FROM find('world')").fetchall() == [(4,)]


def test_a_virtual_table_of_an_unknown_module_keeps_its_definition(tmp_path: Path) -> None:
    restored(
        tmp_path,
        """
        CREATE TABLE a (i INTEGER PRIMARY KEY);
        PRAGMA writable_schema=ON;
        INSERT INTO sqlite_schema VALUES
            ('table', 'far', 'far', 0, 'CREATE VIRTUAL TABLE far USING nowhere_known(x)');
        PRAGMA writable_schema=OFF;
        CREATE VIEW sees AS SELECT * FROM far;
        """,
    )


def test_large_tables_are_read_back_in_bounded_blocks(tmp_path: Path) -> None:
    target = SqliteTarget(str(tmp_path / "new.db"))
    rows: list[Row] = [(n, b"x" * (1 << 20 if n % 5000 == 4999 else 3)) for n in range(30_000)]
    rows[20_000] = (20_000, escaped(b"\xff"))
    table = SIMPLE.tables[0]
    with target.replace(force=False) as loading:
        loading.create(SIMPLE, {})
        loading.load(table, iter(rows[:10_001]))
        loading.load(table, rows[10_001:])
        loading.finish()
        blocks = list(loading.scan(table))
        assert blocks == list(loading.scan(table))
    assert [row for block in blocks for row in block] == rows
    assert len(blocks) > 3
    assert max(len(block) for block in blocks) <= 4096


# --- what the controller's own program provides


def collation(connection: sqlite3.Connection) -> None:
    connection.create_collation("reversed", lambda a, b: (a < b) - (a > b))
    connection.create_function("mangle", -1, lambda *a: "m", deterministic=True)


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE t (a TEXT COLLATE reversed); INSERT INTO t VALUES ('a'), ('b')",
        "CREATE TABLE t (a TEXT COLLATE reversed UNIQUE); INSERT INTO t VALUES ('a')",
        "CREATE TABLE t (a, CHECK (mangle(a) = 'm')); INSERT INTO t VALUES (1), (2)",
        "CREATE TABLE t (a, b AS (mangle(a)) STORED); CREATE INDEX i ON t (mangle(a))",
        "CREATE TABLE t (a, b AS (mangle(a, 1))); INSERT INTO t VALUES (1)",
    ],
)
def test_a_missing_function_or_collation_that_nothing_depends_on_does_not_hinder(
    tmp_path: Path, script: str
) -> None:
    source, copy = tmp_path / "source.db", tmp_path / "copy.db"
    build(source, script, collation)
    with closing(connect(source)) as connection:
        collation(connection)
        expected = connection.execute("SELECT a FROM t").fetchall()
    catalog = provided(source)
    fill(SqliteTarget(str(copy)), (catalog, {}, {"t": expected_rows(catalog, expected)}))
    with closing(connect(copy)) as connection:
        collation(connection)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert sorted(connection.execute("SELECT a FROM t")) == sorted(expected)


def expected_rows(catalog: Catalog, rows: list[Row]) -> list[Row]:
    hidden = catalog.tables[0].columns[0].role == "rowid"
    return [(number, *row) if hidden else row for number, row in enumerate(rows, 1)]


def provided(path: Path) -> Catalog:
    with closing(connect(path)) as connection:
        collation(connection)
        return read_schema(connection).catalog(Selection(), {"t": 1})


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("CREATE TABLE t (a TEXT COLLATE reversed UNIQUE)", "reversed"),
        ("CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a COLLATE reversed)", "reversed"),
        ("CREATE TABLE t (a, b AS (mangle(a)) STORED)", "mangle"),
        ("CREATE TABLE t (a, b AS (mangle(a)) UNIQUE)", "mangle"),
        ("CREATE TABLE t (a, b AS (mangle(a))); CREATE INDEX i ON t (b)", "mangle"),
        ("CREATE TABLE t (a); CREATE INDEX i ON t (mangle(a))", "mangle"),
    ],
)
def test_a_missing_function_or_collation_that_matters_is_refused_by_name(
    tmp_path: Path, script: str, missing: str
) -> None:
    source, copy = tmp_path / "source.db", tmp_path / "copy.db"
    build(source, script, collation)
    catalog = provided(source)
    rows = expected_rows(catalog, [("a",), ("b",), ("c",)])
    with pytest.raises(Refused, match=missing):
        fill(SqliteTarget(str(copy)), (catalog, {}, {"t": rows}))
    assert names(tmp_path) == ["source.db"]


def test_a_schema_that_this_sqlite_does_not_know_is_refused(tmp_path: Path) -> None:
    table = Table(1, "t", (Column("i"),), (), "CREATE TABLE t (i) FROM THE FUTURE")
    with pytest.raises(Refused, match="SQLite version"):
        fill(SqliteTarget(str(tmp_path / "new.db")), (Catalog((table,)), {}, {"t": []}))


@pytest.mark.parametrize("attributes", [{"encoding": "'; DROP"}, {"page_size": "4096; DROP"}])
def test_attributes_are_never_run_as_sql(tmp_path: Path, attributes: dict[str, Value]) -> None:
    with pytest.raises(SnapshotDamaged):
        fill(SqliteTarget(str(tmp_path / "new.db")), (SIMPLE, attributes, {"t": []}))


# --- or everything as it was


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Refused])
def test_an_error_while_loading_changes_nothing(old: Path, error: type[BaseException]) -> None:
    before = old.read_bytes()
    with pytest.raises(error):
        with SqliteTarget(str(old)).replace(force=True) as loading:
            loading.create(SIMPLE, {})
            loading.load(SIMPLE.tables[0], [(1, "new-1")])
            raise error("stop")
    assert old.read_bytes() == before
    assert names(old.parent) == [old.name]


def test_a_load_that_was_not_finished_changes_nothing(old: Path) -> None:
    with pytest.raises(BequestError, match="before everything was loaded"):
        with SqliteTarget(str(old)).replace(force=True) as loading:
            loading.create(SIMPLE, {})
    assert words(old) == {"old"}
    assert names(old.parent) == [old.name]


def test_rows_that_sqlite_refuses_change_nothing(old: Path) -> None:
    twice: Snapshot = (SIMPLE, {}, {"t": [(1, "new-1"), (1, "new-2")]})
    too_large: Snapshot = (SIMPLE, {}, {"t": [(2**63, "new")]})
    for snapshot in (twice, too_large):
        with pytest.raises(Refused, match="loading table 't'"):
            fill(SqliteTarget(str(old)), snapshot, force=True)
    assert words(old) == {"old"}


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    text = "import sys; sys.path[:0] = " + repr([path for path in sys.path if path])
    text += "\nfrom tests.test_restore_sqlite_target import *\n" + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def test_a_full_disk_changes_nothing(old: Path) -> None:
    before = old.read_bytes()
    limited = child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            fill(SqliteTarget(sys.argv[1]), simple(2_000_000), force=True)
        except BequestError as error:
            print(type(error).__name__, error)
        """,
        str(old),
    )
    out, err = limited.communicate()
    assert "free space" in out, err
    assert old.read_bytes() == before
    assert names(old.parent) == [old.name]


STEPS = (
    ("os", "open"), ("os", "fsync"), ("os", "link"), ("os", "replace"), ("os", "unlink"),
    ("os", "fchmod"), ("os", "close"), ("target_file", "users"), ("target_file", "refuse_data"),
)  # fmt: skip
KILLED = """
    calls, last = [0], int(sys.argv[2])
    def counted(function):
        def call(*a, **k):
            for when in (0, 1):
                calls[0] += 1
                if calls[0] == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                if not when:
                    result = function(*a, **k)
            return result
        return call
    for place, name in STEPS:
        owner = os if place == "os" else target_file
        setattr(owner, name, counted(getattr(owner, name)))
    fill(SqliteTarget(sys.argv[1]), simple(500), force=True)
    print("done")
"""


def left_by_a_crash(folder: Path) -> Path:
    """A WAL database whose last rows are only in its log."""
    made, left = folder / "made.db", folder / "controller.db"
    with closing(connect(made)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (i PRIMARY KEY, v)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO t VALUES (1, 'old-1')")
        for suffix in ("", "-wal"):
            Path(f"{left}{suffix}").write_bytes(Path(f"{made}{suffix}").read_bytes())
    made.unlink()
    return left


def test_killed_at_any_step_leaves_the_old_data_or_the_new_and_never_a_mixture(
    tmp_path: Path,
) -> None:
    seen: list[set[str]] = []
    for step in range(1, 200):
        folder = tmp_path / str(step)
        folder.mkdir()
        path = left_by_a_crash(folder)
        process = child(KILLED, str(path), str(step))
        out, err = process.communicate()
        if out == "done\n":
            break
        assert process.returncode == -signal.SIGKILL, err
        seen.append(words(path))
        kept = [name for name in names(folder) if ".before-restore-" in name]
        assert len(kept) <= 1
        if seen[-1] == {"new"}:
            assert words(folder / kept[0]) == {"old"}
        # The next restore goes through and clears up: one kept file for each replaced state.
        target = SqliteTarget(str(path))
        fill(target, simple(3, "next"), force=True)
        assert words(path) == {"next"}
        assert target.kept is not None
        assert words(Path(target.kept)) == seen[-1]
        expected = 1 + (seen[-1] == {"new"})
        assert len(names(folder)) == expected + 1, names(folder)
    else:
        pytest.fail("the restore never came to its end")
    assert {"old"} in seen
    assert {"new"} in seen
    assert seen == sorted(seen, key=lambda found: found == {"new"}), "back to the old after the new"


def test_killed_at_random_moments_leaves_the_old_data_or_the_new(tmp_path: Path) -> None:
    generator = random.Random(7)
    path = left_by_a_crash(tmp_path)
    script = """
        for turn in range(1000):
            print(turn, flush=True)
            fill(SqliteTarget(sys.argv[1]), simple(400), force=True)
    """
    for _ in range(6):
        process = child(script, str(path))
        assert process.stdout is not None
        for _ in range(generator.randrange(1, 12)):
            process.stdout.readline()
        process.kill()
        process.communicate()
        assert words(path) in ({"old"}, {"new"})
    fill(SqliteTarget(str(path)), simple(2, "last"), force=True)
    assert words(path) == {"last"}
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_a_restore_under_way_keeps_its_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    first = SqliteTarget(str(path))
    with first.replace(force=False) as loading:
        loading.create(SIMPLE, {})
        loading.load(SIMPLE.tables[0], [(1, "first-1")])
        target_file.remove_strays(str(path))
        assert len(names(tmp_path)) == 1
        loading.finish()
    assert words(path) == {"first"}


# --- never over data by mistake


def test_a_database_with_data_needs_force_and_is_kept(old: Path) -> None:
    target = SqliteTarget(str(old))
    os.chmod(old, 0o640)
    with pytest.raises(Refused, match="--force"):
        target.check(force=False)
    with pytest.raises(Refused, match="--force"):
        fill(target, simple(3))
    assert words(old) == {"old"}
    fill(target, simple(3), force=True)
    assert words(old) == {"new"}
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert target.kept is not None
    assert words(Path(target.kept)) == {"old"}
    assert len(names(old.parent)) == 2


def test_twice_in_a_second_keeps_both(old: Path) -> None:
    target = SqliteTarget(str(old))
    kept: list[set[str]] = []
    for word in ("a", "b", "c"):
        fill(target, simple(1, word), force=True)
        kept.append(words(Path(str(target.kept))))
    assert kept == [{"old"}, {"a"}, {"b"}]


def test_a_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    target = SqliteTarget(str(path))
    fill(target, simple(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert target.kept is None


@pytest.mark.parametrize(
    "script", ["", "CREATE TABLE bequest_memory (i PRIMARY KEY); CREATE TABLE x (i); DROP TABLE x"]
)
def test_an_empty_database_needs_no_force(tmp_path: Path, script: str) -> None:
    path = tmp_path / "new.db"
    path.touch()
    build(path, script)
    fill(SqliteTarget(str(path)), simple(1))
    assert words(path) == {"new"}
    assert names(tmp_path) == ["new.db"]


def test_data_that_is_only_in_the_log_is_data(tmp_path: Path) -> None:
    path = left_by_a_crash(tmp_path)
    target = SqliteTarget(str(path))
    with pytest.raises(Refused, match="--force"):
        target.check(force=False)


def test_the_log_of_the_old_database_goes_with_the_old_data(tmp_path: Path) -> None:
    path = left_by_a_crash(tmp_path)
    target = SqliteTarget(str(path))
    fill(target, simple(3), force=True)
    assert words(path) == {"new"}
    assert words(Path(str(target.kept))) == {"old"}
    assert len(names(tmp_path)) == 2
    with closing(connect(str(target.kept))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_log_without_its_database_is_set_aside(tmp_path: Path) -> None:
    path = left_by_a_crash(tmp_path)
    log = Path(f"{path}-wal").read_bytes()
    path.unlink()
    fill(SqliteTarget(str(path)), simple(3))
    assert words(path) == {"new"}
    (aside,) = [name for name in names(tmp_path) if name != path.name]
    assert (tmp_path / aside).read_bytes() == log


def test_what_is_no_database_needs_force_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    path.write_text("my notes, not a database\n" * 100)
    target = SqliteTarget(str(path))
    with pytest.raises(Refused, match="no SQLite database"):
        target.check(force=False)
    fill(target, simple(1), force=True)
    assert Path(str(target.kept)).read_text().startswith("my notes")
    assert words(path) == {"new"}


def test_what_cannot_be_read_but_has_a_log_is_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    path.write_text("encrypted\n" * 1000)
    Path(f"{path}-journal").write_text("encrypted too")
    with pytest.raises(Refused, match="by hand"):
        fill(SqliteTarget(str(path)), simple(1), force=True)
    assert path.read_text().startswith("encrypted")
    assert names(tmp_path) == ["new.db", "new.db-journal"]


# --- never under somebody who works with it


@pytest.fixture(params=["delete", "wal"])
def other_process(request: pytest.FixtureRequest, old: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with an idle connection to ``old``."""
    build(old, f"PRAGMA journal_mode={request.param}")
    process = child(
        """
        connection = connect(sys.argv[1])
        connection.execute("SELECT * FROM t").fetchall()
        print("open", flush=True)
        sys.stdin.readline()
        """,
        str(old),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.communicate("\n")


def test_a_database_that_another_process_has_open_is_never_replaced(
    old: Path, other_process: subprocess.Popen[str]
) -> None:
    with pytest.raises(Refused, match=f"process {other_process.pid}"):
        SqliteTarget(str(old)).check(force=True)
    assert words(old) == {"old"}


def test_a_lock_is_enough_where_open_files_cannot_be_listed(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_file, "users", lambda _: [])
    holder = child(
        """
        connection = connect(sys.argv[1])
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("SELECT * FROM t").fetchall()
        print("open", flush=True)
        sys.stdin.readline()
        """,
        str(old),
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(Refused, match="open in another"):
        SqliteTarget(str(old)).check(force=True)
    holder.communicate("\n")


def test_a_connection_of_this_very_process_counts(old: Path) -> None:
    with closing(connect(old)) as connection:
        connection.execute("SELECT * FROM t").fetchall()
        with pytest.raises(Refused, match="this one"):
            SqliteTarget(str(old)).check(force=True)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_who_opens_it_during_the_restore_is_noticed_before_the_end(old: Path, mode: str) -> None:
    build(old, f"PRAGMA journal_mode={mode}")
    late: list[sqlite3.Connection] = []
    with pytest.raises(Refused, match="open in another"):
        with SqliteTarget(str(old)).replace(force=True) as loading:
            loading.create(SIMPLE, {})
            late.append(connect(old))
            late[0].execute("INSERT INTO t VALUES (2, 'old-2')")
            loading.finish()
    late[0].close()
    assert words(old) == {"old"}
    assert names(old.parent) == [old.name]


def test_data_that_appears_during_the_restore_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with pytest.raises(Refused, match="--force"):
        with SqliteTarget(str(path)).replace(force=False) as loading:
            loading.create(SIMPLE, {})
            build(path, "CREATE TABLE t (i, v); INSERT INTO t VALUES (1, 'old-1')")
            loading.finish()
    assert words(path) == {"old"}


def test_a_refusal_at_the_end_leaves_the_journal_mode(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(old, "PRAGMA journal_mode=WAL")
    answers = iter([[], [], [os.getppid()]])
    monkeypatch.setattr(target_file, "users", lambda _: next(answers))
    with pytest.raises(Refused, match="process"):
        fill(SqliteTarget(str(old)), simple(1), force=True)
    with closing(connect(old)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert words(old) == {"old"}


# --- places


def test_the_file_behind_a_link_is_replaced_and_the_link_stays(old: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = folder / "link.db"
    link.symlink_to(old)
    fill(SqliteTarget(str(link)), simple(1), force=True)
    assert link.is_symlink()
    assert words(old) == {"new"}
    assert names(folder) == ["link.db"]


def test_a_file_system_without_hard_links_keeps_a_copy(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    target = SqliteTarget(str(old))
    fill(target, simple(1), force=True)
    assert words(old) == {"new"}
    assert words(Path(str(target.kept))) == {"old"}


def test_places_where_no_file_can_be_put_are_denied_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "new.db", tmp_path):
        with pytest.raises(Denied):
            SqliteTarget(str(path)).check(force=True)


def test_a_folder_that_cannot_be_written_is_denied() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bequest-read-only-"))
    folder.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:  # who may write everywhere
        os.setresuid(65534, 65534, 0)
    try:
        with pytest.raises(Denied, match="permission"):
            SqliteTarget(str(folder / "new.db")).check(force=False)
    finally:
        if was_root:
            os.setresuid(0, 0, 0)
        folder.rmdir()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_no_target(url: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        open_target(make_url(url))


def test_a_url_names_its_file(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/a b.db", f"sqlite:///file:{tmp_path}/a%20b.db?uri=true"):
        target = open_target(make_url(url))
        assert target.name == f"sqlite:///{tmp_path}/a b.db"
        assert target.dialect == "sqlite"
        target.close()
