"""Recorded files outlive whatever publishes next: rewrites, heirs, lost notes, files in motion."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest import beside, registry
from bequest.recorded import FILES, NOTE, TABLE
from bequest_adapters.files import scanning
from bequest_adapters.files.reading import Content, Reader, Unsettled
from bequest_schema import tables

from .test_recording import Heard, folder, paths, restored, store, tree, url

__all__ = ["folder", "store", "url"]
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id")

APART = bequest.Limits(rewrite_apart_bytes=0)


def write(url: str, sql: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        db.execute(sql)
        db.commit()


def noted(url: str, text: str | None = None) -> Any:
    """The note of what is recorded; with ``text`` that takes its place."""
    source: Any = registry.open_source(url)
    with closing(source):
        return source.noted(NOTE) if text is None else source.note(NOTE, text)


@pytest.fixture
def vast(folder: Path) -> Path:
    """The folder with a file of several pieces."""
    (folder / "vast").write_bytes(os.urandom(1_300_000))
    (folder / "d").mkdir()
    (folder / "d" / "link").symlink_to("../vast")
    return folder


def test_the_name_of_the_table_is_the_same_everywhere() -> None:
    assert tables.FILES == FILES == TABLE.name


def test_a_rewrite_that_names_no_folder_carries_the_files_over(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    rows = bequest.inspect(store).rows
    for _ in range(2):
        report = bequest.backup(url, store, rewrite=True)
        assert (report.action, report.rows) == ("rewrite", rows)
        assert restored(store, tmp_path) == tree(vast)
    assert bequest.backup(url, store, files=[vast]).action == "unchanged"


def test_an_append_that_names_no_folder_leaves_the_files_alone(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    before = tree(vast)
    (vast / "ctl.yaml").write_text("nobody looks")
    write(url, "INSERT INTO t VALUES (2, 'new')")
    report = bequest.backup(url, store)
    assert (report.action, report.rows) == ("append", bequest.inspect(store).rows)
    assert report.bytes_sent < 2000
    assert restored(store, tmp_path) == before
    assert bequest.status(url).files == 3


@pytest.mark.parametrize("loss", ["emptied", "away", "unnamed"])
def test_a_rewrite_keeps_what_is_held_back(
    url: str, vast: Path, store: str, tmp_path: Path, loss: str
) -> None:
    other = tmp_path / "tls"
    other.mkdir()
    (other / "key").write_text("k")
    bequest.backup(url, store, files=[vast, other])
    before = tree(vast)
    if loss != "unnamed":
        vast.rename(tmp_path / "moved")
    if loss == "emptied":
        vast.mkdir()
    (other / "key").write_text("renewed")
    folders = [other] if loss == "unnamed" else [vast, other]
    report = bequest.backup(url, store, files=folders, rewrite=True)
    assert "etc" in dict(report.not_covered)
    assert restored(store, tmp_path) == before
    assert restored(store, tmp_path, "tls") == tree(other)
    assert report.rows == bequest.inspect(store).rows


@pytest.mark.parametrize("note", ["gone", "of an older state", "unreadable"])
def test_a_note_that_was_lost_is_read_back_from_the_object(
    url: str, vast: Path, store: str, tmp_path: Path, note: str
) -> None:
    bequest.backup(url, store, files=[vast])
    older = noted(url)
    content = (vast / "vast").read_bytes()
    (vast / "vast").write_bytes(b"for a while")
    bequest.backup(url, store, files=[vast])
    # As if the process had died after the store said yes, before the note was written.
    noted(url, {"gone": "", "of an older state": older, "unreadable": "?"}[note])
    (vast / "vast").write_bytes(content)
    assert bequest.backup(url, store, files=[vast]).action != "unchanged"
    assert restored(store, tmp_path) == tree(vast)
    assert bequest.backup(url, store, files=[vast]).action == "unchanged"


@pytest.mark.parametrize("note", [True, False], ids=["with its note", "without a note"])
def test_an_heir_appends_and_loses_nothing(
    url: str, vast: Path, store: str, tmp_path: Path, note: bool
) -> None:
    bequest.backup(url, store, files=[vast])
    new = f"sqlite:///{tmp_path / 'new.db'}"
    shutil.rmtree(vast)
    report = bequest.restore(store, new, files_in_place=True, adopt=True)
    assert (report.files, report.rows, report.tables) == (3, 1, 1)
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        named = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'bequest_files'")
        assert named.fetchall() == []
    if note:
        assert bequest.status(new).files == 3
    else:
        noted(new, "")
    write(new, "INSERT INTO t VALUES (2, 'new')")
    assert bequest.backup(new, store).action == "append"
    assert restored(store, tmp_path) == tree(vast)
    # Equal to the disk: from now on a change of this machine's is one.
    assert bequest.backup(new, store, files=[vast]).not_covered == ()
    (vast / "ctl.yaml").write_text("renewed")
    report = bequest.backup(new, store, files=[vast])
    assert (report.action, report.rows) == ("append", bequest.inspect(store).rows)
    assert restored(store, tmp_path) == tree(vast)
    assert bequest.verify(store, new).ok


def test_files_of_another_history_are_not_taken_over(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    there = str(tmp_path / "there.bequest")
    report = bequest.backup(url, there)
    assert "recorded files are in no object" in dict(report.not_covered)["etc"]
    assert "vast" not in paths(there)
    assert bequest.verify(there, url).ok


def test_a_large_rewrite_in_another_process_records_the_files(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    os.mkfifo(vast / "pipe")
    (tmp_path / "w").mkdir()
    with bequest.Backup(url, store, files=[f"w={tmp_path / 'w'}", vast], limits=APART) as backup:
        assert "etc/pipe" in dict(backup.flush().not_covered)
        (vast / "pipe").unlink()
        assert restored(store, tmp_path) == tree(vast)
        (vast / "ctl.yaml").write_text("renewed")
        backup.flush()
        assert restored(store, tmp_path) == tree(vast)
        (vast / "ctl.yaml").write_text("renewed again")
        assert backup.backup_now(rewrite=True).action == "rewrite"
        assert restored(store, tmp_path) == tree(vast)
        assert backup.flush().action == "unchanged"
    with bequest.Backup(url, store, limits=APART) as backup:
        assert backup.backup_now(rewrite=True).action == "rewrite"
    assert restored(store, tmp_path) == tree(vast)


@pytest.mark.parametrize("rewrite", [False, True], ids=["append", "rewrite"])
def test_a_file_that_is_in_motion_while_the_frame_is_written_is_never_torn(
    url: str, vast: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: bool
) -> None:
    bequest.backup(url, store, files=[vast])
    before = tree(vast)
    (vast / "vast").write_bytes(os.urandom(1_200_000))
    copy = Reader.copy

    def moving(self: Reader, place: str, path: bytes, limit_bytes: int) -> Content:
        if path == b"vast":
            raise Unsettled
        return copy(self, place, path, limit_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "copy", moving)
        bequest.backup(url, store, files=[vast], rewrite=rewrite)
    assert restored(store, tmp_path) == before
    assert bequest.backup(url, store, files=[vast]).action != "unchanged"
    assert restored(store, tmp_path) == tree(vast)


@pytest.mark.parametrize("rewrite", [False, True], ids=["append", "rewrite"])
def test_a_file_that_changed_after_it_was_looked_at_is_published_as_it_is_then(
    url: str, vast: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: bool
) -> None:
    bequest.backup(url, store, files=[vast])
    (vast / "vast").write_bytes(b"short")
    copy = Reader.copy

    def late(self: Reader, place: str, path: bytes, limit_bytes: int) -> Content:
        if path == b"vast":
            (vast / "vast").write_bytes(bytes(700_000))
            (vast / "vast").chmod(0o600)
        return copy(self, place, path, limit_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "copy", late)
        report = bequest.backup(url, store, files=[vast], rewrite=rewrite)
    assert restored(store, tmp_path) == tree(vast)
    assert report.rows == bequest.inspect(store).rows


@pytest.mark.parametrize("rewrite", [False, True], ids=["append", "rewrite"])
def test_memory_is_bounded_however_much_is_recorded(
    url: str, folder: Path, store: str, tmp_path: Path, rewrite: bool
) -> None:
    # Many rows, so that the base is large enough for the tail.
    for number in range(2, 62):
        write(url, f"INSERT INTO t VALUES ({number}, randomblob(1000000))")
    bequest.backup(url, store, files=[folder])
    for number in range(4):
        # Packs to nearly nothing: an append of all of it is small.
        (folder / f"f{number}").write_bytes(bytes([number]) * 24_000_000)
    tracemalloc.start()
    try:
        report = bequest.backup(url, store, files=[folder], rewrite=rewrite)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.action == ("rewrite" if rewrite else "append")
    assert peak < 50_000_000
    assert restored(store, tmp_path) == tree(folder)


def test_an_earlier_moment_is_restored_with_its_files(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    before = tree(vast)
    (vast / "ctl.yaml").write_text("a mistake")
    bequest.backup(url, store, files=[vast])
    for adopt in (False, True):
        new, out = f"sqlite:///{tmp_path / f'{adopt}.db'}", tmp_path / f"out{adopt}"
        bequest.restore(store, new, at=1, adopt=adopt, files_to=out)
        assert tree(out / "etc") == before
    assert restored(store, tmp_path) == before


def test_every_verb_takes_an_object_with_files(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    write(url, "INSERT INTO t VALUES (2, 'new')")
    bequest.backup(url, store, files=[vast])
    assert bequest.verify(store, url).ok
    assert FILES in bequest.verify(store).tables
    assert bequest.diff(store, database=url).equal
    assert bequest.drill(store).ok
    part = f"sqlite:///{tmp_path / 'part.db'}"
    report = bequest.restore(store, part, tables=["t"], files_to=tmp_path / "part")
    assert (report.tables, report.files) == (1, 3)
    assert tree(tmp_path / "part" / "etc") == tree(vast)
    with pytest.raises(bequest.UsageError, match="Its tables are: t"):
        bequest.restore(store, f"sqlite:///{tmp_path / 'no.db'}", tables=[FILES])


def test_two_objects_are_compared_with_their_files(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    Path(f"{store}.old").write_bytes(Path(store).read_bytes())
    bequest.backup(url, store, rewrite=True)
    assert bequest.diff(f"{store}.old", store).equal
    (vast / "ctl.yaml").write_text("renewed")
    bequest.backup(url, store, files=[vast])
    assert set(bequest.diff(f"{store}.old", store).tables) == {FILES}


def test_a_warm_copy_holds_no_files_and_its_promotion_keeps_them(
    url: str, vast: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[vast])
    warm = f"sqlite:///{tmp_path / 'warm.db'}"
    bequest.follow(store, warm, once=True)
    (vast / "ctl.yaml").write_text("renewed")
    write(url, "INSERT INTO t VALUES (2, 'new')")
    bequest.backup(url, store, files=[vast])
    report = bequest.follow(store, warm, once=True)
    assert report is not None
    assert report.action == "applied"
    assert bequest.verify(store, warm).ok
    assert bequest.diff(store, database=warm).equal
    bequest.promote(warm)
    write(warm, "INSERT INTO t VALUES (3, 'newer')")
    assert bequest.backup(warm, store).action == "append"
    assert restored(store, tmp_path) == tree(vast)
    with closing(sqlite3.connect(tmp_path / "warm.db")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (3,)
        named = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'bequest_files'")
        assert named.fetchall() == []


def test_a_damaged_object_is_rewritten_and_what_it_took_along_is_named(
    url: str, vast: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file is refused at once; damage of an object in a cloud shows when it is read."""
    bequest.backup(url, store, files=[vast])

    def damaged(_: object) -> None:
        raise bequest.SnapshotDamaged("a bit was flipped")

    with monkeypatch.context() as patch:
        patch.setattr(beside, "opened", damaged)
        report = bequest.backup(url, store, rewrite=True)
    assert "recorded files are in no object" in dict(report.not_covered)["etc"]
    assert bequest.verify(store, url).ok
    assert bequest.backup(url, store, files=[vast]).action != "unchanged"
    assert "vast" in paths(store)


def test_a_change_of_a_file_alone_is_published_and_pending_until_then(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    heard = Heard()
    with bequest.Backup(url, store, files=[folder], on_event=heard) as backup:
        backup.flush()
        heard.until(lambda: backup.status().state == "ok")
        away = tmp_path / "away"
        Path(store).rename(away)
        Path(store).mkdir()
        (folder / "ctl.yaml").write_text("changed")
        heard.until(lambda: heard.count("failed") and backup.status().pending_transactions == 1)
        Path(store).rmdir()
        away.rename(store)
        backup.flush()
        wanted = scanning.digest_of(b"changed")
        assert wanted in {entry["digest"] for entry in bequest.files(store).entries}


def test_a_table_that_bears_the_name_is_not_captured(url: str, folder: Path, store: str) -> None:
    write(url, "CREATE TABLE bequest_files (mine)")
    bequest.backup(url, store, files=[folder])
    assert bequest.inspect(store).files == 1
