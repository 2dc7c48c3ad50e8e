"""Reading large tables of the new file back in a process of its own, while later ones are loaded.

Python makes one row at a time, so a thread would only take turns with the loading. Run as a script
this module is that process; it imports nothing of Bequest's, and so is ready within 20 ms.
Invariants: a table is read after its commit, from the file itself (`target_beside` says when that
is safe); the process can only report what it read, and where it reports nothing, its caller reads.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from typing import Any, Final

APART_ROWS: Final = 20_000
"""A smaller table is read sooner than handed over."""
MOST_TABLES: Final = 100
"""Questions and answers of so many fit into a pipe: nobody ever waits for the other to read."""
OPENINGS: Final = 20
OPENING_SECONDS: Final = 0.01
_ROWS: Final = 512
_FETCH_BYTES: Final = 16 * 1024 * 1024
_PLAIN: Final = 2
_LIST_HEAD_BYTES: Final = 5


class Apart:
    """The process, started with the first question."""

    def __init__(self, uri: str) -> None:
        """``uri``: where SQLite finds the file."""
        self._uri = uri
        self._process: subprocess.Popen[str] | None = None
        self._asked: list[int] = []
        self._answers: dict[int, tuple[int, bytes]] = {}

    def ask(self, table: int, sql: str) -> None:
        """Have the rows of ``sql`` read and added up."""
        if len(self._asked) >= MOST_TABLES or getattr(sys, "frozen", False) or not sys.executable:
            return
        with suppress(OSError):
            process = self._started()
            if process.stdin is not None:
                process.stdin.write(json.dumps([self._uri, sql]) + "\n")
                process.stdin.flush()
                self._asked.append(table)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",
            )
        return self._process

    def answer(self, table: int) -> tuple[int, bytes] | None:
        """How many rows were read, and their `RowRun` digest; ``None``: read for yourself."""
        while table in self._asked and self._process is not None:
            line = ""
            with suppress(OSError):
                line = "" if self._process.stdout is None else self._process.stdout.readline()
            asked = self._asked.pop(0)
            with suppress(ValueError):
                if (found := json.loads(line)) is not None:
                    self._answers[asked] = found[0], bytes.fromhex(found[1])
        return self._answers.get(table)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):
                self._process.communicate()


def _read(uri: str, sql: str) -> tuple[int, str]:
    """Exactly `bequest.snapshot.digest.RowRun`, over rows in blocks of bounded size."""
    with closing(_opened(uri)) as connection:
        cursor = connection.execute(sql)
        limit = _FETCH_BYTES // (_ROWS * len(cursor.description))
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
        digest, rows = hashlib.sha1(usedforsecurity=False), 0
        while found := cursor.fetchmany(_ROWS):
            digest.update(memoryview(marshal.dumps(found, _PLAIN))[_LIST_HEAD_BYTES:])
            rows += len(found)
        return rows, digest.hexdigest()


def _opened(uri: str) -> sqlite3.Connection:
    """Within one transaction, so that the first page is looked at once.

    It is written at the end of every table, before the pages that it counts: for a moment the file
    seems to be too short.
    """
    for attempt in range(OPENINGS):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            if attempt == OPENINGS - 1:
                raise
            time.sleep(OPENING_SECONDS)
        else:
            return connection
    raise AssertionError("the loop above returns or raises")


def _serve() -> None:
    for line in sys.stdin:
        reply: Any = None
        # Long values, text that is not valid, functions of the application's: not for here.
        with suppress(sqlite3.Error):
            reply = _read(*json.loads(line))
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    _serve()
