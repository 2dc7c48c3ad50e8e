"""kill -9 at any moment: what was acknowledged can be restored, always, and it is one whole cut.

Twenty kills here, two hundred with --nightly, shared by the combinations of database and store.
Another one is one more entry of `COMBINATIONS`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import create_engine, text

import bequest
from tests.servers.postgresql import PostgresqlServer
from tests.servers.s3_server import S3Server

from .nursery import Nursery, nursery

COMBINATIONS: Final = {"sqlite file": (4, 34), "sqlite s3": (3, 33), "postgresql s3": (3, 33)}
"""Database and store: kills of the embedded form here and at night, and as many of the sidecar."""
LONGEST_MOMENT_SECONDS: Final = 0.06


@dataclass(frozen=True)
class Place:
    """Where one controller's data is: its object, and databases by the name they are asked for."""

    store: str
    database: Callable[[str], str]


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Generator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery") / "log") as found:
        yield found


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    database, store = kind.split()
    address = str(tmp_path / "controller.bequest")
    if store == "s3":
        server: S3Server = request.getfixturevalue("ministack")
        address = server.url(server.new_key())
    with ExitStack() as stack:

        def sqlite(name: str) -> str:
            return f"sqlite:///{tmp_path}/{name}.db"

        def postgresql(name: str) -> str:
            cluster: PostgresqlServer = request.getfixturevalue("postgresql")
            url = stack.enter_context(cluster.database())
            return url.render_as_string(hide_password=False)

        yield Place(address, {"sqlite": sqlite, "postgresql": postgresql}[database])


def prepare(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE devices (id INTEGER PRIMARY KEY, name TEXT, seen INTEGER)")
        )
    engine.dispose()


def content(url: str) -> list[tuple[int, str, int]]:
    engine = create_engine(url)
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT id, name, seen FROM devices ORDER BY id"))
        found = [(row[0], row[1], row[2]) for row in rows]
    engine.dispose()
    return found


def restored(store: str, url: str) -> int:
    """Restore a copy, check that it is one cut; returns how many transactions are in it."""
    assert bequest.restore(store, url, adopt=False).verified
    rows = content(url)
    last = len(rows)
    assert rows == [(number, f"device {number}", last) for number in range(1, last + 1)]
    return last


def moment(chance: random.Random) -> None:
    threading.Event().wait(chance.uniform(0, LONGEST_MOMENT_SECONDS))


def until(happened: Callable[[], bool], why: str) -> None:
    for _ in range(6000):
        if happened():
            return
        threading.Event().wait(0.005)
    pytest.fail(f"not within 30 s: {why}")


def profiles() -> Generator[object]:
    for kind, (few, many) in COMBINATIONS.items():
        yield pytest.param(kind, few, id=f"{kind} {few}")
        marks = (pytest.mark.nightly, pytest.mark.timeout(1200))
        yield pytest.param(kind, many, id=f"{kind} {many}", marks=marks)


kills = pytest.mark.parametrize(("kind", "kills"), [*profiles()])


@kills
def test_what_flush_acknowledged_survives_the_controllers_death(
    kind: str, kills: int, place: Place, victims: Nursery, tmp_path: Path
) -> None:
    url, store = place.database("controller"), place.store
    prepare(url)
    told, chance = tmp_path / "told", random.Random(1)
    told.touch()
    for number in range(kills):
        before = told.stat().st_size
        pid = victims.fork(kind="embedded", database=url, store=store, told=str(told))
        until(lambda size=before: told.stat().st_size > size, "a flush")
        moment(chance)
        os.kill(pid, signal.SIGKILL)
        victims.gone()
        acknowledged = int(told.read_text().split()[-1])
        committed = len(content(url))
        assert acknowledged <= restored(store, place.database(f"new{number}"))
        assert restored(store, place.database(f"again{number}")) <= committed


@kills
def test_what_status_called_stored_survives_the_sidecars_death(
    kind: str, kills: int, place: Place, victims: Nursery
) -> None:
    url, store = place.database("controller"), place.store
    prepare(url)
    bequest.install(url)
    engine = create_engine(url)
    chance, written, stop = random.Random(2), 0, threading.Event()

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            with engine.begin() as connection:
                number = written + 1
                connection.execute(
                    text("INSERT INTO devices VALUES (:id, :name, 0)"),
                    {"id": number, "name": f"device {number}"},
                )
                connection.execute(text("UPDATE devices SET seen = :id"), {"id": number})
            written = number
            stop.wait(0.002)

    def stored() -> bool:
        nonlocal acknowledged
        before = written
        status = bequest.status(url)
        if status.serial and status.pending_transactions == 0:
            acknowledged = before
        return acknowledged > floor

    try:
        for number in range(kills):
            stop.clear()
            writer = threading.Thread(target=write)
            acknowledged = 0
            floor = written
            pid = victims.fork(kind="sidecar", database=url, store=store, told="")
            writer.start()
            moment(chance)
            until(lambda least=floor + 3: written > least, "commits")
            stop.set()
            writer.join()
            until(stored, "the sidecar to publish")
            stop.clear()
            writer = threading.Thread(target=write)
            writer.start()
            moment(chance)
            os.kill(pid, signal.SIGKILL)
            victims.gone()
            stop.set()
            writer.join()
            found = restored(store, place.database(f"new{number}"))
            assert acknowledged <= found <= written
    finally:
        stop.set()
        engine.dispose()
