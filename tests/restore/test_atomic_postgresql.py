"""A restore into PostgreSQL that is killed, or fights another, leaves all or nothing; restoring
again always leads to the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from sqlalchemy import URL

import bequest
from tests.servers.postgresql import PostgresqlServer, connect

from .test_atomic import Nursery, nursery

__all__ = ["nursery"]
ROWS = 5_000
WAIT_SECONDS = 30.0


class Place:
    """An object, a target that holds other data or none, and what both held before."""

    def __init__(
        self, server: PostgresqlServer, stack: ExitStack, folder: Path, *, empty: bool
    ) -> None:
        self._server = server
        self._stack = stack
        self.store = str(folder / "o.bequest")
        self._saved = str(folder / "saved.bequest")
        self.source = stack.enter_context(server.database())
        self._template = stack.enter_context(server.database())
        with connect(self.source) as db:
            db.execute("CREATE TABLE router (id serial PRIMARY KEY, v text)")
            db.execute("CREATE TABLE history (what text)")
            db.execute(f"INSERT INTO router (v) SELECT n::text FROM generate_series(1, {ROWS}) n")
        bequest.backup(self.source, self.store)
        with connect(self.source) as db:
            db.execute("DELETE FROM router WHERE id % 7 = 0")
            db.execute("INSERT INTO history VALUES ('tail')")
        bequest.backup(self.source, self.store)
        shutil.copy(self.store, self._saved)
        if not empty:
            with connect(self._template) as db:
                db.execute("CREATE TABLE old (v text)")
                db.execute("INSERT INTO old VALUES ('mine')")
        self.before = seen(self._template)
        self.whole = seen(self.source)

    def again(self) -> URL:
        """The object as it was, and another target as it was."""
        shutil.copy(self._saved, self.store)
        database = self._server.database(f"TEMPLATE {self._template.database}")
        return self._stack.enter_context(database)

    def epoch(self) -> int:
        return bequest.verify(self.store).epoch


def seen(url: URL) -> dict[str, list[str]]:
    """All rows of all tables in the schema public."""
    with connect(url) as db:
        names = db.execute("SELECT relname FROM pg_class WHERE relkind = 'r'"
                           " AND relnamespace = 'public'::regnamespace").fetchall()  # fmt: skip
        return {
            name: sorted(row[0] for row in db.execute(f"SELECT t::text FROM {name} t".encode()))
            for (name,) in names
        }


def alone(url: URL) -> None:
    """Wait until the server has noticed that whoever was connected is dead."""
    deadline = time.monotonic() + WAIT_SECONDS
    with connect(url) as db:
        while db.execute("SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                         " AND pid <> pg_backend_pid()").fetchone():  # fmt: skip
            assert time.monotonic() < deadline


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.mark.parametrize(
    ("seed", "times"),
    [(0, 3), (1, 3), *(pytest.param(n, 50, marks=pytest.mark.nightly) for n in (2, 3))],
)
def test_killed_at_a_random_moment_it_leaves_all_or_nothing(
    postgresql: PostgresqlServer,
    nursery: Nursery,
    stack: ExitStack,
    tmp_path: Path,
    seed: int,
    times: int,
) -> None:
    chance = random.Random(seed)
    place = Place(postgresql, stack, tmp_path, empty=bool(seed % 2))
    started = time.monotonic()
    nursery.begin(place.store, text(place.again()))
    assert nursery.end() == 0
    lasted = time.monotonic() - started
    for _ in range(times):
        url = place.again()
        child = nursery.begin(place.store, text(url))
        time.sleep(chance.random() * lasted)  # the moment itself is what is tried
        with suppress(ProcessLookupError):  # it was over already
            os.kill(child, signal.SIGKILL)
        assert nursery.end() in (-signal.SIGKILL, 0)
        alone(url)
        found, epoch = seen(url), place.epoch()
        assert found in (place.before, place.whole)
        assert epoch in (1, 2)
        if found == place.whole:
            assert epoch == 2, "a new database whose lineage nobody announced"
        assert bequest.restore(place.store, url, force=True, adopt=True).epoch == epoch + 1
        assert seen(url) == place.whole
        assert bequest.backup(url, place.store).action == "unchanged"


def test_of_two_restores_at_once_one_is_refused_or_both_come_one_after_the_other(
    postgresql: PostgresqlServer, nursery: Nursery, stack: ExitStack, tmp_path: Path
) -> None:
    place = Place(postgresql, stack, tmp_path, empty=True)
    for _ in range(4):
        url = place.again()
        nursery.begin(place.store, text(url))
        mine = 0
        try:
            bequest.restore(place.store, url, force=True, adopt=True)
        except bequest.Refused:
            mine = 5
        assert {nursery.end(), mine} in ({0}, {0, 5})
        assert seen(url) == place.whole
        alone(url)
        assert bequest.backup(url, place.store).action in ("unchanged", "append", "rewrite")
        assert bequest.verify(place.store, url).ok
