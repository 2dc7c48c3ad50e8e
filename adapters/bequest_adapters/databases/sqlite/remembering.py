"""`Memory` as the one row of ``bequest_memory``."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, fields
from typing import Any

from bequest.model import Intent, Memory
from bequest.snapshot.frame import pack, unpack
from bequest_schema.tables import MEMORY

_PACKED = ("attributes", "intents")
_COLUMNS = tuple(field.name for field in fields(Memory))
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_RECALL = f"SELECT * FROM {MEMORY} WHERE id = 1"
_REMEMBER = (
    f"INSERT OR REPLACE INTO {MEMORY}(id, {_NAMES}) VALUES (1, {', '.join('?' for _ in _COLUMNS)})"
)


def recall(connection: sqlite3.Connection) -> Memory:
    """What was remembered last; blank when there is no row."""
    # Not by name: before its next install a database may lack a column of a newer release, and
    # SQLite takes a name in quotes that means no column for a text.
    cursor = connection.execute(_RECALL)
    row = cursor.fetchone()
    if row is None:
        return Memory()
    names = [column[0] for column in cursor.description]
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


def remember(connection: sqlite3.Connection, memory: Memory) -> None:
    """Replace the row: one statement, with nothing of Python's while it holds the lock."""
    packed = {
        "attributes": pack(dict(memory.attributes)),
        "intents": pack([asdict(intent) for intent in memory.intents]),
    }
    values = [packed.get(name, getattr(memory, name)) for name in _COLUMNS]
    connection.execute(_REMEMBER, values)
