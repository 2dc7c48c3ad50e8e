"""The journal: positions in it, what lies behind one, and forgetting it bit by bit.

A *position* is ``seq:at:generation``. ``seq`` is the last row seen; ``at``, that row's time stamp,
proves that it is still the same row; ``generation`` that capture was not mended since. The row
itself is kept until the next position, for the same proof, and so that ``seq`` never restarts.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from bequest.model import Mutation, Operation, Pending, Table
from bequest_schema.tables import JOURNAL

from .connection import primary_code
from .reading import rows

TRIM_ROWS = 500
TRIM_FROM = 250
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
        f"SELECT count(DISTINCT at), count(*), min(at) FROM {JOURNAL} WHERE seq > ?",
        (position.seq,),
    ).fetchone()
    return Pending(transactions, count, None if since is None else epoch_seconds(since))


def trim(connection: sqlite3.Connection, position: Position) -> None:
    """Forget what lies before ``position``, but not the row at it, nor ever the last row.

    Nothing is done for fewer than `TRIM_FROM` rows: after every publish that would be one more time
    that the write lock is taken. Between two steps others get as long a turn as the step took. When
    the database is busy the rest is left for the next time.
    """
    oldest = connection.execute(f"SELECT seq FROM {JOURNAL} ORDER BY seq LIMIT 1").fetchone()
    if oldest is None or position.seq - oldest[0] < TRIM_FROM:
        return
    sql = (
        f"DELETE FROM {JOURNAL} WHERE seq IN (SELECT seq FROM {JOURNAL} WHERE seq <"
        f" min(?, (SELECT max(seq) FROM {JOURNAL})) ORDER BY seq LIMIT {TRIM_ROWS})"
    )
    while True:
        begun = time.perf_counter()
        try:
            removed = connection.execute(sql, (position.seq,)).rowcount
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            return
        if removed < TRIM_ROWS:
            return
        time.sleep(min(0.05, time.perf_counter() - begun))
