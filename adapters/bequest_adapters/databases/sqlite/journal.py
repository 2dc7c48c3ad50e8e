"""The journal: positions in it, what lies behind one, and what proves descent from it.

A *position* is ``seq:at:generation``. ``seq`` is the last row seen; ``at``, that row's time stamp,
proves that it is still the same row; ``generation`` that capture was not repaired since.

The journal is a ring: a trigger on it removes the oldest rows beyond its capacity, in the writers'
own transactions. Bequest itself removes none. The newest row stays, so ``seq`` never restarts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from bequest.model import Mutation, Operation, Pending, Table, Value
from bequest.snapshot.frame import pack
from bequest_schema.tables import JOURNAL, KEY_COLUMNS

from .reading import rows

ORIGIN_ROWS: Final = 32
"""So many rows prove descent. Two copies of a database can agree in all of them only if both write
the same keys in the same milliseconds."""
_KEYS = ", ".join(f"k{index}" for index in range(KEY_COLUMNS))
_EPOCH_JULIAN_DAY = 2440587.5
_DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the journal."""

    seq: int = 0
    at: str = ""
    generation: str = ""

    def __str__(self) -> str:
        return f"{self.seq}:{self.at}:{self.generation}"


def parse(position: str) -> Position:
    """A position from its text; the beginning when it is none of ours."""
    seq, _, rest = position.partition(":")
    at, _, generation = rest.partition(":")
    return Position(int(seq), at, generation) if seq.isdecimal() else Position()


def newest(connection: sqlite3.Connection, generation: str) -> Position:
    """The position of the last row that this transaction sees."""
    row = connection.execute(f"SELECT seq, at FROM {JOURNAL} ORDER BY seq DESC LIMIT 1").fetchone()
    return Position(row[0], repr(row[1]), generation) if row else Position(0, "", generation)


def gap(connection: sqlite3.Connection, position: Position, known: Set[int]) -> str:
    """Why the journal behind ``position`` is not whole, as a short clause; empty when it is."""
    if position.seq and not _is_anchored(connection, position):
        return "the journal does not reach back to the last publish"
    behind = connection.execute(
        f"SELECT tab, count(*), min(seq), max(seq) FROM {JOURNAL} WHERE seq > ? GROUP BY tab",
        (position.seq,),
    ).fetchall()
    if not behind:
        return ""
    count = sum(row[1] for row in behind)
    first, last = min(row[2] for row in behind), max(row[3] for row in behind)
    if first != position.seq + 1 or last - first + 1 != count:
        return "rows of the journal are missing"
    if not all(row[0] in known for row in behind):
        return "the journal names a table that is not captured"
    return ""


def _is_anchored(connection: sqlite3.Connection, position: Position) -> bool:
    row = connection.execute(f"SELECT at FROM {JOURNAL} WHERE seq = ?", (position.seq,)).fetchone()
    return row is not None and repr(row[0]) == position.at


def mutations(
    connection: sqlite3.Connection, position: Position, tables: Mapping[int, Table]
) -> Iterator[Mutation]:
    """What was journalled behind ``position``; rows of unknown tables (a `gap`) are left out."""
    columns = connection.execute(f"PRAGMA main.table_info({JOURNAL})").fetchall()
    names = "".join(f", {name}" for _, name, *_ in columns if name[0] == "k")
    sql = f"SELECT at, tab, op{names} FROM {JOURNAL} WHERE seq > ? ORDER BY seq"
    for at, number, operation, *key in rows(connection, sql, (position.seq,)):
        table = tables.get(number) if isinstance(number, int) else None
        if table is not None:
            stamp = epoch_seconds(float(at or 0))
            kept = tuple(key[: len(table.key)])
            yield Mutation(table.id, Operation(str(operation)), kept, None, stamp)


def epoch_seconds(julian_day: float) -> float:
    """Seconds since the epoch, to the millisecond that SQLite's clock gives."""
    return round((julian_day - _EPOCH_JULIAN_DAY) * _DAY_SECONDS, 3)


def pending(connection: sqlite3.Connection, position: Position) -> Pending:
    """What lies behind ``position``.

    SQLite has no transaction numbers. A statement has one time stamp, to the millisecond, so the
    distinct stamps are counted: one transaction of several statements may count as several, and
    several transactions within a millisecond as one.
    """
    transactions, count, since = connection.execute(
        f"SELECT count(DISTINCT at), count(*), min(at) FROM {JOURNAL} WHERE seq > ? AND tab <> 0",
        (position.seq,),
    ).fetchone()
    return Pending(transactions, count, None if since is None else epoch_seconds(since))


def newest_rows(connection: sqlite3.Connection, installation: str) -> str:
    """The last rows of the journal, for an origin; empty when it is empty (`bequest.ancestry`)."""
    last = connection.execute(f"SELECT max(seq) FROM {JOURNAL}").fetchone()[0]
    if last is None:
        return ""
    found = _between(connection, last - ORIGIN_ROWS, last)
    return f"{last}.{len(found)}.{_digest(installation, found)}"


def holds(connection: sqlite3.Connection, installation: str, described: str) -> bool | None:
    """Whether the journal contains the rows that `newest_rows` described; ``None``: not any more.

    False is certain: the journal ends before them, or has others in their place.
    """
    numbers = described.split(".")
    if len(numbers) != 3 or not (numbers[0].isdecimal() and numbers[1].isdecimal()):
        return None
    last, count = int(numbers[0]), int(numbers[1])
    newest_seq = connection.execute(f"SELECT max(seq) FROM {JOURNAL}").fetchone()[0] or 0
    if newest_seq < last:
        return False
    found = _between(connection, last - count, last)
    return _digest(installation, found) == numbers[2] if len(found) == count else None


def _between(connection: sqlite3.Connection, after: int, last: int) -> list[Sequence[Value]]:
    sql = f"SELECT seq, at, tab, op, {_KEYS} FROM {JOURNAL} WHERE seq > ? AND seq <= ? ORDER BY seq"
    return list(rows(connection, sql, (after, last)))


def _digest(installation: str, found: Sequence[Sequence[Value]]) -> str:
    packed = pack([list(row) for row in found])
    return blake2b(packed, digest_size=16, key=installation.encode()[:64]).hexdigest()
