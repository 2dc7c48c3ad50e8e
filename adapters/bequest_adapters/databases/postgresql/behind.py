"""One piece of work on a connection in another thread, while the caller prepares the next.

Invariants: a connection is never used from two threads at once, for whoever uses it settles first;
one piece is in flight at most, which bounds the memory; no thread is left when `close` returns.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Final

import psycopg

PATIENCE_SECONDS: Final = 2.0
"""How long a piece may take to end once nobody wants it any more."""


class Behind:
    """Work on ``connection``. For one thread."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: Future[None] | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Settle, then let ``work`` go on while this returns."""
        self.settle()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "bequest-load")
        self._waiting = self._pool.submit(work)

    def settle(self) -> None:
        """Wait for the piece that is in flight. Raises whatever it raised."""
        if self._waiting is not None:
            self._waiting.result()
            self._waiting = None

    def close(self) -> None:
        """End the thread: after its piece, or by taking the server away from it. Raises nothing."""
        if self._pool is None:
            return
        try:
            if self._waiting is not None:
                wait([self._waiting], PATIENCE_SECONDS)
        finally:
            if self._waiting is not None and not self._waiting.done():
                _cut_off(self._connection)
            self._pool.shutdown()


def _cut_off(connection: psycopg.Connection[Any]) -> None:
    """Let the server end what it does, and whoever waits for it see that. It rolls back."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=PATIENCE_SECONDS)
    # Only shut down: another thread still waits on the descriptor, and closing would free it.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
