"""A simulated controller's database: what survives a crash, and what a power cut takes.

It comes in two kinds. In a *file*, as on SQLite, what is remembered lies in a side file, and the
journal is a ring that trims itself. On a *server*, as on PostgreSQL, it lies in the database, and
the publisher trims.

Fault model: any call may find the database busy; the process may be killed at any call; a power
cut takes back any number of the last commits, and of the side file's last records, but never what a
durable `remember` covered. The journal is cut off at its limit. Triggers of the application make
the journal name wrong operations. A changed schema may leave some writes without a journal row.
Writers never wait. No two writes anywhere have the same time stamp.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple
from zlib import crc32

from bequest import ancestry
from bequest.check import Check, asked
from bequest.errors import Refused, Unreachable
from bequest.model import (
    Attributes,
    Catalog,
    Column,
    Key,
    Memory,
    Mutation,
    Operation,
    Pending,
    Row,
    Selection,
    Table,
)
from bequest.publisher import OPEN_INTENTS

from .process import Lock, busy, current
from .sidefile import SideFile

JOURNAL_LIMIT = 40
ROUND = 8
"""So often does the ring trim itself."""
ORIGIN_ROWS = 5
ITEMS, NOTES = 1, 2
_OPERATIONS = tuple(Operation)[:4]


class Journalled(NamedTuple):
    """One row of the journal."""

    number: int
    table: int
    operation: Operation
    key: int | None
    at: float
    stamp: int


@dataclass(frozen=True)
class Identity:
    """Who the database says that it is."""

    installation: str = ""
    lineage: str = ""
    epoch: int = 0
    earlier: tuple[str, ...] = ()

    @property
    def installations(self) -> tuple[str, ...]:
        return (self.installation, *self.earlier) if self.installation else ()

    def succeeded(self, memory: Memory) -> Identity:
        earlier = self.earlier
        if self.installation and self.installation != memory.installation:
            earlier = (self.installation, *earlier)[:8]
        return Identity(memory.installation, memory.lineage, memory.epoch, earlier)


@dataclass(eq=False)
class Commit:
    """One committed state; ``mutations`` counts all journal rows ever written before it."""

    parent: Commit | None
    number: int
    rows: dict[int, str]
    notes: tuple[str, ...]
    generation: int
    mutations: int
    stored: tuple[str, ...] = ()
    """The addresses whose objects have held it."""

    def same(self, rows: dict[int, str], notes: Counter[str], generation: int) -> bool:
        return self.rows == rows and self.generation == generation and Counter(self.notes) == notes

    @property
    def restored_from(self) -> Commit:
        """The commit that a restore made this of, without a change; else itself."""
        found = self
        while found.parent is not None and found.parent.number == found.number:
            found = found.parent
        return found

    def holds(self, older: Commit) -> bool:
        """Whether ``older`` is this commit or an ancestor of it."""
        commit: Commit | None = self
        while commit is not None and commit is not older and commit.number >= older.number:
            commit = commit.parent
        return commit is older


@dataclass
class Database:
    """What the controller writes to. ``place`` is where it is, ``home`` where it was set up."""

    commit: Commit
    chance: random.Random
    stamps: Iterator[int]
    server: bool = False
    fragile: bool = False
    place: int = 0
    rows: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    journal: list[Journalled] = field(default_factory=list)
    last: int = 0
    generation: int = 1
    captured: int = 0
    capture: int = 0
    identity: Identity = Identity()
    memory: Memory = field(default_factory=Memory)
    witnesses: tuple[str, ...] = ()
    home: int = 0
    publishing: Lock = field(default_factory=Lock)
    leader: Any = None
    server_number: int = 0
    """Changes when another server takes over: all sessions are gone then."""
    undo: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.side = SideFile(self.chance, self.fragile)

    def save(self) -> dict[str, Any]:
        """All that a power cut or a copy of the database is about."""
        return {
            "commit": self.commit,
            "rows": dict(self.rows),
            "notes": self.notes,
            "journal": list(self.journal),
            "last": self.last,
            "generation": self.generation,
            "captured": self.captured,
            "capture": self.capture,
            "identity": self.identity,
            "memory": self.memory,
            "witnesses": self.witnesses,
            "home": self.home,
        }

    def load(self, saved: dict[str, Any]) -> None:
        for name, value in saved.items():
            setattr(self, name, value.copy() if isinstance(value, list | dict) else value)

    def changed(self) -> None:
        """A transaction that is not durable yet was committed."""
        if self.fragile:
            self.undo.append(self.save())

    def durable(self) -> None:
        if self.fragile:
            self.undo = [self.save()]

    def power_cut(self) -> None:
        if self.undo:
            self.load(self.undo[self.chance.randrange(len(self.undo))])
            self.undo = [self.save()]
        self.side.power_cut()

    def fail_over(self) -> None:
        self.server_number += 1
        self.publishing.holder, self.publishing.depth = None, 0

    def recall(self) -> Memory:
        who = self.identity
        if not who.installation:
            return Memory()
        if self.server:
            copied = "" if self.home == self.place else "it was copied from another server"
            return replace(self.memory, copied=copied) if copied else self.memory
        record = self.side.records.get(who.installation)
        copied = self.side.stranger(record)
        if copied or record is None:
            return Memory(who.installation, who.lineage, who.epoch, copied=copied)
        if (record.lineage, record.epoch) == (who.lineage, who.epoch):
            return record
        return replace(record, lineage=who.lineage, epoch=who.epoch)

    def write(self, at: float, number: int) -> None:
        """One transaction of the controller. It never waits and never fails."""
        chance = self.chance.random
        before = self.last
        roll = chance()
        if roll < 0.02:
            self.rows.clear()
            self._note(ITEMS, Operation.TOUCH, None, at)
        elif roll < 0.12:
            self.notes = (*self.notes[-3:], f"n{number}")
            self._note(NOTES, Operation.INSERT, None, at)
        for turn in range(1 + int(chance() * 4)):
            key = 1 + int(chance() * 9)
            known = key in self.rows
            if chance() < 0.3:
                if not known:
                    continue
                del self.rows[key]
                operation = Operation.DELETE
            else:
                operation = Operation.UPDATE if known else Operation.INSERT
                self.rows[key] = f"v{number}.{turn}"
            if chance() < 0.1:  # the application's own triggers went over it
                operation = _OPERATIONS[int(chance() * 4)]
            self._note(ITEMS, operation, key, at)
        self._committed(number, self.last - before)

    def alter(self, number: int) -> None:
        """The controller migrates its schema."""
        self.generation += 1
        self._committed(number, 0)

    def _committed(self, number: int, mutations: int) -> None:
        # Whoever leaves all as it was has made no new state that could be told apart.
        if self.commit.same(self.rows, Counter(self.notes), self.generation):
            self._bounded()
            return
        self.commit = Commit(
            self.commit,
            number,
            dict(self.rows),
            self.notes,
            self.generation,
            self.commit.mutations + mutations,
        )
        self._bounded()

    def _bounded(self) -> None:
        """The server's limit of the journal, and the end of the transaction."""
        if self.server and len(self.journal) > JOURNAL_LIMIT:
            del self.journal[:-1]
            self.capture = next(self.stamps)
        self.changed()

    def _note(self, table: int, operation: Operation, key: int | None, at: float) -> None:
        # A rebuilt table lost its triggers: nothing is journalled until capture is repaired.
        if self.captured == self.generation or (self.captured and self.generation % 2):
            self._journalled(table, operation, key, at)

    def _journalled(self, table: int, operation: Operation, key: int | None, at: float) -> None:
        self.last += 1
        self.journal.append(Journalled(self.last, table, operation, key, at, next(self.stamps)))
        if not self.server and self.last % ROUND == 0:
            del self.journal[: -(JOURNAL_LIMIT - ROUND)]

    def install(self, identity: Identity) -> bool:
        """Make capture whole; a database that does not say who it is becomes ``identity``."""
        changed = self.captured != self.generation
        if changed and self.captured and not self.server:
            # Its own row tells what was written without one from what was there before.
            self._journalled(0, Operation.TOUCH, None, 0.0)
        if changed:
            self.captured = self.generation
            self.capture = next(self.stamps)
        if not self.identity.installation:
            changed, self.identity, self.home = True, identity, self.place
            self.memory = Memory(identity.installation, identity.lineage, identity.epoch)
        if changed:
            self._bounded()
        return changed

    def uninstall(self) -> None:
        self.identity, self.memory, self.captured = Identity(), Memory(), 0
        self.witnesses = ()
        self.journal, self.last = [], 0
        self.changed()

    def trim(self, after: int) -> None:
        """What the publisher trims; the last row says how far, as a snapshot does on a server."""
        seen = sum(row.number <= after for row in self.journal)
        del self.journal[: max(0, seen - 1)]
        self.changed()

    def holds(self, installation: str, described: str) -> bool | None:
        """Whether it contains what an origin describes."""
        if self.server:
            return True if described in self.witnesses else None
        last, count, digest = map(int, described.split("."))
        if self.last < last:
            return False
        found = _stamps(self.journal, last - count, last)
        return _digest(installation, found) == digest if len(found) == count else None

    @property
    def catalog(self) -> Catalog:
        wide = tuple(Column(f"extra{number}") for number in range(self.generation % 3))
        items = (Column("id", "INTEGER"), Column("value"), *wide)
        return Catalog(
            (
                Table(ITEMS, "items", items, (0,), f"CREATE TABLE items -- {self.generation}"),
                Table(NOTES, "notes", (Column("text"),), (), "CREATE TABLE notes"),
            )
        )

    def whole_rows(self, table: int) -> list[Row]:
        if table == NOTES:
            return [(note,) for note in self.notes]
        wide = (None,) * (self.generation % 3)
        return [(key, value, *wide) for key, value in sorted(self.rows.items())]


def newest_rows(journal: Sequence[Journalled], installation: str) -> str:
    """What an origin says of the journal."""
    if not journal:
        return ""
    last = journal[-1].number
    found = _stamps(journal, last - ORIGIN_ROWS, last)
    return f"{last}.{len(found)}.{_digest(installation, found)}"


def _stamps(journal: Sequence[Journalled], after: int, last: int) -> list[int]:
    return [row.stamp for row in journal if after < row.number <= last]


def _digest(installation: str, stamps: Sequence[int]) -> int:
    return crc32(f"{installation} {stamps}".encode())


class Position(NamedTuple):
    """Where in the journal: a row, its time stamp, and since when capture is whole."""

    capture: int
    number: int
    stamp: int

    @classmethod
    def of(cls, database: Database) -> Position:
        stamp = database.journal[-1].stamp if database.journal else 0
        return cls(database.capture, database.last, stamp)

    @staticmethod
    @lru_cache
    def parsed(text: str) -> Position:
        return Position(*map(int, text.split(":")))

    def __str__(self) -> str:
        return ":".join(map(str, self))

    def fault(self, capture: int, journal: Sequence[Journalled]) -> str:
        """Why the journal does not go on from here; empty when it does."""
        if self.capture != capture:
            return "capture was repaired"
        if not self.number:
            return "a gap" if journal and journal[0].number > 1 else ""
        for row in journal:
            if row.number == self.number:
                return "" if row.stamp == self.stamp else "another row"
        return "a gap"


class Proof(NamedTuple):
    """Where a cut was: its installation and its newest row."""

    installation: str
    number: int
    stamp: int

    @classmethod
    def of(cls, database: Database) -> Proof:
        _, number, stamp = Position.of(database)
        return cls(database.identity.installation, number, stamp)

    def shown_by(self, database: Database) -> bool:
        """Whether the journal holds that row, and those before it."""
        if not self.stamp:
            return self.installation in database.identity.installations
        wanted = range(max(1, self.number - ORIGIN_ROWS + 1), self.number + 1)
        found = [row for row in database.journal if row.number in wanted]
        return len(found) == len(wanted) and found[-1].stamp == self.stamp


class SimulatedCut:
    """A snapshot of the database; others write on while it is open."""

    def __init__(self, database: Database, memory: Memory) -> None:
        self._journal = tuple(database.journal)
        self._installations = database.identity.installations
        self._server = database.server
        self._rows = {ITEMS: database.whole_rows(ITEMS), NOTES: database.whole_rows(NOTES)}
        self._catalog = database.catalog
        self._generation = database.generation
        self.stale = database.generation != database.captured or not self._installations
        self.position = "" if self.stale else str(Position.of(database))
        self._after = 0
        self.fault = "nothing was published yet"
        if memory.position:
            position = Position.parsed(memory.position)
            self._after = position.number
            self.fault = position.fault(database.capture, self._journal)

    def origin(self, token: str) -> str:
        if self.stale:
            return ""
        if self._server:
            return ancestry.origin_of(self._installations[:1], lambda _: token)
        return ancestry.origin_of(self._installations, partial(newest_rows, self._journal))

    def catalog(self) -> Catalog:
        return self._catalog

    def count(self, table: Table) -> int:
        return len(self._rows[table.id])

    def attributes(self) -> Attributes:
        return {"user_version": self._generation}

    def revisions(self) -> tuple[str, ...]:
        return ()

    def mutations(self) -> Iterator[Mutation]:
        current().call("mutations")
        for row in self._journal:
            if row.number > self._after:
                key = () if row.key is None else (row.key,)
                yield Mutation(row.table, row.operation, key, None, row.at)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        wanted = set(keys)
        return (row for row in self._rows[table.id] if row[:1] in wanted)

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        current().call("scan")
        rows = self._rows[table.id]
        for start in range(0, len(rows), 4):
            yield rows[start : start + 4]


class SimulatedSource:
    """`bequest.ports.Source` over a database."""

    dialect = "sim"

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = f"sim://{name}"

    def installed(self) -> bool:
        return bool(self.database.identity.installation)

    def install(self, selection: Selection | None = None) -> bool:
        self._call("install")
        database, new = self.database, Identity()
        if not database.identity.installation:
            lineage = f"{database.chance.getrandbits(128):032x}"
            new = Identity(f"i{next(database.stamps)}", str(uuid.UUID(lineage)), 1)
            if not database.server:
                # Before the database knows it: it never looks like a copy.
                database.side.take_over(new.installation)
                blank = Memory(new.installation, new.lineage, new.epoch)
                database.side.append(blank, durable=True)
                current().call("introduced")
        return database.install(new)

    def uninstall(self) -> None:
        self._call("uninstall")
        self.database.uninstall()
        current().call("uninstalled")
        self.database.side.remove()

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Iterator[None]:
        self._call("exclusive")
        lock = self.database.publishing
        if not lock.acquire(timeout=timeout_seconds):
            raise busy("the right to publish")
        current().session = self.database.server_number
        try:
            yield
        finally:
            current().session = None
            lock.release()

    def lead(self) -> bool:
        process = current().process
        if self.database.leader in (None, process):
            self.database.leader = process
            return True
        return False

    def recall(self) -> Memory:
        self._call("recall")
        return self.database.recall()

    def remember(self, memory: Memory, *, durable: bool) -> None:
        self._call("remember")
        database = self.database
        if not database.identity.installation:
            raise Unreachable(f"{self.name} has been uninstalled")
        memory = replace(memory, copied="") if memory.copied else memory
        after = database.identity.succeeded(memory)
        another = after != database.identity
        if database.server:
            if after.installation != database.identity.installation:
                database.home = database.place
            database.identity, database.memory = after, memory
            newest = tuple(each.token for each in memory.intents[-1:])
            if newest and newest[0] not in database.witnesses:
                database.witnesses = (*newest, *database.witnesses)[:OPEN_INTENTS]
            database.durable() if durable else database.changed()
        else:
            if another:
                self._become(after)
            if durable or another:
                database.durable()
                current().call("synced")
            if another:
                database.side.take_over(memory.installation)
            database.side.append(memory, durable=durable or another)
        current().call("remembered")

    def _become(self, identity: Identity) -> None:
        self.database.identity = identity
        self.database.changed()
        current().call("identified")

    def descends(self, origin: str) -> bool | None:
        self._call("descends")
        database = self.database
        return ancestry.descends(origin, database.identity.installations, database.holds)

    def trim(self, position: str) -> None:
        self._call("trim", may_fail=False)
        if position and self.database.server:
            found = Position.parsed(position)
            if found.capture == self.database.capture:
                self.database.trim(found.number)

    @contextmanager
    def cut(self, memory: Memory, *, again: bool = False) -> Iterator[SimulatedCut]:
        self._call("cut")
        thread = current()
        thread.cut_commit = self.database.commit
        thread.cut_proof = Proof.of(self.database)
        thread.in_cut = True
        try:
            yield SimulatedCut(self.database, memory)
        finally:
            thread.in_cut = False

    def pending(self, memory: Memory) -> Pending:
        return pending(self.database, memory)

    def close(self) -> None:
        pass

    def _call(self, step: str, *, may_fail: bool = True) -> None:
        thread = current()
        assert not thread.in_cut, f"{step} inside a cut: a writer may be waiting for it"
        if thread.call(step) == "busy" and may_fail:
            raise busy(self.name)
        if thread.session not in (None, self.database.server_number):
            raise Unreachable(f"the session with {self.name} is gone")


def pending(database: Database, memory: Memory) -> Pending:
    after = Position.parsed(memory.position).number if memory.position else 0
    times = [row.at for row in database.journal if row.number > after]
    return Pending(len(set(times)), len(times), min(times, default=None))


class Loading:
    """A restored state that nobody sees yet, with what it inherits (`bequest.ports.Heir`)."""

    def __init__(self) -> None:
        self.inherited: Memory | None = None
        self.tables: dict[int, list[Row]] = {ITEMS: [], NOTES: []}
        self.generation = 0

    def create(self, catalog: Catalog, attributes: Attributes) -> None:
        current().call("create")
        self.generation = int(str(attributes["user_version"]))

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        current().call("load")
        self.tables[table.id] += rows

    def finish(self) -> None:
        current().call("finish")

    def inherit(self, memory: Memory) -> None:
        current().call("inherit")
        self.inherited = memory

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        yield self.tables[table.id]


class SimulatedTarget:
    """`bequest.ports.Target`: the same database, about to be replaced whole."""

    dialect = "sim"

    def __init__(
        self, database: Database, name: str, born: Callable[[bool], None] = lambda heir: None
    ) -> None:
        self.database = database
        self.name = f"sim://{name}"
        self._born = born

    def check(self, *, force: bool) -> None:
        current().call("check")
        if (self.database.rows or self.database.notes) and not force:
            raise Refused(f"{self.name} holds data")

    def problems(
        self, *, force: bool, needed_bytes: int, catalog: Catalog | None = None
    ) -> Sequence[Check]:
        return [asked("data", lambda: self.check(force=force), "")]

    def vacant(self) -> bool:
        current().call("vacant")
        return not self.database.rows and not self.database.notes

    @contextmanager
    def alone(self, timeout_seconds: float) -> Iterator[None]:
        yield

    @contextmanager
    def replace(self, *, force: bool) -> Iterator[Loading]:
        thread = current()
        thread.call("replace")
        loading = Loading()
        yield loading
        thread.call("commit")
        inherited = loading.inherited
        if inherited is not None and not self.database.server:
            self.database.side.take_over(inherited.installation)
            self.database.side.append(inherited, durable=True)
            thread.call("bequeathed")
        self.take(loading, thread.read_commit)
        self._born(inherited is not None)
        thread.call("committed")

    def take(self, loading: Loading, commit: Commit) -> None:
        """The one moment in which the target changes."""
        database, memory = self.database, loading.inherited
        database.rows = {int(str(row[0])): str(row[1]) for row in loading.tables[ITEMS]}
        database.notes = tuple(str(row[0]) for row in loading.tables[NOTES])
        database.generation = loading.generation
        database.uninstall()
        if memory is not None:
            database.install(Identity(memory.installation, memory.lineage, memory.epoch))
            database.memory = memory
        database.commit = replace(commit, parent=commit)  # a line of descent of its own
        database.durable()

    def close(self) -> None:
        pass
