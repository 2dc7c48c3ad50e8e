"""A process that has imported everything and forks a victim whenever it is told to.

Starting Python and importing SDKs takes longer than a victim lives. It reads JSON lines from
standard input: a victim's arguments. It answers with the pid, and with a line when it is gone.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

_PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from tests.crashes.nursery import serve
serve()
"""


def embedded(database: str, store: str, told: str) -> None:
    """A controller with Bequest inside: commits, and tells each row that `flush` acknowledged."""
    from sqlalchemy import create_engine, text

    import bequest

    engine = create_engine(database)
    with engine.begin() as connection:
        last = connection.execute(text("SELECT max(id) FROM devices")).scalar() or 0
    with open(told, "a", buffering=1, encoding="utf-8") as file, bequest.Backup(engine, store) as b:
        for number in count(last + 1):
            with engine.begin() as connection:
                connection.execute(
                    text("INSERT INTO devices VALUES (:id, :name, 0)"),
                    {"id": number, "name": f"device {number}"},
                )
                connection.execute(text("UPDATE devices SET seen = :id"), {"id": number})
            if number % 3 == 0:
                b.flush(30)
                file.write(f"{number}\n")


def sidecar(database: str, store: str, told: str) -> None:
    """The command line's own sidecar."""
    from bequest_adapters.cli import main

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    main(["run", "--database", database, "--store", store, "--mode", "per-change"])


def serve() -> None:
    """Fork victims, one at a time, until standard input ends."""
    for name in ("bequest", "bequest_adapters.cli.run", "bequest_adapters.stores.s3", "boto3"):
        importlib.import_module(name)
    for name in ("sqlite", "sqlite.source", "postgresql", "postgresql.source"):
        importlib.import_module(f"bequest_adapters.databases.{name}")
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            {"embedded": embedded, "sidecar": sidecar}[order.pop("kind")](**order)
            os._exit(1)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)


class Nursery:
    """The test's end of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._said() == "ready"

    def fork(self, **order: Any) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._said())

    def gone(self) -> None:
        """Return when the last victim is dead."""
        assert self._said() == "gone"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def nursery(log: Path) -> Generator[Nursery]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps([path for path in sys.path if path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
