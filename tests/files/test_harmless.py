"""Recording never opens a file in the controller's process: its locks on it would be gone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest_adapters.files import reading

from .test_recording import folder, paths, store, tree, url

__all__ = ["folder", "store", "url"]
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id")

STRANGER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO u VALUES ('stranger')")
    db.execute("COMMIT")
except sqlite3.OperationalError as error:
    print(error)
"""


def stranger(database: Path) -> str:
    """What SQLite answers another process that writes to ``database``; empty when it could."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(database)],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("linked", [False, True], ids=["in the folder", "by a hard link"])
def test_the_controllers_lock_on_another_database_holds_while_its_folder_is_recorded(
    url: str, folder: Path, store: str, tmp_path: Path, mode: str, linked: bool
) -> None:
    other = (tmp_path if linked else folder) / "other.db"
    with closing(sqlite3.connect(other, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE u (who)")
        if linked:
            for path in sorted(tmp_path.glob("other.db*")):
                os.link(path, folder / path.name)
        with bequest.Backup(url, store, files=[folder]) as backup:
            backup.flush()
            for number in range(3):
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO u VALUES ('controller')")
                (folder / "ctl.yaml").write_text(f"port: {number}\n")
                backup.flush()
                assert stranger(other) == "database is locked"
                db.execute("COMMIT")
                assert stranger(other) == ""
        who = [name for (name,) in db.execute("SELECT who FROM u ORDER BY rowid")]
    assert who == ["controller", "stranger"] * 3


class Opened:
    """The regular files that this process opens, by an audit hook, which cannot be removed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.listens = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.listens or event != "open" or isinstance(arguments[0], int):
            return
        if not arguments[2] & os.O_DIRECTORY:
            self.names.append(os.path.basename(os.fsdecode(arguments[0])))


@pytest.fixture(scope="module")
def hook() -> Opened:
    return Opened()


@pytest.fixture
def opened(hook: Opened) -> Iterator[list[str]]:
    hook.names.clear()
    hook.listens = True
    yield hook.names
    hook.listens = False


def test_no_file_of_a_folder_is_opened_in_the_controllers_process(
    url: str, folder: Path, store: str, opened: list[str]
) -> None:
    (folder / "deep").mkdir()
    names = {"ctl.yaml", "secret-key", "deep-file"}
    for path in (folder / "secret-key", folder / "deep" / "deep-file"):
        subprocess.run(["/bin/sh", "-c", 'echo one > "$0"', path], check=True)
    with bequest.Backup(url, store, files=[folder]) as backup:
        backup.flush()
        subprocess.run(["/bin/sh", "-c", 'echo two > "$0"', folder / "secret-key"], check=True)
        backup.flush()
        backup.backup_now(rewrite=True)
    assert opened, "the hook hears nothing"
    assert names.isdisjoint(opened)
    assert names < {Path(path).name for path in paths(store)}


def test_the_process_that_reads_imports_nothing_that_lies_around(
    url: str, folder: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("json", "select", "tempfile", "sitecustomize", "usercustomize"):
        (planted / f"{name}.py").write_text(f"open({str(tmp_path / 'hit')!r}, 'w')\n")
    monkeypatch.chdir(planted)
    monkeypatch.setenv("PYTHONPATH", str(planted))
    bequest.backup(url, store, files=[folder])
    assert paths(store) == {"", "ctl.yaml"}
    assert not (tmp_path / "hit").exists()


def test_nothing_of_the_folders_is_in_an_argument_list(
    url: str, folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = reading.subprocess.Popen

    def watched(*arguments: Any, **options: Any) -> Any:
        started.append(arguments[0])
        return popen(*arguments, **options)

    monkeypatch.setattr(reading.subprocess, "Popen", watched)
    bequest.backup(url, store, files=[folder])
    assert started
    assert not any(str(folder.parent) in argument for found in started for argument in found)


@pytest.mark.parametrize("python", ["/nonexistent/python3", "/bin/false", "/bin/cat"])
def test_without_a_process_that_reads_the_tables_are_published_and_the_files_are_named(
    url: str, folder: Path, store: str, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    bequest.backup(url, store, files=[folder])
    (folder / "ctl.yaml").write_text("port: 2\n")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        db.execute("INSERT INTO t VALUES (2, 'new')")
        db.commit()
    with monkeypatch.context() as patch:
        patch.setattr(reading, "_interpreter", lambda: python)
        report = bequest.backup(url, store, files=[folder])
    assert report.action == "append"
    assert "cannot be read" in dict(report.not_covered)["etc/ctl.yaml"]
    assert "as it was last recorded" in dict(report.not_covered)["etc/ctl.yaml"]
    assert bequest.verify(store, url).ok
    assert bequest.backup(url, store, files=[folder]).not_covered == ()


def test_no_process_is_left(url: str, folder: Path, store: str) -> None:
    def children() -> list[str]:
        found = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True
        )
        return [line for line in found.stdout.splitlines() if "child.py" in line]

    with bequest.Backup(url, store, files=[folder]) as backup:
        backup.flush()
        (folder / "ctl.yaml").write_text("port: 2\n")
        backup.flush()
    assert children() == []
    assert tree(folder)
