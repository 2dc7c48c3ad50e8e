"""kill -9 in the middle of a publish leaves an object that can be restored."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bequest.testing.objects import sample, whole
from bequest_adapters.stores.file import FileStore

ROUNDS: Final = 12
SIZE_BYTES: Final = 2_000_000

# Publishes without end, and tells each publish, so that the test knows it is in the middle of it.
_PUBLISHER: Final = """
import sys
from bequest.testing.objects import Sample, sample, whole
from bequest_adapters.stores.file import FileStore

path, how, size_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = FileStore(path)
stat = store.head()
with store.read() as stream:
    found = whole(stream)
current = Sample(b"", found.mark, found.chain)
while True:
    print(stat.mark.serial, flush=True)
    if how == "append":
        frame, mark, chain = current.next_frame(list(range(20_000)))
        stat = store.append(frame, onto=stat, mark=mark)
        current = Sample(b"", mark, chain)
    else:
        current = sample(stat.mark.serial + 1, size_bytes=size_bytes)
        stat = store.rewrite(current.body(), len(current.data), onto=stat, mark=current.mark)
"""


@pytest.mark.parametrize("how", ["append", "rewrite"])
def test_a_killed_publisher_leaves_a_whole_object(tmp_path: Path, how: str) -> None:
    path = tmp_path / "snapshot"
    store = FileStore(path)
    base = sample()
    store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
    chance = random.Random(4)
    for _ in range(ROUNDS):
        told = _publish_and_be_killed(path, how, publishes=chance.randrange(1, 6))
        with store.read() as stream:
            found = whole(stream)
        # What was told is there; beyond it, at most the publish that was being made.
        assert found.mark.serial - told in (0, 1)
        stat = FileStore(path).head()
        assert stat is not None
        assert stat.mark == found.mark
    new = sample(1_000)
    assert stat is not None
    store.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"snapshot", "snapshot.lock"}


def _publish_and_be_killed(path: Path, how: str, publishes: int) -> int:
    """Run a publisher, kill it while it goes on, return the last serial it told."""
    command = [sys.executable, "-c", _PUBLISHER, str(path), how, str(SIZE_BYTES)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as publisher:
        assert publisher.stdout is not None
        told = [publisher.stdout.readline() for _ in range(publishes)]
        publisher.kill()
        # It may have told more before the signal reached it.
        told.extend(publisher.stdout)
    assert all(told), "the publisher ended by itself"
    return int(told[-1])
