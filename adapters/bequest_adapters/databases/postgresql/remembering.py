"""`Memory` as the one row of ``bequest.bequest_memory``."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from bequest.model import Intent, Memory
from bequest.snapshot.frame import pack, unpack
from bequest_schema.tables import MEMORY

from .connection import Connection

_PACKED = ("attributes", "intents")
_COLUMNS = tuple(field.name for field in fields(Memory))
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_RECALL = f"SELECT * FROM bequest.{MEMORY} WHERE id = 1"
"""Not by name: before its next install a database may lack a column of a newer release. For the
same reason it is never prepared: the columns of a prepared one must not change."""
_REMEMBER = (
    f"INSERT INTO bequest.{MEMORY}(id, {_NAMES}) VALUES (1, {', '.join('%s' for _ in _COLUMNS)})"
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS)
)


def recall(connection: Connection) -> Memory:
    """What was remembered last; blank when there is no row."""
    cursor = connection.execute(_RECALL.encode(), prepare=False)
    row = cursor.fetchone()
    if row is None:
        return Memory()
    names = [column.name for column in cursor.description or ()]
    found = {name: value for name, value in zip(names, row, strict=True) if name in _COLUMNS}
    for name in _PACKED:
        found[name] = unpack(found[name])
    return memory_of(found)


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
    """Replace the row, in the caller's transaction."""
    packed = {
        "attributes": pack(dict(memory.attributes)),
        "intents": pack([asdict(intent) for intent in memory.intents]),
    }
    values = [packed.get(name, getattr(memory, name)) for name in _COLUMNS]
    connection.execute(_REMEMBER.encode(), values, prepare=True)
