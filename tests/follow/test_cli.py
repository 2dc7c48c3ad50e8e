"""The verbs of a warm copy and of configuration files, from the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bequest_adapters.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("ctl.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES (1)")
        db.commit()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ctl.yaml").write_text("port: 1\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = main([*words, "--json"])
    answer = capsys.readouterr()
    return code, json.loads(answer.out) if answer.out else None, answer.err


BACKUP = ("backup", "--database", "sqlite:///ctl.db", "--store", "o.bequest")
FOLLOW = ("follow", "o.bequest", "--database", "sqlite:///warm.db", "--once")
PROMOTE = ("promote", "--database", "sqlite:///warm.db")


def test_follow_then_promote(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *PROMOTE)[0] == 5
    assert run(capsys, *FOLLOW)[0] == 3
    assert run(capsys, *BACKUP)[0] == 0
    code, answer, _ = run(capsys, *FOLLOW)
    assert (code, answer["action"], answer["serial"]) == (0, "reloaded", 1)
    _, status, _ = run(capsys, "status", "--database", "sqlite:///warm.db")
    assert status["state"] == "following"
    code, answer, _ = run(capsys, *PROMOTE)
    assert (code, answer["epoch"], answer["serial"]) == (0, 2, 2)
    code, _, error = run(capsys, *BACKUP)
    assert code == 5
    assert "superseded" in error


def test_files_are_listed_and_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "bequest.toml").write_text('files = ["conf=etc"]\nfiles_limit = 100\n')
    assert run(capsys, *BACKUP)[0] == 0
    code, answer, _ = run(capsys, "files", "o.bequest")
    assert (code, answer["files"], answer["roots"]) == (0, 1, {"conf": str(place / "etc")})
    words = ("files", "o.bequest", "--files-to", "out")
    code, answer, _ = run(capsys, *words)
    assert (code, answer["places"]) == (0, {"conf": str(place / "out" / "conf")})
    assert (place / "out" / "conf" / "ctl.yaml").read_text() == "port: 1\n"
    code, _, error = run(capsys, *words)
    assert code == 5
    assert "--force" in error
    code, answer, _ = run(capsys, *words, "--force")
    assert code == 0
    assert (Path(answer["kept"]["conf"]) / "ctl.yaml").is_file()
    assert run(capsys, *words, "--files-in-place")[0] == 2


def test_a_restore_puts_files_in_place_when_told_to(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *BACKUP, "--files", "etc")[0] == 0
    (place / "etc").rename(place / "lost")
    restore = (
        "restore",
        "o.bequest",
        "--database",
        "sqlite:///new.db",
        "--files-in-place",
        "--adopt",
    )
    code, answer, _ = run(capsys, *restore)
    assert (code, answer["files"], answer["files_in"]) == (0, 1, [str(place / "etc")])
    assert (place / "etc" / "ctl.yaml").read_text() == "port: 1\n"
