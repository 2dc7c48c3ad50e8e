"""Another history is replaced only by a command that names it, and a copy of it is kept."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import bequest
from bequest_adapters.cli import main
from tests.stores.places import SERVERS, place_on

from .machines import SqliteMachine, backup, sites_in


@pytest.fixture
def good(tmp_path: Path) -> SqliteMachine:
    machine = SqliteMachine.made(tmp_path)
    machine.write("Utrecht")
    return machine


@pytest.fixture
def other(tmp_path: Path) -> SqliteMachine:
    machine = SqliteMachine.made(tmp_path)
    machine.write("a stranger")
    return machine


def named(store: str) -> str:
    found = bequest.inspect(store)
    return f"{found.lineage}/{found.serial}"


@pytest.mark.parametrize("kind", ["file", *SERVERS])
def test_what_is_replaced_by_name_is_kept_on_every_store(
    good: SqliteMachine,
    other: SqliteMachine,
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = str(tmp_path / "o.bequest")
    if kind != "file":
        store = place_on(kind, request, monkeypatch).url
    backup(good, store)
    with pytest.raises(bequest.Refused) as refused:
        backup(other, store)
    assert f"--replace {named(store)}" in str(refused.value)
    report = backup(other, store, replace=named(store))
    assert report.action == "rewrite"
    assert report.replaced is not None
    assert (report.replaced["serial"], report.replaced["rows"]) == (1, 1)
    assert report.kept is not None
    assert sites_in(report.kept, tmp_path) == ["Utrecht"]
    assert sites_in(store, tmp_path) == ["a stranger"]
    with pytest.raises(bequest.Refused):
        backup(good, store)


def test_a_name_is_valid_for_one_object_only(
    good: SqliteMachine, other: SqliteMachine, tmp_path: Path
) -> None:
    store = str(tmp_path / "o.bequest")
    backup(good, store)
    name = named(store)
    good.write("Delft")
    backup(good, store)
    before = Path(store).read_bytes()
    with pytest.raises(bequest.Refused, match="inspect"):
        backup(other, store, replace=name)
    assert Path(store).read_bytes() == before
    assert not list(tmp_path.glob("*replaced*"))


@pytest.mark.parametrize("name", ["", "all", "x/1", "00000000-0000-0000-0000-000000000000/x"])
def test_a_name_that_names_nothing_is_wrong_usage(
    good: SqliteMachine, tmp_path: Path, name: str
) -> None:
    with pytest.raises(bequest.UsageError, match="LINEAGE/SERIAL"):
        backup(good, str(tmp_path / "o.bequest"), replace=name)


def test_what_is_no_snapshot_is_never_replaced(good: SqliteMachine, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"SQLite format 3\0" + b"x" * 4000)
    lineage = "00000000-0000-0000-0000-000000000000"
    for options in ({}, {"replace": f"{lineage}/1"}):
        with pytest.raises(bequest.BequestError) as refused:
            backup(good, str(precious), **options)
        assert "--replace" not in str(refused.value)
    assert precious.read_bytes().startswith(b"SQLite format 3\0")


def test_a_configuration_that_shrank_is_confirmed_by_the_name(tmp_path: Path) -> None:
    machine = SqliteMachine.made(tmp_path)
    store = str(tmp_path / "o.bequest")
    for number in range(1200):
        machine.write(str(number))
    backup(machine, store)
    import sqlite3

    with sqlite3.connect(machine.path) as db:
        db.execute("DELETE FROM site WHERE id > 3")
    with pytest.raises(bequest.Refused, match="--replace") as refused:
        backup(machine, store)
    assert named(store) in str(refused.value)
    report = backup(machine, store, replace=named(store))
    assert (report.epoch, report.rows) == (1, 3)
    assert report.kept is not None
    assert bequest.inspect(report.kept).rows == 1200
    machine.write("goes on")
    assert backup(machine, store).action == "append"


def test_no_flag_can_be_left_on_that_disarms_the_fence(
    good: SqliteMachine,
    other: SqliteMachine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = str(tmp_path / "o.bequest")
    backup(good, store)
    name = named(store)
    arguments = ["--database", other.url, "--store", store]
    assert main(["run", *arguments, "--replace", name]) == 2
    assert main(["run", *arguments, "--overwrite"]) == 2
    assert main(["backup", *arguments, "--overwrite"]) == 2
    assert "replace" not in inspect.signature(bequest.Backup.__init__).parameters
    monkeypatch.setenv("BEQUEST_REPLACE", name)
    assert main(["backup", *arguments]) != 0
    monkeypatch.delenv("BEQUEST_REPLACE")
    (tmp_path / "bequest.toml").write_text(f'replace = "{name}"')
    assert main(["backup", *arguments, "--config", str(tmp_path / "bequest.toml")]) == 2
    assert named(store) == name
    capsys.readouterr()


def test_the_command_shows_both_sides(
    good: SqliteMachine, other: SqliteMachine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "o.bequest")
    backup(good, store)
    name = named(store)
    arguments = ["backup", "--database", other.url, "--store", store, "--replace", name]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert "replaced" in shown
    assert "kept" in shown
    assert main([*arguments[:-1], named(store), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["replaced"]) == {"lineage", "epoch", "serial", "rows", "at"}


def test_adopt_on_the_command_line(
    good: SqliteMachine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "o.bequest")
    backup(good, store)
    clone = good.clone()
    assert main(["backup", "--database", clone.url, "--store", store]) == 5
    assert "bequest adopt" in capsys.readouterr().err
    assert main(["adopt", "--database", clone.url]) == 2
    assert "--store" in capsys.readouterr().err
    assert main(["adopt", "--database", clone.url, "--store", store, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["adopted"], answer["epoch"], answer["kept"]) == (True, 2, None)
    assert main(["adopt", "--database", clone.url]) == 0
    assert "owner already" in capsys.readouterr().out
    assert main(["status", "--database", good.url, "--store", store]) == 0
