"""What root sets up, backs up or restores is the controller's user's to go on with.

The controller is a process of another user (`NOBODY`). Where the tests do not run as root there is
no other user to be; the same steps then show that nobody but root gives files away.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import registry

IS_ROOT = os.geteuid() == 0
NOBODY = 65534 if IS_ROOT else os.geteuid()
GROUP = 65534 if IS_ROOT else os.getegid()


def as_user(work: Callable[[], object]) -> None:
    """Do ``work`` in a process of the controller's user; it must not raise."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if IS_ROOT:
                os.setgroups([])
                os.setgid(GROUP)
                os.setuid(NOBODY)
            work()
            code = 0
        except Exception:
            logging.exception("a child failed")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """The controller's folder; what pytest itself offers only root may enter."""
    with tempfile.TemporaryDirectory(prefix="bequest-test-") as name:
        os.chmod(name, 0o755)
        place = Path(name) / "controller"
        place.mkdir(0o755)
        os.chown(place, NOBODY, GROUP)
        yield place


@pytest.fixture
def database(folder: Path) -> str:
    path = folder / "c.db"
    _warm(folder.parent)

    def make() -> None:
        os.umask(0o027)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT)")

    as_user(make)
    return f"sqlite:///{path}"


def _warm(folder: Path) -> None:
    """Import all that the user's processes need: they may not be able to read the packages."""
    source = f"sqlite:///{folder}/warm.db"
    with closing(sqlite3.connect(folder / "warm.db")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with bequest.Backup(source, str(folder / "warm.bequest")) as backup:
        backup.flush()
    bequest.verify(str(folder / "warm.bequest"), source)
    bequest.restore(str(folder / "warm.bequest"), f"sqlite:///{folder}/warm-2.db", adopt=True)


def change(database: str) -> None:
    path = database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO sites (name) VALUES ('x')")


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}


def all_the_users(folder: Path) -> bool:
    return set(owners(folder).values()) == {(NOBODY, GROUP)}


def test_after_root_has_set_up_and_backed_up_the_controllers_user_goes_on(
    folder: Path, database: str
) -> None:
    store = str(folder / "o.bequest")
    bequest.install(database)
    bequest.backup(database, store)
    with closing(registry.open_source(database)) as source:
        source.lead()
    assert all_the_users(folder), owners(folder)

    def go_on() -> None:
        change(database)
        with bequest.Backup(database, store) as backup:
            assert backup.flush().rows == 1
            assert backup.backup_now(rewrite=True).action == "rewrite"

    as_user(go_on)
    assert all_the_users(folder), owners(folder)


def test_locks_have_the_mode_of_the_database(folder: Path, database: str) -> None:
    bequest.backup(database, str(folder / "o.bequest"))
    assert stat.S_IMODE((folder / "c.db-bequest.lock").stat().st_mode) == 0o640


def test_logs_that_roots_connections_make_are_the_users(folder: Path, database: str) -> None:
    with closing(registry.open_source(database)) as source:
        source.install()
        with source.cut(source.recall()):
            assert {"c.db-wal", "c.db-shm"} <= set(owners(folder))
            assert all_the_users(folder), owners(folder)


def test_what_root_restores_the_controllers_user_publishes(folder: Path, database: str) -> None:
    store = str(folder / "o.bequest")
    as_user(lambda: (change(database), bequest.backup(database, store)))
    new = f"sqlite:///{folder}/new.db"
    bequest.restore(store, new, adopt=True)
    bequest.restore(store, new, force=True, adopt=True)
    assert all_the_users(folder), owners(folder)
    assert any("before-restore" in name for name in owners(folder))

    def go_on() -> None:
        change(new)
        assert bequest.backup(new, store).rows == 2

    as_user(go_on)


def test_a_folder_that_a_group_shares_shares_what_root_makes_in_it(folder: Path) -> None:
    os.chown(folder, os.geteuid(), GROUP)
    folder.chmod(0o770)
    source = f"sqlite:///{folder.parent}/warm.db"
    _warm(folder.parent)
    bequest.backup(source, str(folder / "o.bequest"))
    facts = (folder / "o.bequest").stat()
    shared = 0o660 if IS_ROOT else 0o600
    assert (stat.S_IMODE(facts.st_mode), facts.st_gid) == (shared, GROUP)


def test_a_file_that_was_there_is_not_given_away(folder: Path, database: str) -> None:
    """A user may lay a link to another's file under the name of a lock."""
    secret = folder.parent / "secret"
    secret.write_text("root's")
    (folder / "c.db-bequest.lock").hardlink_to(secret)
    bequest.backup(database, str(folder / "o.bequest"))
    assert secret.stat().st_uid == os.geteuid()
    (folder / "c.db-bequest.leader").symlink_to(folder.parent / "made")
    with (
        closing(registry.open_source(database)) as source,
        pytest.raises((bequest.BequestError, OSError)),
    ):
        source.lead()
    assert not (folder.parent / "made").exists()


def test_the_remedy_names_the_user_whose_database_it_is(folder: Path, database: str) -> None:
    lock = folder / "c.db-bequest.lock"
    lock.touch()
    lock.chmod(0)
    os.chown(lock, os.geteuid(), os.getegid())
    messages = folder / "messages"

    def refused() -> None:
        try:
            bequest.backup(database, str(folder / "o.bequest"))
        except bequest.Denied as error:
            messages.write_text(str(error))

    as_user(refused)
    assert "Run Bequest as" in messages.read_text()
    assert "whose database it is" in messages.read_text()
