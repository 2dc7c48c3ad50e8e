"""A controller's configuration of any size, the same every time, on SQLite and PostgreSQL.

Eight related tables with keys, secondary indexes, text, numbers, JSON, timestamps and blobs. The
values come from a multiplicative sequence: no two runs differ, and no text repeats so often that a
compressor would see more than in life.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EPOCH_SECONDS = 1_750_000_000
BATCH_ROWS = 10_000
_WORDS = ("core", "edge", "lab", "north", "south", "spare", "transit", "uplink", "vpn", "wan")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: its share of all rows, its DDL, and how its row number ``i`` looks."""

    name: str
    share: float
    sqlite: str
    postgresql: str
    indexes: tuple[str, ...]
    row: Callable[[int, int], tuple[Any, ...]]


def _mix(i: int, salt: int) -> int:
    """64 well spread bits of ``i``."""
    x = (i * 0x9E3779B97F4A7C15 + salt * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x ^= x >> 31
    return (x * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF


def _stamp(i: int, salt: int) -> str:
    seconds = EPOCH_SECONDS + _mix(i, salt) % 20_000_000
    days, rest = divmod(seconds, 86400)
    day = days % 28 + 1
    month = days // 28 % 12 + 1
    return f"2026-{month:02}-{day:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _address(bits: int) -> str:
    return f"10.{bits & 255}.{bits >> 8 & 255}.{bits >> 16 & 255}"


def _site(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 1)
    return i, f"site-{_WORDS[bits % 10]}-{i}", _stamp(i, 2), (bits % 18000) / 100 - 90


def _device(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 3)
    site = 1 + i % max(1, rows // 500)
    name = f"{_WORDS[bits % 10]}-gw{i}"
    return i, site, name, _address(bits), bits % 3, _stamp(i, 4), f"{bits:016x}"


def _interface(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 5)
    device = 1 + i % max(1, rows // 10)
    return i, device, f"eth{i % 8}/{bits % 48}", 1400 + bits % 100, _address(bits >> 8), bits % 2


def _route(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 6)
    device = 1 + i % max(1, rows // 10)
    return i, device, f"{_address(bits)}/{8 + bits % 24}", _address(bits >> 13), bits % 256 / 8


def _policy(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 7)
    rule = {"from": _WORDS[bits % 10], "to": _WORDS[bits // 10 % 10], "ports": [bits % 65536, 443]}
    return f"policy-{i}", 1 + i % max(1, rows // 500), json.dumps(rule), _stamp(i, 8)


def _account(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 9)
    note = None if bits % 3 else f"asked for by {_WORDS[bits % 10]}, ticket {bits % 99991}"
    return i, f"user{i}@example.org", f"User Nümber {i}", note, bits / 2**64


def _secret(i: int, rows: int) -> tuple[Any, ...]:
    blob = b"".join(_mix(i, salt).to_bytes(8, "big") for salt in range(10, 16))
    return f"key/{i}", blob, _stamp(i, 16)


def _setting(i: int, rows: int) -> tuple[Any, ...]:
    bits = _mix(i, 17)
    value = {"mtu": 1400 + bits % 100, "tags": [_WORDS[bits % 10], "b"], "limit": bits % 10007}
    return 1 + i % max(1, rows // 10), f"setting.{i}", json.dumps(value), bits % 5


def _spec(
    name: str, share: float, columns: str, indexes: tuple[str, ...], row: Callable[[int, int], Any]
) -> TableSpec:
    sqlite = columns.replace("JSONB", "JSON").replace("BYTEA", "BLOB").replace("BIGINT", "INTEGER")
    sqlite = sqlite.replace("DOUBLE PRECISION", "REAL")
    return TableSpec(name, share, f"({sqlite})", f"({columns})", indexes, row)


TABLES = (
    _spec(
        "site",
        0.002,
        "id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TIMESTAMP, latitude"
        " DOUBLE PRECISION",
        (),
        _site,
    ),
    _spec(
        "device",
        0.1,
        "id BIGINT PRIMARY KEY, site_id BIGINT REFERENCES site(id), name TEXT NOT NULL,"
        " address TEXT, state INTEGER, seen TIMESTAMP, serial TEXT",
        ("site_id", "name"),
        _device,
    ),
    _spec(
        "interface",
        0.4,
        "id BIGINT PRIMARY KEY, device_id BIGINT REFERENCES device(id), name TEXT NOT NULL,"
        " mtu INTEGER, address TEXT, enabled INTEGER",
        ("device_id",),
        _interface,
    ),
    _spec(
        "route",
        0.25,
        "id BIGINT PRIMARY KEY, device_id BIGINT REFERENCES device(id), prefix TEXT NOT NULL,"
        " gateway TEXT, metric DOUBLE PRECISION",
        ("device_id", "prefix"),
        _route,
    ),
    _spec(
        "policy",
        0.1,
        "name TEXT PRIMARY KEY NOT NULL, site_id BIGINT REFERENCES site(id), rule JSONB,"
        " changed TIMESTAMP",
        ("site_id",),
        _policy,
    ),
    _spec(
        "account",
        0.048,
        "id BIGINT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT, note TEXT, quota"
        " DOUBLE PRECISION",
        (),
        _account,
    ),
    _spec(
        "secret",
        0.05,
        "name TEXT PRIMARY KEY NOT NULL, value BYTEA, rotated TIMESTAMP",
        (),
        _secret,
    ),
    _spec(
        "setting",
        0.05,
        "device_id BIGINT NOT NULL REFERENCES device(id), name TEXT NOT NULL, value JSONB,"
        " priority INTEGER, PRIMARY KEY (device_id, name)",
        (),
        _setting,
    ),
)


def row_count(spec: TableSpec, rows: int) -> int:
    """How many rows of a configuration of ``rows`` are this table's."""
    return max(1, round(rows * spec.share))


def rows_of(spec: TableSpec, rows: int) -> Iterator[tuple[Any, ...]]:
    """Its rows, in order of their number."""
    return (spec.row(i, rows) for i in range(1, row_count(spec, rows) + 1))


def sqlite_controller(path: Path, rows: int, *, synchronous: str = "NORMAL") -> Path:
    """Make the configuration at ``path`` in WAL mode, as a controller would leave it."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    for spec in TABLES:
        db.execute(f"CREATE TABLE {spec.name} {spec.sqlite}")
    db.execute("BEGIN")
    for spec in TABLES:
        marks = ", ".join("?" * len(spec.row(1, rows)))
        db.executemany(f"INSERT INTO {spec.name} VALUES ({marks})", rows_of(spec, rows))
    for spec in TABLES:
        for column in spec.indexes:
            db.execute(f"CREATE INDEX {spec.name}_{column} ON {spec.name} ({column})")
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.close()
    return path
