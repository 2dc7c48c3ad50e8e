"""A superseded controller never changes the object, whatever it does and whenever it is told.

Each trial: a controller owns the object, on a real database and a real store. At a moment drawn by
lot, which may lie inside a publish of its, an heir adopts the object. From then on the old one
publishes in every way it can, by its running process or a restarted one, while answers get lost.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from bequest import registry
from bequest.compactor import Limits
from bequest.errors import BequestError, Unreachable
from bequest.model import Mark, Stat
from bequest.ports import Source, Store
from bequest.publisher import Publisher
from bequest.takeover import adopt
from bequest.testing.objects import Sample, whole
from bequest_adapters.stores.disk import Disk
from bequest_adapters.stores.file import FileStore
from bequest_adapters.stores.retrying import RetryingStore, retrying
from tests.stores.places import SERVERS, place_on

TRIALS: Final = 1000
TRIALS_ON_SERVERS: Final = 10
MOST_REQUESTS: Final = 6


class Interrupted:
    """A store before whose requests something happens, and some of whose answers get lost."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self._store = store
        self._chance = chance
        self._countdown = -1
        self._happen: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return self._store.name

    def arm(self, requests: int, happen: Callable[[], None]) -> None:
        """Let it happen before, or right behind, one of the next requests."""
        self._countdown, self._happen = requests, happen

    @property
    def armed(self) -> bool:
        return self._countdown >= 0

    def head(self) -> Stat | None:
        with self._request():
            return self._store.head()

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        with self._store.read() as stream:
            yield stream

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        with self._request():
            return self._store.append(data, onto=onto, mark=mark)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        with self._request():
            return self._store.rewrite(body, size_bytes, onto=onto, mark=mark)

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _request(self) -> Generator[None, None, None]:
        self._tick()
        if self._chance.random() < 0.05:
            raise Unreachable("the request was lost")
        yield
        self._tick()
        if self._chance.random() < 0.1:
            raise Unreachable("the answer was lost")

    def _tick(self) -> None:
        if self._countdown >= 0:
            self._countdown -= 1
            if self._countdown < 0:
                self._happen()


class Trial:
    """One controller on one database, again and again the owner, again and again superseded."""

    def __init__(self, source: Source, database: Path, store: Store, heir: Store) -> None:
        self._chance = random.Random(1)
        self._source = source
        self._database = database
        self._heir = heir
        self._between = Interrupted(store, self._chance)
        self._publisher = self._new()
        self._left: Stat | None = None

    def run(self) -> None:
        self._own()
        self._left = None
        self._between.arm(self._chance.randrange(MOST_REQUESTS), self._adopt)
        while self._left is None:
            self._act()
        for _ in range(self._chance.randint(1, 3)):
            self._act()
        assert self._heir.head() == self._left

    def _own(self) -> None:
        quiet = Publisher(self._source, self._heir, registry.system_clock())
        self._write()
        adopt(self._source, self._heir, quiet, Limits())
        self._publisher = self._new()

    def _act(self) -> None:
        if self._chance.random() < 0.7:
            self._write()
        if self._chance.random() < 0.2:
            self._publisher = self._new()
        with suppress(BequestError):
            self._publisher.publish(
                rewrite=self._chance.random() < 0.3, check=self._chance.random() < 0.3
            )

    def _new(self) -> Publisher:
        """A process that has just started, with or without the loop that tries again."""
        store: Store = self._between
        if self._chance.random() < 0.5:
            store = retrying(store, sleep=lambda _: None, attempts=3)
        return Publisher(self._source, store, registry.system_clock())

    def _write(self) -> None:
        with closing(sqlite3.connect(self._database)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("INSERT INTO site (v) VALUES (?)", (self._chance.random(),))
            database.execute("DELETE FROM site WHERE id < (SELECT max(id) - 5 FROM site)")
            database.commit()

    def _adopt(self) -> None:
        """Do to the object what a restore does."""
        stat = self._heir.head()
        assert stat is not None
        with self._heir.read() as stream:
            found = whole(stream)
        heir = Mark(found.mark.lineage, found.mark.epoch + 1, found.mark.serial, found.mark.token)
        frame, mark, _ = Sample(b"", heir, found.chain).next_frame()
        self._left = self._heir.append(frame, onto=stat, mark=mark)


class Hasty(Disk):
    """A disk without fsync: power is not what these trials are about."""

    def sync(self, file: int) -> None:
        pass

    def sync_folder(self, path: str) -> None:
        pass


def _trials(open_store: Callable[[], Store], tmp_path: Path, count: int) -> None:
    database = tmp_path / "ctl.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE site (id INTEGER PRIMARY KEY, v REAL)")
    with (
        closing(registry.open_source(f"sqlite:///{database}")) as source,
        closing(open_store()) as store,
        closing(open_store()) as heir,
    ):
        source.install()
        trial = Trial(source, database, store, heir)
        for _ in range(count):
            trial.run()


def _bare(url: str) -> Store:
    store = registry.open_store(url)
    return store.inner if isinstance(store, RetryingStore) else store


def test_a_thousand_trials_on_a_file(tmp_path: Path) -> None:
    _trials(lambda: FileStore(tmp_path / "snapshot", disk=Hasty()), tmp_path, TRIALS)


@pytest.mark.parametrize("kind", SERVERS)
def test_some_trials_on_a_server(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place_on(kind, request, monkeypatch).url
    _trials(lambda: _bare(url), tmp_path, TRIALS_ON_SERVERS)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", SERVERS)
def test_a_thousand_trials_on_a_server(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place_on(kind, request, monkeypatch).url
    _trials(lambda: _bare(url), tmp_path, TRIALS)
