"""What was replaced can still be had, where the store keeps it: listed, read, restored."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import versions
from bequest.errors import Refused, SnapshotMissing
from bequest.model import Stat
from bequest.ports import Store
from bequest.registry import open_store
from bequest.testing.objects import Sample, sample, whole
from bequest_adapters.cli import main
from bequest_adapters.stores.file import FileStore
from tests.servers.azurite import ACCOUNT, CONTAINER, KEY, AzureServer
from tests.servers.gcs_server import versioned_gcs_server
from tests.servers.s3_server import S3Server

Keep = Callable[[], None]
"""Called after each publish: keeps that state, where the store does not do so by itself."""


def _nothing() -> None:
    pass


@pytest.fixture(params=["file", "ministack", "seaweedfs", "azurite", "gcs"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[tuple[str, Keep], None, None]:
    """A store's address, and what keeps a state in it."""
    kind = request.param
    if kind == "file":
        yield (tmp_path / "ctl").as_uri() + "?keep=9", _nothing
    elif kind == "azurite":
        server: AzureServer = request.getfixturevalue("azurite")
        monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
        blob = server.new_blob()
        with closing(server.client().get_blob_client(CONTAINER, blob)) as client:
            # The emulator has no versions of its own; snapshots are listed in the same way.
            yield server.url(blob), client.create_snapshot
        assert ACCOUNT in server.endpoint
    elif kind == "gcs":
        with versioned_gcs_server(tmp_path) as gcs:
            yield gcs.url(gcs.new_key()), _nothing
    else:
        s3: S3Server = request.getfixturevalue(kind)
        s3.version_bucket()
        yield s3.url(s3.new_key(), bucket=s3.versioned_bucket), _nothing


def test_earlier_versions_are_listed_newest_first_and_read_back(
    place: tuple[str, Keep],
) -> None:
    url, keep = place
    with closing(open_store(url)) as store:
        assert list(versions.history(store)) == []
        published = _published(store, keep)
        listed = list(versions.history(store))
        _same(listed, published)
        for found in listed:
            past = versions.at(store, found.id)
            with closing(past), past.read() as stream:
                assert whole(stream).mark == found.mark
            head = past.head()
            assert head is not None
            assert (head.mark, head.size_bytes) == (found.mark, found.size_bytes)
        assert [found.id for found in versions.history(store, 1)] == [listed[0].id]


def _published(store: Store, keep: Keep) -> list[Sample]:
    """Three rewrites; all but the last are kept."""
    samples: list[Sample] = []
    stat: Stat | None = None
    for serial in (1, 2, 3):
        if samples:
            keep()
        samples.append(sample(serial, size_bytes=serial * 1000))
        new = samples[-1]
        stat = store.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark)
    return samples


def _same(listed: list[versions.Version], published: list[Sample]) -> None:
    assert [found.mark for found in listed] == [each.mark for each in published[::-1]]
    assert [found.size_bytes for found in listed] == [len(each.data) for each in published[::-1]]
    assert [found.current for found in listed] == [True, False, False]
    assert len({found.id for found in listed}) == 3
    assert all(1_600_000_000 < found.at < 10_000_000_000 for found in listed)


def test_what_is_past_cannot_be_written(place: tuple[str, Keep]) -> None:
    url, keep = place
    with closing(open_store(url)) as store:
        published = _published(store, keep)
        with closing(versions.at(store, versions.history(store)[-1].id)) as past:
            stat = past.head()
            assert stat is not None
            frame, mark, _ = published[0].next_frame()
            with pytest.raises(Refused):
                past.append(frame, onto=stat, mark=mark)
            with pytest.raises(Refused):
                past.rewrite(published[0].body(), 1, onto=stat, mark=mark)


def test_a_file_keeps_the_last_rewrites_and_no_more(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "ctl", keep=2)
    stat: Stat | None = None
    for serial in range(1, 7):
        new = sample(serial)
        stat = store.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark)
    serials = [found.mark.serial for found in store.history(9) if found.mark is not None]
    assert serials == [6, 5, 4]


@pytest.mark.parametrize("version", ["../etc/passwd", "", "x", "-1"])
def test_a_version_of_a_file_is_a_number(tmp_path: Path, version: str) -> None:
    with pytest.raises(SnapshotMissing, match="history"):
        FileStore(tmp_path / "ctl").at(version)


def test_a_version_that_is_not_there_is_missing(place: tuple[str, Keep], tmp_path: Path) -> None:
    url, keep = place
    with closing(open_store(url)) as store:
        _published(store, keep)
        listed = versions.history(store)
        digit = re.search(r"\d(?=\D*$)", listed[-1].id)
        assert digit is not None
        other = str((int(digit[0]) + 5) % 10)
        unknown = listed[-1].id[: digit.start()] + other + listed[-1].id[digit.end() :]
        assert unknown not in [found.id for found in listed]
        for version in (unknown, "nosuch"):
            with pytest.raises(SnapshotMissing, match="bequest history"):
                with closing(versions.at(store, version)) as past, past.read():
                    pass
            with pytest.raises(SnapshotMissing, match="bequest history"):
                with closing(versions.at(store, version)) as past:
                    past.head()
    for adopts in (["--no-adopt"], []):
        new = ["restore", url, "--database", f"sqlite:///{tmp_path / 'n.db'}", *adopts]
        assert main([*new, "--version", "nosuch"]) == 3


# From the command line


def _rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT id FROM site")]


def test_an_earlier_version_is_restored_as_a_copy_and_can_become_the_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, old, new = (
        f"{(tmp_path / 'ctl').as_uri()}?keep=3",
        "sqlite:///old.db",
        "sqlite:///new.db",
    )
    with closing(sqlite3.connect("old.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
        for number in (1, 2, 3):
            database.execute("INSERT INTO site VALUES (?)", (number,))
            database.commit()
            bequest.backup(old, store, rewrite=True)
    assert main(["history", store, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["serial"] for entry in listed] == [3, 2, 1]
    assert main(["history", store]) == 0
    assert "present" in capsys.readouterr().out
    version = listed[1]["version"]
    assert main(["restore", store, "--database", new, "--version", version]) == 5
    assert "--copy" in capsys.readouterr().err
    assert not (tmp_path / "new.db").exists()
    assert main(["verify", store, "--version", version]) == 0
    assert main(["inspect", store, "--version", version]) == 0
    assert main(["restore", store, "--database", new, "--version", version, "--no-adopt"]) == 0
    assert _rows(tmp_path / "new.db") == [1, 2]
    present = bequest.inspect(store)
    report = bequest.backup(new, store, replace=f"{present.lineage}/{present.serial}")
    assert report.rows == 2
    assert report.kept is not None
    assert bequest.verify(report.kept, old).ok
    with pytest.raises(Refused):
        bequest.backup(old, store)


def test_the_present_version_is_adopted_like_any_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("old.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
    bequest.backup("sqlite:///old.db", "ctl")
    (present,) = bequest.history("ctl")
    report = bequest.restore("ctl", "sqlite:///new.db", version=present.version, adopt=True)
    assert report.adopted
    assert report.epoch == 2


def test_history_tells_a_region_that_is_none_as_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["history", "s3://bucket/object?region=no region"]) == 2
    assert "InvalidRegionError" in capsys.readouterr().err
