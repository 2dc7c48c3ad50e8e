"""An object says who published it last, and when."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

import bequest
from bequest_adapters.cli import main


def test_inspect_shows_which_process_published_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    me = {"host": socket.gethostname(), "process": os.getpid()}
    with closing(sqlite3.connect("ctl.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
        assert bequest.backup("sqlite:///ctl.db", "ctl").action == "create"
        assert bequest.inspect("ctl").published_by == me
        database.execute("INSERT INTO site VALUES (1)")
        database.commit()
    assert bequest.backup("sqlite:///ctl.db", "ctl").action == "append"
    assert bequest.restore("ctl", "sqlite:///heir.db", adopt=True).adopted
    assert main(["inspect", "ctl", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["published_by"] == me
    assert datetime.fromisoformat(told["published_at"]).tzinfo is not None
    assert main(["inspect", "ctl"]) == 0
    assert f"process {os.getpid()}" in capsys.readouterr().out
