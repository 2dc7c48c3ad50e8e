"""In steady state Bequest writes nothing to a controller's SQLite database.

Counted from a process that has nothing to do with either: the commits in the write-ahead log, by
its frames; the database file's bytes, change counter, size and time of writing. Whatever is there
after Bequest did its work must be the controller's own commits, and nothing else.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from .controllers import ENVIRONMENT, Sidecar, beside

HOST = Path(__file__).with_name("host.py")
LOG_HEADER = struct.Struct(">8I")
FRAME_HEADER = struct.Struct(">6I")


@dataclass(frozen=True)
class Seen:
    """What lies on the disk of one database."""

    commits: int
    log: bytes
    counter: int
    file: bytes
    size_bytes: int
    written_ns: int


def seen(path: Path) -> Seen:
    """Look, without SQLite."""
    body, found = path.read_bytes(), path.stat()
    commits, log = log_commits(path.with_name(path.name + "-wal"))
    (counter,) = struct.unpack(">I", body[24:28])
    return Seen(commits, log, counter, sha256(body).digest(), found.st_size, found.st_mtime_ns)


def log_commits(path: Path) -> tuple[int, bytes]:
    """How many transactions the write-ahead log holds, and a checksum of its bytes."""
    body = path.read_bytes() if path.exists() else b""
    if not body:
        return 0, b""
    _, _, page, _, *salts, _, _ = LOG_HEADER.unpack_from(body)
    commits, at = 0, LOG_HEADER.size
    while at + FRAME_HEADER.size + page <= len(body):
        _, size_after_commit, *found, _, _ = FRAME_HEADER.unpack_from(body, at)
        if found != salts:
            break  # left over from before the log began again
        commits += size_after_commit > 0
        at += FRAME_HEADER.size + page
    return commits, sha256(body).digest()


class Scene:
    """A controller, and Bequest beside it or inside it."""

    def __init__(self, folder: Path, journal: str) -> None:
        self.database, self.store = folder / "controller.db", folder / "store" / "object"
        self.files = folder / "files"
        self.url = f"sqlite:///{self.database}"
        self.journal = journal
        self.store.parent.mkdir()
        self.files.mkdir()
        (self.files / "licence").write_text("one")
        self._host = subprocess.Popen(
            [sys.executable, str(HOST), str(self.database), journal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._answer() == "ready"

    def do(self, line: str) -> Any:
        """Let the controller's process evaluate a line of Python."""
        assert self._host.stdin is not None
        self._host.stdin.write(line + "\n")
        self._host.stdin.flush()
        return self._answer()

    def own_commits(self, before: Seen, after: Seen) -> int:
        """Commits between two looks, whoever made them."""
        if self.journal == "WAL":
            assert after.file == before.file, "somebody wrote to the database file itself"
            assert after.written_ns == before.written_ns
            return after.commits - before.commits
        return after.counter - before.counter

    def verb(self, *words: str) -> None:
        """Run ``bequest`` as an operator does."""
        command = [sys.executable, "-m", "bequest_adapters.cli", *words]
        run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr

    def close(self) -> None:
        self._host.kill()
        self._host.communicate()

    def _answer(self) -> Any:
        assert self._host.stdout is not None
        return json.loads(self._host.stdout.readline())


@pytest.fixture(params=["WAL", "DELETE"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Scene]:
    found = Scene(tmp_path, request.param)
    yield found
    found.close()


@contextmanager
def away(scene: Scene) -> Generator[None]:
    """The store cannot be reached: its folder is gone."""
    elsewhere = scene.store.parent.with_name("elsewhere")
    scene.store.parent.rename(elsewhere)
    scene.store.parent.write_text("not a folder")
    try:
        yield
    finally:
        scene.store.parent.unlink()
        shutil.move(elsewhere, scene.store.parent)


def publish(scene: Scene, sidecar: Sidecar) -> int:
    before = sidecar.published()
    scene.do("commit(1)")
    sidecar.until("published", before + 1)
    return 1


def record_a_file(scene: Scene, sidecar: Sidecar) -> int:
    before = sidecar.published()
    (scene.files / "licence").write_text("two")
    sidecar.until("published", before + 1)
    return 0


def fail(scene: Scene, sidecar: Sidecar) -> int:
    before = sidecar.published()
    with away(scene):
        scene.do("commit(1)")
        sidecar.until("failed")
        assert scene.do("bequest.status(url).pending_mutations") > 0
    sidecar.until("published", before + 1)
    return 1


def restart(scene: Scene, sidecar: Sidecar) -> int:
    sidecar.end()
    scene.do("commit(3)")
    with beside(scene.url, scene.store, "--files", str(scene.files)) as another:
        another.end()
    return 3


def verbs(*lines: tuple[str, ...]) -> Callable[[Scene, Sidecar], int]:
    def run(scene: Scene, _: Sidecar) -> int:
        names = {"URL": scene.url, "STORE": str(scene.store)}
        for line in lines:
            scene.verb(*(names.get(word, word) for word in line))
        return 0

    return run


BESIDE: dict[str, Callable[[Scene, Sidecar], int]] = {
    "a publish": publish,
    "a recorded file": record_a_file,
    "a failed publish": fail,
    "a restart of run": restart,
    "all that only looks": verbs(
        ("status", "--database", "URL"),
        ("status", "--database", "URL", "--json"),
        ("drill", "STORE", "--database", "URL"),
        ("verify", "STORE", "--database", "URL"),
        ("diff", "STORE", "--database", "URL"),
        ("log", "--database", "URL"),
        ("inspect", "STORE"),
    ),
    "backup": verbs(("backup", "--database", "URL", "--store", "STORE")),
    "a new base": verbs(("backup", "--rewrite", "--database", "URL", "--store", "STORE")),
}


@pytest.mark.parametrize("work", BESIDE)
def test_beside_a_controller_it_writes_nothing_for(work: str, scene: Scene) -> None:
    with beside(scene.url, scene.store, "--files", str(scene.files)) as sidecar:
        publish(scene, sidecar)  # what is done once, at the first start, is done
        before = seen(scene.database)
        commits = BESIDE[work](scene, sidecar)
        assert scene.own_commits(before, seen(scene.database)) == commits
        if not commits:
            assert seen(scene.database) == before


INSIDE = {
    "a publish": ("commit(1)", "backup.flush().action"),
    "a flush with nothing to do": ("backup.flush().action",),
    "a rewrite": ("commit(1)", "backup.backup_now(rewrite=True).action"),
    "status": ("backup.status().state", "bequest.status(url).state"),
    "a restart": (
        "backup.stop()",
        "commit(1)",
        "(backup.start(), True)[1]",
        "backup.flush().action",
    ),
    "all that only looks": (
        "bequest.drill(store, url).ok",
        "bequest.verify(store, url).ok",
        "bequest.diff(store, database=url).equal",
    ),
}


@pytest.mark.parametrize("work", INSIDE)
def test_inside_a_controller_it_writes_nothing_for(work: str, scene: Scene) -> None:
    scene.do(f"(globals().update(store={str(scene.store)!r}), 1)")
    scene.do("(globals().update(backup=bequest.Backup(url, store)), backup.start(), 1)")
    scene.do("(commit(1), backup.flush().action)")
    before = seen(scene.database)
    for line in INSIDE[work]:
        assert scene.do(line) not in (False, None, "failing")
    commits = sum(line == "commit(1)" for line in INSIDE[work])
    assert scene.own_commits(before, seen(scene.database)) == commits


def test_the_count_sees_a_commit_of_anybody(scene: Scene) -> None:
    """The measure itself: a commit that is not the controller's shows."""
    before = seen(scene.database)
    scene.do("commit(2)")
    scene.do("(db.execute('CREATE TABLE another (a)'), 1)[1]")
    assert scene.own_commits(before, seen(scene.database)) == 3
