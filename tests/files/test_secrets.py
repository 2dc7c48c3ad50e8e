"""A recorded file's content is in the object and nowhere else, least of all in the database."""

from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest_adapters.files.scanning import digest_of
from tests.servers.postgresql import PostgresqlServer, connect

from .test_recording import store

__all__ = ["store"]
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id")

WATCHER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for _ in sys.stdin:
    db.execute("SELECT * FROM t").fetchall()
    print(db.execute("PRAGMA data_version").fetchone()[0], flush=True)
"""


@pytest.fixture
def secret(tmp_path: Path) -> bytes:
    """Is in a file that only its owner may read, in the folder ``tls``."""
    made = secrets.token_hex(32).encode()
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "key.pem").touch(0o600)
    (tmp_path / "tls" / "key.pem").write_bytes(made)
    return made


def database(tmp_path: Path, mode: str) -> Path:
    (tmp_path / "db").mkdir()
    path = tmp_path / "db" / "ctl.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES (1)")
        db.commit()
    return path


def holding(folder: Path, wanted: bytes) -> list[str]:
    """The files below ``folder`` in which ``wanted`` is."""
    found = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return [str(path) for path in found if path.is_file() and wanted in path.read_bytes()]


def changed(tmp_path: Path, number: int) -> bytes:
    made = secrets.token_hex(32).encode() + str(number).encode()
    (tmp_path / "tls" / "key.pem").write_bytes(made)
    return made


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_no_byte_of_a_secret_is_in_an_sqlite_database_or_beside_it(
    tmp_path: Path, store: str, secret: bytes, mode: str
) -> None:
    path = database(tmp_path, mode)
    url, tls = f"sqlite:///{path}", tmp_path / "tls"
    known = [secret]
    # A connection that stays keeps the -wal file from being removed.
    with closing(sqlite3.connect(path)) as db, bequest.Backup(url, store, files=[tls]) as backup:
        db.execute("SELECT * FROM t").fetchall()
        for number in range(3):
            backup.flush()
            known.append(changed(tmp_path, number))
        backup.backup_now(rewrite=True)
        for each in known:
            assert holding(tmp_path / "db", each) == []
    bequest.files(store, files_to=tmp_path / "out")
    assert holding(tmp_path / "out", known[-1])
    bequest.restore(store, f"sqlite:///{tmp_path / 'db' / 'new.db'}", adopt=True)
    assert holding(tmp_path / "db", known[-1]) == []


def test_no_byte_of_a_secret_is_in_a_postgresql_server(
    postgresql: PostgresqlServer, tmp_path: Path, store: str, secret: bytes
) -> None:
    with postgresql.database() as url, connect(url) as db:
        db.execute("CREATE TABLE t (id integer PRIMARY KEY)")
        bequest.backup(url, store, files=[tmp_path / "tls"])
        new = changed(tmp_path, 1)
        assert bequest.backup(url, store, files=[tmp_path / "tls"]).action == "append"
        bequest.backup(url, store, files=[tmp_path / "tls"], rewrite=True)
        for each in (secret, new):
            assert _held(db, each) == []


def _held(db: psycopg.Connection, wanted: bytes) -> list[str]:
    """Where a server holds ``wanted``: in a table, or in its files if those are of this machine."""
    db.execute("CHECKPOINT")
    tables = db.execute(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    found = []
    for (name,) in tables:
        sql = f"SELECT count(*) FROM {name} x WHERE x::text LIKE %s OR x::text LIKE %s"
        shown = (f"%{wanted.decode()}%", f"%{wanted.hex()}%")
        (count,) = db.execute(sql.encode(), shown).fetchone()
        found += [name] if count else []
    (place,) = db.execute("SHOW data_directory").fetchone()
    here = Path(place)
    return found + (holding(here, wanted) if here.is_dir() else [])


def test_a_postgresql_database_gains_no_table_of_files(
    postgresql: PostgresqlServer, tmp_path: Path, store: str, secret: bytes
) -> None:
    with postgresql.database() as url, postgresql.database() as new:
        with connect(url) as db:
            db.execute("CREATE TABLE t (id integer PRIMARY KEY)")
        bequest.backup(url, store, files=[tmp_path / "tls"])
        bequest.restore(store, new, adopt=True)
        assert _tables(url) == _tables(new) == []


def _tables(url: URL) -> list[str]:
    with connect(url) as db:
        found = db.execute("SELECT relname FROM pg_class WHERE relname LIKE '%bequest_files%'")
        return [name for (name,) in found]


class Watcher:
    """Another process that sees by SQLite's own counter whether anybody has written."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", WATCHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def version(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(params=["wal", "delete"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return database(tmp_path, request.param)


@pytest.fixture
def watcher(path: Path) -> Iterator[Watcher]:
    with closing(Watcher(path)) as made:
        yield made


def test_recording_files_writes_nothing_to_an_sqlite_database(
    tmp_path: Path, store: str, secret: bytes, path: Path, watcher: Watcher
) -> None:
    (tmp_path / "tls" / "cert.pem").write_text("cert")
    with bequest.Backup(f"sqlite:///{path}", store, files=[tmp_path / "tls"]) as backup:
        backup.flush()
        before = watcher.version(), _weight(path)
        for number in range(20):
            (tmp_path / "tls" / f"file{number}").write_text("new")
            newest = digest_of(changed(tmp_path, number))
            backup.flush()
            assert newest in {each["digest"] for each in bequest.files(store).entries}
        backup.backup_now(rewrite=True)
        assert (watcher.version(), _weight(path)) == before
    assert bequest.files(store).files == 22


def _weight(path: Path) -> list[int]:
    beside = (path, path.with_name(f"{path.name}-wal"))
    return [each.stat().st_size if each.exists() else 0 for each in beside]
