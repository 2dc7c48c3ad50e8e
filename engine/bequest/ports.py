"""What the engine needs from outside: a source, a store, a target, a clock. Nothing else.

Each port is small and its contract is in its comments. Adapters raise only errors of
`bequest.errors`: `Unreachable` when trying again may help, `Denied` when it will not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from .check import Check
from .model import (
    Attributes,
    Catalog,
    Key,
    Mark,
    Memory,
    Mutation,
    Pending,
    Place,
    Recording,
    Row,
    Selection,
    Standing,
    Stat,
    Step,
    Table,
    Version,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Store(Protocol):
    """One object at one address. Every write is conditional and atomic, and is tried once.

    A write that raises `Unreachable` may or may not have happened: the caller finds out by `head`,
    whose mark then bears the token of the write.
    """

    @property
    def name(self) -> str:
        """The address, fit for a log: never a credential."""
        ...

    def head(self) -> Stat | None:
        """What is there now, or ``None`` when nothing is. One small request."""
        ...

    def read(self) -> AbstractContextManager[BinaryIO]:
        """The object as it is now, as a stream that never mixes two versions.

        Raises `SnapshotMissing` when there is none.
        """
        ...

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        """Add ``data`` behind the object ``onto``; earlier frames are not touched.

        Raises `Conflict` when the object is not ``onto`` any more.
        """
        ...

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        """Replace the object ``onto`` (``None``: there must be none) by ``body``.

        ``body`` is seekable and stands at its beginning; it may be read more than once. Raises
        `Conflict` when the condition does not hold.
        """
        ...

    def close(self) -> None:
        """Give back connections. The store may not be used afterwards."""
        ...


@runtime_checkable
class Occupying(Protocol):
    """What a source or a store adds that lies in files of this machine. Optional."""

    def places(self) -> Sequence[Place]:
        """Every file that belongs to it, there or not; see `bequest.separate`. Touches nothing."""
        ...


@runtime_checkable
class Historic(Protocol):
    """What a store adds that can tell of earlier states of its object. Optional.

    Callers go through `bequest.versions`, which says so where a store cannot.
    """

    def history(self, limit: int) -> Sequence[Version]:
        """The states that are kept, the newest first, ``limit`` at most; the present one too.

        Empty when there is no object. Whatever is not a Bequest snapshot bears no mark.
        """
        ...

    def at(self, version: str) -> Store:
        """That state, to be read: `Store.append` and `Store.rewrite` raise `Refused`.

        Sends nothing yet. Close it before the store that gave it.
        """
        ...


@runtime_checkable
class Rereading(Protocol):
    """What a store adds that can skip an object it has shown before. Optional."""

    def read_newer(self, version: str) -> AbstractContextManager[tuple[Stat, BinaryIO] | None]:
        """The object and what it is, or ``None`` while it is still ``version``.

        An unchanged object costs one small request. Raises `SnapshotMissing`.
        """
        ...


@runtime_checkable
class Keeping(Protocol):
    """What a store adds that can keep a copy of its object. Optional; see `bequest.keeping`."""

    def keep(self, onto: Stat, label: str) -> str:
        """Copy the object, if it is still ``onto``, under its name with ``.label`` behind it.

        The store copies it by itself, mark and all, and the object stays as it is. Nothing is ever
        replaced: where that name holds something else, a number follows it; where it holds this
        copy already, nothing is done. Returns the copy's address, as `bequest restore` takes it.
        Raises `Conflict` when the object is not ``onto`` any more.
        """
        ...


class Cipher(Protocol):
    """Keys, each known by its id. The first one given writes; all of them read."""

    @property
    def current(self) -> str:
        """The id of the key that writes."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all keys, the current one first. An id reveals nothing of its key."""
        ...

    def holds(self, key_id: str) -> bool:
        """Whether that key is among them."""
        ...

    def encrypt(self, key_id: str, data: bytes, bound_to: bytes) -> bytes:
        """``data`` so that only the key opens it, beside the very same ``bound_to``.

        It is longer by `bequest.snapshot.frame.ENCRYPTION_BYTES`. Safe in any thread.
        """
        ...

    def decrypt(self, key_id: str, data: bytes, bound_to: bytes) -> bytes:
        """The inverse. Raises `SnapshotDamaged` for what was not made under that key as it is."""
        ...


class Keyed(Protocol):
    """What a store has whose object is to be encrypted. Optional; see `bequest.encryption`."""

    cipher: Cipher | None
    """The keys with which it was opened."""


class Cut(Protocol):
    """A consistent view of the source between two transactions, open until its context ends.

    While it is open the caller asks nothing else of the source: where readers block writers, a
    second connection would wait for a writer that waits for this cut.
    """

    @property
    def position(self) -> str:
        """The journal up to here is visible in this cut."""
        ...

    def origin(self, token: str) -> str:
        """What this cut contains, as `Source.descends` recognises it in a later state.

        ``token`` is the publish's own, of which a source may write something down with the intent
        (`Source.remember`). Printable ASCII of at most 400 characters. Empty where capture is not
        whole.
        """
        ...

    @property
    def fault(self) -> str:
        """Why the journal cannot be trusted since the remembered position; empty when it can.

        A reason is a short clause, such as ``"the schema changed"``. After a fault the caller
        runs `Source.install` and publishes a rewrite from a new cut.
        """
        ...

    @property
    def stale(self) -> bool:
        """Whether capture does not cover this cut's schema: `Source.install`, then cut again."""
        ...

    def catalog(self) -> Catalog:
        """Tables and objects as they are in this cut."""
        ...

    def count(self, table: Table) -> int:
        """How many rows ``table`` has. May cost a pass over it."""
        ...

    def attributes(self) -> Attributes:
        """Small facts that belong to the state but to no table, such as sequences."""
        ...

    def revisions(self) -> tuple[str, ...]:
        """The controller's own Alembic revisions in this cut, empty when it has none."""
        ...

    def mutations(self) -> Iterator[Mutation]:
        """The journal since the remembered position, in commit order, ``row`` still ``None``."""
        ...

    def lookup(self, table: Table, keys: Sequence[Key]) -> Iterator[Row]:
        """Those rows of ``table`` that bear one of ``keys``, in any order."""
        ...

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """All rows of ``table``, block by block, in a stable order."""
        ...


class Unsettled(Exception):
    """What a cut read does not count: somebody wrote meanwhile, and no lock kept them from it.

    Whatever else was raised inside that cut does not count either. A source that raises it often
    takes a lock in the end.
    """


class Source(Protocol):
    """A controller's database with capture installed in it."""

    @property
    def name(self) -> str:
        """The database's address, fit for a log."""
        ...

    @property
    def dialect(self) -> str:
        """``"sqlite"``, ``"postgresql"`` ..."""
        ...

    def installed(self) -> bool:
        """Whether capture has ever been installed here. Writes nothing."""
        ...

    def install(self, selection: Selection | None = None) -> bool:
        """Create or repair journal and triggers; True when anything was changed.

        ``None`` keeps the selection of the last install (all tables at first). Idempotent. Whatever
        it had to repair makes the next cut report a fault, and is a row of the journal by itself:
        by it `descends` tells a copy from before the repair apart.
        """
        ...

    def uninstall(self) -> None:
        """Remove everything that `install` ever made."""
        ...

    def exclusive(self, timeout_seconds: float) -> AbstractContextManager[None]:
        """Hold the right to publish, across processes; given back when the process dies.

        Raises `Unreachable` when somebody else holds it for longer than the timeout.
        """
        ...

    def lead(self) -> bool:
        """Try to become, or stay, the one process that watches. Never waits."""
        ...

    def recall(self) -> Memory:
        """What was remembered last; a blank `Memory` before the first `install`.

        Who the database is comes from the database itself. What does not belong to it, because the
        database was copied, moved or replaced, is left out, and ``copied`` says so.
        """
        ...

    def remember(self, memory: Memory, *, durable: bool) -> None:
        """Write ``memory`` down. ``durable``: on disk, with all commits before it, at return.

        The database is written to only where it says another ``installation``, ``lineage`` or
        ``epoch``; that is on disk before the rest. Its earlier installations stay known to
        `descends`. A memory without an installation leaves the database who it is.
        """
        ...

    def descends(self, origin: str) -> bool | None:
        """Whether this database's history contains the state that `Cut.origin` described.

        False: it does not, for certain. ``None``: nothing proves it either way, because the journal
        no longer reaches back so far.
        """
        ...

    def trim(self, position: str) -> None:
        """Forget the journal up to ``position``, in steps too small to disturb other writers.

        The rows that `descends` needs stay. An empty ``position`` stands for the beginning: nothing
        is forgotten. Does nothing where the journal trims itself.
        """
        ...

    def cut(self, memory: Memory, *, again: bool = False) -> AbstractContextManager[Cut]:
        """Open a consistent view, seen from what ``memory`` remembers.

        With ``again`` the caller takes another cut when leaving this one raises `Unsettled`.
        """
        ...

    def pending(self, memory: Memory) -> Pending:
        """What is committed since ``memory``'s position. Cheap: it is asked often."""
        ...

    def close(self) -> None:
        """Give back connections and locks."""
        ...


@runtime_checkable
class Watchful(Protocol):
    """What a `Source` adds that can tell cheaply what no journal tells. Optional."""

    def moved(self, memory: Memory) -> bool:
        """Whether the schema changed, or capture was disturbed, since the last publish."""
        ...


class Healing(Protocol):
    """What a `Source` adds whose capture can make the controller's writes fail. Optional."""

    def heal(self) -> None:
        """Let writes pass again, at once. Asked at every tick, whatever the store does: cheap."""
        ...


class Look(Protocol):
    """What some folders hold, compared with what is recorded of them.

    Recordings and their content are read from the disk while they are asked for, in order. A file
    that changes meanwhile is never given half: it is left out of `changes`, and stays as it is
    recorded in `everything`.
    """

    @property
    def here(self) -> bool:
        """Whether the folders may be taken for the recorded ones from now on."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether `everything` will leave content as it is recorded."""
        ...

    @property
    def paths(self) -> int:
        """About how many paths `everything` gives; 0 only when it gives none."""
        ...

    def is_kept(self, path: tuple[str, str]) -> bool:
        """Whether the content of ``path`` stays as it is recorded."""
        ...

    def changes(self) -> Iterator[Recording]:
        """The paths that are not as they are recorded."""
        ...

    def everything(self) -> Iterator[Recording]:
        """All paths, those with recorded content that stays among them."""
        ...


class Folders(Protocol):
    """Folders whose files are recorded: the second source of a cut."""

    @property
    def due(self) -> bool:
        """Whether anything may have changed since the last look that was `done`."""
        ...

    def expect(self) -> None:
        """Say that something may have changed."""
        ...

    def look(
        self, known: Mapping[tuple[str, str], Row], here: bool
    ) -> AbstractContextManager[Look]:
        """Look at the folders; ``known`` are the facts of each recorded path.

        ``here``: whether those came from this machine's disk. Never raises for a file or folder
        that cannot be read: that is named in the reports, and stays as it is recorded.
        """
        ...

    def done(self, look: Look) -> None:
        """What ``look`` gave is in the store."""
        ...


class Loading(Protocol):
    """A target inside its one transaction. Leaving it without an error commits."""

    def create(self, catalog: Catalog, attributes: Attributes) -> None:
        """Make the tables, without what would slow the load or fire during it."""
        ...

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """Add ``rows``; may be called several times for one table.

        They may still be under way when this returns: what is wrong with them is then raised by the
        next call, at the latest by `finish`, and nobody changes them meanwhile.
        """
        ...

    def finish(self) -> None:
        """Add indexes, views, triggers, sequences and attributes."""
        ...

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        """Read the loaded rows back, for the digest."""
        ...


@runtime_checkable
class Provable(Protocol):
    """A `Loading` whose rows are read back while indexes are made, and in their order. Optional."""

    def keeps_order(self, table: Table) -> bool:
        """Whether rows should be read back as they were loaded, in the order of the source's scan.

        When they are not after all, they are compared once more without regard to it.
        """
        ...

    def found(self, table: Table) -> tuple[int, bytes] | None:
        """How many rows were read back meanwhile, and the digest of `RowRun` over them.

        ``None`` where they were not. Inside `finishing`.
        """
        ...

    def finishing(self) -> AbstractContextManager[None]:
        """Instead of `Loading.finish`: all of it is done, or raised, when the context ends.

        Rows can be read back inside. They are what is in the database at the end.
        """
        ...


@runtime_checkable
class Heir(Protocol):
    """A `Loading` that takes its inheritance into the restore's own transaction. Optional."""

    def inherit(self, memory: Memory) -> None:
        """Let the new database remember ``memory`` from its first moment. After `finish`."""
        ...


@runtime_checkable
class Migratable(Protocol):
    """A `Loading` whose tables a controller's own migrations can make. Optional."""

    def lend(self, attributes: Attributes) -> AbstractContextManager[Connection]:
        """An SQLAlchemy connection into the new database; what it does is part of the loading.

        ``attributes`` are the snapshot's, for what must be settled before the first table.
        """
        ...

    def occupy(self, catalog: Catalog, attributes: Attributes) -> None:
        """Instead of `Loading.create`: take the tables that are there, emptied.

        Tables of ``catalog`` that are missing are made as recorded. Raises `Refused` when a table
        lacks a column. `Loading.finish` then makes only what is missing.
        """
        ...


@runtime_checkable
class Notes(Protocol):
    """A `Source` that keeps small texts under a name, apart from its `Memory`. Optional."""

    def note(self, name: str, text: str) -> None:
        """Keep ``text``, in place of what was kept under ``name``."""
        ...

    def noted(self, name: str) -> str | None:
        """What was kept last."""
        ...


class Migrations(Protocol):
    """The controller's own migrations, such as an Alembic environment."""

    def checks(self, revisions: Sequence[str]) -> Sequence[Check]:
        """Whether they can build ``revisions`` and lead from there to their newest."""
        ...

    def build(self, connection: Connection, revisions: Sequence[str]) -> None:
        """Make the schema of ``revisions`` in an empty database."""
        ...

    def upgrade(self, connection: Connection) -> None:
        """Lead the schema and its rows to the newest revision."""
        ...


class Crossing(Protocol):
    """How a snapshot of one dialect is said in another. The seam for restores across dialects."""

    @property
    def catalog(self) -> Catalog:
        """The tables and objects as the target will have them, under the same numbers."""
        ...

    @property
    def attributes(self) -> Attributes:
        """The attributes that mean something to the target."""
        ...

    @property
    def losses(self) -> Sequence[tuple[str, str]]:
        """What will be different, or missing, in the target: name and reason."""
        ...

    def convert(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows of the snapshot as the target takes them. ``table`` is the snapshot's."""
        ...

    def canonical(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows read back from the target as `convert` gave them, for the digest."""
        ...


class Bridge(Protocol):
    """One table in two databases of different kinds."""

    @property
    def source(self) -> Table:
        """The table on the first side."""
        ...

    @property
    def target(self) -> Table:
        """The table on the second side."""
        ...

    def canonical_source(self) -> Callable[[Row], Row]:
        """What brings a row of the first side to the form in which equal rows are equal."""
        ...

    def canonical_target(self) -> Callable[[Row], Row]:
        """The same for the second side."""
        ...


class Pairing(Protocol):
    """Two databases of different kinds, table by table."""

    @property
    def bridges(self) -> Sequence[Bridge]:
        """The tables that are on both sides."""
        ...

    @property
    def differences(self) -> Sequence[str]:
        """Tables and columns that are on one side only."""
        ...


Pair = Callable[[Catalog, str, Catalog, str], Pairing]
"""Two catalogs, each with its dialect. Raises `Refused` for a pair that is not known."""


class Target(Protocol):
    """A database that a snapshot is replayed into."""

    @property
    def name(self) -> str:
        """The database's address, fit for a log."""
        ...

    @property
    def dialect(self) -> str:
        """``"sqlite"``, ``"postgresql"`` ..."""
        ...

    def check(self, *, force: bool) -> None:
        """Raise, before anything is touched, when a replay could not or must not happen.

        `Refused` when there is data (unless ``force``) or another process has it open, `Denied`
        or `Unreachable` when it cannot be written.
        """
        ...

    def problems(
        self, *, force: bool, needed_bytes: int, catalog: Catalog | None = None
    ) -> Sequence[Check]:
        """All that `check` would raise, one by one, and whether there is room. Changes nothing.

        ``needed_bytes`` is about what the new database will weigh, ``catalog`` what it is to hold,
        where that is known.
        """
        ...

    def vacant(self) -> bool:
        """Whether there is no database, or one none of whose tables has a row.

        Bequest's own tables and Alembic's version table do not count. What is defined there is
        replaced without ``force``, and kept as with it.
        """
        ...

    def alone(self, timeout_seconds: float) -> AbstractContextManager[None]:
        """Be the only restore into this target, across processes; ends with the process.

        Raises `Refused` when another one is still at work after ``timeout_seconds``.
        """
        ...

    def replace(self, *, force: bool) -> AbstractContextManager[Loading]:
        """Replace everything by what is loaded inside the context, or leave all as it was."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class Following(Protocol):
    """A database that is kept equal to an object, and that nobody else writes to.

    Each method that writes does so in one transaction, together with where it then stands: a reader
    sees cuts only, and a crash leaves one publish or the next.
    """

    @property
    def name(self) -> str:
        """The database's address, fit for a log."""
        ...

    @property
    def dialect(self) -> str:
        """``"sqlite"``, ``"postgresql"`` ..."""
        ...

    def standing(self) -> Standing | None:
        """Where it stands; ``None`` when it follows nothing."""
        ...

    def address(self) -> str:
        """The object that it follows, or followed until a promotion began; empty when none."""
        ...

    def altered(self) -> str:
        """Why the data may not be what was applied, as a short clause; empty when it is."""
        ...

    def reload(
        self, catalog: Catalog, rows: Iterable[tuple[Table, Iterable[Row]]], standing: Standing
    ) -> None:
        """Replace everything. Raises `Refused` when it holds data and follows nothing.

        Definitions without rows that were there at the first load are kept; ``kept``, where the
        database has that attribute, then says where.
        """
        ...

    def apply(self, catalog: Catalog, step: Step, before: Standing, after: Standing) -> None:
        """Apply one publish. Raises `Unreachable` when it does not stand at ``before`` any more."""
        ...

    def release(self, memory: Memory) -> None:
        """Make it an ordinary database that publishes on, with ``memory`` for its source to take.

        It remembers ``memory`` until `released`.
        """
        ...

    def promotion(self) -> Memory | None:
        """The memory of a `release` after which `released` was not reached."""
        ...

    def released(self) -> None:
        """The source has taken the memory over: nothing of the following is left."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


@runtime_checkable
class Counting(Protocol):
    """What a `Following` adds that can take away one of several equal rows. Optional.

    Without it a publish that changes a table without a key is read as a whole object.
    """

    @property
    def counts(self) -> bool:
        """True: `Following.apply` looks at `Step.counts`."""
        ...


class Clock(Protocol):
    """Time, so that the engine has none of its own."""

    def time(self) -> float:
        """Wall clock: seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Schedule(Protocol):
    """When a scheduled publish is due."""

    def next_after(self, time: float) -> float:
        """The first moment after ``time``, both in seconds since the epoch."""
        ...


Listener = Callable[[str, dict[str, object]], None]
"""Receives an event's name and its facts; what it raises is logged and forgotten."""
