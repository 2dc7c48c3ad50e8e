"""The main job on every store, with real servers: change, lose, restore, go on, fence."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import bequest
from tests.servers.azurite import KEY, AzureServer
from tests.servers.gcs_server import GcsServer
from tests.servers.s3_server import S3Server


@pytest.fixture(params=["file", "ministack", "seaweedfs", "azurite", "gcs_server"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return f"file://{tmp_path / 'controller.bequest'}"
    server: S3Server | AzureServer | GcsServer = request.getfixturevalue(request.param)
    if isinstance(server, AzureServer):
        monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
        return server.url(server.new_blob())
    return server.url(server.new_key())


def values(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT v FROM t ORDER BY id")]


def test_change_lose_restore_go_on_fence(store: str, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}")

    def write(value: str) -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO t (v) VALUES (:v)"), {"v": value})

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"))
    with bequest.Backup(engine, store) as backup:
        for number in range(5):
            write(f"value {number}")
            assert backup.flush().bytes_sent < 16 * 1024
        assert backup.status().pending_transactions == 0
    report = bequest.inspect(store)
    assert (report.rows, report.tail_mutations > 0) == (5, True)
    assert bequest.verify(store, engine).ok
    assert bequest.restore(store, f"sqlite:///{tmp_path / 'new.db'}", adopt=True).verified
    assert values(tmp_path / "new.db") == [f"value {number}" for number in range(5)]
    new = f"sqlite:///{tmp_path / 'new.db'}"
    assert bequest.backup(new, store).action == "unchanged"
    with pytest.raises(bequest.Superseded):
        bequest.backup(engine, store)
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        db.execute("UPDATE t SET v = 'changed' WHERE id = 1")
        db.commit()
    after = bequest.backup(new, store)
    assert (after.action, after.epoch) == ("append", 2)
    assert bequest.verify(store, new).ok
    fresh = tmp_path / "fresh.db"
    with closing(sqlite3.connect(fresh)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    with pytest.raises(bequest.Refused):
        bequest.backup(f"sqlite:///{fresh}", store)
    engine.dispose()


def test_a_warm_copy_follows_on_every_store_and_takes_over(store: str, tmp_path: Path) -> None:
    old, warm = f"sqlite:///{tmp_path / 'old.db'}", f"sqlite:///{tmp_path / 'warm.db'}"
    limits = bequest.Limits(tail_share=1000.0)
    with closing(sqlite3.connect(tmp_path / "old.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        for number, action in enumerate(("reloaded", "applied", "applied")):
            db.execute("INSERT INTO t (v) VALUES (?)", (f"value {number}",))
            db.commit()
            bequest.backup(old, store, limits=limits)
            report = bequest.follow(store, warm, once=True)
            assert report is not None
            assert (report.action, report.serial) == (action, number + 1)
    assert bequest.promote(warm).epoch == 2
    assert values(tmp_path / "warm.db") == ["value 0", "value 1", "value 2"]
    assert bequest.verify(store, warm).ok
    with pytest.raises(bequest.Superseded):
        bequest.backup(old, store)
