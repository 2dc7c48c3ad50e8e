"""The sidecar, as a process: it says what it does, and its end says how things stand."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest

PATIENCE_SECONDS = 60.0


class Sidecar:
    """``bequest run --json`` and the events that it has told."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        kept = {name: item for name, item in os.environ.items() if not name.startswith("BEQUEST_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bequest_adapters.cli", "run", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def until(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        assert self._process.stdout is not None
        seen: list[str] = []
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
            seen.append(line)
        raise AssertionError(f"no {name!r} among {seen}: {self._process.communicate()}")

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """The code, the events that were left, and stderr."""
        out, err = self._process.communicate(timeout=PATIENCE_SECONDS)
        return self._process.returncode, [json.loads(line) for line in out.splitlines()], err

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


Start = Callable[..., Sidecar]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "controller.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE site (name TEXT)")
        connection.execute("CREATE TABLE session_web (name TEXT)")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "controller.bequest"


@pytest.fixture
def start(tmp_path: Path, database: Path, store: Path) -> Generator[Start]:
    started: list[Sidecar] = []

    def begin(*arguments: str) -> Sidecar:
        sidecar = Sidecar(
            tmp_path, "--database", f"sqlite:///{database}", "--store", str(store), *arguments
        )
        started.append(sidecar)
        return sidecar

    yield begin
    for sidecar in started:
        sidecar.close()


def insert(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO site VALUES ('Utrecht')")
        connection.commit()


def test_it_publishes_at_once_and_after_every_change(
    start: Start, database: Path, store: Path
) -> None:
    sidecar = start()
    assert sidecar.until("started")["mode"] == "per-change"
    assert sidecar.until("published")["action"] == "create"
    insert(database)
    assert sidecar.until("published")["action"] == "append"
    assert bequest.verify(str(store), f"sqlite:///{database}").ok


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_stores_what_is_left_and_ends_with_0(
    start: Start, database: Path, store: Path, number: signal.Signals
) -> None:
    sidecar = start()
    sidecar.until("published")
    insert(database)
    sidecar.tell(number)
    code, events, err = sidecar.end()
    assert (code, err) == (0, "")
    assert events[-1]["event"] == "stopped"
    assert events[-1]["stored"] is True
    assert bequest.verify(str(store), f"sqlite:///{database}").ok


def test_signals_one_after_the_other_change_nothing_of_that(
    start: Start, database: Path, store: Path
) -> None:
    sidecar = start()
    sidecar.until("published")
    insert(database)
    for _ in range(3):
        sidecar.tell(signal.SIGTERM)
        sidecar.tell(signal.SIGINT)
    sidecar.until("stopped")
    sidecar.tell(signal.SIGTERM)  # while the process ends
    code, _, err = sidecar.end()
    assert (code, err) == (0, "")
    assert bequest.verify(str(store), f"sqlite:///{database}").ok


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_duration_that_is_none_is_wrong_usage(start: Start, value: str) -> None:
    code, _, err = start("--stop-timeout", value).end()
    assert code == 2
    assert "stop-timeout" in err


def test_a_store_that_is_away_at_the_end_is_4_within_the_time_that_it_was_given(
    start: Start, database: Path, store: Path
) -> None:
    sidecar = start("--stop-timeout", "0.5")
    sidecar.until("published")
    store.unlink()
    store.mkdir()
    insert(database)
    sidecar.until("failed")
    sidecar.tell(signal.SIGTERM)
    code, events, err = sidecar.end()
    assert code == 4
    assert events[-1]["stored"] is False
    assert "bequest status" in " ".join(err.split())


def test_superseded_it_ends_at_once_with_5(
    start: Start, database: Path, store: Path, tmp_path: Path
) -> None:
    sidecar = start()
    sidecar.until("published")
    bequest.restore(str(store), f"sqlite:///{tmp_path / 'new.db'}", adopt=True)
    before = store.read_bytes()
    insert(database)
    sidecar.until("superseded")
    code, _, err = sidecar.end()
    assert code == 5
    assert "superseded" in err
    assert store.read_bytes() == before


def test_a_foreign_object_is_refused_at_once_with_5_and_left_as_it_is(
    start: Start, store: Path
) -> None:
    store.write_bytes(b"somebody else's")
    sidecar = start()
    sidecar.until("refused")
    assert sidecar.end()[0] == 5
    assert store.read_bytes() == b"somebody else's"


def test_a_database_that_does_not_exist_yet_is_4_and_is_not_made(
    start: Start, database: Path
) -> None:
    database.unlink()
    code, events, err = start().end()
    assert (code, events) == (4, [])
    assert "no database" in err
    assert not database.exists()


def test_excluded_tables_stay_out(start: Start, store: Path) -> None:
    sidecar = start("--exclude", "session_*")
    sidecar.until("published")
    sidecar.tell(signal.SIGTERM)
    assert sidecar.end()[0] == 0
    assert set(bequest.inspect(str(store)).tables) == {"site"}


def test_by_schedule_it_publishes_at_the_first_start_and_then_waits_until_it_ends(
    start: Start, database: Path, store: Path
) -> None:
    arguments = ("--mode", "schedule", "--schedule", "0 0 1 1 *", "--timezone", "Europe/Amsterdam")
    sidecar = start(*arguments)
    assert sidecar.until("published")["action"] == "create"
    insert(database)
    sidecar.tell(signal.SIGTERM)
    code, events, _ = sidecar.end()
    assert (code, [event["event"] for event in events]) == (0, ["published", "stopped"])
    assert bequest.verify(str(store), f"sqlite:///{database}").ok


@pytest.mark.parametrize(
    "arguments", [("--schedule", "never"), ("--timezone", "Atlantis"), ("--mode", "sometimes")]
)
def test_a_setting_that_can_never_work_is_2(start: Start, arguments: tuple[str, str]) -> None:
    code, events, err = start(*arguments).end()
    assert (code, events) == (2, [])
    assert arguments[1] in err
