"""Controllers on machines of their own, with either kind of database: each can be cloned."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, create_engine, text

import bequest
from bequest import registry
from tests.servers.postgresql import PostgresqlServer, connect

_numbers = itertools.count(1)


class Machine(Protocol):
    """One controller's database; its sites are what is backed up."""

    @property
    def url(self) -> str: ...

    def write(self, name: str) -> None:
        """Commit one more site."""

    def sites(self) -> list[str]:
        """Their names."""

    def clone(self) -> Machine:
        """A copy of the database on another machine, without what lies beside it."""


Make = Callable[[], Machine]


def backup(machine: Machine, store: str, **options: Any) -> bequest.PublishReport:
    return bequest.backup(machine.url, store, **options)


def origin_of(machine: Machine) -> str:
    """What a publish of it would say that it descends from."""
    with closing(registry.open_source(machine.url)) as source:
        with source.cut(source.recall()) as cut:
            return cut.origin("")


def descends(machine: Machine, origin: str) -> bool:
    with closing(registry.open_source(machine.url)) as source:
        return bool(source.descends(origin))


def alter(machine: Machine, statement: str) -> None:
    engine = create_engine(machine.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def sites_in(store: str, folder: Path) -> list[str]:
    """The sites that the object at ``store`` holds."""
    machine = SqliteMachine(folder / f"looked-at-{next(_numbers)}")
    machine.folder.mkdir()
    bequest.restore(store, machine.url, adopt=False)
    return machine.sites()


@dataclass(frozen=True)
class SqliteMachine:
    """A file in a folder of its own."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> SqliteMachine:
        machine = cls(folder / f"machine-{next(_numbers)}")
        machine.folder.mkdir()
        with closing(sqlite3.connect(machine.path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE site (id INTEGER PRIMARY KEY, name TEXT)")
        return machine

    @property
    def path(self) -> Path:
        return self.folder / "c.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def write(self, name: str) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("INSERT INTO site (name) VALUES (?)", (name,))
            db.commit()

    def sites(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as db:
            return [row[0] for row in db.execute("SELECT name FROM site ORDER BY id")]

    def clone(self, *, with_side_file: bool = False) -> SqliteMachine:
        other = SqliteMachine(self.folder.parent / f"machine-{next(_numbers)}")
        other.folder.mkdir()
        copy(self.path, other.path)
        if with_side_file:
            shutil.copy2(f"{self.path}-bequest", f"{other.path}-bequest")
        return other

    def save(self) -> Callable[[], None]:
        """Keep the database as it is; the answer rolls it back to that."""
        old = self.folder / f"old-{next(_numbers)}"
        copy(self.path, old)

        def roll_back() -> None:
            for end in ("-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)
            shutil.copyfile(old, f"{old}-again")
            os.replace(f"{old}-again", self.path)

        return roll_back


def copy(path: Path, to: Path) -> None:
    """Copy a database as a program would that knows nothing of Bequest."""
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(to)) as twin:
        db.backup(twin)


@dataclass(frozen=True)
class PostgresqlMachine:
    """A database of a server."""

    server: PostgresqlServer
    address: URL

    @classmethod
    def made(cls, server: PostgresqlServer, template: str = "template1") -> PostgresqlMachine:
        name = f"machine_{next(_numbers)}"
        with server.connect() as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        machine = cls(server, server.url.set(database=name))
        if template == "template1":
            with connect(machine.address) as db:
                db.execute("CREATE TABLE site (id serial PRIMARY KEY, name text)")
        return machine

    @property
    def url(self) -> str:
        return self.address.render_as_string(hide_password=False)

    def write(self, name: str) -> None:
        with connect(self.address) as db:
            db.execute("INSERT INTO site (name) VALUES (%s)", [name])

    def sites(self) -> list[str]:
        with connect(self.address) as db:
            return [str(row[0]) for row in db.execute("SELECT name FROM site ORDER BY id")]

    def clone(self) -> PostgresqlMachine:
        with self.server.connect() as db:
            db.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                [self.address.database],
            )
        return PostgresqlMachine.made(self.server, str(self.address.database))
