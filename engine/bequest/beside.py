"""A cut of two sources: the database, and the folders of configuration files beside it.

The folders are looked at, and small changes read, before the database's cut is opened, because
where readers block writers nobody should wait for a disk. Content passes through in pieces and is
never held whole. Invariants:

* What is not named, not readable or held back keeps its recorded state: an append leaves it alone,
  and a rewrite carries its rows over from the object in the store.
* The store is only asked while no cut is open.
* What was recorded is noted after the store said yes. A note that was lost is read back from the
  object (`bequest.recorded`), and recording the same once more changes nothing.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import Final

from .errors import AccessError, SnapshotDamaged, SnapshotMissing
from .model import (
    Attributes,
    Catalog,
    Key,
    Memory,
    Mutation,
    Operation,
    Recording,
    Row,
    Stat,
    Table,
)
from .opening import opened
from .ports import Cut, Folders, Look, Source, Store
from .recorded import (
    ATTRIBUTE,
    TABLE,
    Known,
    Path,
    facts_in,
    note,
    noted,
    path_of,
    piece,
    pieces_of,
    rows_in,
    rows_of,
    same_content,
    without_attribute,
)
from .snapshot.fold import Snapshot

AHEAD_BYTES: Final = 8 * 1024 * 1024
"""Content that is read before the database's cut is opened."""
BLOCK_BYTES: Final = 4 * 1024 * 1024
BLOCK_ROWS: Final = 512


class Restless(Exception):
    """A file changed while it was read, and its recorded content is not at hand: begin again."""


class Beside:
    """The folders of one publisher; without any, the files that others recorded."""

    def __init__(self, source: Source, store: Store, folders: Folders | None) -> None:
        self._source = source
        self._store = store
        self._folders = folders
        self._known: Known | None = None
        self._noted: Known | None = None
        self._restless = False

    @property
    def due(self) -> bool:
        """Whether the folders should be looked at with the next publish."""
        return self._folders is not None and self._folders.due

    def expect(self) -> None:
        """Let the next publish look at the folders."""
        if self._folders is not None:
            self._folders.expect()

    def forget(self) -> None:
        """Another process has published: what is recorded is to be asked again."""
        self._known = None

    @contextmanager
    def cut(self, memory: Memory, stat: Stat | None) -> Generator[BothCut]:
        """A view of both sources, from what ``memory`` remembers; whole if that has no position.

        ``stat`` is the object that is to be replaced or appended to. Raises as `Source.cut` and
        `bequest.opening.opened`, `Unsettled` too; inside it may raise `Restless`.
        """
        whole = not memory.position
        known = self._recall(memory, stat)
        with ExitStack() as stack:
            look = None
            if self._folders is not None and (whole or self._folders.due):
                look = stack.enter_context(self._folders.look(known.facts, known.here))
            files = _Whole(known, look) if whole else _Changes(known, look)
            if isinstance(files, _Whole):
                files.needs_object |= self._restless and bool(known.facts)
                if files.needs_object:
                    files.object = self._object(stack, memory, stat)
            try:
                yield BothCut(stack.enter_context(self._source.cut(memory, again=True)), files)
            except Restless:
                self._restless = True
                raise

    def settled(self, cut: BothCut) -> None:
        """What ``cut`` held is in the object now: keep that, for the next look."""
        known = self._known = cut.files.after()
        self._restless = False
        if known != self._noted and (known.id or self._noted is not None):
            # The publish is done; without the note its files are read back from the object.
            with suppress(AccessError):
                note(self._source, known)
                self._noted = known
        if self._folders is not None and cut.files.look is not None:
            self._folders.done(cut.files.look)

    def _recall(self, memory: Memory, stat: Stat | None) -> Known:
        found = memory.attributes.get(ATTRIBUTE)
        if not isinstance(found, str):
            self._known = Known()
        elif self._known is None or self._known.id != found:
            self._known = self._read(found, memory, stat)
        return self._known

    def _read(self, number: str, memory: Memory, stat: Stat | None) -> Known:
        known = self._noted = noted(self._source)
        if known is not None and known.id == number:
            return known
        # A database that inherited nothing has recorded its own machine.
        here = memory.epoch <= 1 if known is None else known.here
        with ExitStack() as stack:
            snapshot = self._object(stack, memory, stat)
            return Known(number, here, {} if snapshot is None else facts_in(snapshot))

    def _object(self, stack: ExitStack, memory: Memory, stat: Stat | None) -> Snapshot | None:
        """The object, if it is of this lineage and whole: else nothing of it can be kept."""
        if stat is None:
            return None
        try:
            snapshot = stack.enter_context(opened(self._store))
        except (SnapshotDamaged, SnapshotMissing):
            return None
        return snapshot if snapshot.mark.lineage == memory.lineage else None


class _Files:
    """The files in one cut."""

    def __init__(self, known: Known, look: Look | None) -> None:
        self.look = look
        self.known = known
        self.id = known.id
        self.facts: dict[Path, Row] = {}
        self.here = known.here if look is None else look.here

    @property
    def rows(self) -> int:
        """How many rows there are by now."""
        return sum(map(rows_of, self.facts.values()))

    def after(self) -> Known:
        """What the object holds once this is published."""
        return Known(self.id, self.here or not self.id, self.facts)


class _Changes(_Files):
    """What an append records."""

    lost: tuple[tuple[str, str], ...] = ()

    def __init__(self, known: Known, look: Look | None) -> None:
        super().__init__(known, look)
        self.facts = dict(known.facts)
        self._ahead: list[Recording] = []
        self._rest: Iterator[Recording] = iter(())
        if look is not None:
            self._rest = look.changes()
            self._read_ahead()
        self.changed = bool(self._ahead)
        if self.changed:
            self.id = uuid.uuid4().hex

    @property
    def present(self) -> bool:
        """Whether the object has the table."""
        return bool(self.known.id)

    def _read_ahead(self) -> None:
        left = AHEAD_BYTES
        for found in self._rest:
            content: list[bytes] = []
            pieces = iter(found.content or ())
            for each in pieces:
                content.append(each)
                left -= len(each)
                if left <= 0:
                    break
            # A path whose content stays has none, which is not the same as empty content.
            whole = None if found.content is None else chain(content, pieces)
            self._ahead.append(Recording(found.path, found.facts, whole))
            if left <= 0:
                return

    def mutations(self, at: float) -> Iterator[Mutation]:
        """What differs from what is recorded, at the time ``at``."""
        for found in chain(self._ahead, self._rest):
            yield from self._mutations(found, at)

    def _mutations(self, found: Recording, at: float) -> Iterator[Mutation]:
        before = self.facts.pop(found.path, None)
        had = 0 if before is None else pieces_of(before)
        kept = 0
        if found.facts is not None:
            operation = Operation.INSERT if before is None else Operation.UPDATE
            yield _mutation(operation, found.facts, at)
            self.facts[found.path] = found.facts
            kept = had if found.content is None else 0
            for number, content in enumerate(found.content or (), 1):
                operation = Operation.UPDATE if number <= had else Operation.INSERT
                yield _mutation(operation, piece(found.path, number, content), at)
                kept = number
        elif before is not None:
            yield _gone(found.path, 0, at)
        for number in range(kept + 1, had + 1):
            yield _gone(found.path, number, at)


class _Whole(_Files):
    """What a rewrite records: everything, read again from the disk as far as that may be.

    ``object`` is where recorded content is carried over from, if any has to be.
    """

    changed = False
    object: Snapshot | None = None

    def __init__(self, known: Known, look: Look | None) -> None:
        super().__init__(known, look)
        self.needs_object = bool(known.facts) and (look is None or look.keeps)
        self._theirs: dict[Path, Row] | None = None
        paths = len(known.facts) if look is None else look.paths
        # Also when nothing changed: what cannot be carried over is not what was noted.
        self.id = uuid.uuid4().hex if paths else ""

    @property
    def present(self) -> bool:
        """Whether the object will have the table."""
        return bool(self.id)

    @property
    def lost(self) -> tuple[tuple[str, str], ...]:
        """Recorded files that are in no folder that may be read, nor in the object."""
        if not self.needs_object:
            return ()
        theirs = self._there()
        counts = Counter(
            path[0]
            for path, facts in self.known.facts.items()
            if pieces_of(facts) and path not in theirs and self._is_kept(path)
        )
        return tuple(
            (root, f"{count} recorded files are in no object that can be read any more")
            for root, count in sorted(counts.items())
        )

    def _is_kept(self, path: Path) -> bool:
        return self.look is None or self.look.is_kept(path)

    def _there(self) -> dict[Path, Row]:
        if self._theirs is None:
            self._theirs = {} if self.object is None else facts_in(self.object)
        return self._theirs

    def mutations(self, at: float) -> Iterator[Mutation]:
        """None: a rewrite holds rows."""
        return iter(())

    def scan(self) -> Iterator[Sequence[Row]]:
        """All rows, block by block."""
        return _blocks(self._rows())

    def _rows(self) -> Iterator[Row]:
        carried: dict[Path, Row] = {}
        for found in self._recordings():
            facts = found.facts
            if facts is None:
                continue
            if found.content is None and pieces_of(facts):
                if not self.needs_object:
                    raise Restless
                carried[found.path] = facts
                continue
            self.facts[found.path] = facts
            yield facts
            for number, content in enumerate(found.content or (), 1):
                yield piece(found.path, number, content)
        yield from self._carried(carried)

    def _recordings(self) -> Iterator[Recording]:
        if self.look is not None:
            yield from self.look.everything()
            return
        for path, facts in self.known.facts.items():
            yield Recording(path, facts, None)

    def _carried(self, wanted: dict[Path, Row]) -> Iterator[Row]:
        """Recorded paths with their content, as the object has both."""
        for path, facts in wanted.items():
            theirs = self._there().get(path)
            if theirs is not None:
                # An object that was put back may hold an older content: then its own facts.
                self.facts[path] = facts if same_content(facts, theirs) else theirs
                yield self.facts[path]
        if self.object is None or not wanted:
            return
        for row in rows_in(self.object):
            if row[2] != 0 and path_of(row) in wanted:
                yield row


class BothCut:
    """A database's cut and the files beside it, as one `bequest.ports.Cut`."""

    def __init__(self, cut: Cut, files: _Changes | _Whole) -> None:
        self._cut = cut
        self.files = files

    @property
    def position(self) -> str:
        """`Cut.position`."""
        return self._cut.position

    def origin(self, token: str) -> str:
        """`Cut.origin`: descent is the database's alone."""
        return self._cut.origin(token)

    @property
    def fault(self) -> str:
        """`Cut.fault`; also when an object without files is to hold some."""
        first = self.files.changed and not self.files.present
        return self._cut.fault or ("files are recorded for the first time" if first else "")

    @property
    def stale(self) -> bool:
        """`Cut.stale`."""
        return self._cut.stale

    @property
    def gained(self) -> int:
        """How many rows of files came, less those that went, so far."""
        return self.files.rows - self.files.known.rows

    def catalog(self) -> Catalog:
        """`Cut.catalog`. Files come first, so that a change of one is found out early."""
        found = self._cut.catalog()
        tables = (TABLE, *found.tables) if self.files.present else found.tables
        return Catalog(tables, found.objects, (*found.not_covered, *self.files.lost))

    def count(self, table: Table) -> int:
        """`Cut.count`."""
        return self.files.rows if table is TABLE else self._cut.count(table)

    def attributes(self) -> Attributes:
        """`Cut.attributes`, with the identifier of the files."""
        found = without_attribute(self._cut.attributes())
        return found | ({ATTRIBUTE: self.files.id} if self.files.id else {})

    def revisions(self) -> tuple[str, ...]:
        """`Cut.revisions`."""
        return self._cut.revisions()

    def mutations(self) -> Iterator[Mutation]:
        """`Cut.mutations`: those of the database alone; see `recordings`."""
        return self._cut.mutations()

    def recordings(self, at: float) -> Iterator[Mutation]:
        """The mutations of files, with their rows, read while they are asked for."""
        return self.files.mutations(at)

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        """`Cut.lookup`. No mutation of a file's is ever looked up: it comes with its row."""
        return self._cut.lookup(table, keys)

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """`Cut.scan`."""
        if table is TABLE and isinstance(self.files, _Whole):
            return self.files.scan()
        return self._cut.scan(table)


def _mutation(operation: Operation, row: Row, at: float) -> Mutation:
    return Mutation(TABLE.id, operation, TABLE.key_of(row), row, at)


def _gone(path: Path, number: int, at: float) -> Mutation:
    return Mutation(TABLE.id, Operation.DELETE, (*path, number), None, at)


def _blocks(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        content = row[-1]
        size += len(content) if isinstance(content, bytes) else 0
        if size >= BLOCK_BYTES or len(block) >= BLOCK_ROWS:
            yield block
            block, size = [], 0
    if block:
        yield block


__all__ = ["Beside", "BothCut", "Restless"]
