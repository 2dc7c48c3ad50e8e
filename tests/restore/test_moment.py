"""An earlier state is restored exactly, and adopting it leaves every reader a defined state."""

from __future__ import annotations

import io
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import bequest
from bequest.adopting import adopt
from bequest.model import Catalog, Column, Mark, Table
from bequest.moment import find
from bequest.opening import opened
from bequest.snapshot.catalog import to_plain
from bequest.snapshot.frame import NO_DIGEST, PREAMBLE_BYTES, preamble
from bequest.snapshot.writer import FrameWriter, seal_of
from tests.simulation.small_world import Bucket, Clock, SimulatedStore

from .controller import Controller, contents, rows


def lived(tmp_path: Path, seed: int, publishes: int = 6) -> tuple[Controller, dict[int, object]]:
    """A controller with some history, and its contents at every serial."""
    controller = Controller(tmp_path)
    states: dict[int, object] = {controller.publish().serial: contents(controller.path)}
    chance = random.Random(seed)
    for step in range(publishes):
        with closing(sqlite3.connect(controller.path)) as db:
            for _ in range(chance.randrange(1, 6)):
                number = chance.randrange(1, 9)
                db.execute(
                    chance.choice(
                        [
                            f"INSERT OR REPLACE INTO router VALUES ({number}, 1, 'v{step}')",
                            f"DELETE FROM router WHERE id = {number}",
                            f"UPDATE OR REPLACE router SET id = id + 20 WHERE id = {number}",
                            f"INSERT INTO audit VALUES ('line {step}')",  # has no key of its own
                            "INSERT INTO router (site, v) VALUES (2, NULL)",
                            f"PRAGMA user_version = {step + 1}",
                        ]
                    )
                )
            db.commit()
        report = controller.publish()
        states[report.serial] = contents(controller.path)
    return controller, states


@pytest.mark.parametrize("seed", range(6))
def test_every_serial_of_the_tail_can_be_restored(tmp_path: Path, seed: int) -> None:
    controller, states = lived(tmp_path, seed)
    for serial, state in states.items():
        report = bequest.restore(
            controller.store,
            f"sqlite:///{tmp_path / f'{serial}.db'}",
            at=serial,
            adopt=False,
        )
        assert (report.serial, contents(tmp_path / f"{serial}.db")) == (serial, state)


@pytest.mark.parametrize("seed", range(6))
def test_an_adopted_earlier_state_is_the_object_s_state_at_once(tmp_path: Path, seed: int) -> None:
    controller, states = lived(tmp_path, seed)
    serial = random.Random(seed).choice(sorted(states)[:-1])
    new = f"sqlite:///{tmp_path / 'new.db'}"
    report = bequest.restore(controller.store, new, at=str(serial), adopt=True)
    assert (report.adopted, report.serial, report.epoch) == (True, serial, 2)
    assert contents(tmp_path / "new.db") == states[serial]
    # Before the new controller has ever published, a reader finds this very state.
    assert bequest.verify(controller.store, new).ok
    bequest.restore(controller.store, f"sqlite:///{tmp_path / 'copy.db'}", adopt=False)
    assert contents(tmp_path / "copy.db") == states[serial]
    with pytest.raises(bequest.Superseded):
        controller.publish()


def test_the_new_controller_goes_on_appending_and_history_stays(tmp_path: Path) -> None:
    controller, states = lived(tmp_path, 1)
    last = max(states)
    new = f"sqlite:///{tmp_path / 'new.db'}"
    bequest.restore(controller.store, new, at=2, adopt=True)
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        db.execute("INSERT INTO region VALUES ('as', 'Asia')")
        db.commit()
    report = bequest.backup(new, controller.store)
    assert (report.action, report.serial, report.epoch) == ("append", last + 2, 2)
    assert bequest.verify(controller.store, new).ok
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    bequest.restore(controller.store, copy, at=last, adopt=False)
    assert contents(tmp_path / "copy.db") == states[last], "what was undone can still be had"


def test_a_table_that_was_told_whole_is_restored_at_a_serial(tmp_path: Path) -> None:
    """Statements that touch every row may publish the table whole, in the middle of the tail."""
    controller = Controller(tmp_path, schema="CREATE TABLE heap (a, b);")
    states: dict[int, object] = {controller.publish().serial: contents(controller.path)}
    for step in range(4):
        controller.write(f"INSERT INTO heap VALUES ({step}, 'x')", "UPDATE heap SET b = b || 'y'")
        states[controller.publish().serial] = contents(controller.path)
    for serial, state in states.items():
        path = tmp_path / f"{serial}.db"
        bequest.restore(controller.store, f"sqlite:///{path}", at=serial, adopt=False)
        assert contents(path) == state
    bequest.restore(controller.store, f"sqlite:///{tmp_path / 'new.db'}", at=3, adopt=True)
    assert bequest.verify(controller.store, f"sqlite:///{tmp_path / 'new.db'}").ok


def test_rows_without_a_key_come_and_go_back(tmp_path: Path) -> None:
    """Tables whose rows no key identifies have a tail of single rows on some databases."""
    table = Table(1, "heap", (Column("a"),), (), "CREATE TABLE heap (a)")
    body = io.BytesIO(bytes(PREAMBLE_BYTES))
    body.seek(PREAMBLE_BYTES)
    writer = FrameWriter(1, NO_DIGEST, body.write)
    writer.frame("header", {"lineage": "x", "dialect": "sqlite"})
    writer.frame("schema", to_plain(Catalog((table,)), {}))
    writer.rows(table, [(1,), (1,), (2,)])
    writer.frame("seal", {}, seal_of(Mark("x", 1, 1, "aa"), 1.0))
    for serial, changes in {2: [("d", 1), ("i", 3)], 3: [("i", 1), ("d", 3), ("i", 4)]}.items():
        writer = FrameWriter(serial, writer.chain, body.write)
        told = [[1, operation, [], [value], 0.0] for operation, value in changes]
        writer.frame("tail", [told, {}], seal_of(Mark("x", 1, serial, "aa"), float(serial)))
    body.seek(0)
    body.write(preamble(len(body.getvalue())))
    store = SimulatedStore(Bucket(body.getvalue(), Mark("x", 1, 3, "aa"), 1))

    def state(serial: int | None) -> list[object]:
        with opened(store) as snapshot:
            chosen = snapshot.as_of(find(snapshot, serial))
            return sorted(row[0] for _, found in chosen.rows() for row in found)  # type: ignore[type-var]

    states = {serial: state(serial) for serial in (1, 2, 3)}
    assert states == {1: [1, 1, 2], 2: [1, 2, 3], 3: [1, 1, 2, 4]}
    for serial, expected in states.items():
        with opened(store) as snapshot:
            chosen = snapshot.as_of(find(snapshot, serial))
            adopt(store, chosen, Clock(), lambda: "bb" * 16, 0)
        assert state(None) == expected


def test_the_log_tells_the_times_that_lead_to_each_state(tmp_path: Path) -> None:
    controller, states = lived(tmp_path, 4)
    for entry in bequest.log(controller.store):
        found = bequest.preflight(
            controller.store, f"sqlite:///{tmp_path}/x.db", at=f"{entry.published}", adopt=True
        )
        assert found.serial == entry.serial
    assert {entry.serial for entry in bequest.log(controller.store)} <= set(states)


def test_a_time_means_the_last_publish_at_or_before_it(tmp_path: Path) -> None:
    controller, _ = lived(tmp_path, 3)
    moments = {
        report.serial: datetime.fromisoformat(str(report.at))
        for serial in (1, 2, 3)
        if (
            report := bequest.preflight(
                controller.store, f"sqlite:///{tmp_path}/x.db", at=serial, adopt=True
            )
        )
    }

    def meant(time: datetime | str) -> int:
        return bequest.preflight(
            controller.store, f"sqlite:///{tmp_path}/x.db", at=time, adopt=True
        ).serial

    assert meant(moments[2] + timedelta(milliseconds=1)) == 2
    assert meant((moments[3] + timedelta(milliseconds=1)).isoformat()) == 3
    assert meant(datetime.now(UTC) + timedelta(days=1)) == 7


@pytest.mark.parametrize("moment", [99, 0, "1999-01-01T00:00:00Z"])
def test_what_the_object_does_not_reach_is_refused_with_the_range(
    tmp_path: Path, moment: int | str
) -> None:
    controller, _ = lived(tmp_path, 3, publishes=2)
    with pytest.raises(bequest.UsageError, match=r"from serial 1 \(.*\) to serial 3 \("):
        bequest.restore(controller.store, f"sqlite:///{tmp_path / 'new.db'}", at=moment, adopt=True)
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("moment", ["2026-11-22T10:15:00", "yesterday", "-1", "1.5"])
def test_a_moment_that_could_mean_two_things_is_refused(tmp_path: Path, moment: str) -> None:
    with pytest.raises(bequest.UsageError, match=r"time"):
        bequest.restore(
            str(tmp_path / "o"), f"sqlite:///{tmp_path / 'new.db'}", at=moment, adopt=True
        )


def test_a_rowid_table_s_history_has_its_rows(tmp_path: Path) -> None:
    controller, _ = lived(tmp_path, 5)
    new = tmp_path / "new.db"
    bequest.restore(controller.store, f"sqlite:///{new}", at=1, adopt=True)
    assert rows(new, "SELECT count(*) FROM audit") == [(0,)]


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_no_calendar_has_in_utc_is_wrong_usage(tmp_path: Path, time: str) -> None:
    controller = Controller(tmp_path)
    controller.publish()
    with pytest.raises(bequest.UsageError, match="neither a serial nor a time"):
        bequest.restore(controller.store, f"sqlite:///{tmp_path / 'new.db'}", at=time, adopt=True)
