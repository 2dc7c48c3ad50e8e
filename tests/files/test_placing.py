"""A restore of files gives exactly the recorded tree, and never writes anywhere else."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest.recorded import PIECE_BYTES
from bequest_adapters.files.entries import Entry
from bequest_adapters.files.placing import Collection
from bequest_adapters.files.scanning import digest_of
from tests.files.test_recording import tree

ROOT = Entry("etc", "", "root", 0o755, note="/nowhere/etc")


def collection(*entries: Entry, pieces: Any = ()) -> Collection:
    def read() -> Iterator[tuple[Entry, int, bytes | None]]:
        for entry in (ROOT, *entries):
            yield entry, 0, None
        yield from pieces

    return Collection(read)


def file(path: str, content: bytes = b"") -> Entry:
    return Entry("etc", path, "file", 0o644, size=len(content), digest=digest_of(content))


HOSTILE = {
    "absolute": (file("/etc/passwd"),),
    "parent": (file("../passwd"),),
    "parent inside": (file("a/../../passwd"), Entry("etc", "a", "folder", 0o755)),
    "escaped parent": (file("%2E%2E/passwd"),),
    "escaped slash": (file("%2Fetc%2Fpasswd"),),
    "dot": (file("./x"),),
    "empty name": (file("a//b"), Entry("etc", "a", "folder", 0o755)),
    "NUL": (file("a\0b"),),
    "bad escape": (file("a%zz"),),
    "below a link": (Entry("etc", "a", "link", note="/tmp"), file("a/b")),
    "below a file": (file("a"), file("a/b")),
    "below nothing": (file("a/b"),),
    "twice": (file("a"), Entry("etc", "a", "link", note="/tmp")),
    "twice by escapes": (file("a"), file("%61")),
    "another root": (Entry("../x", "a", "file", 0o644, size=0, digest=digest_of(b"")),),
    "an unknown kind": (Entry("etc", "a", "device"),),
    "a second root": (Entry("etc", "a", "root"),),
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_no_path_leads_out_of_the_folder(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    with pytest.raises(bequest.SnapshotDamaged):
        collection(*entries).place(str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


PIECES = {
    "missing": [],
    "altered": [(file("a"), 1, b"other")],
    "too long": [(file("a"), 1, b"longer")],
    "part beyond": [(file("a"), 2, b"right")],
    "part before": [(file("a"), -1, b"right")],
    "of another file": [(file("b"), 1, b"right")],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_content_that_is_not_what_was_recorded_is_not_written(
    pieces: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(bequest.SnapshotDamaged):
        collection(file("a", b"right"), pieces=pieces).place(str(tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*[!etc]"))


def test_pieces_may_come_in_any_order(tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE_BYTES + 7)
    entry = file("a", data)
    pieces = [
        (entry, part + 1, data[part * PIECE_BYTES : (part + 1) * PIECE_BYTES]) for part in (2, 0, 1)
    ]
    collection(entry, pieces=pieces).place(str(tmp_path))
    assert (tmp_path / "etc" / "a").read_bytes() == data


def test_a_folder_that_is_not_empty_is_refused_and_with_force_kept(tmp_path: Path) -> None:
    place = tmp_path / "etc"
    (place / "d").mkdir(parents=True)
    (place / "d" / "own").write_text("old")
    (place / "a").write_text("old")
    (place / "b").symlink_to("/etc")
    before = tree(place)
    wanted = collection(Entry("etc", "d", "folder", 0o755), file("b"), file("c"))
    with pytest.raises(bequest.Refused, match="not empty"):
        wanted.place(str(tmp_path))
    assert tree(place) == before
    report = wanted.place(str(tmp_path), force=True)
    kept = Path(report.kept["etc"])
    assert {name for name in os.listdir(place) if name != kept.name} == {"b", "c", "d"}
    assert (place / "b").read_bytes() == b""
    assert not os.path.islink(place / "b")
    assert (kept / "d" / "own").read_text() == (kept / "a").read_text() == "old"
    assert os.readlink(kept / "b") == "/etc"
    assert (kept.stat().st_mode & 0o777) == 0o700


def test_a_refusal_comes_before_the_database_is_touched(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "x").write_text("x")
    store = str(tmp_path / "o.bequest")
    bequest.backup(f"sqlite:///{tmp_path / 'a.db'}", store, files=[tmp_path / "etc"])
    with pytest.raises(bequest.Refused, match="not empty"):
        bequest.restore(store, f"sqlite:///{tmp_path / 'b.db'}", files_in_place=True, adopt=True)
    assert not (tmp_path / "b.db").exists()
    assert bequest.inspect(store).epoch == 1


def test_a_fault_while_the_files_are_built_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "x").write_text("x")
    before = tree(tmp_path / "etc")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    entry = file("a", b"right")
    with pytest.raises(bequest.Denied, match="No space left"):
        collection(entry, pieces=[(entry, 1, b"right")]).place(str(tmp_path), force=True)
    assert tree(tmp_path / "etc") == before


def test_both_destinations_at_once_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(bequest.UsageError):
        bequest.files(str(tmp_path / "o"), files_to=tmp_path, files_in_place=True)
