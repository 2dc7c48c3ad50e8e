"""Verified means: read back from the file, and equal to the last bit. Order alone is no matter."""

# ruff: noqa: PT012 - what must raise here is the end of a context that is entered and used first

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

import bequest
from bequest import proof
from bequest.errors import BequestError, Different, Refused
from bequest.model import Catalog, Column, Memory, Row, SchemaObject, Table
from bequest.snapshot.digest import RowRun, RowSum
from bequest.snapshot.fold import Snapshot
from bequest_adapters.databases.sqlite import target_beside
from bequest_adapters.databases.sqlite.target import SqliteTarget
from bequest_adapters.databases.sqlite.target_loading import SqliteLoading

from .controller import Controller, rows

TABLES = """
CREATE TABLE number (i INTEGER PRIMARY KEY, v);
CREATE TABLE word (k TEXT PRIMARY KEY NOT NULL, v);
CREATE TABLE bare (a, b);
CREATE TABLE pair (a, b, v, PRIMARY KEY (b DESC, a)) WITHOUT ROWID;
CREATE INDEX number_v ON number (v);
CREATE INDEX pair_v ON pair (v);
CREATE VIEW words AS SELECT k FROM word;
CREATE TRIGGER noted AFTER DELETE ON number BEGIN INSERT INTO bare VALUES (old.i, 0); END;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
    INSERT INTO number SELECT i * 3, 'v' || (i * 37 % 61) FROM n;
INSERT INTO word SELECT 'k' || (i * 37 % 61), i FROM number;
INSERT INTO bare SELECT 1, 1.0 FROM number;
INSERT INTO bare VALUES (-0.0, 0.0), (CAST(x'61ff' AS TEXT), x'61ff');
INSERT INTO pair SELECT i % 7, i, v FROM number;
"""
TAIL = (
    "INSERT INTO number VALUES (-5, 'before all'), (10, 'between'), (999, 'behind')",
    "INSERT INTO word VALUES ('a', 'before all')",
    "INSERT INTO bare VALUES (7, 7)",
    "INSERT INTO pair VALUES (0, 31, 'between')",
    "UPDATE number SET v = 'changed' WHERE i < 30",
    "DELETE FROM pair WHERE a = 3",
    "DELETE FROM bare WHERE rowid = 3",
)


def controller(folder: Path, before: str = "") -> Controller:
    return Controller(folder, schema=before + TABLES)


def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that were compared a second time, without their order."""
    names: list[str] = []
    original = proof.Proof._without_order

    def counted(self: proof.Proof, table: Table) -> RowSum:
        names.append(table.name)
        return original(self, table)

    monkeypatch.setattr(proof.Proof, "_without_order", counted)
    return names


@pytest.mark.parametrize("vacuum", ["NONE", "FULL", "INCREMENTAL"])
@pytest.mark.parametrize("tail", [(), TAIL[4:], TAIL], ids=["base", "changes", "new rows"])
def test_every_kind_of_table_is_proven_in_one_pass(
    tmp_path: Path, again: list[str], vacuum: str, tail: Sequence[str]
) -> None:
    made = controller(tmp_path, f"PRAGMA auto_vacuum = {vacuum};")
    made.publish()
    made.write(*tail)
    made.publish()
    new = tmp_path / "new.db"
    report = bequest.restore(made.store, url(new), adopt=True)
    assert report.verified
    assert again == []
    with closing(connect(new)) as db, closing(connect(made.path)) as old:
        db.text_factory = old.text_factory = bytes
        for name in ("number", "word", "bare", "pair"):
            read = f"SELECT * FROM {name}"
            assert sorted(map(repr, db.execute(read))) == sorted(map(repr, old.execute(read)))
        assert db.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
    assert bequest.verify(made.store, url(new)).ok


def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database give its rows in another order than they were loaded in."""
    scan = SqliteLoading.scan

    def turned(self: SqliteLoading, table: Table) -> Iterator[Sequence[Row]]:
        yield [row for block in scan(self, table) for row in block][::-1]

    altered(monkeypatch, turned)


def altered(
    monkeypatch: pytest.MonkeyPatch,
    scan: Callable[[SqliteLoading, Table], Iterator[Sequence[Row]]],
) -> None:
    """Let rows be read back as ``scan`` gives them."""
    monkeypatch.setattr(SqliteLoading, "scan", scan)


def test_rows_in_another_order_are_the_same_rows(
    tmp_path: Path, again: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = controller(tmp_path)
    made.publish()
    backwards(monkeypatch)
    report = bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True)
    assert report.verified
    assert again == ["number", "word", "bare", "pair"]
    assert bequest.verify(made.store, url(tmp_path / "new.db")).ok


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("order", [True, False])
def test_the_sums_tell_whether_the_new_database_is_still_as_it_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: bool, written: bool
) -> None:
    """Where capture did not come with the rows, they are what the tail can go on from, or not."""
    made, new = controller(tmp_path), tmp_path / "new.db"
    made.publish()
    inherit = SqliteLoading.inherit

    def without_capture(self: SqliteLoading, memory: Memory) -> None:
        inherit(self, memory)
        (name,) = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'bequest%'"
        ).fetchone()
        self._connection.execute(f"DROP TRIGGER {name}")
        if written:
            self._connection.execute("UPDATE bare SET a = 2 WHERE rowid = 5")

    monkeypatch.setattr(SqliteLoading, "inherit", without_capture)
    if not order:
        backwards(monkeypatch)
    bequest.restore(made.store, url(new), adopt=True)
    with closing(connect(new)) as db, db:
        db.execute("INSERT INTO word VALUES ('new', 1)")
    report = bequest.backup(url(new), made.store)
    assert report.action == ("rewrite" if written else "append")
    assert bequest.verify(made.store, url(new)).ok


@pytest.mark.parametrize("flipped", [b"behind", b"before all", b"v17"])
def test_a_value_that_changes_in_the_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flipped: bytes
) -> None:
    made = controller(tmp_path)
    made.publish()
    if flipped != b"v17":
        made.write(*TAIL)
        made.publish()
    opened = target_beside.open_beside

    def spoilt(path: str) -> Any:
        data = Path(path).read_bytes()
        assert flipped in data
        with open(path, "r+b") as file:
            file.seek(data.index(flipped))
            file.write(bytes([flipped[0] ^ 1]))
        return opened(path)

    monkeypatch.setattr("bequest_adapters.databases.sqlite.target_loading.open_beside", spoilt)
    old = made.path.read_bytes()
    with pytest.raises(Different, match="does not read back"):
        bequest.restore(made.store, made.url, force=True, adopt=True)
    assert made.path.read_bytes() == old
    assert not list(tmp_path.glob("*before-restore*"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("order", [True, False])
def test_a_row_that_is_lost_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: bool
) -> None:
    made = controller(tmp_path)
    made.publish()
    scan = SqliteLoading.scan

    def short(self: SqliteLoading, table: Table) -> Iterator[Sequence[Row]]:
        yield from (block[:-1] for block in scan(self, table))

    altered(monkeypatch, short)
    monkeypatch.setattr(SqliteLoading, "keeps_order", lambda *_: order)
    with pytest.raises(Different, match="'number'"):
        bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True)
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    "table",
    ["t (i INTEGER PRIMARY KEY, v)", "t (u UNIQUE, i, v, PRIMARY KEY (i)) WITHOUT ROWID"],
)
@pytest.mark.parametrize("vacuum", [0, 1])
def test_the_table_itself_is_read_and_not_an_index_that_could_answer(
    tmp_path: Path, table: str, vacuum: int
) -> None:
    made = Table(1, "t", (Column("i"), Column("v")), (0,), f"CREATE TABLE {table}")
    catalog = Catalog((made,), (SchemaObject("index", "by_v", "t", "CREATE INDEX by_v ON t (v)"),))
    loaded: list[Row] = [(number, -number) for number in range(5000)]
    with SqliteTarget(str(tmp_path / "new.db")).replace(force=False) as loading:
        loading.create(catalog, {"auto_vacuum": vacuum})
        loading.load(made, loaded)
        with loading.finishing():
            beside = [row for block in loading.scan(made) for row in block]
        after = [row for block in loading.scan(made) for row in block]
    assert beside == after == loaded


def test_a_snapshot_has_its_rows_in_the_order_of_the_table_and_not_of_an_index(
    tmp_path: Path,
) -> None:
    made = controller(tmp_path)
    made.publish()
    with open(made.store, "rb") as stream:
        found = {table.name: block for table, block in Snapshot.open(stream).rows()}
    assert found["pair"] == rows(made.path, "SELECT a, b, v FROM pair ORDER BY b DESC, a")
    assert found["number"] == rows(made.path, "SELECT i, v FROM number ORDER BY i")


# --- equal means equal


def nan(payload: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000000 | payload))
    return float(value)


UNLIKE: list[tuple[list[Row], list[Row]]] = [
    ([(1,)], [(1.0,)]),
    ([(1,)], [(True,)]),
    ([(0.0,)], [(-0.0,)]),
    ([(nan(1),)], [(nan(2),)]),
    ([(-1,)], [(-2,)]),
    ([("a",)], [(b"a",)]),
    ([("",)], [(None,)]),
    ([("a\udcff",)], [("aÿ",)]),
    ([("1",)], [(1,)]),
    ([(2**63 - 1,)], [(float(2**63 - 1),)]),
    ([(1, 2), (3, 4)], [(1, 3), (2, 4)]),
    ([("ab", "c")], [("a", "bc")]),
    ([(1,), (2,)], [(1, 2)]),
    ([(1,)], [(1,), (1,)]),
    ([()], []),
]


@pytest.mark.parametrize("kind", [RowRun, RowSum])
@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_what_differs_in_type_or_bit_differs(
    kind: Callable[[], Any], one: list[Row], other: list[Row]
) -> None:
    sums = [kind(), kind(), kind()]
    for found, taken in zip(sums, (one, other, one), strict=True):
        found.add(taken)
    assert sums[0] != sums[1]
    assert sums[0] == sums[2]


def test_equal_rows_are_equal_however_they_were_made_and_cut_into_blocks() -> None:
    """Interned and shared objects, small integers and whole blocks must not tell."""
    shared = "sha" + "red"
    one: list[Row] = [
        (shared, shared, number % 3, 2**40 + number, b"x" * 50) for number in range(9000)
    ]
    other: list[Row] = [
        (
            str(b"shared", "ascii"),
            "".join(["sh", "ared"]),
            int(str(number % 3)),
            2**40 + number,
            bytes([120] * 50),
        )
        for number in range(9000)
    ]
    expected, found = RowRun(), RowRun()
    expected.add(one)
    for start in range(0, 9000, 7):
        found.add(tuple(other[start : start + 7]))
    assert found == expected
    found.add([])
    assert found == expected


# --- while indexes are made


def with_index(sql: str) -> Catalog:
    table = Table(
        1, "t", (Column("i"), Column("v")), (0,), "CREATE TABLE t (i INTEGER PRIMARY KEY, v)"
    )
    return Catalog((table,), (SchemaObject("index", "x", "t", sql),))


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("CREATE UNIQUE INDEX x ON t (v)", "making index 'x' failed"),
        ("CREATE INDEX x ON t (mangle(v))", "function 'mangle'"),
        ("CREATE INDEX x ON t (v COLLATE own)", "collation sequence 'own'"),
        ("CREATE INDEX x ON gone (v)", "making index 'x' failed"),
    ],
)
def test_an_index_that_cannot_be_made_is_refused_and_nothing_is_changed(
    tmp_path: Path, sql: str, told: str
) -> None:
    new, catalog = tmp_path / "new.db", with_index(sql)
    with pytest.raises(Refused, match=told), SqliteTarget(str(new)).replace(force=False) as loading:
        loading.create(catalog, {})
        loading.load(catalog.tables[0], [(1, "same"), (2, "same")])
        with loading.finishing():
            assert len([*loading.scan(catalog.tables[0])]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, Different, SystemExit])
def test_an_end_of_the_reading_ends_the_making(error: type[BaseException]) -> None:
    hurried, running = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        assert hurried.wait(60)
        raise BequestError("interrupted")

    def stopped() -> None:
        with target_beside.beside(work, hurried.set):
            assert running.wait(60)
            raise error("stop")

    before = threading.active_count()
    with pytest.raises(error, match="stop"):
        stopped()
    assert hurried.is_set()
    assert threading.active_count() == before


def test_an_interrupted_restore_leaves_the_old_database_and_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = controller(tmp_path)
    made.publish()
    old, threads = made.path.read_bytes(), threading.active_count()

    def interrupted(*_: object) -> Iterator[Sequence[Row]]:
        raise KeyboardInterrupt
        yield

    altered(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        bequest.restore(made.store, made.url, force=True, adopt=True)
    assert made.path.read_bytes() == old
    assert threading.active_count() == threads
    assert not list(tmp_path.glob(".*"))


@contextmanager
def told_apart(monkeypatch: pytest.MonkeyPatch) -> Generator[set[str]]:
    """The names of the threads that made something of the schema."""
    names: set[str] = set()
    build = SqliteLoading._build

    def noted(self: SqliteLoading, kind: str) -> None:
        names.add(threading.current_thread().name.rpartition("_")[0])
        build(self, kind)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteLoading, "_build", noted)
        yield names


@pytest.mark.parametrize(
    ("before", "after", "aside"),
    [
        ("", "", True),
        ("PRAGMA auto_vacuum = FULL;", "", False),
        ("PRAGMA auto_vacuum = INCREMENTAL;", "", False),
        (
            "",
            "CREATE VIRTUAL TABLE found USING fts5(v, content='number', content_rowid='i')",
            False,
        ),
    ],
)
def test_nothing_is_made_beside_the_reading_that_could_write_to_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, aside: bool
) -> None:
    made = controller(tmp_path, before)
    if after:
        made.write(after)
    made.publish()
    with told_apart(monkeypatch) as names:
        bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True)
    assert names == ({"bequest-finish"} if aside else {""})
    assert rows(tmp_path / "new.db", "PRAGMA integrity_check") == [("ok",)]
