"""Installed in one step, upgraded in place, bounded, remembered, and gone without a trace."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url

from bequest.errors import Unreachable, UsageError
from bequest.model import Memory, Pending
from bequest_adapters.databases.sqlite import open_source
from bequest_adapters.databases.sqlite.triggers import LIMIT_EVERY, LIMIT_ROWS
from bequest_schema import HEAD, TABLES
from bequest_schema import migrations as bequest_migrations
from bequest_schema.tables import metadata
from tests.capture_sqlite import Make, controller

__all__ = ["controller"]

SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"
SCRIPT = """
    CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE);
    CREATE TABLE u(a, b);
    CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;
"""


def test_uninstall_leaves_the_schema_as_it_was(controller: Make, tmp_path: Path) -> None:
    app = controller(SCRIPT)
    app.source.uninstall()
    before = app(SCHEMA)
    assert len(before) == 4
    for _ in range(2):
        assert app.source.install()
        assert len(app(SCHEMA)) > len(before)
        with app.source.exclusive(1):
            assert app.source.lead()
        app("INSERT INTO t VALUES (NULL, NULL)")
        app.source.uninstall()
        assert app(SCHEMA) == before
        assert not app.source.installed()
    app("INSERT INTO t VALUES (NULL, NULL)")
    app.source.close()
    assert [path.name for path in tmp_path.iterdir()] == ["app.db"]


def test_before_install_everything_answers(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    source = open_source(make_url(f"sqlite:///{path}"))
    assert not source.installed()
    assert source.recall() == Memory()
    assert source.pending(Memory()) == Pending(0, 0, None)
    source.trim("")
    with source.cut(Memory()) as cut:
        assert cut.fault == "capture is not installed"
        assert cut.position == ""
        assert cut.catalog().tables == ()
        assert list(cut.mutations()) == []
    source.uninstall()
    assert source.install()
    source.close()


def test_a_failed_install_leaves_nothing(controller: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app = controller(SCRIPT)
    app.source.uninstall()
    before = app(SCHEMA)

    def fail(*_: object) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr("bequest_adapters.databases.sqlite.installation.write_whole", fail)
    with pytest.raises(RuntimeError):
        app.source.install()
    assert app(SCHEMA) == before


def test_the_head_is_the_newest_migration() -> None:
    config = Config()
    folder = os.path.dirname(bequest_migrations.__file__)
    config.set_main_option("script_location", folder.replace("%", "%%"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_lead_to_the_tables_as_they_are_described(controller: Make) -> None:
    app = controller()
    engine = sa.create_engine(f"sqlite:///{app.path}")
    inspector = sa.inspect(engine)
    assert {name for name in inspector.get_table_names() if name.startswith("bequest_")} == TABLES
    for table in metadata.sorted_tables:
        columns = inspector.get_columns(table.name)
        assert [column["name"] for column in columns] == list(table.columns.keys())
        assert [column["nullable"] for column in columns] == [
            column.nullable for column in table.columns
        ]
        assert [str(column["type"]).upper() for column in columns if column["name"][0] != "k"] == [
            column.type.compile(engine.dialect).upper() or "NULL"
            for column in table.columns
            if column.name[0] != "k"
        ]
    engine.dispose()


def test_the_controllers_own_revision_is_untouched(controller: Make) -> None:
    app = controller(
        "CREATE TABLE alembic_version(version_num); INSERT INTO alembic_version VALUES ('theirs')"
    )
    assert app("SELECT version_num FROM alembic_version") == [("theirs",)]
    assert app("SELECT version_num FROM bequest_version") == [(HEAD,)]
    app.check()


def test_an_older_installation_is_upgraded_in_place(controller: Make) -> None:
    app = controller(SCRIPT)
    # The oldest that can be: an empty version table, as a first migration that died leaves it.
    app.source.uninstall()
    app("CREATE TABLE bequest_version(version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    assert app.source.install()
    app.rebase()
    app("INSERT INTO t VALUES (1, 1)")
    app.check()


def test_a_newer_installation_is_left_alone(controller: Make) -> None:
    app = controller(SCRIPT)
    app("UPDATE bequest_version SET version_num = '9999'")
    before = app(SCHEMA)
    with pytest.raises(UsageError, match="newer Bequest"):
        app.source.install()
    assert app(SCHEMA) == before


def test_an_installed_database_is_opened_without_alembic(controller: Make) -> None:
    app = controller(SCRIPT)
    program = (
        "import sys; from sqlalchemy import make_url;"
        "from bequest_adapters.databases.sqlite import open_source;"
        f"s = open_source(make_url('sqlite:///{app.path}'));"
        "assert s.install() is False; s.close();"
        "assert 'alembic' not in sys.modules"
    )
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_the_journal_is_bounded_even_when_nobody_looks(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", journal_limit=2000)
    many = (
        "INSERT INTO t(a) WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
        " WHERE i < {}) SELECT i FROM n"
    )
    app(many.format(1500))
    app.check()
    app(many.format(20000))
    ((count, last),) = app("SELECT count(*), max(seq) FROM bequest_journal")
    assert 2000 <= count <= 2000 + LIMIT_EVERY
    assert last == 21500
    assert app.fault() == "the journal does not reach back to the last publish"
    assert app.source.pending(app.memory).mutations == count
    app.rebase()
    app("DELETE FROM t WHERE id < 5")
    app.check()


def test_a_lowered_limit_is_reached_in_small_steps(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    many = (
        "INSERT INTO t WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 20000) SELECT NULL FROM n"
    )
    app(many)
    lower = open_source(make_url(f"sqlite:///{app.path}"), journal_limit=10)
    assert lower.install()
    lower.close()
    assert not app.source.install(), "who names no limit keeps the one that is set"
    before = app("SELECT count(*) FROM bequest_journal")[0][0]
    for _ in range(4):
        app(many.replace("20000", str(LIMIT_EVERY)))
        after = app("SELECT count(*) FROM bequest_journal")[0][0]
        assert after == before + LIMIT_EVERY - LIMIT_ROWS
        before = after


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM bequest_journal WHERE seq = 2", "missing"),
        ("DELETE FROM bequest_journal WHERE seq = 3", "missing"),
        ("DELETE FROM bequest_journal WHERE seq = 1", "reach back"),
        ("UPDATE bequest_journal SET at = at + 1 WHERE seq = 1", "reach back"),
        ("DELETE FROM bequest_journal", "reach back"),
        ("UPDATE bequest_journal SET tab = 77 WHERE seq = 3", "not captured"),
    ],
)
def test_a_journal_that_is_not_ours_any_more(controller: Make, damage: str, said: str) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    app("INSERT INTO t VALUES (1)")
    app.check()
    app("INSERT INTO t VALUES (2), (3), (4)")
    app(damage)
    assert said in app.fault()
    app.mutations()


def test_an_empty_position_is_a_fault(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    app.memory = Memory()
    assert app.fault()
    app.memory = Memory(position="not one of ours")
    assert app.fault()


def test_pending_counts_what_is_not_published(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    never = app.source.pending(Memory())
    assert (never.transactions, never.mutations) == (1, 0), "all that was there is waiting"
    assert never.since is not None
    app.check()
    assert app.source.pending(app.memory) == Pending(0, 0, None)
    app("INSERT INTO t VALUES (1), (2)")
    found = app.source.pending(app.memory)
    assert (found.transactions, found.mutations) == (1, 2)
    (now,) = app("SELECT (julianday('now') - 2440587.5) * 86400")[0]
    assert found.since is not None
    assert abs(found.since - now) < 60
    assert app.mutations()[0].at == found.since
    assert app.source.pending(Memory()).mutations == 2
    app.check()
    assert app.source.pending(app.memory) == Pending(0, 0, None)


def test_one_publishes_and_one_leads(controller: Make) -> None:
    app = controller()
    other = open_source(make_url(f"sqlite:///{app.path}"))
    with app.source.exclusive(0.1):
        with pytest.raises(Unreachable, match="Another process"):
            with other.exclusive(0.01):
                pass
        with pytest.raises(Unreachable):
            with app.source.exclusive(0.01):
                pass
    with other.exclusive(1):
        pass
    assert app.source.lead()
    assert app.source.lead()
    assert not other.lead()
    app.source.close()
    assert other.lead()
    other.close()


def test_locks_are_given_back_when_the_holder_is_killed(controller: Make) -> None:
    app = controller()
    program = (
        "import sys; from sqlalchemy import make_url;"
        "from bequest_adapters.databases.sqlite import open_source;"
        f"s = open_source(make_url('sqlite:///{app.path}')); assert s.lead();"
        "context = s.exclusive(1); context.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not app.source.lead()
        with pytest.raises(Unreachable):
            with app.source.exclusive(0.01):
                pass
        holder.kill()
        holder.wait()
    assert app.source.lead()
    with app.source.exclusive(1):
        pass


def test_threads_may_ask_at_once(controller: Make) -> None:
    app = controller("PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY)")
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(20):
                app.source.pending(app.memory)
                app.source.remember(Memory(serial=1), durable=False)
                with app.source.cut(app.memory) as cut:
                    list(cut.mutations())
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        app("INSERT INTO t VALUES (?)", [number])
    for thread in threads:
        thread.join()
    assert failures == []
    app.check()


def test_a_writer_in_the_middle_of_an_install_loses_nothing(controller: Make) -> None:
    app = controller("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    app("BEGIN")
    app("INSERT INTO t VALUES (1)")
    assert app.source.pending(app.memory).mutations == 0
    app("COMMIT")
    app.check()


def test_many_threads_may_install_while_the_controller_migrates(tmp_path: Path) -> None:
    def install(number: int) -> None:
        path = tmp_path / f"{number}.db"
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        source = open_source(make_url(f"sqlite:///{path}"))
        assert source.install()
        source.close()

    engine = create_engine(f"sqlite:///{tmp_path / 'controller.db'}")
    with engine.begin() as connection, ThreadPoolExecutor(8) as pool:
        with Operations.context(MigrationContext.configure(connection)):
            list(pool.map(install, range(24)))
            op.execute("CREATE TABLE mine (id INTEGER)")
    engine.dispose()
