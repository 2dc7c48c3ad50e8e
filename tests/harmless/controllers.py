"""Runs one controller without Bequest, with it beside and with it inside, and compares."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bequest

PROGRAM = Path(__file__).with_name("controller.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
PATIENCE_SECONDS = 60.0
WAYS = ("without", "beside", "inside")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a controller does: ``timeout`` is SQLite's busy timeout in seconds."""

    kind: str
    journal: str
    timeout: float
    count: int
    seed: int = 1
    processes: int = 1


@dataclass(slots=True)
class Outcome:
    """What a controller saw, and what it left behind."""

    failures: list[list[Any]] = field(default_factory=list[list[Any]])
    published: int = 0
    rows: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])

    def kinds(self) -> Counter[str]:
        """How many statements failed, by their error."""
        return Counter(error for _, _, error in self.failures)


class Sidecar:
    """``bequest run`` beside a database, and what it said."""

    def __init__(self, url: str, store: Path | str, *options: str) -> None:
        command = [sys.executable, "-m", "bequest_adapters.cli", "run", "--json"]
        command += ["--database", url, "--store", str(store), *options]
        self.events: list[dict[str, Any]] = []
        self._said = threading.Condition()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def published(self) -> int:
        """How often it has published."""
        return self.heard("published")

    def heard(self, name: str) -> int:
        """How many events of that name there were."""
        return sum(1 for event in self.events if event["event"] == name)

    def until(self, name: str, count: int = 1) -> None:
        """Wait until so many events of that name were there."""
        with self._said:
            there = self._said.wait_for(lambda: self.heard(name) >= count, PATIENCE_SECONDS)
        assert there, self.events[-5:]

    def end(self) -> None:
        """Stop it; it must have stored everything."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert code == 0, self.events[-5:]

    def kill(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.events.append(json.loads(line))
                self._said.notify_all()


@contextmanager
def beside(url: str, store: Path | str, *options: str) -> Generator[Sidecar]:
    """A sidecar that has published once."""
    sidecar = Sidecar(url, store, *options)
    try:
        sidecar.until("published")
        yield sidecar
    finally:
        sidecar.kill()


class Run:
    """One controller under way, in one of `WAYS`."""

    def __init__(self, plan: Plan, way: str, folder: Path) -> None:
        self.database, self.store = folder / "controller.db", folder / "controller.bequest"
        self.way = way
        told = asdict(plan) | {"path": str(self.database)}
        told["embed"] = str(self.store) if way == "inside" else ""
        self._controller = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self._sidecar: Sidecar | None = None

    @property
    def url(self) -> str:
        """The database's."""
        return f"sqlite:///{self.database}"

    @property
    def working(self) -> bool:
        """Whether the controller has not ended yet."""
        return self._controller.poll() is None

    def until_ready(self) -> None:
        """The controller has made its database, and Bequest has published it once."""
        assert self._line() == "ready"
        if self.way == "inside":
            assert self._line() == "published"
        if self.way == "beside":
            self._sidecar = Sidecar(self.url, self.store)
            self._sidecar.until("published")

    def go(self) -> None:
        """Let the controller work."""
        assert self._controller.stdin is not None
        self._controller.stdin.write("go\n")
        self._controller.stdin.flush()

    def until_at_work(self) -> None:
        """The controller beside which Bequest runs has committed something since `go`."""
        assert self._sidecar is not None
        self._sidecar.until("published", 2)

    def outcome(self) -> Outcome:
        """Wait for the controller; end what is beside it, which must have stored everything."""
        said, _ = self._controller.communicate(timeout=PATIENCE_SECONDS)
        assert self._controller.returncode == 0
        found = Outcome(**json.loads(said.splitlines()[-1]))
        if self._sidecar is not None:
            found.published = self._sidecar.published() - 1
            self._sidecar.end()
        found.rows = contents(self.database)
        if self.way != "without":
            report = bequest.verify(str(self.store), self.url)
            assert report.ok, report.differences
        return found

    def kill(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        if self._sidecar is not None:
            self._sidecar.kill()
        self._controller.kill()
        self._controller.wait()
        for pipe in (self._controller.stdin, self._controller.stdout):
            assert pipe is not None
            pipe.close()

    def _line(self) -> str:
        assert self._controller.stdout is not None
        return self._controller.stdout.readline().strip()


@contextmanager
def under_way(plan: Plan, folder: Path, *ways: str) -> Generator[dict[str, Run]]:
    """One controller in several ways at once, each with a database of its own."""
    runs: dict[str, Run] = {}
    try:
        for way in ways:
            place = folder / way
            place.mkdir()
            runs[way] = Run(plan, way, place)
        for run in runs.values():
            run.until_ready()
        for run in runs.values():
            run.go()
        yield runs
    finally:
        for run in runs.values():
            run.kill()


def outcomes(plan: Plan, folder: Path) -> dict[str, Outcome]:
    """What the same controller saw in each of `WAYS`."""
    with under_way(plan, folder, *WAYS) as runs:
        return {way: run.outcome() for way, run in runs.items()}


def check(found: dict[str, Outcome], least_publishes: int) -> None:
    """The same statements failed, and the same rows are there; and Bequest was at work."""
    plain = found["without"]
    for way in ("beside", "inside"):
        outcome = found[way]
        more = [each for each in outcome.failures if each not in plain.failures]
        assert outcome.kinds() == plain.kinds(), (way, len(more), more[:5])
        assert not more, (way, len(more), more[:5])
        assert outcome.rows == plain.rows, way
        assert outcome.published >= least_publishes, (way, outcome.published)


def contents(path: Path) -> dict[str, list[Any]]:
    """All rows of the controller's own tables."""
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'bequest_%'"
            " AND name NOT LIKE 'sqlite_%' ORDER BY name"
        ).fetchall()
        return {
            name: db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for (name,) in tables
        }
