"""The sample controller's process: it works, and keeps its backup current from inside.

On stdout it writes one JSON document per line, ``{"confirmed": N, "lags": [...]}``: every
transaction up to number N is in the store, `flush` said so; the lags are seconds from commit to
that answer. Whoever started it may kill it at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from types import FrameType
from typing import Any, Final

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

import bequest

from .models import Base, last_number, work

COMMITS_PER_SECOND: Final = 80
FLUSH_SECONDS: Final = 10.0


def open_database(url: str) -> Engine:
    """An engine as a controller would make it: WAL, and foreign keys enforced."""
    engine = create_engine(url)

    def set_up(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    event.listen(engine, "connect", set_up)
    return engine


class Confirmations:
    """Waits for the store on behalf of the worker, and tells the parent."""

    def __init__(self, backup: bequest.Backup) -> None:
        self._backup = backup
        self._committed: deque[tuple[int, float]] = deque()
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="confirmations")

    def start(self) -> None:
        self._thread.start()

    def committed(self, number: int) -> None:
        """Transaction ``number`` has just been committed."""
        self._committed.append((number, time.monotonic()))
        self._news.set()

    def finish(self) -> None:
        """Confirm what is left, and end."""
        self._ended.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not (self._ended.is_set() and not self._committed):
            self._news.wait()
            self._news.clear()
            waiting = [self._committed.popleft() for _ in range(len(self._committed))]
            if waiting:
                self._backup.flush(FLUSH_SECONDS)
                now = time.monotonic()
                lags = [round(now - at, 6) for _, at in waiting]
                _tell({"confirmed": waiting[-1][0], "lags": lags})


def _tell(document: dict[str, Any]) -> None:
    # One write for one line: a reader never sees two documents mixed.
    os.write(sys.stdout.fileno(), json.dumps(document).encode() + b"\n")


def main() -> None:
    """``python -m bequest_adapters.demo.controller DATABASE_URL STORE``."""
    url, store = sys.argv[1:3]
    stop = threading.Event()

    def told(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, told)
    engine = open_database(url)
    Base.metadata.create_all(engine)
    with bequest.Backup(engine, store, mode="per-change") as backup:
        with Session(engine) as session:
            first = last_number(session) + 1
        _tell({"first": first})
        confirmations = Confirmations(backup)
        confirmations.start()
        try:
            _work(engine, first, confirmations, stop)
        finally:
            confirmations.finish()
    engine.dispose()


def _work(engine: Engine, first: int, told: Confirmations, stop: threading.Event) -> None:
    number, pause = first, 1 / COMMITS_PER_SECOND
    while not stop.wait(pause):
        with Session(engine) as session:
            work(session, number)
            session.commit()
        told.committed(number)
        number += 1


if __name__ == "__main__":
    main()
