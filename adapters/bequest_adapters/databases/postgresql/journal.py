"""The journal: positions in it, what lies behind one, and forgetting it bit by bit.

A *position* is ``snapshot;fingerprint;generation``. ``snapshot`` is the server's own word for which
transactions were visible in a cut, so what lies behind it is exactly what became visible since, in
whatever order transaction numbers were handed out. ``fingerprint`` is the schema's at that cut, and
``generation`` changes whenever capture was mended or history dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
            for key in _keys(connection, tables.get(number), keys):
                yield Mutation(number, Operation(operation), key, None, at)


def behind(connection: Connection, position: Position) -> bool:
    """Whether anything became visible since ``position``."""
    found = connection.execute(
        f"SELECT EXISTS (SELECT FROM {_TABLE} WHERE {_BEHIND})", {"since": position.snapshot}
    )
    return found.fetchone() == (True,)


def pending(connection: Connection, position: Position) -> Pending:
    """What became visible since ``position``; a statement on a whole table counts as one."""
    where = _BEHIND if position.snapshot else "true"
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
    removed = TRIM_ROWS
    while removed == TRIM_ROWS:
        connection.execute("BEGIN; SET LOCAL synchronous_commit = off")
        removed = connection.execute(sql, {"since": position.snapshot}).rowcount
        connection.execute("COMMIT")


def _keys(connection: Connection, table: Table | None, keys: list[str] | None) -> Sequence[Key]:
    if table is None or not table.key or keys is None:
        return [()]
    width = len(table.key)
    count, rest = divmod(len(keys), width)
    if rest:  # the key had another number of columns when this was written
        return [()]
    columns = [
        _values(connection, table, position, keys[index * count : (index + 1) * count])
        for index, position in enumerate(table.key)
    ]
    return list(zip(*columns, strict=True))


def _values(
    connection: Connection, table: Table, position: int, texts: Sequence[str]
) -> Sequence[Value]:
    """The texts of one column of keys as a scan would read them."""
    form = table.options["forms"][position]
    if form == "int":
        return [int(text) for text in texts]
    if form == "uuid":
        return [bytes.fromhex(text.replace("-", "")) for text in texts]
    if form == "bool":
        return [int(text == "t") for text in texts]
    if form == "bytes":
        return [bytes.fromhex(text[2:]) for text in texts]
    if form in ("text", "numeric", "json", "output"):
        return texts
    return _by_server(connection, form, table.columns[position].type, texts)


def _by_server(
    connection: Connection, form: str, type_: str, texts: Sequence[str]
) -> Sequence[Value]:
    read = expression(form, f"v::{type_}")
    rows: list[Any] = connection.execute(
        f"SELECT {read} FROM unnest(%s::text[]) WITH ORDINALITY AS k(v, n) ORDER BY n".encode(),
        [list(texts)],
        binary=True,
    ).fetchall()
    return [row[0] for row in rows]
