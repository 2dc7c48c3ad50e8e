"""The kinds of databases that a promise about a restore is tried on."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import URL, make_url

from tests.postgresql.dumps import dump
from tests.servers.postgresql import PostgresqlServer, connect

from .controller import contents, rows


class Kind(Protocol):
    """Databases of one kind, by their URLs; all are gone when the test ends."""

    def new(self, name: str) -> str:
        """A database that is empty, or not there yet."""
        ...

    def run(self, url: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; its marks are question marks."""
        ...

    def state(self, url: str) -> object:
        """All rows and definitions of the controller's, for comparing two databases."""
        ...


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self, name: str) -> str:
        return f"sqlite:///{self._folder / name}.db"

    def run(self, url: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path(url))) as db:
            found = db.execute(sql, values).fetchall()
            db.commit()
            return found

    def state(self, url: str) -> object:
        if not self._path(url).exists():
            return None
        return contents(self._path(url)), definitions(self._path(url))

    def _path(self, url: str) -> Path:
        return Path(str(make_url(url).database))


def definitions(path: Path) -> set[tuple[str, str]]:
    """Tables, indexes and views of a database, without spelling that carries no meaning."""
    found = rows(
        path,
        "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'bequest%'"
        " AND tbl_name NOT LIKE 'bequest%'",
    )
    return {(name, re.sub(r'[\s"]+', " ", sql)) for name, sql in found}


class Postgresql:
    def __init__(self, server: PostgresqlServer, stack: ExitStack) -> None:
        self._server = server
        self._stack = stack
        self._made: dict[str, URL] = {}

    def new(self, name: str) -> str:
        if name not in self._made:
            self._made[name] = self._stack.enter_context(self._server.database())
        return self._made[name].render_as_string(hide_password=False)

    def run(self, url: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(connect(make_url(url))) as db:
            cursor = db.execute(sql.replace("?", "%s").encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def state(self, url: str) -> object:
        lines = dump(self._server, make_url(url))
        return sorted(line for line in lines if line[:2] not in (b"", b"--") and not _ours(line))


def _ours(line: bytes) -> bool:
    return b" bequest." in line or b" TRIGGER bequest_" in line


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Kind, None, None]:
    """A kind of database; a test that takes it is run on each."""
    if request.param == "sqlite":
        yield Sqlite(tmp_path)
        return
    with ExitStack() as stack:
        yield Postgresql(request.getfixturevalue("postgresql"), stack)
