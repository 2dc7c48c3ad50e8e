"""What a superseded controller never published stays in its journal, and can be taken out."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import registry
from bequest_adapters.cli import main
from bequest_adapters.databases import sqlite as adapter

from .controller import Controller


@pytest.fixture
def superseded(tmp_path: Path) -> Controller:
    controller = Controller(tmp_path)
    controller.publish()
    controller.write(
        "UPDATE site SET name = 'Gouda' WHERE id = 1",
        "UPDATE site SET name = 'Gouda aan de IJssel' WHERE id = 1",
        "DELETE FROM router WHERE id = 2",
    )
    bequest.restore(controller.store, f"sqlite:///{tmp_path / 'new.db'}", adopt=True)
    with pytest.raises(bequest.Superseded):
        controller.publish()
    return controller


def test_the_mutations_come_with_their_rows_as_they_are_now(superseded: Controller) -> None:
    entries = [dict(entry) for entry in bequest.log(database=superseded.url)]
    told = [(entry["serial"], entry["table"], entry["operation"]) for entry in entries]
    assert told == [
        (None, "site", "update"),
        (None, "site", "update"),
        (None, "router", "delete"),
        (None, "audit", "insert"),  # by the controller's own trigger
    ]
    assert [entry["row"] and entry["row"].get("name") for entry in entries[:3]] == [
        "Gouda aan de IJssel",
        "Gouda aan de IJssel",
        None,
    ]
    assert entries[2]["key"] == {"id": 2}


def test_they_are_kept_whatever_the_superseded_controller_does(superseded: Controller) -> None:
    with bequest.Backup(superseded.url, superseded.store) as backup:
        assert backup.status().state == "superseded"
    superseded.write("DELETE FROM router WHERE id = 1")
    bequest.install(superseded.url)
    with pytest.raises(bequest.Superseded):
        bequest.backup(superseded.url, superseded.store)
    assert len(list(bequest.log(database=superseded.url))) == 6


def test_more_than_one_batch_is_listed(superseded: Controller) -> None:
    with closing(sqlite3.connect(superseded.path)) as db:
        db.executemany("INSERT INTO audit VALUES (?)", ((number,) for number in range(2500)))
        db.commit()
    entries = list(bequest.log(database=superseded.url))
    assert [entry.row and entry.row["line"] for entry in entries[4:]] == list(range(2500))


def test_a_journal_that_outgrew_its_limit_says_so_at_the_end(superseded: Controller) -> None:
    url = registry.database_url(superseded.url)
    with closing(adapter.open_source(url, journal_limit=2000)) as source:
        source.install()
    with closing(sqlite3.connect(superseded.path)) as db:
        db.executemany("INSERT INTO audit VALUES (?)", ((number,) for number in range(9000)))
        db.commit()
    listed: list[bequest.LogEntry] = []
    entries = bequest.log(database=superseded.url)
    with pytest.raises(bequest.Different, match="may have been more"):
        listed.extend(entries)
    assert 2000 <= len(listed) < 9000


def test_the_command_line_writes_json_lines(
    superseded: Controller, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "--database", superseded.url, "--lines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["operation"] for line in lines] == [
        *("update", "update", "delete", "insert")
    ]
    assert main(["log", "--database", superseded.url, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    assert main(["log", superseded.store, "--database", superseded.url]) == 2
    assert main(["log"]) == 2


def test_a_store_in_the_environment_does_not_hide_the_journal(
    superseded: Controller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BEQUEST_STORE", superseded.store)
    assert main(["log", "--database", superseded.url, "--lines"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    monkeypatch.setenv("BEQUEST_DATABASE", superseded.url)
    assert main(["log", superseded.store]) == 0
    assert capsys.readouterr().out == ""
