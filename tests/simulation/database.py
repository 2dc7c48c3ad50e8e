"""A simulated controller's database: what survives a crash, and what a power cut takes.

Fault model: any call may find the database busy; the process may be killed at any call; a power
cut takes back any number of the last commits, but never what a durable `remember` covered. The
journal is cut off at its limit. Triggers of the application make the journal name wrong
operations. A changed schema may leave some writes without a journal row. Writers never wait.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bequest.check import Check, asked
from bequest.errors import Refused
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

from .process import Lock, busy, current

JOURNAL_LIMIT = 40
ITEMS, NOTES = 1, 2
_OPERATIONS = tuple(Operation)[:4]


@dataclass(eq=False)
class Commit:
    """One committed state; ``mutations`` counts all journal rows ever written before it."""

    parent: Commit | None
    number: int
    rows: dict[int, str]
    notes: tuple[str, ...]
    generation: int
    mutations: int

    def same(self, rows: dict[int, str], notes: Counter[str], generation: int) -> bool:
        return self.rows == rows and self.generation == generation and Counter(self.notes) == notes

    def holds(self, older: Commit) -> bool:
        """Whether ``older`` is this commit or an ancestor of it."""
        commit: Commit | None = self
        while commit is not None and commit is not older and commit.number >= older.number:
            commit = commit.parent
        return commit is older


@dataclass
class Database:
    """The file."""

    commit: Commit
    chance: random.Random
    fragile: bool = False
    rows: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    journal: list[tuple[int, int, Operation, int | None, float]] = field(default_factory=list)
    last: int = 0
    generation: int = 1
    captured: int = 0
    installation: int = 0
    memory: Memory = field(default_factory=Memory)
    publishing: Lock = field(default_factory=Lock)
    leader: Any = None
    landed: Commit | None = None
    undo: list[dict[str, Any]] = field(default_factory=list)

    def save(self) -> dict[str, Any]:
        """All that a power cut or a copy of the file is about."""
        return {
            "commit": self.commit,
            "rows": dict(self.rows),
            "notes": self.notes,
            "journal": list(self.journal),
            "last": self.last,
            "generation": self.generation,
            "captured": self.captured,
            "installation": self.installation,
            "memory": self.memory,
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
        """The trigger that keeps the journal's limit, and the end of the transaction."""
        if len(self.journal) > JOURNAL_LIMIT:
            del self.journal[:-1]
        self.changed()

    def _note(self, table: int, operation: Operation, key: int | None, at: float) -> None:
        # A rebuilt table lost its triggers: nothing is journalled until capture is mended.
        if self.captured == self.generation or (self.captured and self.generation % 2):
            self.last += 1
            self.journal.append((self.last, table, operation, key, at))

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


def parse(position: str) -> tuple[int, int]:
    installation, _, last = position.partition(":")
    return int(installation), int(last)


class SimulatedCut:
    """A snapshot of the database; others write on while it is open."""

    def __init__(self, database: Database, memory: Memory) -> None:
        self._journal = tuple(database.journal)
        self._rows = {ITEMS: database.whole_rows(ITEMS), NOTES: database.whole_rows(NOTES)}
        self._catalog = database.catalog
        self._generation = database.generation
        self.stale = database.generation != database.captured
        self.position = "" if self.stale else self.place(database)
        self._after = 0
        self.fault = "nothing was published yet"
        if memory.position:
            installation, self._after = parse(memory.position)
            first = self._journal[0][0] if self._journal else database.last + 1
            gap = self._after > database.last or first > self._after + 1
            mended = installation != database.installation
            self.fault = "capture was mended" if mended else "a gap" if gap else ""

    @staticmethod
    def place(database: Database) -> str:
        return f"{database.installation}:{database.last}"

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
        for number, table, operation, key, at in self._journal:
            if number > self._after:
                yield Mutation(table, operation, () if key is None else (key,), None, at)

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
        return self.database.captured != 0

    def install(self, selection: Selection | None = None) -> bool:
        self._call("install")
        database = self.database
        changed = database.captured != database.generation
        if changed:
            database.captured = database.generation
            database.installation = database.chance.getrandbits(40)
            database.changed()
        return changed

    def uninstall(self) -> None:
        self._call("uninstall")
        database = self.database
        database.memory, database.captured = Memory(), 0
        database.journal, database.last = [], 0
        database.changed()

    @contextmanager
    def exclusive(self, timeout_seconds: float) -> Iterator[None]:
        self._call("exclusive")
        lock = self.database.publishing
        if not lock.acquire(timeout=timeout_seconds):
            raise busy("the right to publish")
        try:
            yield
        finally:
            lock.release()

    def lead(self) -> bool:
        process = current().process
        if self.database.leader in (None, process):
            self.database.leader = process
            return True
        return False

    def recall(self) -> Memory:
        self._call("recall")
        return self.database.memory

    def remember(self, memory: Memory, *, durable: bool) -> None:
        self._call("remember")
        self.database.memory = memory
        self.database.durable() if durable else self.database.changed()
        current().call("remembered")

    def trim(self, position: str) -> None:
        self._call("trim", may_fail=False)
        if not position:
            return
        installation, after = parse(position)
        database = self.database
        if installation == database.installation:
            database.journal = [
                row for row in database.journal if row[0] >= min(after, database.last)
            ]
            database.changed()

    @contextmanager
    def cut(self, memory: Memory, *, again: bool = False) -> Iterator[SimulatedCut]:
        self._call("cut")
        thread = current()
        thread.cut_commit = self.database.commit
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


def pending(database: Database, memory: Memory) -> Pending:
    after = parse(memory.position)[1] if memory.position else 0
    times = [row[4] for row in database.journal if row[0] > after]
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
        self.take(loading, thread.read_commit)
        self._born(loading.inherited is not None)
        thread.call("committed")

    def take(self, loading: Loading, commit: Commit) -> None:
        """The one moment in which the target changes."""
        database = self.database
        database.rows = {int(str(row[0])): str(row[1]) for row in loading.tables[ITEMS]}
        database.notes = tuple(str(row[0]) for row in loading.tables[NOTES])
        database.generation = loading.generation
        database.journal, database.last, database.captured = [], 0, 0
        database.memory = Memory()
        if loading.inherited is not None:
            database.memory = loading.inherited
            database.captured = database.generation
            database.installation = database.chance.getrandbits(40)
        database.commit = replace(commit, parent=commit)  # a line of descent of its own
        database.landed = database.commit
        database.durable()

    def close(self) -> None:
        pass
