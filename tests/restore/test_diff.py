"""A diff says exactly what a restore would change, whatever the size, and nothing else."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import RowChange, difference
from bequest_adapters.cli import main

from .controller import Controller


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.publish()
    return made


def changes(controller: Controller, **chosen: object) -> list[dict[str, object]]:
    found: list[RowChange] = []
    bequest.diff(
        controller.store,
        database=controller.url,
        on_change=found.append,
        **chosen,  # type: ignore[arg-type]
    )
    return [dict(change) for change in found]


def test_equal_states_have_no_difference(controller: Controller) -> None:
    report = bequest.diff(controller.store, database=controller.url)
    assert (report.equal, report.tables, report.tables_equal) == (True, {}, 5)
    assert bequest.diff(controller.store, controller.store).equal


def test_it_says_what_would_become_of_the_database(controller: Controller) -> None:
    controller.write(
        "UPDATE site SET name = 'Gouda', region = 'us' WHERE id = 1",
        "DELETE FROM session",
        "INSERT INTO region VALUES ('as', 'Asia')",
        "INSERT INTO audit VALUES ('x')",
    )
    found = {(change["table"], change["change"]): change for change in changes(controller)}
    assert set(found) == {
        *(("site", "changed"), ("session", "added")),
        *(("region", "removed"), ("audit", "removed")),
    }
    assert found["site", "changed"]["key"] == {"id": 1}
    assert found["site", "changed"]["columns"] == {
        "name": [["Gouda"], ["Utrecht"]],
        "region": [["us"], ["eu"]],
    }
    assert found["session", "added"]["row"] == {"rowid": 1, "token": "t1", "note": None}
    bequest.restore(controller.store, controller.url, force=True, adopt=False)
    assert bequest.diff(controller.store, database=controller.url).equal


def test_tables_columns_and_definitions_that_only_one_side_has(controller: Controller) -> None:
    controller.write(
        "DROP TABLE session",
        "CREATE TABLE extra (a)",
        "INSERT INTO extra VALUES (1)",
        "ALTER TABLE region ADD COLUMN zone TEXT DEFAULT 'z'",
    )
    report = bequest.diff(controller.store, database=controller.url)
    assert {name: facts["in"] for name, facts in report.tables.items()} == {
        "region": "both",
        "session": "after",
        "extra": "before",
    }
    assert report.tables["region"]["changed"] == 2
    assert report.tables["extra"]["removed"] == report.tables["session"]["added"] == 1
    assert any(line.startswith("table region") for line in report.schema)
    first = next(change for change in changes(controller) if change["table"] == "region")
    assert first["columns"] == {"zone": [["z"], []]}


@pytest.mark.parametrize("bucket_rows", [1, 7, 10_000])
def test_random_changes_are_found_whatever_the_buckets(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, bucket_rows: int
) -> None:
    monkeypatch.setattr(difference, "BUCKET_ROWS", bucket_rows)
    chance = random.Random(bucket_rows)
    values: list[object] = [None, 1, 1.0, 2.5, "1", b"1", "\x00", 2**62, -0.0, 0.0]

    def fill() -> dict[int, object]:
        made = {number: chance.choice(values) for number in chance.sample(range(90), 60)}
        with closing(sqlite3.connect(controller.path)) as db:
            db.execute("DELETE FROM router")
            db.executemany("INSERT INTO router VALUES (?, 1, ?)", made.items())
            db.commit()
        return made

    stored = fill()
    controller.publish()
    present = fill()
    expected = {
        number: "added" if number not in present else "removed"
        for number in stored.keys() ^ present.keys()
    } | {
        number: "changed"
        for number in stored.keys() & present.keys()
        if repr(stored[number]) != repr(present[number])
    }
    found = changes(controller, tables=["router"])
    assert {change["key"]["id"]: change["change"] for change in found} == expected  # type: ignore[index]
    assert len(found) == len(expected)


def test_rows_without_a_key_are_compared_whole(tmp_path: Path) -> None:
    def made(name: str, values: list[str]) -> str:
        # A unique expression over the row number: no key is sure, so the table is opaque.
        schema = "CREATE TABLE h (id INTEGER PRIMARY KEY, a); CREATE UNIQUE INDEX u ON h (abs(id));"
        controller = Controller(tmp_path, name, schema)
        controller.store = str(tmp_path / f"{name}.bequest")
        controller.write(*(f"INSERT INTO h (a) VALUES ('{value}')" for value in values))
        controller.publish()
        return controller.store

    found: list[RowChange] = []
    stores = made("one", ["x", "y"]), made("two", ["x", "z", "z"])
    report = bequest.diff(*stores, on_change=found.append)
    counts = report.tables["h"]
    assert (counts["added"], counts["removed"], counts["changed"]) == (2, 1, 0)
    assert [change.key for change in found] == [{}] * 3


def test_memory_holds_a_bucket_and_not_the_table(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "BUCKET_ROWS", 100)
    held: list[int] = []
    by_key = difference._by_key

    def noted(*arguments: object) -> object:
        found = by_key(*arguments)  # type: ignore[arg-type]
        held.append(len(found))
        return found

    monkeypatch.setattr(difference, "_by_key", noted)
    with closing(sqlite3.connect(controller.path)) as db:
        rows = ((number, "x") for number in range(10, 5_010))
        db.executemany("INSERT INTO router VALUES (?, 1, ?)", rows)
        db.commit()
    report = bequest.diff(controller.store, database=controller.url)
    assert report.tables["router"]["removed"] == 5_000
    assert max(held) < 200
    assert sum(held) == 5_003 + 3


@pytest.mark.parametrize("summary", [(), ("--summary",)], ids=["rows", "summary"])
def test_the_command_line_ends_with_6_when_they_differ(
    controller: Controller, capsys: pytest.CaptureFixture[str], summary: tuple[str, ...]
) -> None:
    arguments = ["diff", controller.store, "--database", controller.url, *summary]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal"]
    controller.write("DELETE FROM session", "UPDATE site SET name = 'Gouda' WHERE id = 1")
    assert main([*arguments, "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    assert set(document["tables"]) == {"session", "site"}
    assert len(document["rows"]) == (0 if summary else 2)
    assert main(arguments) == 6
    out, err = capsys.readouterr()
    assert ("~ id=1  name: 'Gouda' -> 'Utrecht'" in out) == (not summary)
    assert "3 tables equal" in out
    assert err == ""


def test_one_thing_to_compare_with(controller: Controller) -> None:
    with pytest.raises(bequest.UsageError):
        bequest.diff(controller.store)
    assert main(["diff", controller.store, controller.store, "--database", controller.url]) == 2


def test_a_choice_that_means_no_table_is_wrong_usage(controller: Controller) -> None:
    with pytest.raises(bequest.UsageError, match="No table"):
        bequest.diff(controller.store, database=controller.url, tables=("nosuch",))
    asked = ["diff", controller.store, "--database", controller.url, "--table", "nosuch"]
    assert main(asked) == 2
