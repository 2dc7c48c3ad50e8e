"""Read one relation block by block, each block under a lock of its own.

A block is a range of row addresses (ctid), which the server finds without reading the rest. Under
one snapshot, and as long as the relation's file is the same, each visible row has one address: the
blocks together hold each row once, whatever is written meanwhile. Rows that come later lie in the
same pages or behind them, and the snapshot does not see them.

While the caller works on a block, another thread reads the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult

from bequest.model import Row, Table

from . import reading
from .brief_locks import BriefLocks
from .connection import Connection
from .members import Member

WHOLE_BYTES: Final = 256 * 1024
"""A relation that is no larger, with what is stored outside its rows, is read at once."""
FIRST_SLOTS: Final = 64
"""Of any other as many rows are read first, at most, for how large they are."""
MOST_PAGES: Final = 1024
COUNTED_PAGES: Final = 8192
GROWTH: Final = 8
_LEAST_BYTES: Final = 28
"""Of a row in its page, with its pointer (access/htup_details.h)."""
_SETTINGS: Final = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_tidscan = on"
_SIZE: Final = (
    "SELECT pg_catalog.pg_relation_size(%s::pg_catalog.oid),"
    " coalesce(pg_catalog.pg_relation_size(%s::pg_catalog.oid), 0),"
    " pg_catalog.current_setting('block_size')::int"
)

Check = Callable[[], None]


@dataclass(slots=True)
class Ranges:
    """Where in a relation reading is. A slot is a place on a page where a row may be."""

    size_bytes: int
    outside_bytes: int
    page_bytes: int
    at: int = 0

    @property
    def slots(self) -> int:
        """On a page."""
        return self.page_bytes // _LEAST_BYTES + 1

    @property
    def end(self) -> int:
        """The first slot behind the relation."""
        return self.size_bytes // self.page_bytes * self.slots

    @property
    def small(self) -> bool:
        """Whether it is read at once."""
        return self.size_bytes + self.outside_bytes <= WHOLE_BYTES

    def address(self, slot: int) -> str:
        """SQL."""
        return f"'({slot // self.slots},{slot % self.slots})'::pg_catalog.tid"

    def take(self, slots: int) -> str:
        """The condition for the next ``slots``, and go on behind them."""
        start, self.at = self.at, min(self.end, self.at + slots)
        return f"t.ctid >= {self.address(start)} AND t.ctid < {self.address(self.at)}"


class RelationReader:
    """Reads ``member`` of ``table``. ``check`` raises when it is not what it was."""

    def __init__(
        self, connection: Connection, locks: BriefLocks, table: Table, member: Member, check: Check
    ) -> None:
        self._connection = connection
        self._locks = locks
        self._member = member
        self._check = check
        self._columns = reading.columns(table)
        self._ranges: Ranges | None = None
        self._slots = FIRST_SLOTS
        self._density = 1.0
        self._transformer = Transformer(connection)

    def blocks(self) -> Generator[list[Row]]:
        """The rows, in the order they are stored. Raises psycopg's errors."""
        answer = self._locks.hold(self._read_range, _SETTINGS)
        found = yield from self._rows(answer)
        if self._at_end:
            # A thread is not worth it.
            return
        yield from self._read_ahead(found)

    def size_bytes(self) -> int:
        """How large the relation is, with what is stored outside its rows."""
        ranges = self._locks.hold(self._measured)
        return ranges.size_bytes + ranges.outside_bytes

    def count(self) -> int:
        """How many rows there are. Raises psycopg's errors."""
        total = 0
        while not self._at_end:
            total += self._locks.hold(self._count_range, _SETTINGS)
        return total

    def _read_ahead(self, found: Sequence[Row]) -> Generator[list[Row]]:
        self._plan(found)
        waiting = self._locks.begin(self._read_range, _SETTINGS)
        while True:
            answer = waiting.result()
            last = self._at_end
            if not last:
                self._plan(found)
                waiting = self._locks.begin(self._read_range, _SETTINGS)
            found = (yield from self._rows(answer)) or found
            if last:
                return

    @property
    def _at_end(self) -> bool:
        return self._ranges is not None and self._ranges.at >= self._ranges.end

    def _plan(self, found: Sequence[Row]) -> None:
        """How much to read next, by the rows that were decoded last and how dense they lay."""
        assert self._ranges is not None
        fit = reading.rows_that_fit(found) if found else FIRST_SLOTS
        rows = min(reading.BLOCK_ROWS, fit)
        most = min(MOST_PAGES * self._ranges.slots, self._slots * GROWTH)
        fitting = int(rows / self._density) if self._density else most
        self._slots = max(1, min(fitting, most))

    def _rows(self, answer: PGresult) -> Generator[list[Row], None, list[Row]]:
        """In pieces that have no more rows than a block may have; returns the last one."""
        found: list[Row] = []
        for start in range(0, answer.ntuples, reading.BLOCK_ROWS):
            self._transformer.set_pgresult(answer)
            stop = min(answer.ntuples, start + reading.BLOCK_ROWS)
            found = self._transformer.load_rows(start, stop, tuple)
            yield found
        return found

    def _read_range(self) -> PGresult:
        ranges = self._measured()
        start = ranges.at
        where = ranges.take(ranges.end if ranges.small else self._slots)
        try:
            answer = reading.fetch(
                self._connection,
                f"SELECT {self._columns} FROM ONLY {self._member.sql} t WHERE {where}",
            )
            self._check()
        except BaseException:
            ranges.at = start
            raise
        self._density = answer.ntuples / max(1, ranges.at - start)
        return answer

    def _count_range(self) -> int:
        ranges = self._measured()
        start = ranges.at
        where = ranges.take(COUNTED_PAGES * ranges.slots)
        try:
            sql = f"SELECT count(*) FROM ONLY {self._member.sql} t WHERE {where}"
            row = self._connection.execute(sql.encode()).fetchone()
            self._check()
        except BaseException:
            ranges.at = start
            raise
        assert row is not None
        return int(row[0])

    def _measured(self) -> Ranges:
        if self._ranges is None:
            oids = [self._member.oid, self._member.toast]
            found = self._connection.execute(_SIZE, oids, prepare=True).fetchone()
            assert found is not None
            size, outside, page = found
            if size is None:
                self._check()  # it is gone
            self._ranges = Ranges(size or 0, outside, page)
        return self._ranges
