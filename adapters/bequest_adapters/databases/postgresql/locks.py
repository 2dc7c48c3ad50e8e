"""Who may publish and who watches, across processes and hosts: two advisory locks of sessions.

The server gives a lock back when its session ends, however it ends. What is remembered is written
on the very connection that holds the right to publish, so whoever has lost it cannot write.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from bequest import forking
from bequest.errors import Unreachable

from .connection import Connection, Connections, abandon, connect, translated
from .triggers import LOCK_CLASS as CLASS

PUBLISHING, LEADING = 1, 2
POLL_SECONDS: Final = (0.005, 0.1)


class Locks:
    """The two locks of one database."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._leader: Connection | None = None
        self._guard = threading.Lock()
        self._held = threading.local()
        forking.enrol(self)

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Generator[None]:
        """Hold the right to publish. Raises `Unreachable` when it is not free in time."""
        with self._connections.use() as connection:
            self._wait_for(connection, timeout_seconds)
            self._held.connection = connection
            try:
                yield
            finally:
                self._held.connection = None
                with suppress(psycopg.Error):  # a lost session has given it back already
                    connection.execute(f"SELECT pg_advisory_unlock({CLASS}, {PUBLISHING})".encode())

    @contextmanager
    def bookkeeping(self) -> Generator[Connection]:
        """The connection that holds the right to publish, or any when this thread has none."""
        held: Connection | None = getattr(self._held, "connection", None)
        if held is None:
            with self._connections.use() as connection:
                yield connection
            return
        with translated(self._connections.address):
            try:
                yield held
            finally:
                if not held.closed and held.info.transaction_status:
                    held.execute("ROLLBACK")

    def lead(self) -> bool:
        """Become or stay the leader, without waiting. Raises as `translated` does."""
        with self._guard:
            if self._leader is not None:
                try:
                    self._leader.execute("SELECT 1", prepare=True)
                except psycopg.Error:
                    self._drop()
                else:
                    return True
            connection = connect(self._connections.address)
            try:
                with translated(self._connections.address):
                    if _try(connection, LEADING):
                        self._leader = connection
                        return True
            finally:
                if self._leader is None:
                    connection.close()
            return False

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on leading."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`: a child does not lead because its parent does."""
        if self._leader is not None:
            abandon(self._leader)
        self._leader = None
        self._guard = threading.Lock()
        self._held = threading.local()

    def release(self) -> None:
        """Stop leading."""
        with self._guard:
            self._drop()

    def _drop(self) -> None:
        leader, self._leader = self._leader, None
        if leader is not None:
            leader.close()

    def _wait_for(self, connection: Connection, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        pause, longest = POLL_SECONDS
        while not _try(connection, PUBLISHING):
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"Another process is publishing {self._connections.address.name} and did not "
                    f"finish in {timeout_seconds:g} s. Its publish goes on; try again, or stop "
                    "that process."
                )
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, longest)


def _try(connection: Connection, lock: int) -> bool:
    row = connection.execute(
        f"SELECT pg_try_advisory_lock({CLASS}, {lock})".encode(), prepare=True
    ).fetchone()
    return row == (True,)
