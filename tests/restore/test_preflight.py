"""Everything that would keep a restore from working is found beforehand, and told at once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import spool
from bequest_adapters.databases.sqlite import target_checks
from bequest_adapters.stores.keys import Keys
from bequest_adapters.stores.s3 import open_store as open_s3

from .controller import Controller


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.publish()
    return made


def levels(report: bequest.PreflightReport) -> dict[str, str]:
    worst: dict[str, str] = {}
    for check in report.checks:
        order = ["ok", "warn", "fail"]
        known = worst.get(check["name"], "ok")
        worst[check["name"]] = max(known, check["level"], key=order.index)
    return worst


def test_a_restore_that_would_work_says_so_and_touches_nothing(
    controller: Controller, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir()), Path(controller.store).read_bytes()
    controller.fall_silent()
    report = bequest.preflight(controller.store, f"sqlite:///{tmp_path / 'new.db'}")
    assert report.ok
    assert set(levels(report)) == {
        *("object", "format", "key", "conversion", "schema", "target", "in use", "data", "room"),
        *("temporary folder", "adoption", "owner", "duration"),
    }
    assert set(levels(report).values()) == {"ok"}
    assert (report.serial, report.tables, report.rows) == (1, 5, 8)
    assert (sorted(tmp_path.iterdir()), Path(controller.store).read_bytes()) == before


def test_all_that_is_in_the_way_is_told_at_once(controller: Controller, tmp_path: Path) -> None:
    damaged = bytearray(Path(controller.store).read_bytes())
    damaged[200] ^= 1
    Path(controller.store).write_bytes(damaged)
    target = Controller(tmp_path, "target")
    with closing(sqlite3.connect(target.path)) as held:
        held.execute("SELECT * FROM site").fetchone()
        report = bequest.preflight(controller.store, target.url, adopt=True)
    found = levels(report)
    assert (found["object"], found["in use"], found["data"]) == ("fail", "fail", "fail")
    assert isinstance(report.fault, bequest.SnapshotDamaged)
    for said in ("3 things", "(1)", "does not match its digest", "open in another", "holds data"):
        assert said in str(report.fault)


def test_a_real_restore_fails_with_the_same_list(controller: Controller, tmp_path: Path) -> None:
    target = Controller(tmp_path, "target")
    found = bequest.preflight(controller.store, target.url, at=99, adopt=True)
    with pytest.raises(bequest.Refused) as caught:
        bequest.restore(controller.store, target.url, at=99, adopt=True)
    assert str(caught.value) == str(found.fault)
    assert "serial 99" in str(caught.value)
    assert "holds data" in str(caught.value)


def test_force_turns_data_into_a_warning(controller: Controller, tmp_path: Path) -> None:
    target = Controller(tmp_path, "target")
    report = bequest.preflight(controller.store, target.url, force=True, adopt=True)
    assert (report.ok, levels(report)["data"]) == (True, "warn")


def test_a_folder_that_is_not_there_and_an_object_that_is_not_there(tmp_path: Path) -> None:
    report = bequest.preflight(
        str(tmp_path / "none"), f"sqlite:///{tmp_path}/no/where.db", adopt=True
    )
    assert levels(report) == {"object": "fail", "target": "fail"}
    assert isinstance(report.fault, bequest.SnapshotMissing)


@pytest.mark.parametrize(("share", "level"), [(0.1, "fail"), (0.75, "warn"), (1.5, "ok")])
def test_room_is_compared_with_an_estimate(
    controller: Controller,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    level: str,
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    needed = bequest.preflight(controller.store, url, adopt=True).needed_bytes
    assert needed > 0
    usage = shutil.disk_usage(tmp_path)._replace(free=int(needed * share))
    monkeypatch.setattr(target_checks.shutil, "disk_usage", lambda _: usage)
    report = bequest.preflight(controller.store, url, adopt=True)
    assert levels(report)["room"] == level
    assert report.ok == (level != "fail")


@pytest.mark.parametrize(("free", "level"), [(-1, "fail"), (0, "ok")])
def test_an_object_that_the_temporary_folder_cannot_take_is_not_even_read(
    controller: Controller,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    level: str,
) -> None:
    size = Path(controller.store).stat().st_size
    usage = shutil.disk_usage(tmp_path)
    rooms = {tempfile.gettempdir(): usage._replace(free=size + free)}
    monkeypatch.setattr(spool, "SPOOL_BYTES", size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: rooms.get(folder, usage))
    report = bequest.preflight(controller.store, f"sqlite:///{tmp_path / 'new.db'}", adopt=True)
    found = levels(report)
    assert (found["temporary folder"], "object" in found) == (level, level == "ok")
    if level == "fail":
        assert isinstance(report.fault, bequest.Denied)
        assert "TMPDIR" in str(report.fault)


def test_the_estimate_of_room_is_not_below_what_is_used(
    controller: Controller, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(controller.path)) as db:
        db.executemany(
            "INSERT INTO router (site, v) VALUES (1, ?)",
            ((f"router number {number}",) for number in range(20_000)),
        )
        db.commit()
    controller.publish()
    new = tmp_path / "new.db"
    needed = bequest.preflight(controller.store, f"sqlite:///{new}", adopt=True).needed_bytes
    bequest.restore(controller.store, f"sqlite:///{new}", adopt=False)
    assert needed >= new.stat().st_size


def test_an_object_that_lost_its_mark_cannot_be_adopted_but_copied(
    controller: Controller, tmp_path: Path
) -> None:
    class Unmarked:
        def __getattr__(self, name: str) -> object:
            return getattr(bequest.registry.open_store(controller.store), name)

        def head(self) -> bequest.registry.Store | None:
            return None

    new = f"sqlite:///{tmp_path / 'new.db'}"
    assert levels(bequest.preflight(Unmarked(), new, adopt=True))["adoption"] == "fail"
    assert bequest.preflight(Unmarked(), new, adopt=False).ok


def test_a_store_that_cannot_be_written_is_known_before(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access

    def readable(path: str, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and path == controller.store)

    monkeypatch.setattr(os, "access", readable)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    found = bequest.preflight(controller.store, url, adopt=True)
    assert levels(found)["adoption"] == "fail"
    assert isinstance(found.fault, bequest.Denied)
    assert bequest.preflight(controller.store, url, adopt=False).ok


def test_a_database_in_use_is_told_once(controller: Controller, tmp_path: Path) -> None:
    target = Controller(tmp_path, "target")
    with closing(sqlite3.connect(target.path)) as held:
        held.execute("BEGIN IMMEDIATE")
        report = bequest.preflight(controller.store, target.url, force=True, adopt=True)
    assert str(report.fault).count("open in another") == 1
    assert "things are in the way" not in str(report.fault)


@pytest.mark.parametrize("conditions", [{}, {"if_empty": True, "if_exists": True}])
def test_a_store_that_is_away_leaves_the_target_untouched_and_says_so(
    tmp_path: Path, conditions: dict[str, bool]
) -> None:
    url = "s3://bucket/object?endpoint=http://127.0.0.1:1&region=us-east-1"
    keys = Keys(access_key="x", secret_key="x")
    with closing(open_s3(url, keys)) as store, pytest.raises(bequest.AccessError) as caught:
        bequest.restore(store, f"sqlite:///{tmp_path / 'new.db'}", **conditions)
    told = str(caught.value)
    assert "target is untouched" in told
    assert "tried again" not in told
    assert "not current" not in told


def test_a_server_that_is_away_is_told_as_a_restore_s_trouble(
    controller: Controller,
) -> None:
    found = bequest.preflight(controller.store, "postgresql://nobody@127.0.0.1:1/none", adopt=True)
    assert isinstance(found.fault, bequest.Unreachable)
    told = str(found.fault)
    assert "Nothing was changed. Try again." in told
    assert "newer changes" not in told
