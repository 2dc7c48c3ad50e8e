"""What cuts sessions short, or lends them to others, does not reach a publish half done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest import registry
from bequest.errors import Unreachable, UsageError
from bequest.model import Memory
from bequest.publisher import Publisher
from bequest_adapters.clock import SystemClock
from bequest_adapters.databases.postgresql import ranges
from bequest_adapters.databases.postgresql.connection import connect as connect_ours
from bequest_adapters.databases.postgresql.connection import locate, translated
from tests.servers.pooler import pooled
from tests.servers.postgresql import connect

TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
LIMIT_SECONDS = 0.2
LONGER_SECONDS = 0.5


@pytest.fixture
def hurried(postgresql_database: URL) -> Iterator[URL]:
    """A database whose sessions are ended after 200 ms of almost anything."""
    with closing(connect(postgresql_database)) as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        db.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i")
        known = {name for (name,) in db.execute("SELECT name FROM pg_settings")}
        for name in known & set(TIMEOUTS):
            db.execute(
                f'ALTER DATABASE "{postgresql_database.database}" SET {name} = '
                f"'{int(LIMIT_SECONDS * 1000)}ms'".encode()
            )
    return postgresql_database


def test_no_timeout_of_the_server_s_holds_for_our_sessions(hurried: URL) -> None:
    with closing(connect_ours(locate(hurried))) as ours:
        found = dict(
            ours.execute("SELECT name, setting FROM pg_settings WHERE name = ANY (%s)",
                         [list(TIMEOUTS)])
        )  # fmt: skip
        assert len(found) >= len(TIMEOUTS) - 1
        assert set(found.values()) == {"0"}
        ours.execute(f"BEGIN; SELECT pg_sleep({LONGER_SECONDS})".encode())
        time.sleep(LONGER_SECONDS)
        ours.execute("COMMIT")


def test_a_slow_publish_is_not_cut_short(
    hurried: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "WHOLE_BYTES", 0)
    monkeypatch.setattr(ranges, "GROWTH", 1)

    def slowly(what: str, rows: int, of: int | None) -> None:
        if rows < 200:
            time.sleep(LONGER_SECONDS)

    with (
        closing(registry.open_source(hurried)) as source,
        closing(registry.open_store(str(tmp_path / "o"))) as store,
    ):
        source.install()
        assert source.lead()
        publisher = Publisher(source, store, SystemClock(), progress=slowly)
        with source.exclusive(1):
            time.sleep(LONGER_SECONDS)
            source.remember(Memory(), durable=True)
        publisher.publish()
        with closing(registry.open_source(hurried)) as other:
            assert not other.lead()
    assert bequest.verify(str(tmp_path / "o"), hurried).ok


def test_rows_that_the_server_removed_under_the_snapshot_are_an_error_that_passes(
    postgresql_database: URL,
) -> None:
    address = locate(postgresql_database)
    with (
        closing(connect_ours(address)) as ours,
        pytest.raises(Unreachable, match="old_snapshot_threshold"),
        translated(address),
    ):
        ours.execute("DO $$ BEGIN RAISE 'snapshot too old' USING ERRCODE = '72000'; END $$")


@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_pool_that_lends_transactions_is_refused_and_left_as_it_was(
    postgresql_database: URL, tmp_path: Path, oldest_first: bool
) -> None:
    with pooled(postgresql_database, transactions=True, oldest_first=oldest_first) as pool:
        stop = threading.Event()

        def work() -> None:
            with closing(connect(pool)) as db:
                while not stop.is_set():
                    db.execute("SELECT 1", prepare=False)

        busy = [threading.Thread(target=work) for _ in range(2)]
        for thread in busy:
            thread.start()
        try:
            for _ in range(5):
                with pytest.raises(UsageError, match="pool in session mode"):
                    bequest.backup(pool, str(tmp_path / "o"))
        finally:
            stop.set()
            for thread in busy:
                thread.join()
        for _ in range(3):
            with closing(connect(pool)) as db:
                assert db.execute("SHOW search_path").fetchone() == ('"$user", public',)
    with closing(connect(postgresql_database)) as db:
        assert db.execute("SELECT to_regnamespace('bequest')").fetchone() == (None,)


def test_a_pool_that_is_idle_is_refused_too(postgresql_database: URL, tmp_path: Path) -> None:
    for oldest_first in (False, True):
        with (
            pooled(postgresql_database, transactions=True, oldest_first=oldest_first) as pool,
            pytest.raises(UsageError, match="pool in session mode"),
        ):
            bequest.backup(pool, str(tmp_path / "o"))


def test_a_pool_that_lends_sessions_will_do(postgresql_database: URL, tmp_path: Path) -> None:
    with closing(connect(postgresql_database)) as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    with pooled(postgresql_database, transactions=False) as pool:
        assert bequest.backup(pool, str(tmp_path / "o")).action == "create"
        with closing(connect(pool)) as db:
            db.execute("INSERT INTO t VALUES (2)")
        assert bequest.backup(pool, str(tmp_path / "o")).action == "append"
    assert bequest.verify(str(tmp_path / "o"), postgresql_database).ok


def test_a_direct_connection_asks_for_no_second_one(
    postgresql_database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    real = psycopg.connect

    def counted(**options: object) -> object:
        opened.append(options)
        return real(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg, "connect", counted)
    connect_ours(locate(postgresql_database)).close()
    assert len(opened) == 1
