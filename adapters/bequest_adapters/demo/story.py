"""The demonstration, step by step, with real processes and a real SIGKILL."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import bequest

from . import proof

CONTROLLER: Final = f"{__package__}.controller"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
SECOND_SHARE: Final = 0.3
"""The new controller works for this share of the time that the first one had."""

Tell = Callable[[str, str], None]
"""Receives ``step`` or ``line``, and a text."""


@dataclass(slots=True)
class Outcome:
    """What was seen. ``lags`` in seconds, sorted."""

    confirmed: int = 0
    committed: int = 0
    restored: int = 0
    missing: list[int] = field(default_factory=list[int])
    lags: list[float] = field(default_factory=list[float])
    tables: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    equal: bool = False
    dead_equal: bool = False
    fenced: bool = False
    continued: bool = False
    verified: bool = False
    object_bytes: int = 0
    object_rows: int = 0
    lineage: str = ""
    epochs: tuple[int, int] = (0, 0)
    restore_s: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether every transaction that was reported as stored is in the restored database."""
        return self.confirmed > 0 and not self.missing

    @property
    def ok(self) -> bool:
        """Whether all that the demonstration claims was seen."""
        return all(
            (self.kept, self.equal, self.dead_equal, self.fenced, self.continued, self.verified)
        )


class Controller:
    """A sample controller in a process of its own, and what it has told so far."""

    def __init__(self, database: Path, store: Path, errors: IO[str]) -> None:
        self.confirmed = 0
        self.first = 0
        self.lags: list[float] = []
        self._ready = threading.Event()
        self._errors = errors
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"{__package__}.controller",
                f"sqlite:///{database}",
                str(store),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="demo-reader")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happens here, no controller outlives the demonstration."""
        self.kill()

    def work(self, seconds: float) -> None:
        """Return ``seconds`` after its first confirmed transaction, or when it has ended."""
        self._ready.wait(START_SECONDS)
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: no handler runs, no buffer is written."""
        self._process.kill()
        self._end()

    def stop(self) -> int:
        """SIGTERM, and what it returned."""
        self._process.send_signal(signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if not line.endswith("\n"):
                break  # it was killed while it wrote this
            document = json.loads(line)
            self.first = document.get("first", self.first)
            self.confirmed = document.get("confirmed", self.confirmed)
            self.lags += document.get("lags", ())
            if self.confirmed:
                self._ready.set()
        self._ready.set()


def tell_story(folder: Path, seconds: float, tell: Tell) -> Outcome:
    """Play it in ``folder``; the controllers' logs stay there in ``controllers.log``."""
    outcome = Outcome()
    store, old, new = (folder / name for name in ("controller.bequest", "old.db", "new.db"))
    with (folder / "controllers.log").open("a", encoding="utf-8") as errors:
        with Controller(old, store, errors) as controller:
            _first_life(controller, old, store, seconds, tell, outcome)
        if not outcome.confirmed:
            tell("line", f"it confirmed nothing; see {folder / 'controllers.log'}")
            return outcome
        _inherit(store, new, tell, outcome)
        _compare(folder, old, new, tell, outcome)
        _second_life(lambda: Controller(new, store, errors), new, store, seconds, tell, outcome)
    _come_back(old, store, tell, outcome)
    return outcome


def _first_life(
    controller: Controller, old: Path, store: Path, seconds: float, tell: Tell, outcome: Outcome
) -> None:
    tell("step", "A controller works. Each change goes into one object, next to its database.")
    controller.work(seconds)
    controller.kill()
    outcome.confirmed, outcome.lags = controller.confirmed, sorted(controller.lags)
    if not outcome.confirmed:
        return
    outcome.committed = max(proof.numbers(old))
    found = bequest.inspect(str(store))
    outcome.object_bytes, outcome.object_rows = found.bytes, found.rows
    median, longest = statistics.median(outcome.lags), outcome.lags[-1]
    tell("line", f"for {seconds:g} s, in a process of its own, by ORM and by raw SQL")
    tell(
        "line",
        f"object   {found.bytes / 1000:.1f} kB: {found.rows} rows in {len(found.tables)} tables, "
        f"published {found.serial} times",
    )
    tell(
        "line",
        f"lag      {median * 1000:.1f} ms from commit to stored (median), "
        f"{longest * 1000:.1f} ms at most",
    )
    tell("step", "SIGKILL, in mid-work. Its machine is gone.")
    tell("line", f"{outcome.committed} transactions were committed to the lost database")
    tell("line", f"{outcome.confirmed} of them had been reported as stored")


def _inherit(store: Path, new: Path, tell: Tell, outcome: Outcome) -> None:
    tell("step", "A new database is restored from the object.")
    report = bequest.restore(str(store), f"sqlite:///{new}", adopt=True)
    outcome.restore_s, outcome.lineage = report.duration_s, report.lineage
    outcome.epochs = (report.epoch - report.adopted, report.epoch)
    tell(
        "line",
        f"{report.rows} rows in {report.tables} tables in {report.duration_s:.2f} s, "
        "read back and verified",
    )
    tell("line", f"it carries the history on: epoch {outcome.epochs[0]} -> {report.epoch}")


def _compare(folder: Path, old: Path, new: Path, tell: Tell, outcome: Outcome) -> None:
    tell("step", "The proof, without Bequest: the same work once more on an empty database.")
    present = proof.numbers(new)
    outcome.restored = max(present, default=0)
    outcome.missing = sorted(set(range(1, outcome.confirmed + 1)) - present)
    restored, dead = proof.contents(new), proof.contents(old)
    with proof.without_bequest(folder / "proof.db") as redone:
        expected = redone.up_to(outcome.restored)
        outcome.dead_equal = redone.up_to(outcome.committed) == dead
    outcome.equal = restored == expected
    tell("line", f"{'table':<8} {'rows':>6}   {'restored':<16}   done again")
    for name, content in restored.items():
        same = content == expected[name]
        outcome.tables[name] = {"rows": content.rows, "digest": content.digest, "equal": same}
        tell(
            "line",
            f"{name:<8} {content.rows:>6}   {content.digest}   {expected[name].digest}   "
            f"{'equal' if same else 'DIFFERENT'}",
        )
    tell(
        "line",
        f"{outcome.confirmed} of {outcome.confirmed} transactions reported as stored are there"
        if outcome.kept
        else f"LOST: {len(outcome.missing)} transactions that had been reported as stored",
    )
    later = outcome.committed - outcome.restored
    tell(
        "line",
        f"the lost database held the same, and {later} later transaction{'s' * (later != 1)}"
        if outcome.dead_equal
        else "the lost database DIFFERS",
    )


def _second_life(
    start: Callable[[], Controller],
    new: Path,
    store: Path,
    seconds: float,
    tell: Tell,
    outcome: Outcome,
) -> None:
    tell("step", "A new controller starts on it and goes on.")
    with start() as controller:
        controller.work(seconds * SECOND_SHARE)
        code = controller.stop()
    report = bequest.verify(str(store), f"sqlite:///{new}")
    outcome.verified = report.ok
    outcome.continued = (
        code == 0
        and controller.first == outcome.restored + 1
        and controller.confirmed > outcome.restored
        and (report.lineage, report.epoch) == (outcome.lineage, outcome.epochs[1])
    )
    added = controller.confirmed - outcome.restored
    tell(
        "line", f"{max(added, 0)} more transactions, from number {controller.first} on, all stored"
    )
    tell("line", f"bequest verify: the object {'equals' if report.ok else 'DIFFERS FROM'} it")


def _come_back(old: Path, store: Path, tell: Tell, outcome: Outcome) -> None:
    tell("step", "The old controller comes back and tries to publish.")
    try:
        bequest.backup(f"sqlite:///{old}", str(store))
    except bequest.Superseded:
        outcome.fenced = True
    tell(
        "line",
        "refused: it is superseded, and the object stays the new controller's"
        if outcome.fenced
        else "NOT REFUSED: it overwrote the new controller's object",
    )
