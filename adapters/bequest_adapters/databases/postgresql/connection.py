"""Where the database is, how to connect, and what its errors mean.

Bequest uses connections of its own through psycopg, whatever driver the controller uses: its pool,
its events and its settings are not touched. Every connection is in autocommit mode, so none is
ever left idle in a transaction, and all settings that what is read depends on are pinned.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import pq
from sqlalchemy import URL

from bequest import forking
from bequest.errors import BequestError, Denied, Unreachable, UsageError

from . import forms, pooling

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS: Final = 10
MINIMUM_VERSION: Final = 140000
"""The first server with CREATE OR REPLACE TRIGGER and `hash_record_extended`."""

_KNOWN: Final = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Address:
    """What libpq is told, and the name that a log may hold."""

    parameters: Mapping[str, str]
    name: str

    @property
    def user(self) -> str:
        """The role of the URL, empty when libpq chooses it."""
        return self.parameters.get("user", "")


def locate(url: URL) -> Address:
    """Where ``url`` points, whichever driver it names. Raises `UsageError`.

    What it does not say libpq takes from where it always does: PGPASSWORD, .pgpass, a service.
    """
    told = {"user": url.username, "host": url.host, "dbname": url.database}
    found = {key: str(value) for key, value in told.items() if value}
    if url.password is not None:
        found["password"] = str(url.password)
    if url.port is not None:
        found["port"] = str(url.port)
    for key, value in url.query.items():
        text = value if isinstance(value, str) else ",".join(value)
        if key in _KNOWN:
            found[key] = text
        elif key == "ssl" and text in _SSL_MODES:  # asyncpg's word for it
            found["sslmode"] = text
    host = found.get("host", "")
    place = "" if host.startswith("/") else host + (f":{found['port']}" if "port" in found else "")
    return Address(found, f"postgresql://{place}/{found.get('dbname', '')}")


def connect(address: Address, *, to_restore: bool = False) -> Connection:
    """A connection in autocommit mode with every setting pinned. Raises as `translated` does."""
    with translated(address, to_restore=to_restore):
        connection = _open(address)
        try:
            if connection.info.server_version < MINIMUM_VERSION:
                raise UsageError(
                    f"The server of {address.name} is older than PostgreSQL 14. Nothing is backed "
                    "up from it: Bequest needs 14 or newer."
                )
            if pooling.lends_transactions(connection, partial(_open, address)):
                raise UsageError(
                    f"{address.name} is a pool that lends a session for one transaction at a time, "
                    "as pgbouncer does in transaction mode. Bequest was not let in and nothing was "
                    "changed: the right to publish is a lock of a session. Give the server's own "
                    "address and port, or a pool in session mode."
                )
            forms.prepare(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _open(address: Address) -> Connection:
    options: dict[str, Any] = {
        "connect_timeout": str(CONNECT_SECONDS),
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        **address.parameters,
        "client_encoding": "UTF8",
        "application_name": "bequest",
    }
    # A child that is forked meanwhile would keep a session open that nobody knows of.
    with forking.guard(seconds=forking.PATIENCE_SECONDS):
        # Not prepared behind our back: DDL between two uses would make the second one fail. With
        # None what we ask to be prepared would not be either.
        connection = psycopg.connect(**options, autocommit=True, prepare_threshold=sys.maxsize)
        _sessions.add(connection)
    return connection


class _Sessions:
    """All sessions of this process. A forked child lets go of them and says nothing to the server.

    Else the parent's session, and the locks that it holds, would outlive the parent.
    """

    def __init__(self) -> None:
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        forking.enrol(self)

    def add(self, connection: Connection) -> None:
        self._open.add(connection)

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on with them."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`."""
        for connection in list(self._open):
            abandon(connection)
        self._open.clear()


_sessions = _Sessions()


def abandon(connection: Connection) -> None:
    """In a forked child: let go of a session of the parent's, before the last name for it goes."""
    if not connection.closed:
        forking.detach(connection.fileno())


SCHEMA_MOVED: Final = ("42703", "42P01", "42704", "42883", "42804", "3F000", "XX000", "0A000")
"""What a statement fails with when the schema changed before it, among other reasons."""

# By SQLSTATE, or its class (PostgreSQL's appendix of error codes).
_ADVICE: Final[dict[str, tuple[type[BequestError], str, str]]] = {
    "28": (Denied, "refused the login", "Check user and password, and pg_hba.conf."),
    "3D": (Denied, "does not exist", "Check the name in the URL."),
    "42501": (Denied, "denied a right ({})", "Grant it; the how-to for PostgreSQL lists all."),
    "25006": (
        Denied,
        "is read-only, a standby perhaps",
        "Give the URL of the primary: publishing has to write a little.",
    ),
    "55P03": (
        Unreachable,
        "has a table locked by another transaction",
        "It will be tried again; if this stays, look for a transaction that is never ended.",
    ),
    "72000": (
        Unreachable,
        "has removed rows that were still to be read ({})",
        "It will be tried again; if this stays, raise the server's old_snapshot_threshold.",
    ),
    "53100": (Unreachable, "has no disk space left", "Free some space."),
    "53300": (Unreachable, "has no connection left", "Raise max_connections, or use fewer."),
}
_AGAIN: Final = "It will be tried again"
_BUSY: Final = (Unreachable, "could not be used ({})", f"{_AGAIN}.")
_CLASSES_THAT_PASS: Final = ("08", "40", "53", "55", "57", "58")

# A failed connection has no SQLSTATE, only the server's words; the first that fit count.
_WORDS: Final = {
    "permission denied for database": "42501",
    "too many connections for": "53300",
    "is not currently accepting connections": "55000",
    "authentication failed": "28",
    "no pg_hba.conf entry": "28",
    "no password supplied": "28",
    'role "': "28",
    'database "': "3D",
}


@contextmanager
def translated(address: Address, *, to_restore: bool = False) -> Generator[None]:
    """Turn psycopg's errors into ours, for a source or, ``to_restore``, for a target."""
    try:
        yield
    except psycopg.Error as error:
        kind, what, advice = _advice(error)
        said = what.format(_first_line(error, address))
        meaning = "The last published snapshot is untouched, but newer changes are not in it."
        if to_restore:
            meaning, advice = "Nothing was changed.", advice.replace(_AGAIN, "Try again")
        raise kind(f"The database {address.name} {said}. {meaning} {advice}") from error


def _advice(error: psycopg.Error) -> tuple[type[BequestError], str, str]:
    state = error.sqlstate or _state_by_words(error)
    if state in _ADVICE:
        return _ADVICE[state]
    if state[:2] in _ADVICE:
        return _ADVICE[state[:2]]
    if state in SCHEMA_MOVED:
        return (Unreachable, "changed while it was read ({})", "It will be tried again.")
    if not state or state[:2] in _CLASSES_THAT_PASS:
        return _BUSY
    return (BequestError, "refused a statement ({})", "Please report it.")


def _state_by_words(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.OperationalError):
        return next((state for words, state in _WORDS.items() if words in str(error)), "")
    return "" if isinstance(error, psycopg.InterfaceError) else "?"


def _first_line(error: psycopg.Error, address: Address) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    secret = address.parameters.get("password", "")
    return line.replace(secret, "***") if secret else line


class Connections:
    """Connections to one database, handed out one per user at a time and kept for the next."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self.server = ""
        forking.enrol(self)

    @contextmanager
    def use(self) -> Generator[Connection]:
        """A connection outside any transaction; what is left open is rolled back."""
        connection = self._take()
        try:
            with translated(self.address):
                yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on with its sessions."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`."""
        for connection in self._idle:
            abandon(connection)
        self._idle = []
        self._lock = threading.Lock()

    def _take(self) -> Connection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if _alive(connection):
                    return connection
                connection.close()
        connection = connect(self.address)
        self.server = f"PostgreSQL {connection.info.parameter_status('server_version')}"
        return connection

    def _give_back(self, connection: Connection) -> None:
        if not end(connection):
            connection.close()
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _alive(connection: Connection) -> bool:
    """Whether an idle connection was not ended meanwhile, as far as this side has heard."""
    if connection.closed:
        return False
    try:
        connection.pgconn.consume_input()  # the server's farewell, perhaps ...
        connection.pgconn.consume_input()  # ... behind which there is nothing any more
    except psycopg.OperationalError:
        return False
    return not connection.closed


def end(connection: Connection) -> bool:
    """Roll back what is open; whether the connection can be used again."""
    status = connection.info.transaction_status
    if status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            return False
        status = connection.info.transaction_status
    return status == pq.TransactionStatus.IDLE
