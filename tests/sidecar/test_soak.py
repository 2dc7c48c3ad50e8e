"""A sidecar beside a busy writer, killed again and again, ends with an object that is equal.

The nightly profile is the issue's: 200 commits a second for 60 seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bequest

WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE IF NOT EXISTS devices"
           " (id INTEGER PRIMARY KEY, name TEXT UNIQUE, state INT, note TEXT)")
print("ready", flush=True)
begin, count, seconds = time.monotonic(), 0, float(sys.argv[2])
while time.monotonic() - begin < seconds:
    count += 1
    db.execute("INSERT OR REPLACE INTO devices (name, state, note) VALUES (?, ?, ?)",
               (f"device {count % 700}", count, "n" * (count % 50)))
    if count % 5 == 0:
        db.execute("BEGIN")
        db.execute("UPDATE devices SET state = state + 1 WHERE id % 11 = ?", (count % 11,))
        db.execute("DELETE FROM devices WHERE id % 97 = ?", (count % 97,))
        db.execute("COMMIT" if count % 3 else "ROLLBACK")
    time.sleep(max(0.0, begin + count / 200 - time.monotonic()))
print(count, flush=True)
"""


@pytest.mark.parametrize(
    "seconds", [pytest.param(10, id="ci"), pytest.param(60, id="full", marks=pytest.mark.nightly)]
)
def test_a_sidecar_killed_five_times_loses_nothing(tmp_path: Path, seconds: int) -> None:
    database, store = tmp_path / "controller.db", tmp_path / "controller.bequest"
    url = f"sqlite:///{database}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "bequest_adapters.cli", "run", "--json"]
    command += ["--database", url, "--store", str(store), "--mode", "per-change"]

    def sidecar() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)

    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(database), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == "ready"
        begin = time.monotonic()
        for number in range(1, 6):
            process = sidecar()
            pause = begin + seconds * number / 6 - time.monotonic()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(max(0.1, pause))
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = sidecar()
        assert int(writer.stdout.readline()) > seconds * 50
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    status = bequest.status(url)
    assert status.pending_transactions == 0, json.dumps(dict(status))
    report = bequest.verify(str(store), url)
    assert report.ok, report.differences
    assert report.tables["devices"]["rows"] > 0
