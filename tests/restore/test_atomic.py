"""A restore that is killed or cannot go on leaves the target untouched or complete, and the object
whole: restoring again always leads to the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import connect

import pytest

import bequest

from .controller import Controller, contents

# Forks a restore for each line on its stdin, so that a kill costs no start of Python.
NURSERY = """
import os, resource, sys
import bequest
from bequest import registry
import bequest_adapters.databases.sqlite.target, bequest_adapters.databases.postgresql.target
import bequest_adapters.databases.postgresql.source, bequest_adapters.stores.file
for line in sys.stdin:
    store, url, limit = line.split()
    child = os.fork()
    if child == 0:
        if int(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        try:
            bequest.restore(store, url, force=True, adopt=True)
        except bequest.AccessError:
            os._exit(4)
        except bequest.Refused:
            os._exit(5)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
ROWS = 1_000


class Nursery:
    """Restores in processes of their own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def begin(self, store: str, url: str, limit: int = 0) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{store} {url} {limit}\n")
        self._process.stdin.flush()
        return self._number()

    def end(self) -> int:
        return self._number()

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with closing(Nursery()) as made:
        yield made


class Place:
    """An object, a target that holds other data or none, and what both held before."""

    def __init__(self, folder: Path, *, empty: bool) -> None:
        self.controller = Controller(folder)
        with closing(connect(self.controller.path)) as db:
            db.executemany(
                "INSERT INTO router (site, v) VALUES (1, ?)",
                ((f"router number {number}",) for number in range(ROWS)),
            )
            db.commit()
        self.controller.publish()
        self.controller.write("DELETE FROM session", "INSERT INTO audit VALUES ('tail')")
        self.controller.publish()
        self.target = folder / "target" / "new.db"
        self.target.parent.mkdir()
        self.url = f"sqlite:///{self.target}"
        if not empty:
            Controller(
                self.target.parent, "new", "CREATE TABLE old (v); INSERT INTO old VALUES (1)"
            )
        self.before = self.seen()
        self.whole = contents(self.controller.path)

    def seen(self) -> dict[str, list[str]] | None:
        return contents(self.target) if self.target.exists() else None

    def epoch(self) -> int:
        return bequest.verify(self.controller.store).epoch

    def again(self, saved: Path) -> None:
        """Put object and target back to how they were."""
        shutil.copy(saved / "o.bequest", self.controller.store)
        shutil.rmtree(self.target.parent)
        shutil.copytree(saved / "target", self.target.parent)


def kill_at_random(nursery: Nursery, folder: Path, seed: int, times: int) -> list[str]:
    """Kill ``times`` restores, each at its own moment; what was found after each."""
    chance = random.Random(seed)
    place = Place(folder, empty=bool(seed % 2))
    saved = folder / "saved"
    saved.mkdir()
    shutil.copy(place.controller.store, saved / "o.bequest")
    shutil.copytree(place.target.parent, saved / "target")
    started = time.monotonic()
    nursery.begin(place.controller.store, place.url)
    assert nursery.end() == 0
    lasted = time.monotonic() - started
    found: list[str] = []
    for _ in range(times):
        place.again(saved)
        child = nursery.begin(place.controller.store, place.url)
        time.sleep(chance.random() * lasted)  # the moment itself is what is tried
        with suppress(ProcessLookupError):  # it was over already
            os.kill(child, signal.SIGKILL)
        assert nursery.end() in (-signal.SIGKILL, 0)
        seen, epoch = place.seen(), place.epoch()
        assert seen in (place.before, place.whole)
        assert epoch in (1, 2)
        if seen == place.whole:
            assert epoch == 2, "a new database whose lineage nobody announced"
        found.append(f"{'new' if seen == place.whole else 'old'}, epoch {epoch}")
        assert (
            bequest.restore(place.controller.store, place.url, force=True, adopt=True).epoch
            == epoch + 1
        )
        assert place.seen() == place.whole
        assert not [path for path in place.target.parent.iterdir() if path.name.startswith(".")]
        assert bequest.backup(place.url, place.controller.store).action == "unchanged"
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_a_random_moment_it_leaves_all_or_nothing(
    nursery: Nursery, tmp_path: Path, seed: int
) -> None:
    assert len(kill_at_random(nursery, tmp_path, seed, times=8)) == 8


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2, 6))
def test_killed_at_two_hundred_random_moments(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    found = kill_at_random(nursery, tmp_path, seed, times=50)
    assert "old, epoch 1" in found, "no kill came early enough to show anything"


@pytest.mark.parametrize("empty", [True, False], ids=["no target", "a target with data"])
def test_a_full_disk_leaves_target_and_object_as_they_were(
    nursery: Nursery, tmp_path: Path, empty: bool
) -> None:
    place = Place(tmp_path, empty=empty)
    stored = Path(place.controller.store).read_bytes()
    nursery.begin(place.controller.store, place.url, limit=16_384)
    assert nursery.end() == 4
    assert place.seen() == place.before
    assert Path(place.controller.store).read_bytes() == stored
    assert bequest.restore(place.controller.store, place.url, force=True, adopt=True).verified
