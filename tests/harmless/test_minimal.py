"""The smallest controllers that failed because Bequest wrote, or read, beside them.

Each waits for a publish at the moment at which it hurt, instead of hoping for one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import bequest

from .controllers import PATIENCE_SECONDS, Plan, beside, under_way

JOURNALS = ("WAL", "DELETE")
UntilPublished = Callable[[], None]


class Database:
    """A controller with one table."""

    def __init__(self, folder: Path, journal: str, timeout: float) -> None:
        self.path, self.store = folder / "controller.db", folder / "controller.bequest"
        self.url = f"sqlite:///{self.path}"
        self._timeout = timeout
        with closing(self.connect()) as db:
            db.execute(f"PRAGMA journal_mode = {journal}")
            db.execute("CREATE TABLE device (id INTEGER PRIMARY KEY, state INTEGER)")
            db.execute("INSERT INTO device VALUES (1, 0), (2, 0)")

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, timeout=self._timeout)


@contextmanager
def publishing(way: str, database: Database) -> Generator[UntilPublished]:
    """Bequest at work; what it yields returns after one publish more than at the last call."""
    if way == "beside":
        with beside(database.url, database.store) as sidecar:
            seen = [sidecar.published()]

            def until() -> None:
                sidecar.until("published", seen[0] + 1)
                seen[0] = sidecar.published()

            yield until
        return
    published = threading.Semaphore(0)

    def hear(name: str, _: dict[str, Any]) -> None:
        if name == "published":
            published.release()

    with bequest.Backup(database.url, str(database.store), on_event=hear):
        assert published.acquire(timeout=PATIENCE_SECONDS)
        yield lambda: assert_acquired(published)


def assert_acquired(published: threading.Semaphore) -> None:
    assert published.acquire(timeout=PATIENCE_SECONDS)
    while published.acquire(blocking=False):
        pass


@pytest.mark.parametrize("way", ["beside", "inside"])
@pytest.mark.parametrize("timeout", [0, 5])
@pytest.mark.parametrize("journal", JOURNALS)
def test_a_transaction_that_read_may_write_although_a_publish_came_between(
    journal: str, timeout: float, way: str, tmp_path: Path
) -> None:
    database = Database(tmp_path, journal, timeout)
    failures: list[str] = []
    with publishing(way, database) as until_published, closing(database.connect()) as db:
        for number in range(20):
            if len(failures) > 4:
                break  # it is clear by now, and each of them waits for somebody's lock
            try:
                db.execute("UPDATE device SET state = state + 1 WHERE id = 1")
                db.execute("BEGIN")
                (state,) = db.execute("SELECT state FROM device WHERE id = 2").fetchone()
                until_published()
                db.execute("UPDATE device SET state = ? WHERE id = 2", (state + 1,))
                db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                failures.append(f"{number}: {error}")
                if db.in_transaction:
                    db.execute("ROLLBACK")
            else:
                until_published()
    assert failures == []


@pytest.mark.parametrize("journal", ["DELETE", "TRUNCATE", "PERSIST"])
def test_a_client_without_a_timeout_may_insert_while_bequest_publishes(
    journal: str, tmp_path: Path
) -> None:
    """Like the sqlite3 shell: open, insert, close."""
    database = Database(tmp_path, journal, 0)
    failures: list[str] = []
    with beside(database.url, database.store) as sidecar:
        for number in range(200):
            with closing(database.connect()) as db:
                try:
                    db.execute(f"PRAGMA journal_mode = {journal}")
                    db.execute("INSERT INTO device VALUES (?, 0)", (10 + number,))
                except sqlite3.OperationalError as error:
                    failures.append(f"{number}: {error}")
            if number % 10 == 0:
                sidecar.process.poll()
                threading.Event().wait(0.02)
        sidecar.end()
        assert sidecar.published() > 5
    assert failures == []
    assert bequest.verify(str(database.store), database.url).ok


VERBS: dict[str, Callable[[str, str], object]] = {
    "status": lambda url, store: bequest.status(url, store),
    "drill": lambda url, store: bequest.drill(store, url),
    "verify": lambda url, store: bequest.verify(store, url),
    "diff": lambda url, store: bequest.diff(store, database=url),
    "backup": lambda url, store: bequest.backup(url, store),
    "log": lambda url, _: list(bequest.log(database=url)),
}


@pytest.mark.parametrize(("kind", "journal"), [("deferred", "WAL"), ("autocommit", "DELETE")])
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_that_an_operator_runs_beside_a_controller_disturbs_it(
    verb: str, kind: str, journal: str, tmp_path: Path
) -> None:
    rounds = 0
    with under_way(Plan(kind, journal, 0, 500), tmp_path, "without", "beside") as runs:
        run = runs["beside"]
        # Who opens a database in WAL mode without a timeout cannot while another one closes it.
        run.until_at_work()
        while run.working:
            VERBS[verb](run.url, str(run.store))
            rounds += 1
        plain, found = runs["without"].outcome(), run.outcome()
    assert found.failures == plain.failures
    assert found.rows == plain.rows
    assert rounds > 2
