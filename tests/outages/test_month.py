"""A month without a store: the controller commits on, and afterwards everything is made good."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import make_url

import bequest
from bequest.compactor import Limits
from bequest.errors import Unreachable
from bequest.publisher import Publisher
from bequest.registry import open_store
from bequest.watcher import Watcher
from bequest_adapters.cron import CronSchedule
from bequest_adapters.databases.sqlite import open_source
from bequest_adapters.databases.sqlite.triggers import LIMIT_EVERY
from tests.simulation.small_world import Clock

MONTH_SECONDS: Final = 30 * 86400
JOURNAL_LIMIT: Final = 2000
MEMORY_GROWTH_MIB: Final = 24


class Away:
    """A store that can be away."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away and name in ("head", "read", "append", "rewrite"):
            raise Unreachable("The store is away. Nothing is backed up; it is tried again.")
        return getattr(self.store, name)


@pytest.mark.parametrize(
    "retry_seconds",
    [pytest.param(3600.0, id="ci"), pytest.param(60.0, id="full", marks=pytest.mark.nightly)],
)
@pytest.mark.timeout(1500)
def test_a_month_without_a_store(retry_seconds: float, tmp_path: Path) -> None:
    path, place = tmp_path / "controller.db", str(tmp_path / "object")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TABLE devices (id INTEGER PRIMARY KEY, state)")
        db.executemany("INSERT INTO devices VALUES (?, 0)", [(number,) for number in range(100)])
        source = open_source(make_url(f"sqlite:///{path}"), journal_limit=JOURNAL_LIMIT)
        store, clock, events = Away(open_store(place)), Clock(), list[str]()
        limits = Limits(retry_last_seconds=retry_seconds)
        publisher = Publisher(source, store, clock, limits=limits, mode="per-change")
        watcher = Watcher(
            source,
            publisher,
            clock,
            lambda name, _: events.append(name),
            mode="per-change",
            schedule=CronSchedule("0 0 * * *", None),
            limits=limits,
        )
        with closing(source), closing(store.store):
            source.install()
            watcher.tick()
            store.away, end, count = True, clock.now + MONTH_SECONDS, 0
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            while clock.now < end:
                for _ in range(5):  # what the controller does, it does without an error
                    count += 1
                    db.execute("UPDATE devices SET state = ? WHERE id = ?", (count, count % 100))
                clock.now += watcher.tick()
                (kept,) = db.execute("SELECT count(*) FROM bequest_journal").fetchone()
                assert kept < JOURNAL_LIMIT + LIMIT_EVERY
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            assert grown < MEMORY_GROWTH_MIB
            assert count > JOURNAL_LIMIT
            status = bequest.status(f"sqlite:///{path}")
            assert (status.state, status.pending_mutations > 0) == ("failing", True)
            assert "store is away" in str(status.last_error)
            store.away = False
            watcher.tick()
            assert set(events[-2:]) == {"published", "recovered"}
            assert bequest.status(f"sqlite:///{path}").pending_mutations == 0
            assert bequest.verify(place, f"sqlite:///{path}").ok
