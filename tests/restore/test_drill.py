"""A drill shows that the stored object restores, how long it takes, and hides no failure."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import registry
from bequest.drilling import Drills
from bequest.report import DrillReport
from bequest_adapters.cli import main
from bequest_adapters.cron import CronSchedule
from tests.simulation.small_world import Clock

from .controller import Controller, contents


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.publish()
    return made


def damage(controller: Controller) -> None:
    data = bytearray(Path(controller.store).read_bytes())
    data[len(data) // 2] ^= 1
    Path(controller.store).write_bytes(data)


def test_a_drill_restores_what_is_stored_and_status_shows_it(controller: Controller) -> None:
    stored = Path(controller.store).read_bytes()
    report = bequest.drill(controller.store, controller.url)
    assert (report.ok, report.serial, report.rows, report.recorded) == (True, 1, 8, True)
    assert report.object_bytes == len(stored)
    assert bequest.status(controller.url).last_drill == {
        name: report[name] for name in ("at", "ok", "serial", "duration_s", "error")
    }
    assert Path(controller.store).read_bytes() == stored
    assert controller.publish().action == "unchanged"
    assert bequest.status(controller.url).epoch == 1


def test_a_failed_drill_is_noted_too(controller: Controller) -> None:
    damage(controller)
    report = bequest.drill(controller.store, controller.url)
    assert not report.ok
    assert isinstance(report.fault, bequest.SnapshotDamaged)
    noted = bequest.status(controller.url).last_drill
    assert noted is not None
    assert (noted["ok"], noted["error"]) == (False, str(report.fault))


def test_nothing_is_left_unless_asked(controller: Controller, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert bequest.drill(controller.store).kept is None
    assert sorted(tmp_path.rglob("*")) == before
    report = bequest.drill(controller.store, keep=str(tmp_path / "kept"))
    assert report.kept == f"sqlite:///{tmp_path / 'kept' / 'drill-1.db'}"
    assert contents(tmp_path / "kept" / "drill-1.db") == contents(controller.path)
    assert bequest.drill(controller.store, into=f"sqlite:///{tmp_path / 'into.db'}").ok
    again = bequest.drill(controller.store, into=f"sqlite:///{tmp_path / 'into.db'}")
    assert "holds data" in str(again.error)


def test_the_note_outlives_the_mending_of_capture(controller: Controller) -> None:
    bequest.drill(controller.store, controller.url)
    controller.write("ALTER TABLE site ADD COLUMN more", "DROP TABLE audit")
    controller.publish()
    assert bequest.status(controller.url).last_drill is not None


def test_the_command_line_tells_and_fails_loudly(
    controller: Controller, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drill", controller.store]) == 0
    out, err = capsys.readouterr()
    assert "every row verified" in out
    assert "Not noted" in err
    damage(controller)
    assert main(["drill", controller.store, "--database", controller.url, "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["ok"] is False
    assert err.startswith("bequest: ")
    assert main(["status", "--database", controller.url]) == 0
    assert "FAILED" in capsys.readouterr().out


class Told:
    """Events, and the one that was waited for."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.came = threading.Event()

    def __call__(self, name: str, facts: dict[str, object]) -> None:
        self.events.append((name, facts))
        if name.startswith("drill"):
            self.came.set()


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "damaged"])
def test_an_embedded_backup_makes_up_for_a_drill_that_is_due(
    controller: Controller, whole: bool
) -> None:
    with closing(registry.open_source(controller.url)) as source:
        source.note("last_drill", json.dumps({"at": "2020-01-01T00:00:00+00:00"}))
    if not whole:
        damage(controller)
    told = Told()
    with bequest.Backup(
        controller.url, controller.store, drill_schedule="0 4 * * *", on_event=told
    ):
        assert told.came.wait(20)
    name, facts = next(event for event in told.events if event[0].startswith("drill"))
    assert (name, facts["ok"]) == (("drilled", True) if whole else ("drill_failed", False))
    noted = bequest.status(controller.url).last_drill
    assert noted is not None
    assert noted["ok"] is whole


def drills(
    clock: Clock, ran: list[float], leads: Callable[[], bool], last: str | None = None
) -> Drills:
    def drill() -> DrillReport:
        ran.append(clock.now)
        return DrillReport(ok=True, at="", store="")

    return Drills(
        CronSchedule("0 * * * *", "UTC"),
        clock,
        drill,
        lambda: None if last is None else {"at": last},
        leads,
        lambda name, facts: None,
    )


def test_drills_come_when_they_are_due_and_only_with_the_leader() -> None:
    clock, ran, leading = Clock(now=1800.0), list[float](), [False]
    watched = drills(clock, ran, lambda: leading[0])
    while clock.now < 3 * 3600:
        assert 0 < watched.tick() <= 30
        leading[0] = clock.now > 2 * 3600
        clock.sleep(10)
    assert ran == [7220.0]


def test_a_drill_that_was_missed_is_made_up_for_once() -> None:
    clock, ran = Clock(now=10 * 3600.0 + 5), list[float]()
    watched = drills(clock, ran, lambda: True, last="1970-01-01T03:00:00+00:00")
    watched.tick()
    watched.tick()
    assert ran == [clock.now]


def test_a_schedule_that_cannot_be_is_refused_at_once(controller: Controller) -> None:
    with pytest.raises(bequest.UsageError):
        bequest.Backup(controller.url, controller.store, drill_schedule="every day")
