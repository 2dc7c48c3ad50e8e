"""A drill of an object of PostgreSQL needs a database to drill into, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import bequest

from .kinds import Kind, kind

__all__ = ["kind"]
pytestmark = pytest.mark.parametrize("kind", ["postgresql"], indirect=True)


@pytest.fixture
def live(kind: Kind, tmp_path: Path) -> str:
    url = kind.new("live")
    kind.run(url, "CREATE TABLE t (id integer PRIMARY KEY, v text)")
    kind.run(url, "INSERT INTO t VALUES (1, 'one')")
    bequest.backup(url, str(tmp_path / "o.bequest"))
    return url


def test_status_shows_the_drill(kind: Kind, live: str, tmp_path: Path) -> None:
    store = str(tmp_path / "o.bequest")
    assert bequest.status(live).last_drill is None
    report = bequest.drill(store, live, into=kind.new("drill"))
    assert (report.ok, report.rows, report.recorded) == (True, 1, True)
    assert bequest.status(live).last_drill == {
        name: report[name] for name in ("at", "ok", "serial", "duration_s", "error")
    }
    kind.run(live, "ALTER TABLE t ADD COLUMN more integer")
    bequest.backup(live, store)
    assert bequest.status(live).last_drill is not None
    assert kind.state(kind.new("drill")) != kind.state(live)


def test_without_a_database_it_fails_and_is_noted(kind: Kind, live: str, tmp_path: Path) -> None:
    report = bequest.drill(str(tmp_path / "o.bequest"), live)
    assert "--into" in str(report.error)
    noted = bequest.status(live).last_drill
    assert noted is not None
    assert noted["ok"] is False


def test_a_schedule_is_refused_at_once(kind: Kind, live: str, tmp_path: Path) -> None:
    with pytest.raises(bequest.UsageError, match="--into"):
        bequest.Backup(live, str(tmp_path / "o.bequest"), drill_schedule="0 4 * * SUN")
