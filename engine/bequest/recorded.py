"""Configuration files in the object: rows of one table that no database holds.

What is recorded last is known by an attribute of the object, an identifier that each publish of
files makes again, so the database remembers it together with the rest of the publish. A note beside
the database keeps the facts of every path under the same identifier. Invariant: a note with another
identifier is never believed; the facts are then read from the object. Neither holds any content.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, cast

from .errors import SnapshotDamaged
from .model import Attributes, Catalog, Column, Row, Table, Value
from .ports import Notes, Source
from .snapshot.fold import Snapshot

FILES: Final = "bequest_files"
"""The table's name, in every object; also `bequest_schema.tables.FILES`."""
ATTRIBUTE: Final = "bequest_files"
"""The attribute that identifies what is recorded; absent when nothing is."""
NOTE: Final = "files"
PIECE_BYTES: Final = 512 * 1024
"""Content in one row."""
PART: Final = "part"
"""The kind of a row that holds a piece of content."""
CONTENTS: Final = frozenset({"file", "link"})

Path: TypeAlias = tuple[str, str]
"""A root's name and a path below it."""
Facts: TypeAlias = Mapping[Path, Row]
"""The row of part 0 of every recorded path."""

_COLUMNS: Final = (
    ("root", "TEXT"), ("path", "TEXT"), ("part", "INTEGER"), ("kind", "TEXT"),
    ("mode", "INTEGER"), ("uid", "BIGINT"), ("gid", "BIGINT"), ("owner", "TEXT"), ("grp", "TEXT"),
    ("size", "BIGINT"), ("digest", "TEXT"), ("note", "TEXT"), ("content", "BLOB"),
)  # fmt: skip
NAMES: Final = tuple(name for name, _ in _COLUMNS)
_KIND, _SIZE, _DIGEST, _CONTENT = (NAMES.index(n) for n in ("kind", "size", "digest", "content"))

TABLE: Final = Table(
    # The largest number that a reader accepts: databases count their tables from 1.
    id=2**62 - 1,
    name=FILES,
    columns=tuple(Column(name, kind) for name, kind in _COLUMNS),
    key=(0, 1, 2),
    sql=f"CREATE TABLE {FILES} ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS)}, "
    "PRIMARY KEY (root, path, part))",
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the object holds of files. ``id`` is empty when it holds none.

    ``here``: the disk of this machine was equal to it once, so it did not come with a restore only.
    """

    id: str = ""
    here: bool = True
    facts: Facts = field(default_factory=dict[Path, Row])

    @property
    def rows(self) -> int:
        """How many rows of the table these are."""
        return sum(map(rows_of, self.facts.values()))

    @property
    def files(self) -> int:
        """How many files and links."""
        return sum(facts[_KIND] in CONTENTS for facts in self.facts.values())

    def text(self) -> str:
        """As a note."""
        plain = [self.id, self.here, [list(facts[:_CONTENT]) for facts in self.facts.values()]]
        packed = zlib.compress(json.dumps(plain, separators=(",", ":")).encode())
        return base64.b64encode(packed).decode()


def noted(source: Source) -> Known | None:
    """What a source's note says, ``None`` without a note that can be read. Raises `AccessError`."""
    text = source.noted(NOTE) if isinstance(source, Notes) else None
    if not text:
        return None
    try:
        plain = json.loads(zlib.decompress(base64.b64decode(text)))
        number, here, rows = plain
        return Known(number, here, {(row[0], row[1]): (*row, None) for row in rows})
    except (ValueError, TypeError, IndexError, zlib.error):
        return None


def note(source: Source, known: Known) -> None:
    """Keep ``known`` beside the database, where that is possible. Raises `AccessError`."""
    if isinstance(source, Notes):
        source.note(NOTE, known.text())


def known_from(snapshot: Snapshot) -> Known:
    """What an object holds, on a machine whose disk nobody has compared with it yet."""
    found = snapshot.attributes.get(ATTRIBUTE)
    return Known(found if isinstance(found, str) else "", False, facts_in(snapshot))


def table_in(catalog: Catalog) -> Table | None:
    """The table of files, if an object has one."""
    return next((table for table in catalog.tables if table.name == FILES), None)


def without_table(catalog: Catalog) -> Catalog:
    """``catalog`` as the database has it."""
    return replace(catalog, tables=tuple(each for each in catalog.tables if each.name != FILES))


def without_attribute(attributes: Attributes) -> dict[str, Value]:
    """``attributes`` as the database has them."""
    return {name: value for name, value in attributes.items() if name != ATTRIBUTE}


def rows_in(snapshot: Snapshot) -> Iterator[Row]:
    """The rows of an object's files, their columns in the order of `NAMES`.

    Raises `SnapshotDamaged`.
    """
    table = table_in(snapshot.catalog)
    if table is None:
        return
    order = _order(table)
    for _, rows in snapshot.rows({table.id}):
        for row in rows:
            yield tuple(row[index] for index in order)


def _order(table: Table) -> list[int]:
    there = [column.name for column in table.columns]
    try:
        return [there.index(name) for name in NAMES]
    except ValueError as error:
        raise SnapshotDamaged(
            f"The snapshot's table of files lacks a column ({error}). No file was written. Use a "
            "version of Bequest that is as new as the one that wrote it."
        ) from error


def facts_in(snapshot: Snapshot) -> dict[Path, Row]:
    """The facts of every path in an object. Raises `SnapshotDamaged`."""
    return {path_of(row): row for row in rows_in(snapshot) if row[2] == 0}


def path_of(row: Row) -> Path:
    """Which path a row belongs to."""
    return cast("Path", row[:2])


def pieces_of(facts: Row) -> int:
    """How many rows hold the content of a path."""
    size: Any = facts[_SIZE]
    return -(-size // PIECE_BYTES) if facts[_KIND] == "file" and type(size) is int else 0


def rows_of(facts: Row) -> int:
    """How many rows a path has."""
    return 1 + pieces_of(facts)


def same_content(one: Row, other: Row) -> bool:
    """Whether two paths have equal content."""
    return (one[_KIND], one[_SIZE], one[_DIGEST]) == (other[_KIND], other[_SIZE], other[_DIGEST])


def piece(path: Path, number: int, content: bytes) -> Row:
    """The row of one piece of content."""
    blank = (None,) * (_CONTENT - _KIND - 1)
    return (*path, number, PART, *blank, content)
