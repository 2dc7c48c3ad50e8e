"""Whatever the network does to a publish or a restore, the next one without it is complete."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

import bequest
from bequest import registry
from bequest.errors import AccessError, SnapshotError
from bequest.publisher import Publisher
from bequest_adapters.stores import s3, s3_client
from tests.servers.proxy import (
    CORRUPT,
    LOSE_ANSWER,
    REFUSE,
    RESET,
    RESET_AFTERWARDS,
    Fault,
    FaultProxy,
    Request,
    cut_body,
    fault_proxy,
    stall,
    throttled,
)
from tests.servers.s3_server import S3Server

WRITE_FAULTS: Final[dict[str, Callable[[threading.Event], Fault]]] = {
    "refused": lambda _: REFUSE,
    "reset": lambda _: RESET,
    "reset after it was executed": lambda _: RESET_AFTERWARDS,
    "executed, and the answer lost": lambda _: LOSE_ANSWER,
    "stalled": lambda released: stall(released, executed=False),
    "executed, and the answer stalled": lambda released: stall(released, executed=True),
    "throttled": lambda _: throttled(1),
    "throttled for an hour": lambda _: throttled(3600),
}
READ_FAULTS: Final[dict[str, Callable[[threading.Event], Fault]]] = {
    **WRITE_FAULTS,
    "cut in the middle": lambda _: cut_body(200),
    "corrupted": lambda _: CORRUPT,
}


@pytest.fixture
def proxy(ministack: S3Server, monkeypatch: pytest.MonkeyPatch) -> Generator[FaultProxy]:
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_SECONDS", 0.5)
    with fault_proxy(ministack.port) as running:
        yield running


@pytest.fixture
def released() -> Generator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def commit(path: Path, number: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS devices (id INTEGER PRIMARY KEY, name)")
        db.execute("INSERT INTO devices VALUES (?, ?)", (number, "x" * 200))


def is_write(request: Request) -> bool:
    return request.method in ("PUT", "POST")


def is_read(request: Request) -> bool:
    return request.method == "GET"


def made_good(publisher: Publisher) -> str:
    """Publish as the watcher does: again and again. A busy machine may miss the short timeout."""
    for _ in range(9):
        try:
            return publisher.publish().action
        except AccessError:
            continue
    return publisher.publish().action


@pytest.mark.parametrize("fault", WRITE_FAULTS)
def test_a_publish_that_was_struck_is_made_good(
    fault: str, ministack: S3Server, proxy: FaultProxy, released: threading.Event, tmp_path: Path
) -> None:
    path, key = tmp_path / "controller.db", ministack.new_key()
    commit(path, 1)
    with (
        closing(registry.open_source(f"sqlite:///{path}")) as source,
        closing(s3.open_store(ministack.through(proxy.port).url(key))) as store,
    ):
        source.install()
        publisher = Publisher(source, store, registry.system_clock())
        for number in range(2, 6):
            proxy.plan(is_write, WRITE_FAULTS[fault](released))
            with pytest.raises(AccessError):
                publisher.publish()
            commit(path, number)  # the controller does not wait
            assert made_good(publisher) != "unchanged"
            commit(path, -number)
        made_good(publisher)
        assert source.pending(source.recall()).mutations == 0
        report = bequest.verify(ministack.url(key), f"sqlite:///{path}")
        assert (report.ok, report.tables["devices"]["rows"]) == (True, 9)
        assert len(proxy.struck) == 4


@pytest.mark.parametrize("fault", READ_FAULTS)
def test_a_restore_that_was_struck_says_so_and_leaves_nothing(
    fault: str, ministack: S3Server, proxy: FaultProxy, released: threading.Event, tmp_path: Path
) -> None:
    path, key = tmp_path / "controller.db", ministack.new_key()
    commit(path, 1)
    bequest.backup(f"sqlite:///{path}", ministack.url(key))
    new = tmp_path / "new.db"
    with closing(s3.open_store(ministack.through(proxy.port).url(key))) as store:
        proxy.plan(is_read, READ_FAULTS[fault](released))
        if fault == "cut in the middle":  # the store goes on from there, with the same version
            assert bequest.restore(store, f"sqlite:///{new}", adopt=False).rows == 1
            return
        with pytest.raises((AccessError, SnapshotError)):
            bequest.restore(store, f"sqlite:///{new}", adopt=False)
        assert not new.exists()
        assert len(proxy.struck) == 1
        assert bequest.restore(store, f"sqlite:///{new}", adopt=False).rows == 1
