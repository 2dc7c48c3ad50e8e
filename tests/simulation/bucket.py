"""The object and the store in the simulated world.

Fault model. A request is lost, or its answer; it is refused (5xx, throttled with a time to wait,
denied, a conflict that is none); it arrives later, or a second time, when nobody waits for it any
more. The store is away altogether. A read breaks off, is torn, has a flipped bit, mixes two
versions, or is of an older version. What the store keeps is never damaged: whoever reads sees that.
"""

from __future__ import annotations

import io
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from bequest.errors import Conflict, Denied, SnapshotMissing, Throttled, Unreachable
from bequest.model import Mark, Stat
from bequest.snapshot.frame import PREAMBLE_BYTES, preamble

from .database import Commit
from .process import current

WRITE_FAULTS = (
    "request",
    "answer",
    "late",
    "duplicate",
    "duplicate late",
    "5xx",
    "5xx after",
    "throttled",
    "denied",
    "conflict",
)
READ_FAULTS = ("request", "answer", "5xx", "throttled", "denied")
BODY_FAULTS = (*READ_FAULTS, "broken", "torn", "flipped", "spliced", "stale")


@dataclass(frozen=True, slots=True)
class Version:
    """One object that was there, and the commit whose state it holds."""

    body: bytes
    mark: Mark | None
    commit: Commit
    owner: Any
    proof: object = None
    """What shows that a database descends from it."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who writes, and which commit."""

    machine: Any
    commit: Commit
    proof: object = None
    adopting: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's command to replace an object, of which a copy was kept for it."""

    version: Version
    machine: Any
    named: str
    """``"adopt"``, or LINEAGE/SERIAL."""


Landed = Callable[["Bucket", Sender, str, bytes, Mark, int], Commit]
"""Told of every write before it is visible: bucket, sender, how, body, mark, bytes sent."""


@dataclass(eq=False)
class Bucket:
    """The object itself, as strict as the strictest store."""

    landed: Landed
    name: str = "sim://bucket"
    present: Version | None = None
    number: int = 0
    late: list[Callable[[], None]] = field(default_factory=list)
    older: deque[Version] = field(default_factory=lambda: deque(maxlen=4))
    kept: dict[str, Bucket] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    acknowledged: list[Commit] = field(default_factory=list)
    """What was reported as stored here, and must be in the object or in a kept copy."""
    exchanges: int = 0
    excused: bool = False
    """Somebody deleted or exchanged the object: an operator may be needed."""

    def stat(self) -> Stat | None:
        if self.present is None:
            return None
        return Stat(str(self.number), len(self.present.body), self.present.mark)

    def put(
        self, sender: Sender, how: str, body: bytes, mark: Mark, onto: str | None, sent: int
    ) -> Stat:
        if onto != (None if self.present is None else str(self.number)):
            raise Conflict("the object is another one")
        commit = self.landed(self, sender, how, body, mark, sent)
        self.show(Version(body, mark, commit, sender.machine, sender.proof))
        stat = self.stat()
        assert stat is not None
        return stat

    def show(self, version: Version | None) -> None:
        """What is there from now on."""
        if self.present is not None:
            self.older.append(self.present)
        self.present = version
        self.number += 1
        if version is not None and self.name not in version.commit.stored:
            version.commit.stored = (*version.commit.stored, self.name)

    def exchange(self, version: Version | None) -> None:
        """Somebody deletes the object, or puts another one in its place."""
        self.excused = True
        self.exchanges += 1
        self.acknowledged = []
        self.show(version)

    def keep(self, onto: str, label: str) -> str:
        present = self.present
        if present is None or onto != str(self.number):
            raise Conflict("the object is another one")
        names = (f"{label}.{number}" if number else label for number in range(100))
        for name in names:
            copy = self.kept.setdefault(name, Bucket(self.landed, f"{self.name}.{name}"))
            if copy.present is None:
                copy.show(present)
            if copy.present is present:
                return copy.name
        raise AssertionError("so many copies")


class SimulatedStore:
    """`bequest.ports.Store` and `bequest.ports.Keeping` over a bucket."""

    def __init__(
        self,
        bucket: Bucket,
        sender: Callable[[], Sender],
        chance: random.Random,
    ) -> None:
        self.bucket = bucket
        self._sender = sender
        self._chance = chance

    @property
    def name(self) -> str:
        return self.bucket.name

    def head(self) -> Stat | None:
        kind = self._ask("head")
        stat = self.bucket.stat()
        self._answer(kind)
        return stat

    @contextmanager
    def read(self) -> Iterator[BinaryIO]:
        kind = self._ask("read")
        version = self.bucket.present
        if version is None:
            raise SnapshotMissing("there is no object")
        thread = current()
        self._answer(kind)  # others go on while the answer is on its way: the version is pinned
        thread.harmed = ""
        if kind == "stale" and self.bucket.older:
            version = self.bucket.older[-1]
        body = self._harm(kind, version.body)
        if body != version.body:
            # Complete by its own preamble, with bytes behind it: an older version, no damage.
            older = [old for old in (version, *self.bucket.older) if body.startswith(old.body)]
            thread.harmed = "" if older else kind
            version = older[0] if older else version
        thread.read_commit = version.commit
        yield _Broken(body) if kind == "broken" else io.BytesIO(body)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        sender = self._sender()

        def write() -> Stat:
            present = self.bucket.present
            if present is None or str(self.bucket.number) != onto.version:
                raise Conflict("the object is another one")
            body = present.body
            grown = preamble(len(body) + len(data)) + body[PREAMBLE_BYTES:] + data
            return self.bucket.put(sender, "append", grown, mark, onto.version, len(data))

        return self._write("append", write)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        data = body.read()
        assert len(data) == size_bytes
        version = None if onto is None else onto.version
        sender = self._sender()
        return self._write(
            "rewrite",
            lambda: self.bucket.put(sender, "rewrite", data, mark, version, len(data)),
        )

    def keep(self, onto: Stat, label: str) -> str:
        kind = self._ask("keep")
        address = self.bucket.keep(onto.version, label)
        if current().order and self.bucket.present is not None:
            order = Order(self.bucket.present, current().process.machine, current().order)
            self.bucket.orders.append(order)
        self._answer(kind)
        return address

    def close(self) -> None:
        pass

    def _harm(self, kind: str, body: bytes) -> bytes:
        chance = self._chance
        if kind == "torn":
            return body[: chance.randrange(len(body))]
        if kind == "flipped":
            at = chance.randrange(len(body))
            return body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]
        if kind == "spliced" and self.bucket.older:
            other = chance.choice(self.bucket.older).body
            at = chance.randrange(len(body))
            return body[:at] + other[at:]
        return body

    def _write(self, name: str, write: Callable[[], Stat]) -> Stat:
        kind = self._ask(name)
        if kind == "late":
            self.bucket.late.append(lambda: _ignore_conflict(write))
            raise Unreachable("the request is on its way for ever")
        if kind == "conflict":
            raise Conflict("another write was passing through")
        stat = write()
        if kind == "duplicate":
            write()
        if kind == "duplicate late":
            self.bucket.late.append(lambda: _ignore_conflict(write))
        self._answer("5xx" if kind == "5xx after" else kind)
        return stat

    def _ask(self, name: str) -> str:
        """The request leaves; raises when it does not arrive."""
        thread = current()
        assert not thread.in_cut, f"{name} inside a cut: a writer may be waiting for it"
        kind = thread.call(name)
        if kind == "request":
            raise Unreachable("the request was lost")
        if kind == "5xx":
            raise Unreachable("the store failed at its own side")
        if kind == "throttled":
            raise Throttled("slow down", self._chance.choice([None, 2.0, 30.0, 500.0]))
        if kind == "denied":
            raise Denied("no such right")
        return kind

    def _answer(self, kind: str) -> None:
        """The answer comes back, or not."""
        current().call("answer")
        if kind == "answer":
            raise Unreachable("the answer was lost")
        if kind == "5xx":
            raise Unreachable("the store failed at its own side")


def _ignore_conflict(write: Callable[[], Stat]) -> None:
    with suppress(Conflict):
        write()


class _Broken(io.BytesIO):
    """A stream whose connection breaks in the middle."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body[: len(body) // 2])
        self._left = True

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise Unreachable("the connection broke while the object was read")
        return data
