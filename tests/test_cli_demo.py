"""The demonstration shows what it claims, and says so when it does not."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

import bequest
from bequest_adapters.cli import main
from bequest_adapters.demo import proof
from bequest_adapters.demo.controller import open_database
from bequest_adapters.demo.models import Base, work


@pytest.fixture(autouse=True)
def the_controllers_find_these_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_everything_that_was_reported_as_stored_survives_the_kill(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["demo", "--json", "--seconds", "1.5", "--dir", str(tmp_path / "demo")])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    document = json.loads(captured.out)
    assert document["ok"] is True
    assert 0 < document["confirmed"] <= document["restored"] <= document["committed"]
    assert document["missing"] == []
    assert document["tables"]["change"]["rows"] == document["restored"]
    assert document["epochs"] == [1, 2]
    assert document["lag_p50_s"] <= document["lag_max_s"]
    assert (tmp_path / "demo" / "new.db").exists()


def test_a_restore_that_lost_a_transaction_is_found_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore: Any = bequest.restore

    def forgetful(store: str, database: str, **options: Any) -> Any:
        report = restore(store, database, **options)
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
            connection.execute("DELETE FROM change WHERE number = 1")
            connection.commit()
        return report

    monkeypatch.setattr(bequest, "restore", forgetful)
    code = main(["demo", "--seconds", "1", "--dir", str(tmp_path / "demo")])
    captured = capfd.readouterr()
    assert code == 6
    assert "LOST: 1 transaction" in captured.out
    assert "Nothing that had been reported as stored was lost" not in captured.out


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "x").write_text("x")
    assert main(["demo", "--dir", str(tmp_path / "demo")]) == 2
    assert "not empty" in capfd.readouterr().err


def test_a_temporary_folder_is_gone_at_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["demo", "--seconds", "1"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert "Nothing that had been reported as stored was lost." in capfd.readouterr().out


def test_the_sample_work_is_the_same_on_every_database(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'controller.db'}")
    Base.metadata.create_all(engine)
    for number in range(1, 201):
        with Session(engine) as session:
            work(session, number)
            session.commit()
    engine.dispose()
    with proof.without_bequest(tmp_path / "again.db") as redone:
        redone.up_to(70)
        assert redone.up_to(200) == proof.contents(tmp_path / "controller.db")
    assert proof.numbers(tmp_path / "again.db") == set(range(1, 201))
    assert all(content.rows for content in proof.contents(tmp_path / "again.db").values())
