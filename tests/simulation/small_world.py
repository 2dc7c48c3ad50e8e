"""A simulated world for the shipped engine: database, store and clock, all under one seed.

Fault model. The store may lose a request, lose an answer (the write happened), deliver a lost
request later, or be away. The process may crash at any call to a port; what the database committed
stays. Nothing else fails here.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import BinaryIO

from bequest import ancestry
from bequest.errors import Conflict, Denied, SnapshotMissing, Unreachable
from bequest.model import (
    Attributes,
    Catalog,
    Column,
    Key,
    Mark,
    Memory,
    Mutation,
    Operation,
    Pending,
    Row,
    Selection,
    Stat,
    Table,
)
from bequest.snapshot.fold import Snapshot
from bequest.snapshot.frame import PREAMBLE_BYTES, preamble
from bequest_adapters.cipher import KeyRing

KEYS = KeyRing([bytes(range(32))])
_STAMPS = count(1)
"""No two rows of any journal are written at the same time."""
ORIGIN_ROWS = 32
TABLE = Table(1, "items", (Column("id", "INTEGER"), Column("value")), (0,), "CREATE TABLE items")


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Clock:
    """Time that only moves when told."""

    now: float = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Bucket:
    """The object itself, as strict as the strictest store."""

    body: bytes | None = None
    mark: Mark | None = None
    version: int = 0
    late: list[Callable[[], None]] = field(default_factory=list)
    kept: dict[str, Bucket] = field(default_factory=dict)
    history: list[tuple[Mark, bytes]] = field(default_factory=list)

    def stat(self) -> Stat | None:
        if self.body is None:
            return None
        return Stat(str(self.version), len(self.body), self.mark)

    def put(self, body: bytes, mark: Mark, onto: str | None) -> Stat:
        present = None if self.body is None else str(self.version)
        if present != onto:
            raise Conflict("the object is another one")
        self.body, self.mark = body, mark
        self.version += 1
        self.history.append((mark, body))
        stat = self.stat()
        assert stat is not None
        return stat


Fault = Callable[[str], str]
"""Asked before every store request: "" none, "request", "answer", "late", "denied" (before
or "after" it was done) or "crash"."""


def no_fault(_: str) -> str:
    return ""


class SimulatedStore:
    """The store port over a bucket, with faults."""

    def __init__(self, bucket: Bucket, fault: Fault = no_fault, name: str = "sim://bucket") -> None:
        self.bucket = bucket
        self.fault = fault
        self.name = name
        self.requests = 0

    def head(self) -> Stat | None:
        self._before("head")
        return self.bucket.stat()

    @contextmanager
    def read(self) -> Iterator[BinaryIO]:
        self._before("read")
        if self.bucket.body is None:
            raise SnapshotMissing("there is no object")
        yield io.BytesIO(self.bucket.body)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        def write() -> Stat:
            body = self.bucket.body or b""
            if str(self.bucket.version) != onto.version:
                raise Conflict("the object is another one")
            grown = preamble(len(body) + len(data)) + body[PREAMBLE_BYTES:] + data
            return self.bucket.put(grown, mark, onto.version)

        return self._write("append", write)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        data = body.read()
        assert len(data) == size_bytes
        version = None if onto is None else onto.version
        return self._write("rewrite", lambda: self.bucket.put(data, mark, version))

    def keep(self, onto: Stat, label: str) -> str:
        self._before("keep")
        bucket = self.bucket
        if bucket.body is None or str(bucket.version) != onto.version:
            raise Conflict("the object is another one")
        name = label
        while name in bucket.kept and bucket.kept[name].body != bucket.body:
            name += ".1"
        bucket.kept.setdefault(name, Bucket(bucket.body, bucket.mark))
        return f"{self.name}.{name}"

    def close(self) -> None:
        pass

    def _write(self, name: str, write: Callable[[], Stat]) -> Stat:
        kind = self._before(name)
        if kind == "late":
            self.bucket.late.append(lambda: _ignore_conflict(write))
            raise Unreachable("the request is on its way for ever")
        stat = write()
        if kind == "answer":
            raise Unreachable("the answer was lost")
        if kind == "denied after":
            raise Denied("no such right")
        if kind == "crash after":
            raise Crash
        return stat

    def _before(self, name: str) -> str:
        self.requests += 1
        kind = self.fault(name)
        if kind == "crash":
            raise Crash
        if kind == "request":
            raise Unreachable("the request was lost")
        if kind == "denied":
            raise Denied("no such right")
        return kind


def _ignore_conflict(write: Callable[[], Stat]) -> None:
    with suppress(Conflict):
        write()


@dataclass
class Database:
    """What survives a crash of the controller."""

    rows: dict[int, str] = field(default_factory=dict)
    journal: list[tuple[int, Operation, int, float, int]] = field(default_factory=list)
    dropped: int = 0
    generation: int = 1
    installed: int = 1
    memory: Memory = field(default_factory=Memory)
    commits: list[dict[int, str]] = field(default_factory=lambda: [{}])
    installation: str = field(default_factory=lambda: uuid.uuid4().hex)
    earlier: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.memory.installation:
            self.memory = Memory(self.installation, str(uuid.uuid4()), 1)

    def copy(self) -> Database:
        """A copy that nobody can tell from its original, as of a whole volume."""
        return replace(
            self,
            rows=dict(self.rows),
            journal=list(self.journal),
            commits=[dict(state) for state in self.commits],
        )

    def write(self, changes: dict[int, str | None], at: float) -> None:
        """One transaction."""
        for key, value in changes.items():
            if value is None:
                if self.rows.pop(key, None) is None:
                    continue
                operation = Operation.DELETE
            else:
                operation = Operation.UPDATE if key in self.rows else Operation.INSERT
                self.rows[key] = value
            self.journal.append((self._next(), operation, key, at, next(_STAMPS)))
        self.commits.append(dict(self.rows))

    def limit(self, keep: int) -> None:
        """The journal's limit: forget all but the last ``keep`` rows."""
        surplus = max(0, len(self.journal) - keep)
        self.dropped += surplus
        del self.journal[:surplus]

    @property
    def installations(self) -> tuple[str, ...]:
        return (self.installation, *self.earlier)

    def newest_rows(self) -> str:
        return self._rows(self.journal)

    def holds(self, installation: str, described: str) -> bool | None:
        last = int(described.split(".")[0])
        if last > self._next() - 1:
            return False
        if last <= self.dropped:
            return None
        return self._rows(self.journal[: last - self.dropped]) == described

    def _rows(self, journal: list[tuple[int, Operation, int, float, int]]) -> str:
        return f"{journal[-1][0]}.{journal[-1][-1]}" if journal else ""

    def _next(self) -> int:
        return self.dropped + len(self.journal) + 1


class SimulatedCut:
    """A cut of the simulated database."""

    stale = False

    def __init__(self, database: Database, memory: Memory) -> None:
        self._database = database.copy()
        origin = ancestry.origin_of(database.installations, lambda _: database.newest_rows())
        self.origin = lambda token: origin
        self.stale = database.generation != database.installed
        self.position = f"{database.installed}:{database.dropped + len(database.journal)}"
        self._after = 0
        self.fault = "nothing was published yet"
        if memory.position:
            generation, after = map(int, memory.position.split(":"))
            self._after = after
            last = database.dropped + len(database.journal)
            broken = generation != database.installed or not database.dropped <= after <= last
            self.fault = "the journal has a gap" if broken else ""

    def catalog(self) -> Catalog:
        return Catalog((TABLE,))

    def count(self, table: Table) -> int:
        return len(self._database.rows)

    def attributes(self) -> Attributes:
        return {"user_version": self._database.generation}

    def revisions(self) -> tuple[str, ...]:
        return ()

    def mutations(self) -> Iterator[Mutation]:
        for number, operation, key, at, _ in self._database.journal:
            if number > self._after:
                yield Mutation(1, operation, (key,), None, at)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        for (key,) in keys:
            if key in self._database.rows:
                yield (key, self._database.rows[key])  # type: ignore[index]

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        rows = sorted(self._database.rows.items())
        for start in range(0, len(rows), 3):
            yield rows[start : start + 3]


class SimulatedSource:
    """The source port over a database; ``crash`` is asked before every write to it."""

    name = "sim://database"
    dialect = "sim"

    def __init__(self, database: Database, crash: Callable[[str], bool] = lambda _: False) -> None:
        self.database = database
        self._crash = crash
        self._in_cut = False
        self.leader = True

    def installed(self) -> bool:
        return True

    def install(self, selection: Selection | None = None) -> bool:
        self._maybe("install")
        changed = self.database.installed != self.database.generation
        self.database.installed = self.database.generation
        return changed

    def uninstall(self) -> None:
        self.database.memory = Memory()
        self.database.installation = ""

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Iterator[None]:
        yield

    def lead(self) -> bool:
        return self.leader

    def recall(self) -> Memory:
        self._maybe("recall")
        return self.database.memory

    def remember(self, memory: Memory, *, durable: bool) -> None:
        self._maybe("remember")
        database = self.database
        if memory.installation != database.installation:
            database.earlier = database.installations
            database.installation = memory.installation
        database.memory = replace(memory, copied="")

    def descends(self, origin: str) -> bool | None:
        self._maybe("descends")
        return ancestry.descends(origin, self.database.installations, self.database.holds)

    def trim(self, position: str) -> None:
        self._maybe("trim")
        after = int(position.split(":")[1])
        written = self.database.dropped + len(self.database.journal)
        self.database.limit(written - after + ORIGIN_ROWS)

    @contextmanager
    def cut(self, memory: Memory, *, again: bool = False) -> Iterator[SimulatedCut]:
        self._in_cut = True
        try:
            yield SimulatedCut(self.database, memory)
        finally:
            self._in_cut = False

    def pending(self, memory: Memory) -> Pending:
        after = int(memory.position.split(":")[1]) if memory.position else 0
        rows = [at for number, _, _, at, _ in self.database.journal if number > after]
        return Pending(len(set(rows)), len(rows), min(rows) if rows else None)

    def close(self) -> None:
        pass

    def _maybe(self, step: str) -> None:
        assert not self._in_cut, f"{step} inside a cut: a writer may be waiting for it"
        if self._crash(step):
            raise Crash


def state_of(body: bytes) -> dict[int, str]:
    """The rows that an object restores to."""
    snapshot = Snapshot.open(io.BytesIO(body), KEYS)
    return {row[0]: row[1] for _, rows in snapshot.rows() for row in rows}  # type: ignore[misc]
