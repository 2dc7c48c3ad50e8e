"""Configuration files take the same road as the tables: one object holds both, at one cut."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest_adapters.files import child, scanning
from bequest_adapters.files.entries import Bounds, Root, roots_of, to_path, to_text
from bequest_adapters.files.own import Own
from bequest_adapters.files.reading import Content, Facts, Reader, Unsettled

WAIT_SECONDS = 30.0
# See the end of `watching`.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id")


@pytest.fixture
def url(tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "ctl.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        db.execute("INSERT INTO t VALUES (1, 'row')")
        db.commit()
    return f"sqlite:///{tmp_path / 'ctl.db'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "etc"
    made.mkdir()
    (made / "ctl.yaml").write_text("port: 1\n")
    return made


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "o.bequest")


def tree(folder: Path) -> dict[str, Any]:
    """Everything below a folder that a restore must bring back."""
    found: dict[str, Any] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        name = os.fsencode(path.relative_to(folder))
        if stat.S_ISLNK(facts.st_mode):
            found[str(name)] = ("link", os.readlink(path))
        elif stat.S_ISDIR(facts.st_mode):
            found[str(name)] = ("folder", stat.S_IMODE(facts.st_mode))
        else:
            found[str(name)] = ("file", stat.S_IMODE(facts.st_mode), path.read_bytes())
    return found


def restored(store: str, tmp_path: Path, name: str = "etc") -> dict[str, Any]:
    out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
    bequest.files(store, files_to=out)
    return tree(out / name)


class InThisProcess(Reader):
    """Reads where the system's calls can be watched."""

    def digest(self, folder: str, path: bytes, limit_bytes: int) -> Content:
        names = path.split(b"/")
        answer = child.read(os.fsencode(folder), names, limit_bytes, lambda data: None)
        if "digest" not in answer:
            raise Unsettled
        return Content(Facts(*answer["facts"]), answer["digest"], iter(()))


def test_content_mode_links_and_odd_names_come_back_as_they_were(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    (folder / "key.pem").write_bytes(os.urandom(1_500_000))
    (folder / "key.pem").chmod(0o400)
    (folder / "empty").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o4755)
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "d").chmod(0o750)
    (folder / "d" / "e").chmod(0o500)
    (folder / "current").symlink_to("../../../../../etc/shadow")
    (folder / "loop").symlink_to("loop")
    (folder / os.fsdecode(b"\xff\n%41 name")).write_text("odd")
    report = bequest.backup(url, store, files=[folder])
    assert report.not_covered == ()
    answer = bequest.restore(
        store, f"sqlite:///{tmp_path / 'new.db'}", files_to=tmp_path / "out", adopt=True
    )
    assert tree(tmp_path / "out" / "etc") == tree(folder)
    assert answer.files == 7
    assert answer.files_in == (str(tmp_path / "out" / "etc"),)


def test_tables_and_files_are_of_one_cut(url: str, folder: Path, store: str) -> None:
    bequest.backup(url, store, files=[folder])
    (folder / "ctl.yaml").write_text("port: 2\n")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        db.execute("UPDATE t SET v = 'new'")
        db.commit()
    assert bequest.backup(url, store, files=[folder]).action == "append"
    touched = {entry.table: entry.serial for entry in bequest.log(store)}
    assert touched == {"t": 2, "bequest_files": 2}
    assert bequest.verify(store, url).ok


def test_a_controller_without_files_gains_no_table(url: str, store: str) -> None:
    bequest.backup(url, store)
    assert set(bequest.inspect(store).tables) == {"t"}


def test_files_are_recorded_whatever_the_selection_says(url: str, folder: Path, store: str) -> None:
    bequest.backup(url, store, include=("nothing*",), files=[folder])
    assert set(bequest.inspect(store).tables) == {"bequest_files"}
    assert bequest.inspect(store).files == 1
    assert bequest.status(url).files == 1


def test_a_change_of_mode_does_not_send_the_content_again(
    url: str, folder: Path, store: str
) -> None:
    (folder / "big").write_bytes(os.urandom(400_000))
    bequest.backup(url, store, files=[folder])
    (folder / "big").chmod(0o600)
    assert bequest.backup(url, store, files=[folder]).bytes_sent < 2000
    os.utime(folder / "big")
    assert bequest.backup(url, store, files=[folder]).action == "unchanged"


def test_what_was_deleted_while_nobody_watched_is_gone(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "x").write_text("x")
    bequest.backup(url, store, files=[folder])
    (folder / "d" / "x").unlink()
    (folder / "d").rmdir()
    (folder / "d").write_text("a file now")
    bequest.backup(url, store, files=[folder])
    assert restored(store, tmp_path) == tree(folder)


def test_editors_leftovers_are_left_out(url: str, folder: Path, store: str) -> None:
    for name in (".ctl.yaml.swp", "4913", "ctl.yaml~", ".#ctl.yaml", "kept.tmp"):
        (folder / name).write_text("x")
    bequest.backup(url, store, files=[folder])
    assert paths(store) == {"", "ctl.yaml", "kept.tmp"}
    bequest.backup(url, store, files=[folder], files_ignore=["*.tmp"])
    assert paths(store) == {"", "ctl.yaml", ".ctl.yaml.swp", "4913", "ctl.yaml~", ".#ctl.yaml"}


def paths(store: str) -> set[str]:
    return {entry["path"] for entry in bequest.files(store).entries}


def test_what_is_not_recorded_is_named(url: str, folder: Path, store: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "large").write_bytes(bytes(2001))
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(folder / "sock"))
        report = bequest.backup(url, store, files=[folder], files_limit=2000)
    named = dict(report.not_covered)
    assert set(named) == {"etc/pipe", "etc/large", "etc/sock"}
    assert "2001 bytes; the limit is 2000" in named["etc/large"]
    assert dict(bequest.files(store).not_covered) == named


def test_a_file_that_cannot_be_read_any_more_keeps_its_content_and_is_named(
    url: str, folder: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bequest.backup(url, store, files=[folder])
    before = tree(folder)
    read = Reader.digest

    def refuse(self: Reader, place: str, path: bytes, limit_bytes: int) -> Content:
        if path == b"ctl.yaml":
            raise PermissionError(13, "Permission denied")
        return read(self, place, path, limit_bytes)

    for rewrite in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(Reader, "digest", refuse)
            report = bequest.backup(url, store, files=[folder], rewrite=rewrite)
        assert "permission denied" in dict(report.not_covered)["etc/ctl.yaml"]
        assert restored(store, tmp_path) == before
    assert bequest.backup(url, store, files=[folder]).not_covered == ()


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.read
    writing = [True]

    def read(file: int, size: int) -> bytes:
        data = real(file, size)
        if data and writing:
            writing.clear()
            with (folder / "ctl.yaml").open("a") as more:
                more.write("half")
        return data

    scanner = scanning.Scanner(Bounds(), Own(), lambda: 0)
    monkeypatch.setattr(os, "read", read)
    first = scanner.scan(Root("etc", str(folder)), InThisProcess())
    assert first.unsettled
    assert first.entries["ctl.yaml"].digest is None
    second = scanner.scan(Root("etc", str(folder)), InThisProcess())
    assert second.entries["ctl.yaml"].digest == scanning.digest_of(b"port: 1\nhalf")


def test_an_equal_time_stamp_is_believed_only_when_it_is_old_enough(folder: Path) -> None:
    """Two writes within the clock's grain leave one stamp: the second must not be missed."""
    file = folder / "ctl.yaml"
    changed = file.stat().st_ctime_ns
    for age, reads_again in ((0, True), (scanning.RACY_NS + 1, False)):
        scanner = scanning.Scanner(Bounds(), Own(), lambda age=age: changed + age)
        with Reader() as reader:
            scan = scanner.scan(Root("etc", str(folder)), reader)
        assert scan.unsettled is reads_again


def test_a_folder_replaced_by_a_link_while_it_is_walked_leads_nowhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "shadow").write_text("root")
    (folder / "d").mkdir()
    real = os.open

    def race(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if path == b"d":
            (folder / "d").rmdir()
            (folder / "d").symlink_to(secret)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", race)
    scanner = scanning.Scanner(Bounds(), Own(), lambda: 0)
    scan = scanner.scan(Root("etc", str(folder)), InThisProcess())
    assert scan.unsettled
    assert not [path for path in scan.entries if "shadow" in path]


def test_more_paths_than_the_limit_are_named_and_remove_nothing(
    url: str, folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "zz").write_text("last")
    bequest.backup(url, store, files=[folder])
    for number in range(5):
        (folder / f"n{number}").touch()
    monkeypatch.setattr(Bounds.__init__, "__defaults__", (1 << 20, 4, 64, ()))
    report = bequest.backup(url, store, files=[folder])
    assert "more than 4 paths" in dict(report.not_covered)["etc"]
    assert "zz" in paths(store)


@pytest.mark.parametrize("loss", ["emptied", "removed"])
def test_the_loss_of_a_whole_folder_is_not_recorded_unbidden(
    url: str, folder: Path, store: str, loss: str
) -> None:
    bequest.backup(url, store, files=[folder])
    (folder / "ctl.yaml").unlink()
    if loss == "removed":
        folder.rmdir()
    report = bequest.backup(url, store, files=[folder])
    assert "etc" in dict(report.not_covered)
    assert "ctl.yaml" in paths(store)
    bequest.backup(url, store, files=[folder], accept_files=True)
    assert ("ctl.yaml" in paths(store)) is (loss == "removed")


def test_a_folder_that_is_not_named_any_more_stays_until_that_is_confirmed(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "key").write_text("k")
    bequest.backup(url, store, files=[folder, tmp_path / "tls"])
    report = bequest.backup(url, store, files=[tmp_path / "tls"])
    assert "not named any more" in dict(report.not_covered)["etc"]
    assert paths(store) == {"", "ctl.yaml", "key"}
    bequest.backup(url, store, files=[tmp_path / "tls"], accept_files=True)
    assert paths(store) == {"", "key"}


def test_a_misspelt_folder_is_wrong_usage_and_removes_nothing(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[folder])
    for wrong in (tmp_path / "ect", folder / "ctl.yaml", f"etc={folder / 'ctl.yaml'}"):
        for use in (bequest.backup, bequest.Backup):
            with pytest.raises(bequest.UsageError, match="Nothing was done"):
                use(url, store, files=[wrong])
    assert paths(store) == {"", "ctl.yaml"}
    folder.rename(tmp_path / "gone")
    assert "stays" in dict(bequest.backup(url, store, files=[folder]).not_covered)["etc"]


def test_a_misspelt_folder_makes_no_database(store: str, tmp_path: Path) -> None:
    with pytest.raises(bequest.BequestError):
        bequest.backup(f"sqlite:///{tmp_path / 'none.db'}", store, files=[tmp_path / "ect"])
    assert not (tmp_path / "none.db").exists()


def test_a_folder_inside_another_is_not_recorded_twice(folder: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    (tmp_path / "link").symlink_to(folder / "sub")
    for inner in (folder / "sub", tmp_path / "link", f"again={folder}"):
        for both in ([folder, inner], [inner, folder]):
            with pytest.raises(bequest.UsageError, match="twice"):
                roots_of(both)


def test_a_new_machine_without_the_files_does_not_record_their_absence(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    (folder / "cert").write_text("the real one")
    bequest.backup(url, store, files=[folder])
    new = f"sqlite:///{tmp_path / 'new.db'}"
    assert bequest.restore(store, new, adopt=True).files == 2
    (folder / "cert").write_text("put there by the package")
    (folder / "ctl.yaml").unlink()
    report = bequest.backup(new, store, files=[folder])
    assert "came with a restore" in dict(report.not_covered)["etc"]
    bequest.files(store, files_in_place=True, force=True)
    assert (folder / "cert").read_text() == "the real one"
    assert bequest.backup(new, store, files=[folder]).not_covered == ()
    (folder / "cert").write_text("renewed")
    assert bequest.backup(new, store, files=[folder]).not_covered == ()


def test_a_database_and_an_object_in_the_folder_are_not_files_of_it(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("x")
    store = str(tmp_path / "o.bequest")
    with bequest.Backup(url, store, files=[f"all={tmp_path}"]) as backup:
        backup.flush()
        assert paths(store) == {"", "note.txt"}
        assert backup.flush().action == "unchanged"


@pytest.mark.parametrize("name", [b"plain", b"a%b", b"%41", "é".encode(), b"\xff\xfe", b"a\nb"])
def test_every_name_survives_as_text(name: bytes) -> None:
    assert to_path(to_text(name)) == name


def test_two_folders_of_one_name_need_names() -> None:
    with pytest.raises(bequest.UsageError, match="NAME=DIR"):
        roots_of(["/a/etc", "/b/etc"])
    assert [root.name for root in roots_of(["/a/etc", "b=/b/etc"])] == ["etc", "b"]


class Heard:
    """Waits for what a running `Backup` publishes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        with self._changed:
            self.events.append((name, facts))
            self._changed.notify_all()

    def until(self, condition: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_SECONDS), self.events

    def count(self, name: str) -> int:
        return sum(event == name for event, _ in self.events)


@pytest.fixture
def running(url: str, folder: Path, store: str) -> Iterator[Heard]:
    heard = Heard()
    with bequest.Backup(url, store, files=[folder], on_event=heard):
        heard.until(lambda: heard.count("published") >= 1)
        yield heard


def recorded(store: str, path: str) -> Any:
    found = [entry for entry in bequest.files(store).entries if entry["path"] == path]
    return found[0]["digest"] if found else None


@pytest.mark.parametrize("how", ["in place", "renamed", "in a new folder", "folder moved in"])
def test_a_change_is_published_without_being_asked_for(
    running: Heard, folder: Path, store: str, tmp_path: Path, how: str
) -> None:
    path = "ctl.yaml"
    if how == "in place":
        (folder / path).write_text("changed")
    elif how == "renamed":
        (tmp_path / "new").write_text("changed")
        (tmp_path / "new").rename(folder / path)
    else:
        path = "d/e/x"
        made = folder / "d" / "e" if how == "in a new folder" else tmp_path / "d" / "e"
        made.mkdir(parents=True)
        (made / "x").write_text("changed")
        if how == "folder moved in":
            (tmp_path / "d").rename(folder / "d")
    wanted = scanning.digest_of(b"changed")
    running.until(lambda: recorded(store, path) == wanted)


def test_a_burst_becomes_few_records(running: Heard, folder: Path, store: str) -> None:
    for number in range(300):
        (folder / f"f{number}").write_text(str(number))
    running.until(lambda: recorded(store, "f299") is not None)
    assert running.count("files") < 30


def test_a_folder_that_appears_again_is_recorded(
    url: str, folder: Path, store: str, tmp_path: Path
) -> None:
    bequest.backup(url, store, files=[folder])
    folder.rename(tmp_path / "away")
    heard = Heard()
    with bequest.Backup(url, store, files=[folder], on_event=heard) as backup:
        heard.until(lambda: heard.count("uncovered") >= 1)
        folder.mkdir()
        (folder / "x").write_text("x")
        backup.flush()
    assert paths(store) == {"", "x"}
