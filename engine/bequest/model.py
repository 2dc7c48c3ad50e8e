"""The nouns: plain values that travel between the parts. No behaviour beyond what names it.

A *value* is what msgpack carries natively: ``None``, ``int``, ``float``, ``str``, ``bytes``. Text
that is not valid UTF-8 travels as a ``str`` with surrogate escapes (PEP 383) and is stored as
msgpack extension type 1, so no byte is ever lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

Value: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Value, ...]
Key: TypeAlias = tuple[Value, ...]
Attributes: TypeAlias = Mapping[str, Value]


PART_OF_VIRTUAL: Final = "a part of a virtual table"
"""The reason in `Catalog.not_covered` for what belongs to something that is named there itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file of this machine: its path, and ``what`` it is, such as ``"the database"``."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Column:
    """One stored column. Generated columns are not stored and do not appear.

    ``type`` is the declared type in the source's own words. ``role`` is ``"rowid"`` for the hidden
    row number of an SQLite table that has no usable primary key (its ``name`` is then the alias
    under which that number can be read and written), else ``""``.
    """

    name: str
    type: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A captured table: where its rows go, and which columns identify a row.

    ``key`` holds indexes into ``columns``. It is empty for a table whose rows cannot be identified:
    the fold then treats the rows as a multiset, and a source that cannot tell which rows came and
    went has the table published whole whenever it changes.
    """

    id: int
    name: str
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    sql: str
    schema: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def key_of(self, row: Sequence[Value]) -> Key:
        """The part of ``row`` that identifies it."""
        return tuple(row[index] for index in self.key)


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """Something that is rebuilt around the tables: an index, view, trigger, virtual table."""

    type: str
    name: str
    table: str
    sql: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that must exist before and after the rows are loaded.

    ``not_covered`` names what is in the source but not in the snapshot, each with its reason.
    """

    tables: tuple[Table, ...]
    objects: tuple[SchemaObject, ...] = ()
    not_covered: tuple[tuple[str, str], ...] = ()


class Operation(StrEnum):
    """What a mutation did."""

    INSERT = "i"
    UPDATE = "u"
    DELETE = "d"
    TOUCH = "t"
    """A row that may have been replaced silently; only its state at the cut tells."""
    CORRECTION = "c"
    """Added by the engine where the state at the cut differs from the last operation."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One journalled change. ``row`` is the state at the cut, on the last mutation of its key.

    ``at`` is seconds since the epoch. A fold applies mutations in order: a row present replaces
    the key's row, ``None`` removes it. In a table without a key, ``INSERT`` adds one ``row`` and
    ``DELETE`` takes one such ``row`` away. In a journal, a mutation with neither key nor row says
    that the whole table changed, such as by TRUNCATE; its rows are then published whole.
    """

    table: int
    operation: Operation
    key: Key
    row: Row | None
    at: float


@dataclass(frozen=True, slots=True)
class Recording:
    """One path of a recorded folder, by the folder's name and the path below it.

    ``facts`` is its row of part 0 (see FORMAT.md), ``None`` to forget the path. ``content`` comes
    in pieces of `bequest.recorded.PIECE_BYTES`; ``None``: it stays as it is recorded.
    """

    path: tuple[str, str]
    facts: Row | None
    content: Iterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Mark:
    """Which publish an object is: kept in the object's seal and in the store's metadata.

    ``origin`` says which journal rows the published state came from, in the source's own words
    (`bequest.ports.Cut.origin`): printable ASCII, at most
    `bequest.snapshot.soundness.ORIGIN_CHARACTERS`; empty where there is none. The token alone
    identifies a publish, so two marks are equal whatever their origins are.
    """

    lineage: str
    epoch: int
    serial: int
    token: str
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a publish: the machine, the number of the process there, and what that is called."""

    host: str
    process: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store says of the object. ``version`` is opaque and changes with every publish.

    ``mark`` is ``None`` when the object bears none that can be read: it is not one of ours, or
    somebody copied it without its metadata. ``age_seconds`` is how long ago it was written, by the
    store's own clock; ``None`` where that was not asked for or is not known.
    """

    version: str
    size_bytes: int
    mark: Mark | None
    age_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Version:
    """One state of the object that a store keeps: the present one, or one that was replaced.

    ``id`` is the store's own word for it. ``at`` is when it was written (seconds since the epoch,
    by the store's clock).
    """

    id: str
    at: float
    size_bytes: int
    mark: Mark | None
    current: bool


@dataclass(frozen=True, slots=True)
class Intent:
    """A publish that was about to be sent when this was written down.

    It holds all that `Memory` must become should the object turn out to bear ``token``. ``epoch``
    is that of the publish.
    """

    serial: int
    token: str
    position: str
    chain: str
    base_bytes: int
    tail_bytes: int
    rows: int
    attributes: Attributes
    rewrite: bool
    epoch: int
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a controller's publishing: who it is, and its last publish.

    Who it is stands in the database itself: ``installation``, a random id of this one database;
    ``lineage`` and ``epoch``. They are written by `Source.install` and at an adoption, and are
    empty before. ``copied`` is not stored: a short clause that says why the database seems to be a
    copy of the one that published, empty when it does not. ``inherited`` is the token of the
    publish that this epoch took over.

    ``position`` is the source's own word for "the journal up to here is in the object"; empty means
    that only a rewrite can follow. ``version``, ``chain`` (hex digest of the object's last frame),
    ``base_bytes`` and ``tail_bytes`` describe the object as this controller last published it; so
    does ``key_id``, the id of the key that it is under, empty for none. ``rows`` is the number of
    rows at the last publish. ``attributes`` are those last published. ``intents`` are the publishes
    whose outcome is not known yet, oldest first.
    """

    installation: str = ""
    lineage: str = ""
    epoch: int = 0
    serial: int = 0
    token: str = ""
    store: str = ""
    version: str = ""
    chain: str = ""
    position: str = ""
    base_bytes: int = 0
    tail_bytes: int = 0
    rows: int = 0
    attributes: Attributes = field(default_factory=dict[str, Value])
    intents: tuple[Intent, ...] = ()
    mode: str = ""
    state: str = ""
    last_success: float | None = None
    last_error: str = ""
    last_rewrite: float | None = None
    key_id: str = ""
    inherited: str = ""
    copied: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a followed database stands in the object that it follows.

    ``end`` and ``chain`` (hexadecimal) are those of the last sealed frame applied; ``at`` is its
    cut's time, seconds since the epoch. ``address`` is the object's, as it was given.
    """

    lineage: str
    epoch: int
    serial: int
    token: str
    at: float
    end: int
    chain: str
    base_bytes: int
    attributes: Attributes
    address: str

    @property
    def mark(self) -> Mark:
        """Which publish that is."""
        return Mark(self.lineage, self.epoch, self.serial, self.token)


@dataclass(frozen=True, slots=True)
class Step:
    """One publish of the tail, as a follower applies it: within one transaction.

    ``rows`` is the last state of each touched key by table, ``None`` for a row that is gone;
    ``resets`` are whole tables that have no key. ``counts`` says of other tables without a key how
    often each row came (positive) or went.
    """

    mark: Mark
    at: float
    end: int
    chain: str
    rows: Mapping[int, Mapping[Key, Row | None]]
    resets: Mapping[int, Sequence[Row]]
    attributes: Attributes
    counts: Mapping[int, Sequence[tuple[Row, int]]] = field(
        default_factory=dict[int, "Sequence[tuple[Row, int]]"]
    )


@dataclass(frozen=True, slots=True)
class Pending:
    """What is committed but not yet in the store.

    ``since`` is when the oldest of it was written (seconds since the epoch), ``None`` when there is
    nothing.
    """

    transactions: int
    mutations: int
    since: float | None


LEFT_OUT = "left out by the choice of tables"
"""The reason in `Catalog.not_covered` for a table that a `Selection` does not want."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tables are captured: every one that some ``include`` matches and no ``exclude``."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableDigest:
    """Rows of a table and the order-independent digest over them (hexadecimal)."""

    rows: int
    digest: str
