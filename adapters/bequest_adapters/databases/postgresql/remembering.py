"""`Memory` as the one row of ``bequest.bequest_memory``, and whose row it is.

``place`` is the server's system identifier and the database's oid. They differ in a database that
was dumped and restored, or made from a template, and so tell a copy. A physical replica that was
promoted has both of its primary: only its content tells how far it came (`bequest.ancestry`).

A *witness* is made from the token of one publish and committed with its intent, after the cut. The
intent's commit is in the server's log behind all commits that the cut saw, so whatever holds the
witness (a replica, a dump, a database rolled back) holds the published state as well. The order of
the journal's rows proves less: they are stamped when a statement runs, not when it is committed,
and by clocks that differ between a primary and its standby.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from hashlib import blake2b
from typing import Any

from bequest.model import Intent, Memory
from bequest.publisher import OPEN_INTENTS
from bequest.snapshot.frame import pack, unpack
from bequest_schema.tables import JOURNAL, MEMORY

from .connection import Connection

_PACKED = ("attributes", "intents")
_COLUMNS = tuple(field.name for field in fields(Memory) if field.name != "copied")
_IDENTITY = frozenset({"installation", "lineage", "epoch"})
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_PLACE = (
    "(SELECT concat_ws('/', CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')"
    " THEN (SELECT system_identifier FROM pg_control_system()) END, d.oid)"
    " FROM pg_database d WHERE d.datname = current_database())"
)
_RECALL = f"SELECT m.*, {_PLACE} AS place_now FROM bequest.{MEMORY} m WHERE id = 1"
_WITNESS_DIGITS = 16
_WITNESSES = OPEN_INTENTS * (_WITNESS_DIGITS + 1) - 1
"""Characters of the newest ones: each open intent keeps its own."""
_REMEMBER = (
    f"INSERT INTO bequest.{MEMORY} AS m (id, {_NAMES}, witnesses, earlier_installations, place)"
    f" VALUES (1, {', '.join('%s' for _ in _COLUMNS)}, %s, '', {_PLACE})"
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(
        f'"{name}" = CASE excluded.installation WHEN \'\' THEN m."{name}"'
        f' ELSE excluded."{name}" END'
        if name in _IDENTITY
        else f'"{name}" = excluded."{name}"'
        for name in _COLUMNS
    )
    + ", witnesses = CASE WHEN strpos(m.witnesses, excluded.witnesses) > 0 THEN m.witnesses"
    f" ELSE left(concat_ws(' ', excluded.witnesses, nullif(m.witnesses, '')), {_WITNESSES}) END"
    ", place = CASE WHEN excluded.installation IN ('', m.installation) THEN m.place"
    " ELSE excluded.place END"
    ", earlier_installations = CASE WHEN excluded.installation IN ('', m.installation)"
    " THEN m.earlier_installations ELSE left(concat_ws(' ', m.installation,"
    " m.earlier_installations), 512) END"
)
# Rows that came in a dump from a server that had counted transactions further would count as new
# here for as long as this server has not got there.
_FORGET_FUTURE = (
    f"DELETE FROM bequest.{JOURNAL} WHERE txid >= pg_snapshot_xmax(pg_current_snapshot())"
)
_COPIED = "it was copied or moved from another server or database"


def recall(connection: Connection) -> Memory:
    """What was remembered last; blank when there is no row."""
    # Never prepared: the columns of a prepared one must not change.
    cursor = connection.execute(_RECALL.encode(), prepare=False)
    row = cursor.fetchone()
    if row is None:
        return Memory()
    names = [column.name for column in cursor.description or ()]
    everything = dict(zip(names, row, strict=True))
    found = {name: everything[name] for name in _COLUMNS}
    for name in _PACKED:
        found[name] = unpack(found[name])
    copied = "" if everything["place"] == everything["place_now"] else _COPIED
    return memory_of({**found, "copied": copied})


def installations(connection: Connection) -> tuple[str, ...]:
    """All ids that this database has had, the present one first; empty before the first install."""
    row = connection.execute(
        f"SELECT concat_ws(' ', installation, earlier_installations) FROM bequest.{MEMORY}"
    ).fetchone()
    return () if row is None else tuple(row[0].split())


def memory_of(plain: dict[str, Any]) -> Memory:
    """A memory from what `plain_of` made of it."""
    found = dict(plain)
    found["intents"] = tuple(Intent(**intent) for intent in plain["intents"])
    return Memory(**found)


def plain_of(memory: Memory) -> dict[str, Any]:
    """A memory as plain values that msgpack can hold."""
    return {**asdict(memory), "intents": [asdict(intent) for intent in memory.intents]}


def remember(connection: Connection, memory: Memory, *, durable: bool) -> None:
    """Replace the row. ``durable``: with all commits before it, which share the server's log."""
    commit = "on" if durable else "off"
    connection.execute(f"BEGIN; SET LOCAL synchronous_commit = {commit}".encode())
    write(connection, memory)
    connection.execute("COMMIT")


def write(connection: Connection, memory: Memory) -> None:
    """Replace the row, in the caller's transaction; of a new history the journal is made fit."""
    if memory.installation and not (memory.position or memory.intents):
        connection.execute(_FORGET_FUTURE.encode())
    packed = {
        "attributes": pack(dict(memory.attributes)),
        "intents": pack([asdict(intent) for intent in memory.intents]),
    }
    values: list[Any] = [packed.get(name, getattr(memory, name)) for name in _COLUMNS]
    newest = memory.intents[-1].token if memory.intents else ""
    values.append(witness_of(newest, memory.installation) if newest else "")
    connection.execute(_REMEMBER.encode(), values, prepare=True)


def witness_of(token: str, installation: str) -> str:
    """What an installation writes down of a publish: 16 hexadecimal digits."""
    hashed = blake2b(
        token.encode(), digest_size=_WITNESS_DIGITS // 2, key=installation.encode()[:64]
    )
    return hashed.hexdigest()


def holds(connection: Connection, installation: str, witness: str) -> bool | None:
    """True when the database holds ``witness``, else ``None``: the oldest ones are dropped.

    It need not be of the present ``installation``: the list outlives an adoption.
    """
    row = connection.execute(
        f"SELECT FROM bequest.{MEMORY} WHERE %s = ANY (string_to_array(witnesses, ' '))", [witness]
    ).fetchone()
    return None if row is None else True
