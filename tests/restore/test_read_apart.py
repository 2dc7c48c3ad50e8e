"""Large tables are read back by another process, which can save time and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bequest
from bequest.errors import Different
from bequest.model import Row, Table
from bequest.snapshot.digest import RowRun
from bequest_adapters.databases.sqlite import target_apart, target_loading
from bequest_adapters.databases.sqlite.target_apart import Apart
from bequest_adapters.databases.sqlite.target_beside import as_it_is
from bequest_adapters.databases.sqlite.target_loading import SqliteLoading

from .controller import Controller, rows

TABLES = """
CREATE TABLE number (i INTEGER PRIMARY KEY, v);
CREATE TABLE pair (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE INDEX number_v ON number (v);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
    INSERT INTO number SELECT i, i / 7.0 FROM n;
INSERT INTO pair SELECT i, v FROM number;
"""
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.binary(max_size=20),
)


class Watched(Apart):
    """Keeps what was started and said."""

    made: ClassVar[list[Watched]] = []

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.said: list[tuple[int, bytes] | None] = []
        Watched.made.append(self)

    def answer(self, table: int) -> tuple[int, bytes] | None:
        self.said.append(super().answer(table))
        return self.said[-1]

    @property
    def process(self) -> subprocess.Popen[str] | None:
        return self._process


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Watched]]:
    """Every table counts as large."""
    monkeypatch.setattr(target_loading, "APART_ROWS", 1)
    monkeypatch.setattr(target_loading, "Apart", Watched)
    Watched.made = []
    yield Watched.made
    for each in Watched.made:
        assert each.process is None or each.process.returncode is not None, "it still runs"


@pytest.fixture
def made(tmp_path: Path) -> Controller:
    controller = Controller(tmp_path, schema=TABLES)
    controller.publish()
    return controller


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def read_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tables that the restoring process read back itself."""
    names: list[str] = []
    scan = SqliteLoading.scan

    def noted(self: SqliteLoading, table: Table) -> Iterator[Sequence[Row]]:
        names.append(table.name)
        return scan(self, table)

    monkeypatch.setattr(SqliteLoading, "scan", noted)
    return names


def test_what_it_has_read_is_not_read_again(
    made: Controller, apart: list[Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = read_here(monkeypatch)
    report = bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True)
    assert report.verified
    assert here == []
    assert len(apart) == 1
    assert [said is not None and said[0] for said in apart[0].said] == [1500, 1500]
    assert bequest.verify(made.store, url(tmp_path / "new.db")).ok


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30))
def test_its_sum_is_that_of_the_restore(tmp_path: Path, found: list[Row]) -> None:
    path = tmp_path / "any.db"
    path.unlink(missing_ok=True)
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (a, b)")
        db.executemany("INSERT INTO t VALUES (?, ?)", found)
        db.commit()
    run = RowRun()
    run.add(found)
    count, digest = target_apart._read(as_it_is(str(path)), "SELECT a, b FROM t")
    assert (count, bytes.fromhex(digest)) == (run.rows, run.digest)


@pytest.mark.parametrize(
    "odd", ["CAST(x'61ff' AS TEXT)", "zeroblob(300000)"], ids=["text that is none", "a long value"]
)
def test_what_it_cannot_read_is_read_here(
    made: Controller, apart: list[Watched], tmp_path: Path, odd: str
) -> None:
    made.write(f"UPDATE number SET v = {odd} WHERE i = 700")
    made.publish()
    assert bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True).verified
    assert None in apart[0].said
    assert bequest.verify(made.store, url(tmp_path / "new.db")).ok


@pytest.mark.parametrize("way", ["killed", "no interpreter", "frozen", "nonsense"])
def test_without_it_the_restore_is_the_same(
    made: Controller,
    apart: list[Watched],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    if way == "killed":
        ask = Apart.ask

        def killed(self: Apart, table: int, sql: str) -> None:
            ask(self, table, sql)
            assert self._process is not None
            self._process.kill()

        monkeypatch.setattr(Apart, "ask", killed)
    elif way == "no interpreter":
        monkeypatch.setattr(target_apart.sys, "executable", "/nonexistent/python")
    elif way == "frozen":
        monkeypatch.setattr(target_apart.sys, "frozen", True, raising=False)
    else:
        nonsense = tmp_path / "nonsense.py"
        nonsense.write_text("while True: print('{', input())\n")
        monkeypatch.setattr(target_apart, "__file__", str(nonsense))
    assert bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True).verified
    assert apart[0].said == [None, None]
    assert rows(tmp_path / "new.db", "SELECT count(*) FROM pair") == [(1500,)]


def test_a_row_that_is_not_as_it_was_written_is_found(
    made: Controller, apart: list[Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SqliteLoading.load

    def altered(self: SqliteLoading, table: Table, given: Any) -> None:
        if table.name == "number":
            given = [(i, v if i != 700 else 100) for i, v in given]
        load(self, table, given)

    monkeypatch.setattr(SqliteLoading, "load", altered)
    with pytest.raises(Different, match="'number'"):
        bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True)
    assert not (tmp_path / "new.db").exists()


def test_a_table_whose_new_rows_lie_elsewhere_is_left_to_the_restore(
    made: Controller, apart: list[Watched], tmp_path: Path
) -> None:
    made.write("INSERT INTO number VALUES (-5, 'before all')")
    made.publish()
    assert bequest.restore(made.store, url(tmp_path / "new.db"), adopt=True).verified
    assert [said is not None for said in apart[0].said] == [True]


def test_a_file_that_seems_too_short_for_a_moment_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.db"
    with closing(connect(path)) as db:
        db.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);")
    whole = path.read_bytes()
    path.write_bytes(whole[:-4096])
    monkeypatch.setattr(target_apart.time, "sleep", lambda _: path.write_bytes(whole))
    assert target_apart._read(as_it_is(str(path)), "SELECT a FROM t")[0] == 2
