"""A part of the tables is restored whole: with all that it refers to, and without adopting."""

from __future__ import annotations

from pathlib import Path

import pytest

import bequest

from .controller import Controller, contents, rows


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.publish()
    made.write("INSERT INTO router (site, v) VALUES (2, 'd')", "DELETE FROM session")
    made.publish()
    return made


def restored(controller: Controller, tmp_path: Path, **chosen: object) -> bequest.RestoreReport:
    return bequest.restore(controller.store, f"sqlite:///{tmp_path / 'part.db'}", **chosen)  # type: ignore[arg-type]


def test_the_tables_that_a_chosen_one_needs_come_too(
    controller: Controller, tmp_path: Path
) -> None:
    report = restored(controller, tmp_path, tables=["router"])
    assert report.added == (
        ("region", "site refers to it"),
        ("site", "router refers to it"),
    )
    assert (report.tables, report.rows, report.adopted) == (3, 8, False)
    whole = contents(controller.path)
    assert contents(tmp_path / "part.db") == {
        name: whole[name] for name in ("region", "site", "router")
    }


def test_a_table_that_refers_to_none_comes_alone(controller: Controller, tmp_path: Path) -> None:
    assert restored(controller, tmp_path, tables=["session"]).added == ()
    assert set(contents(tmp_path / "part.db")) == {"session"}
    there = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
    assert rows(tmp_path / "part.db", there) == []


def test_what_names_a_missing_table_is_left_out_and_said(
    controller: Controller, tmp_path: Path
) -> None:
    report = restored(controller, tmp_path, exclude=["audit", "sess*"])
    assert report.left_out == (
        ("view sessions", "it names session"),
        ("trigger noted", "it names audit"),
    )
    kinds = "SELECT name FROM sqlite_master WHERE type IN ('view', 'index') AND sql NOT NULL"
    assert rows(tmp_path / "part.db", kinds) == [("router_site",), ("routers",)]


def test_an_excluded_table_comes_back_when_a_chosen_one_needs_it(
    controller: Controller, tmp_path: Path
) -> None:
    assert ("site", "router refers to it") in restored(controller, tmp_path, exclude=["site"]).added


def test_a_part_cannot_adopt(controller: Controller, tmp_path: Path) -> None:
    with pytest.raises(bequest.UsageError, match="cannot adopt"):
        restored(controller, tmp_path, tables=["router"], adopt=True)
    restored(controller, tmp_path, tables=["router"])
    with pytest.raises(bequest.Refused):
        bequest.backup(f"sqlite:///{tmp_path / 'part.db'}", controller.store)
    assert controller.publish().action == "unchanged"


def test_a_choice_of_nothing_names_what_there_is(controller: Controller, tmp_path: Path) -> None:
    with pytest.raises(bequest.UsageError, match="region, site, router, session, audit"):
        restored(controller, tmp_path, tables=["rooter"])


@pytest.mark.parametrize("name", ["per%cent %s", "--dash", 'quo"te', "apos'trophe", "[br]", "a/b"])
def test_what_names_a_missing_table_is_found_whatever_the_name(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    controller = Controller(
        tmp_path,
        schema=f"""
        CREATE TABLE {quoted} (id INTEGER PRIMARY KEY);
        CREATE TABLE other (id INTEGER PRIMARY KEY);
        CREATE VIEW seen AS SELECT * FROM {quoted};
        CREATE TRIGGER told AFTER INSERT ON {quoted} BEGIN DELETE FROM other; END;
        CREATE TRIGGER kept AFTER INSERT ON other BEGIN DELETE FROM other; END;
        """,
    )
    controller.publish()
    report = restored(controller, tmp_path, tables=["other"])
    assert {what for what, _ in report.left_out} <= {"view seen", "trigger told"}
    made = rows(tmp_path / "part.db", "SELECT name FROM sqlite_master ORDER BY 1")
    assert made == [("kept",), ("other",)]
