"""A store that is the database, or anything that belongs to it, is refused before a byte moves."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest_adapters.cli import main

BELONGING = ("", "-wal", "-shm", "-journal", "-bequest", "-bequest.lock", "-bequest.leader")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a database in use, so that its log is there."""
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(tmp_path / "real" / "c.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO sites (name) VALUES ('here')")
        yield tmp_path


def plain(folder: Path) -> str:
    return str(folder / "real" / "c.db")


def relative(_: Path) -> str:
    return "real/../real/./c.db"


def address(folder: Path) -> str:
    return f"file://{folder}/real/c%2Edb?keep=2"


def symbolic_link(folder: Path) -> str:
    (folder / "link.db").symlink_to(folder / "real" / "c.db")
    return "link.db"


def linked_folder(folder: Path) -> str:
    (folder / "other").symlink_to("real")
    return "other/c.db"


def hard_link(folder: Path) -> str:
    os.link(folder / "real" / "c.db", folder / "hard.db")
    return "hard.db"


def content(folder: Path) -> dict[str, bytes]:
    """Every file, but for the log's index, which readers write to."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


VERBS: dict[str, Callable[[str, str], object]] = {
    "backup": lambda store, url: bequest.backup(url, store),
    "Backup": lambda store, url: bequest.Backup(url, store),
    "restore": lambda store, url: bequest.restore(store, url, force=True),
    "restore --dry-run": lambda store, url: bequest.restore(store, url, force=True, dry_run=True),
    "preflight": lambda store, url: bequest.preflight(store, url, force=True),
    "verify": lambda store, url: bequest.verify(store, url),
    "diff": lambda store, url: bequest.diff(store, database=url),
    "drill": lambda store, url: bequest.drill(store, url),
    "drill into": lambda store, url: bequest.drill(store, into=url),
    "follow": lambda store, url: bequest.follow(store, url, once=True),
    "promote": lambda store, url: bequest.promote(url, store),
    "status": lambda store, url: bequest.status(url, store),
}


@pytest.mark.parametrize(
    "alias", [plain, relative, address, symbolic_link, linked_folder, hard_link]
)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_takes_the_database_for_a_backup(
    folder: Path, verb: str, alias: Callable[[Path], str]
) -> None:
    store, url = alias(folder), f"sqlite:///{folder}/real/c.db"
    before = content(folder)
    with pytest.raises(bequest.UsageError, match=r"same file\. Nothing was done") as refused:
        VERBS[verb](store, url)
    assert "overwrite" not in str(refused.value)
    assert "replace" not in str(refused.value)
    assert content(folder) == before


@pytest.mark.parametrize("suffix", BELONGING)
@pytest.mark.parametrize("link", ["", "link.db"])
def test_nor_anything_that_belongs_to_it(folder: Path, suffix: str, link: str) -> None:
    if link:
        (folder / link).symlink_to(folder / "real" / "c.db")
    before = content(folder)
    url = f"sqlite:///{link or 'real/c.db'}"
    with pytest.raises(bequest.UsageError, match="same file"):
        bequest.backup(url, f"real/c.db{suffix}")
    assert content(folder) == before


def test_the_lock_of_a_backup_is_not_the_database(folder: Path) -> None:
    with pytest.raises(bequest.UsageError, match="the backup's lock"):
        bequest.backup(f"sqlite:///{folder}/real/o.lock", "real/o")


def test_a_database_that_does_not_exist_is_compared_by_its_folder_and_name(folder: Path) -> None:
    (folder / "other").symlink_to("real")
    with pytest.raises(bequest.UsageError, match="same file"):
        bequest.restore("other/new.db", "sqlite:///real/new.db")


def test_the_key_is_neither_the_database_nor_the_backup(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("real/c.db", "o.bequest"):
        with pytest.raises(bequest.UsageError, match="the key file"):
            bequest.backup("sqlite:///real/c.db", bequest.keyed("o.bequest", key_file=place))
    monkeypatch.setenv("BEQUEST_KEY_FILE", "real/c.db")
    with pytest.raises(bequest.UsageError, match="the key file"):
        bequest.backup("sqlite:///real/c.db", "o.bequest")


def test_restored_files_do_not_go_to_the_database(folder: Path) -> None:
    bequest.backup("sqlite:///real/c.db", "o.bequest")
    for place in ("new.db", "o.bequest"):
        with pytest.raises(bequest.UsageError, match="the folder for the files"):
            bequest.restore("o.bequest", "sqlite:///new.db", adopt=False, files_to=place)
    assert not (folder / "new.db").exists()


def test_a_drill_does_not_go_into_the_controllers_database(folder: Path) -> None:
    bequest.backup("sqlite:///real/c.db", "o.bequest")
    (folder / "link.db").symlink_to("real/c.db")
    with pytest.raises(bequest.UsageError, match="same file"):
        bequest.drill("o.bequest", "sqlite:///real/c.db", into="sqlite:///link.db")


def test_any_database_at_the_address_is_kept_and_nobody_is_offered_to_replace_it(
    folder: Path,
) -> None:
    with closing(sqlite3.connect(folder / "another.db")) as connection:
        connection.execute("CREATE TABLE precious (id)")
    before = content(folder)["another.db"]
    with pytest.raises(bequest.UsageError, match="is an SQLite database") as refused:
        bequest.backup("sqlite:///real/c.db", "another.db")
    assert "overwrite" not in str(refused.value)
    assert "--replace" not in str(refused.value)
    assert content(folder)["another.db"] == before


def test_an_object_may_be_compared_with_itself(folder: Path) -> None:
    bequest.backup("sqlite:///real/c.db", "o.bequest")
    assert bequest.diff("o.bequest", "o.bequest").equal


@pytest.mark.parametrize(
    "arguments",
    [
        ["backup", "--database", "sqlite:///real/c.db", "--store", "real/c.db"],
        ["run", "--database", "sqlite:///real/c.db", "--store", "real/c.db"],
        ["restore", "real/c.db", "--database", "sqlite:///real/c.db", "--force"],
        ["restore", "real/c.db", "--database", "sqlite:///real/c.db", "--dry-run"],
        ["verify", "real/c.db", "--database", "sqlite:///real/c.db"],
        ["diff", "real/c.db", "--database", "sqlite:///real/c.db"],
        ["drill", "real/c.db", "--into", "sqlite:///real/c.db"],
        ["follow", "real/c.db", "--database", "sqlite:///real/c.db", "--once"],
        ["promote", "--store", "real/c.db", "--database", "sqlite:///real/c.db"],
        ["backup", "--database", "sqlite:///bequest.toml", "--store", "o.bequest"],
        ["backup", "--database", "sqlite:///real/c.db", "--store", "bequest.toml"],
    ],
)
def test_the_command_line_ends_with_2(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bequest.toml").write_text("")
    before = content(folder)
    assert main(arguments) == 2
    assert "same file" in " ".join(capsys.readouterr().err.split())
    assert content(folder) == before
