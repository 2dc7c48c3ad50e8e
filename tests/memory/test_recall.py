"""Memory comes back whole, belongs to one database, and costs the change."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from bequest.model import Intent, Memory, Value
from bequest.ports import Source
from bequest_adapters.databases.sqlite import open_source

VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.floats(-1, 1)
ATTRIBUTES = st.dictionaries(st.text(max_size=4), VALUES, max_size=40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "c.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    return tmp_path / "c.db"


@pytest.fixture
def source(path: Path) -> Iterator[Source]:
    made = open_source(make_url(f"sqlite:///{path}"))
    made.install()
    yield made
    made.close()


def reopened(path: Path) -> Memory:
    with closing(open_source(make_url(f"sqlite:///{path}"))) as source:
        return source.recall()


def _intent(serial: int, attributes: dict[str, Value]) -> Intent:
    return Intent(serial, "next", "10:1.6:x", "cafe", 1, 2, 3, attributes, True, 2, "key")


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(states=st.lists(st.tuples(ATTRIBUTES, st.lists(ATTRIBUTES, max_size=3)), max_size=5))
def test_memory_is_kept_whole(
    source: Source, path: Path, states: list[tuple[dict[str, Value], list[dict[str, Value]]]]
) -> None:
    for number, (attributes, intents) in enumerate(states):
        memory = replace(
            source.recall(),
            serial=number,
            attributes=attributes,
            intents=tuple(_intent(index, each) for index, each in enumerate(intents)),
            last_error="what\nwent wrong",
            last_success=1.25,
        )
        source.remember(memory, durable=number % 2 == 0)
        assert source.recall() == memory
        assert reopened(path) == memory


def test_an_attribute_that_changes_its_type_only_is_not_lost(source: Source) -> None:
    for value in (1, 1.0, True, "1", b"1", None):
        memory = replace(source.recall(), attributes={"a": value})
        source.remember(memory, durable=False)
        assert repr(source.recall().attributes["a"]) == repr(value)


def test_a_publish_of_one_sequence_of_thousands_writes_little(source: Source, path: Path) -> None:
    many: dict[str, Value] = {f"sequence:table_{number}": number for number in range(5000)}
    source.remember(replace(source.recall(), attributes=many), durable=False)
    side = f"{path}-bequest"
    before = os.path.getsize(side)
    for number in range(10):
        many = {**many, f"sequence:table_{number}": 10_000 + number}
        source.remember(replace(source.recall(), attributes=many), durable=False)
    assert os.path.getsize(side) - before < 20_000


def test_who_it_is_stands_in_the_database_and_the_rest_does_not(source: Source, path: Path) -> None:
    source.remember(
        replace(source.recall(), serial=7, token="tell-tale", store="s3://b/k"), durable=True
    )
    with closing(sqlite3.connect(path)) as db:
        told = dict(db.execute("SELECT name, value FROM bequest_settings"))
        dump = "\n".join(db.iterdump())
    memory = source.recall()
    assert (told["installation"], told["lineage"], told["epoch"]) == (
        memory.installation, memory.lineage, "1",
    )  # fmt: skip
    assert "tell-tale" not in dump
    assert "s3://b/k" not in dump


def test_remembering_writes_nothing_into_the_database(source: Source, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("PRAGMA data_version").fetchone()
        size = os.path.getsize(f"{path}-wal")
        source.remember(replace(source.recall(), serial=3, intents=(_intent(4, {}),)), durable=True)
        assert db.execute("PRAGMA data_version").fetchone() == before
        assert os.path.getsize(f"{path}-wal") == size


def test_another_installation_is_written_down_and_the_earlier_one_stays_known(
    source: Source, path: Path
) -> None:
    origin = _origin(source)
    source.remember(
        replace(source.recall(), installation="ab" * 16, epoch=5, serial=9), durable=True
    )
    memory = reopened(path)
    assert (memory.installation, memory.epoch, memory.serial) == ("ab" * 16, 5, 9)
    assert source.descends(origin) is True


def _origin(source: Source) -> str:
    with source.cut(source.recall()) as cut:
        return cut.origin("")


@pytest.mark.parametrize("with_side_file", [True, False])
def test_a_copied_database_says_so_and_forgets_what_the_original_did(
    source: Source, path: Path, tmp_path: Path, with_side_file: bool
) -> None:
    source.remember(replace(source.recall(), serial=7), durable=True)
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "c.db"
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(copy)) as twin:
        db.backup(twin)
    if with_side_file:
        shutil.copy2(f"{path}-bequest", f"{copy}-bequest")
    memory = reopened(copy)
    assert memory.copied
    assert (memory.serial, memory.lineage) == (0, source.recall().lineage)
    assert not source.recall().copied


def test_a_file_replaced_in_place_by_its_own_copy_is_none(source: Source, path: Path) -> None:
    source.remember(replace(source.recall(), serial=7), durable=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", (f"{path}.new",))
    source.close()
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    os.replace(f"{path}.new", path)
    memory = reopened(path)
    assert (memory.copied, memory.serial) == ("", 7)


def test_a_folder_that_is_renamed_moves_both(source: Source, path: Path, tmp_path: Path) -> None:
    source.remember(replace(source.recall(), serial=7), durable=True)
    source.close()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in tmp_path.glob("c.db*"):
        file.rename(moved / file.name)
    memory = reopened(moved / "c.db")
    assert (memory.copied, memory.serial) == ("", 7)


def test_another_database_in_the_same_place_is_not_taken_for_it(source: Source, path: Path) -> None:
    source.remember(replace(source.recall(), serial=7), durable=True)
    source.close()
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    assert reopened(path) == Memory()
    with closing(open_source(make_url(f"sqlite:///{path}"))) as fresh:
        fresh.install()
        assert (fresh.recall().serial, fresh.recall().copied) == (0, "")


def test_nothing_is_left_after_an_uninstall(source: Source, path: Path) -> None:
    source.uninstall()
    assert not os.path.exists(f"{path}-bequest")
    assert source.recall() == Memory()
