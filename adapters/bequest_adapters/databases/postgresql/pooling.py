"""Whether a pool stands between us and the server, and lends sessions for one transaction only.

Then a lock of a session, such as the right to publish, belongs to the client that uses the session
next, and so would our settings. It must be known before anything is set.

A pool makes up the process number that it gives a client, so one query recognises a direct
connection. Behind a pool each client keeps its session for as long as it is connected, or it does
not: a second client gets the first one's session, or the first one gets another.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import psycopg

ROUNDS: Final = 3
"""Other clients use the pool as well, and may hide in one round what the next one shows."""

AnyConnection = psycopg.Connection[Any]


def lends_transactions(connection: AnyConnection, another: Callable[[], AnyConnection]) -> bool:
    """Whether ``connection``, new and in autocommit mode, has no session of its own.

    ``another`` opens a second one to the same address. Raises psycopg's errors.
    """
    if _process(connection) == connection.info.backend_pid:
        return False
    with closing(another()) as second:
        return any(_moves(connection, second) for _ in range(ROUNDS))


def _moves(first: AnyConnection, second: AnyConnection) -> bool:
    process = _process(first)
    if _process(first) != process:
        return True
    second.execute("BEGIN")
    try:
        return _process(second) == process or _process(first) != process
    finally:
        second.execute("ROLLBACK")


def _process(connection: AnyConnection) -> int:
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])
