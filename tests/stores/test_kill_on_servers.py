"""kill -9 at any request of a publish leaves an object that can be restored, in every cloud.

A publisher changes what it has in the cloud by requests only. So it is killed at each of them: once
before the server got it, and once when the server has executed it but the answer is not there yet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any, Final

import pytest

from bequest.model import Stat
from bequest.ports import Store
from bequest.registry import open_store
from bequest.testing.objects import Sample, sample, whole
from tests.servers.proxy import LOSE_ANSWER, REFUSE, FaultProxy, Request, fault_proxy
from tests.servers.s3_server import BUCKET, S3Server
from tests.stores.places import LARGE_BYTES, SERVERS, Place, place_on

# Imports once, then forks a publisher for each line that it is given.
_NURSERY: Final = """
import json, os, sys
from bequest.testing.objects import Sample, sample, whole
from bequest.registry import open_store
import boto3, azure.storage.blob, google.cloud.storage

def publish(url, how, size_bytes):
    store = open_store(url).inner
    stat = store.head()
    with store.read() as stream:
        found = whole(stream)
    print("ready", flush=True)
    assert sys.stdin.readline() == "go\\n"
    if how == "append":
        frame, mark, _ = Sample(b"", found.mark, found.chain).next_frame()
        store.append(frame, onto=stat, mark=mark)
    else:
        new = sample(found.mark.serial + 1, size_bytes=size_bytes, lineage=found.mark.lineage)
        store.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark)

while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        publish(*json.loads(line))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Nursery:
    """Publishers, one after the other, each in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.publisher = 0

    def prepare(self, url: str, how: str) -> None:
        """Start a publisher that has looked at the object and will publish when told."""
        self._say(json.dumps([url, how, LARGE_BYTES]))
        self.publisher = int(self._hear())
        assert self._hear() == "ready"

    def publish(self) -> int:
        """Let it go on; how its process ended."""
        self._say("go")
        return os.waitstatus_to_exitcode(int(self._hear()))

    def kill(self) -> None:
        os.kill(self.publisher, signal.SIGKILL)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def _nursery() -> Generator[Nursery, None, None]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        yield Nursery(process)


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_on(request.param, request, monkeypatch)


@pytest.mark.parametrize("how", ["append", "rewrite"])
def test_a_publisher_killed_at_any_request_leaves_a_whole_object(place: Place, how: str) -> None:
    with (
        closing(open_store(place.url)) as store,
        fault_proxy(place.port) as proxy,
        _nursery() as nursery,
    ):
        base = sample(size_bytes=LARGE_BYTES)
        store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        requests = _requests(nursery, proxy, place, how)
        assert requests >= 2
        came_through = 0
        for number in range(requests):
            for executed in (False, True):
                came_through += _killed(nursery, proxy, place, how, (number, executed), store)
        # The last request is the one that makes it visible: once it was executed.
        assert came_through >= 1
        _can_go_on(store)


def _requests(nursery: Nursery, proxy: FaultProxy, place: Place, how: str) -> int:
    """How many requests a publish is, in a life without accidents."""
    proxy.clear()
    nursery.prepare(place.through(proxy.port), how)
    proxy.clear()
    assert nursery.publish() == 0
    return len(proxy.requests)


def _killed(
    nursery: Nursery,
    proxy: FaultProxy,
    place: Place,
    how: str,
    point: tuple[int, bool],
    store: Store,
) -> bool:
    """Kill a publisher at a request; whether its publish came through."""
    number, executed = point
    before = store.head()
    proxy.clear()
    nursery.prepare(place.through(proxy.port), how)
    proxy.clear()
    seen = 0

    def strikes(request: Request) -> bool:
        nonlocal seen
        seen += 1
        if seen == number + 1:
            nursery.kill()
        return seen == number + 1

    proxy.plan(strikes, LOSE_ANSWER if executed else REFUSE)
    # What it sent at the same time reaches nobody either.
    proxy.plan(lambda _: seen > number, REFUSE, times=100)
    assert nursery.publish() == -signal.SIGKILL, "it was killed in the middle"
    proxy.settle()
    after = store.head()
    assert after is not None
    assert before is not None
    with store.read() as stream:
        found = whole(stream)
    assert found.mark == after.mark
    assert before.mark is not None
    assert found.mark.serial - before.mark.serial in (0, 1)
    return after != before


def _can_go_on(store: Store) -> None:
    stat = _present(store)
    with store.read() as stream:
        found = whole(stream)
    frame, mark, chain = Sample(b"", found.mark, found.chain).next_frame()
    store.append(frame, onto=stat, mark=mark)
    with store.read() as stream:
        assert whole(stream).chain == chain


def _present(store: Store) -> Stat:
    stat = store.head()
    assert stat is not None
    return stat


def test_uploads_of_killed_publishers_are_aborted_by_a_later_one(
    ministack: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_on("ministack", request, monkeypatch)
    with (
        closing(open_store(place.url)) as store,
        fault_proxy(place.port) as proxy,
        _nursery() as nursery,
    ):
        base = sample(size_bytes=LARGE_BYTES)
        stat = store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        last = _requests(nursery, proxy, place, "append") - 1
        for _ in range(2):
            _killed(nursery, proxy, place, "append", (last, False), store)
        inner: Any = open_store(place.url).inner  # type: ignore[attr-defined]
        assert len(_uploads(ministack, inner)) == 2
        inner._orphan_age_seconds = -60
        stat = _present(store)
        new = sample(99, size_bytes=LARGE_BYTES)
        inner.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark)
        assert _uploads(ministack, inner) == []
        inner.close()


def _uploads(server: S3Server, inner: Any) -> list[Any]:
    with closing(server.client()) as client:
        found = client.list_multipart_uploads(Bucket=BUCKET, Prefix=inner._place["Key"])
    return list(found.get("Uploads", []))
