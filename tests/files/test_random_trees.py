"""Whatever happens to a folder, watched or not: the record equals the disk, and the restore too."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import bequest
from tests.files.test_recording import tree

NAMES = st.sampled_from(["a", "b", "c%", "d e", "\udcff"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: Path(*names))
MODES = st.sampled_from([0o400, 0o600, 0o644, 0o755, 0o4750])


class Trees(RuleBasedStateMachine):
    """Random operations on one folder; the recorder runs now and then, or in the background."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="bequest-trees-"))
        self.folder = self.home / "etc"
        self.folder.mkdir()
        with closing(sqlite3.connect(self.home / "ctl.db")) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        self.url = f"sqlite:///{self.home / 'ctl.db'}"
        self.store = str(self.home / "o.bequest")
        self.backup: bequest.Backup | None = None

    def teardown(self) -> None:
        self.stop()
        shutil.rmtree(self.home)

    @rule(place=PLACES, content=st.binary(max_size=50), mode=MODES)
    def write(self, place: Path, content: bytes, mode: int) -> None:
        with contextlib.suppress(OSError):
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / place).write_bytes(content)
            (self.folder / place).chmod(mode)

    @rule(place=PLACES, content=st.binary(max_size=50))
    def replace(self, place: Path, content: bytes) -> None:
        with contextlib.suppress(OSError):
            new = self.folder / place.parent / "x.swp"
            new.write_bytes(content)
            new.replace(self.folder / place)

    @rule(place=PLACES, leads_to=st.sampled_from(["a", "../..", "/etc/passwd", "\udcff"]))
    def link(self, place: Path, leads_to: str) -> None:
        with contextlib.suppress(OSError):
            (self.folder / place).symlink_to(leads_to)

    @rule(source=PLACES, to=PLACES)
    def move(self, source: Path, to: Path) -> None:
        with contextlib.suppress(OSError):
            (self.folder / source).rename(self.folder / to)

    @rule(place=PLACES)
    def remove(self, place: Path) -> None:
        path = self.folder / place
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @rule(place=PLACES, mode=st.sampled_from([0o500, 0o750, 0o1777]))
    def folder_mode(self, place: Path, mode: int) -> None:
        with contextlib.suppress(OSError):
            (self.folder / place).mkdir()
            (self.folder / place).chmod(mode)

    @precondition(lambda self: self.backup is None)
    @rule()
    def start(self) -> None:
        self.backup = bequest.Backup(self.url, self.store, files=[self.folder])
        self.backup.start()

    @precondition(lambda self: self.backup is not None)
    @rule()
    def stop(self) -> None:
        if self.backup is not None:
            self.backup.stop()
            self.backup = None

    @rule()
    def record(self) -> None:
        """The emptied folder is confirmed: here somebody means it."""
        bequest.backup(self.url, self.store, files=[self.folder], accept_files=True)
        out = Path(tempfile.mkdtemp(dir=self.home))
        bequest.files(self.store, files_to=out)
        assert tree(out / "etc") == left(tree(self.folder))

    @invariant()
    def nothing_of_ours_is_left_in_the_folder(self) -> None:
        assert not [name for name in os.listdir(self.folder) if name.startswith(".bequest")]


def left(found: dict[str, Any]) -> dict[str, Any]:
    return {path: facts for path, facts in found.items() if not path.endswith(".swp'")}


Trees.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
# See the end of `watching`.
TestTrees = pytest.mark.filterwarnings("ignore:Callback with id")(Trees.TestCase)
