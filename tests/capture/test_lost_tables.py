"""Whatever of Bequest's tables somebody drops, writers go on and capture heals itself."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import MetaData, create_engine, make_url, text

import bequest
from bequest.model import Memory, Selection
from bequest_adapters.databases.sqlite import installing, open_source
from bequest_adapters.databases.sqlite.identity import (
    Identity,
    Known,
    installation_in_triggers,
    read_identity,
)
from bequest_adapters.databases.sqlite.installation import OWN_TABLES
from bequest_schema.tables import CAPTURE, JOURNAL, MEMORY, SETTINGS
from tests.capture_sqlite import Controller, Make, controller

__all__ = ["controller"]

SCRIPT: Final = """
    CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE);
    CREATE TABLE wide(a, b, c, d, e, f, PRIMARY KEY(a, b, c, d, e, f)) WITHOUT ROWID;
    CREATE TABLE left_out(x);
"""
SUBSETS: Final = [
    tuple(subset)
    for subset in chain.from_iterable(
        combinations(sorted(OWN_TABLES), size) for size in range(1, len(OWN_TABLES) + 1)
    )
]


def write(db: sqlite3.Connection) -> None:
    # A connection that failed to compile a trigger looks at the schema again when it next reads.
    db.execute("SELECT count(*) FROM t").fetchall()
    db.execute("INSERT OR REPLACE INTO t(id, a) VALUES (7, 'x'), (8, 'y')")
    db.execute("UPDATE t SET a = 'z' WHERE id = 8")
    db.execute("INSERT OR REPLACE INTO wide VALUES (1, 2, 3, 4, 5, 6)")
    db.execute("DELETE FROM wide")


def drop(path: Path, tables: tuple[str, ...]) -> None:
    """As another program does, which knows nothing of Bequest."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for table in tables:
            other.execute(f"DROP TABLE {table}")


def identity(app: Controller) -> Identity:
    return read_identity(app.db)


@pytest.mark.parametrize("lost", SUBSETS, ids="+".join)
def test_any_tables_may_be_lost(controller: Make, lost: tuple[str, ...]) -> None:
    app = controller(SCRIPT)
    write(app.db)
    app.check()
    before = identity(app)
    numbers = [table.id for table in app.catalog().tables]
    drop(app.path, lost)
    with app.source.cut(Memory(position="1:1.0:x")) as cut:
        assert cut.stale
        assert list(cut.mutations()) == [] or JOURNAL not in lost
    assert app.source.installed()
    assert app.source.install()
    assert not app.source.install()
    assert identity(app).installation == before.installation
    if SETTINGS not in lost:
        assert identity(app) == before
    assert [table.id for table in app.catalog().tables] == numbers
    assert app.fault()
    app.rebase()
    write(app.db)
    app.check()


@pytest.mark.parametrize("lost", [each for each in SUBSETS if MEMORY not in each], ids="+".join)
def test_a_backup_goes_on_after_a_loss(tmp_path: Path, lost: tuple[str, ...]) -> None:
    path, store = tmp_path / "app.db", str(tmp_path / "o")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(SCRIPT)
        bequest.backup(f"sqlite:///{path}", store)
        drop(path, lost)
        assert bequest.backup(f"sqlite:///{path}", store).action == "rewrite"
        write(db)
        assert bequest.backup(f"sqlite:///{path}", store).action == "append"
    assert bequest.verify(store, f"sqlite:///{path}").ok


def test_writers_pass_again_before_anything_else_is_done(controller: Make) -> None:
    app = controller(SCRIPT)
    drop(app.path, tuple(sorted(OWN_TABLES)))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        write(app.db)
    app.source.heal()  # type: ignore[attr-defined]
    write(app.db)
    assert app("SELECT name FROM sqlite_schema WHERE name GLOB 'bequest_[a-z]*'") == [(JOURNAL,)]
    assert app("SELECT min(seq) FROM bequest_journal") == [(1,)]


def test_healing_writes_nothing_where_nothing_is_wrong(controller: Make) -> None:
    app = controller(SCRIPT)
    version = app("PRAGMA data_version")
    app.source.heal()  # type: ignore[attr-defined]
    app.source.uninstall()
    uninstalled = app("PRAGMA data_version")
    assert uninstalled != version
    app.source.heal()  # type: ignore[attr-defined]
    assert app("PRAGMA data_version") == uninstalled


def test_the_guards_of_a_database_that_follows_need_no_journal(controller: Make) -> None:
    app = controller(SCRIPT)
    app.source.uninstall()
    app("CREATE TRIGGER bequest_1_fi BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'wait'); END")
    assert not app.source.installed()
    version = app("PRAGMA data_version")
    app.source.heal()  # type: ignore[attr-defined]
    assert app("PRAGMA data_version") == version


def test_tables_without_triggers_are_no_loss_either(controller: Make) -> None:
    app = controller(SCRIPT)
    for (name,) in app("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        app(f"DROP TRIGGER {name}")
    before = identity(app)
    assert app.source.install()
    assert identity(app) == before
    app.rebase()
    write(app.db)
    app.check()


def test_everything_lost_is_a_first_installation(controller: Make) -> None:
    app = controller(SCRIPT)
    for (name,) in app("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        app(f"DROP TRIGGER {name}")
    before = identity(app)
    drop(app.path, tuple(sorted(OWN_TABLES)))
    assert not app.source.installed()
    write(app.db)
    assert app.source.install()
    assert identity(app) != before
    app.rebase()
    write(app.db)
    app.check()


def test_the_triggers_name_the_installation(controller: Make) -> None:
    app = controller(SCRIPT)
    found = installation_in_triggers(app.db)
    assert len(found) == 32
    assert found == identity(app).installation
    assert identity(app).epoch == 1
    assert identity(app).lineage
    app.source.uninstall()
    assert installation_in_triggers(app.db) == ""


def test_what_is_known_from_elsewhere_completes_the_identity(controller: Make) -> None:
    app = controller(SCRIPT)
    write(app.db)
    before = identity(app)
    ((last,),) = app("SELECT max(seq) FROM bequest_journal")
    drop(app.path, (SETTINGS, JOURNAL, CAPTURE))
    known = Known(Identity(before.installation, "its-lineage", 5), last, Selection(exclude=("l*",)))
    with closing(sqlite3.connect(app.path, isolation_level=None)) as ours:
        assert installing.install(ours, None, None, known)
        assert not installing.install(ours, None, None, known)
    assert identity(app) == Identity(before.installation, "its-lineage", 5)
    assert [table.name for table in app.catalog().tables] == ["t", "wide"]
    app.rebase()
    app("INSERT INTO t(id) VALUES (99)")
    assert app("SELECT max(seq) FROM bequest_journal") == [(last + 2,)], "positions only grow"
    app.check()


def test_what_is_known_of_another_installation_does_not_count(controller: Make) -> None:
    app = controller(SCRIPT)
    before = identity(app)
    drop(app.path, (SETTINGS,))
    known = Known(Identity("f" * 32, "another", 5))
    with closing(sqlite3.connect(app.path, isolation_level=None)) as ours:
        assert installing.install(ours, None, None, known)
    assert identity(app).installation == before.installation
    assert identity(app).lineage != "another"


@pytest.fixture
def engine_url(tmp_path: Path) -> str:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(SCRIPT)
    return f"sqlite:///{path}"


def test_drop_all_of_what_was_reflected_through_the_embedded_engine(
    engine_url: str, tmp_path: Path
) -> None:
    engine = create_engine(engine_url)
    with bequest.Backup(engine, str(tmp_path / "o"), on_event=lambda *_: None) as backup:
        backup.flush()
        found = MetaData()
        with engine.begin() as connection:
            found.reflect(connection)
            assert JOURNAL in found.tables
            ours = [table for name, table in found.tables.items() if name.startswith("bequest_")]
            found.drop_all(connection, ours)
            connection.execute(text("INSERT INTO t(a) VALUES ('in the same transaction')"))
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO t(a) VALUES ('afterwards')"))
    engine.dispose()


def test_all_tables_dropped_and_made_again(engine_url: str, tmp_path: Path) -> None:
    engine = create_engine(engine_url)
    with bequest.Backup(engine, str(tmp_path / "o"), on_event=lambda *_: None) as backup:
        backup.flush()
        found = MetaData()
        found.reflect(engine)
        found.drop_all(engine)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)"))
            connection.execute(text("INSERT INTO t(a) VALUES ('new')"))
    engine.dispose()
    assert bequest.install(engine_url) in (True, False)
    assert not bequest.install(engine_url)


def test_a_sidecar_heals_what_another_program_dropped(engine_url: str, tmp_path: Path) -> None:
    # The store is away, so that the watcher would otherwise wait ever longer.
    store = tmp_path / "away" / "o"
    backup = bequest.Backup(engine_url, str(store), on_event=lambda *_: None)
    with suppress(bequest.BequestError):
        backup.start()
    path = Path(str(make_url(engine_url).database))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        drop(path, (JOURNAL,))
        deadline = time.monotonic() + 30
        while True:
            try:
                write(other)
                break
            except sqlite3.OperationalError:
                assert time.monotonic() < deadline, "nobody healed the journal"
                time.sleep(0.01)
    backup.stop(0)


def test_a_dump_of_a_captured_database_makes_one_that_accepts_writes(controller: Make) -> None:
    app = controller(SCRIPT)
    write(app.db)
    copy = app.path.with_name("copy.db")
    with closing(sqlite3.connect(copy, isolation_level=None)) as new:
        new.executescript("\n".join(app.db.iterdump()))
        write(new)
    _goes_on(copy)


def test_so_does_a_copy_by_vacuum(controller: Make) -> None:
    app = controller(SCRIPT)
    write(app.db)
    copy = app.path.with_name("copy.db")
    app("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy, isolation_level=None)) as new:
        write(new)
    _goes_on(copy)


def _goes_on(path: Path) -> None:
    source = open_source(make_url(f"sqlite:///{path}"))
    source.install()
    source.close()
    app = Controller(path)
    write(app.db)
    app.check()
    app.close()


def test_a_half_installed_database_is_healed_by_a_process_that_knows_nothing(
    controller: Make,
) -> None:
    app = controller(SCRIPT)
    drop(app.path, (JOURNAL, SETTINGS))
    program = f"import bequest; assert bequest.install('sqlite:///{app.path}')"
    paths: dict[str, Any] = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", program], check=True, env=paths, timeout=60)
    write(app.db)
    app.rebase()
    write(app.db)
    app.check()
