"""The journal: positions in it, what lies behind one, and forgetting it bit by bit.

A *position* is ``snapshot;fingerprint;generation``. ``snapshot`` is the server's own word for which
transactions were visible in a cut, so what lies behind it is exactly what became visible since, in
whatever order transaction numbers were handed out. ``fingerprint`` is the schema's at that cut, and
``generation`` changes whenever capture was mended or history dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from bequest.model import Key, Mutation, Operation, Pending, Table, Value
from bequest_schema.tables import JOURNAL

from .connection import Connection
from .forms import expression

TRIM_ROWS: Final = 1000
_TABLE: Final = f"bequest.{JOURNAL}"
# The first condition spares most rows the second one, which searches the snapshot.
_BEHIND: Final = (
    "txid >= pg_snapshot_xmin(%(since)s::pg_snapshot)"
    " AND NOT pg_visible_in_snapshot(txid, %(since)s::pg_snapshot)"
)
_SEEN: Final = "pg_visible_in_snapshot(txid, %(since)s::pg_snapshot)"


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the journal."""

    snapshot: str = ""
    fingerprint: str = ""
    generation: str = ""

    def __str__(self) -> str:
        return f"{self.snapshot};{self.fingerprint};{self.generation}"

    @property
    def xmax(self) -> int:
        """The first transaction number that had not been handed out."""
        return int(self.snapshot.split(":")[1])


def parse(position: str) -> Position:
    """A position from its text; the beginning when it is none of ours."""
    parts = position.split(";")
    return Position(*parts) if len(parts) == 3 and parts[0].count(":") == 2 else Position()


def mutations(
    connection: Connection, position: Position, tables: Mapping[int, Table]
) -> Iterator[Mutation]:
    """What became visible since ``position``, statement by statement.

    A number that is no table's is given too; its key is empty.
    """
    with connection.cursor("bequest_journal", binary=True) as cursor:
        cursor.itersize = 500
        cursor.execute(
            "SELECT extract(epoch FROM at)::float8, tab, op::text, keys"
            f" FROM {_TABLE} WHERE {_BEHIND} ORDER BY at, ctid",
            {"since": position.snapshot},
        )
        for at, number, operation, keys in cursor:
            table = tables.get(number)
            rows = None if table is None else _tuples(connection, table, keys)
            if table is None or rows is None:
                yield Mutation(number, Operation.TOUCH, (), None, at)
            elif table.key:
                kind = Operation(operation)
                yield from (Mutation(number, kind, key, None, at) for key in rows)
            else:
                kind = Operation(operation)
                yield from (Mutation(number, kind, (), row, at) for row in rows)


def snapshot(connection: Connection) -> str:
    """Which transactions are visible now, in the server's words."""
    row = connection.execute("SELECT pg_current_snapshot()::text", prepare=True).fetchone()
    assert row is not None
    return str(row[0])


def behind(connection: Connection, position: Position) -> bool:
    """Whether anything became visible since ``position``, or may have: the journal is gone."""
    sql = f"SELECT EXISTS (SELECT FROM {_TABLE} WHERE {_BEHIND})"
    try:
        found = connection.execute(sql, {"since": position.snapshot})
    except psycopg.errors.UndefinedTable:
        return True
    return found.fetchone() == (True,)


def pending(connection: Connection, position: Position) -> Pending:
    """What became visible since ``position``; a statement on a whole table counts as one."""
    where = f"tab <> 0 AND {_BEHIND}" if position.snapshot else "tab <> 0"
    found = connection.execute(
        "SELECT count(DISTINCT txid), coalesce(sum(greatest(cardinality(keys), 1)), 0)::int8,"
        f" extract(epoch FROM min(at))::float8 FROM {_TABLE} WHERE {where}",
        {"since": position.snapshot},
    ).fetchone()
    assert found is not None
    return Pending(*found)


def trim(connection: Connection, position: Position) -> None:
    """Forget what ``position`` has seen, in steps, without waiting for a disk."""
    if not position.snapshot:
        return
    sql = (
        f"DELETE FROM {_TABLE} WHERE ctid = ANY (ARRAY("
        f"SELECT ctid FROM {_TABLE} WHERE {_SEEN} LIMIT {TRIM_ROWS}))"
    )
    values = {"since": position.snapshot}
    removed = TRIM_ROWS
    while removed == TRIM_ROWS:
        connection.execute("BEGIN; SET LOCAL synchronous_commit = off")
        removed = connection.execute(sql.encode(), values).rowcount
        connection.execute("COMMIT")


def _tuples(
    connection: Connection, table: Table, texts: list[str | None] | None
) -> Sequence[Key] | None:
    """The keys, or where there is no key the rows; ``None``: the whole table."""
    positions = table.key or range(len(table.columns))
    count, rest = divmod(len(texts or ()), len(positions))
    if texts is None or rest:  # there was another number of columns when this was written
        return None
    columns = [
        _values(connection, table, position, texts[index * count : (index + 1) * count])
        for index, position in enumerate(positions)
    ]
    return list(zip(*columns, strict=True))


_TURNS: Final[Mapping[str, Callable[[str], Value]]] = {
    "int": int,
    "uuid": lambda text: bytes.fromhex(text.replace("-", "")),
    "bool": lambda text: int(text == "t"),
    "bytes": lambda text: bytes.fromhex(text[2:]),
}
_AS_THEY_ARE: Final = frozenset({"text", "numeric", "json", "output"})


def _values(
    connection: Connection, table: Table, position: int, texts: Sequence[str | None]
) -> Sequence[Value]:
    """The texts of one column as a scan would read them."""
    form = table.options["forms"][position]
    if form in _AS_THEY_ARE:
        return texts
    if turn := _TURNS.get(form):
        return [None if text is None else turn(text) for text in texts]
    read = expression(form, f"v::{table.columns[position].type}")
    rows: list[Any] = connection.execute(
        f"SELECT {read} FROM unnest(%s::text[]) WITH ORDINALITY AS k(v, n) ORDER BY n".encode(),
        [list(texts)],
        binary=True,
    ).fetchall()
    return [row[0] for row in rows]
