"""Bulk work: 20,000 rows through the ORM, and one raw statement on 100,000 rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

import bequest

from ..bench import Bench, forget, url
from ..measure import Figure
from .commits import orm

TITLE = "capture: ORM bulk of 20k rows; one raw statement on 100k rows (CPU)"
PEERS = ("sqlalchemy_continuum",)
ROWS = 100_000
_NUMBERS = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
_TABLES = (
    "CREATE TABLE route (id INTEGER PRIMARY KEY, device_id INT, prefix TEXT, gateway TEXT,"
    " metric REAL);"
    "CREATE INDEX route_device ON route (device_id); CREATE INDEX route_prefix ON route (prefix);"
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c INT, d REAL);"
    "CREATE TABLE single (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c INT, e TEXT UNIQUE);"
)
STATEMENTS = {
    "INSERT, two secondary indexes": (
        f"INSERT INTO route {_NUMBERS} SELECT i, i / 4, '10.' || i % 250 || '.' || i % 199 ||"
        " '.0/24', '10.0.0.' || i % 250, i * 0.5 FROM n"
    ),
    "INSERT, no secondary index": (
        f"INSERT INTO plain {_NUMBERS} SELECT i, 'name ' || i, 'some text value', i, i * 0.5 FROM n"
    ),
    "INSERT, one unique index": (
        f"INSERT INTO single {_NUMBERS} SELECT i, 'name ' || i, 'some text', i, 'u' || i FROM n"
    ),
    "UPDATE of an indexed column": "UPDATE route SET device_id = device_id + 1",
    "UPDATE of three columns": "UPDATE plain SET a = a || 'x', b = b || 'y', d = d * 2",
    "UPDATE SET c = c + 1": "UPDATE plain SET c = c + 1",
}


def run(bench: Bench) -> Iterator[Figure]:
    for capture, limit in (("bequest", 1.25), ("continuum", None)):
        rows = bench.times(20_000, 4_000) if capture == "bequest" else bench.times(4_000, 1_000)
        taken = orm(bench, capture, "NORMAL", 2, rows)
        pairs = zip(taken["other_bulk"], taken["plain_bulk"], strict=True)
        ratios = tuple(mine / plain for mine, plain in pairs)
        yield Figure(f"{capture}, ORM bulk of {rows}", "no capture", ratios, limit=limit)
    seconds: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(bench.rounds):
        for captured in (False, True):
            seconds[captured].append(_statements(bench, captured))
    for index, what in enumerate(STATEMENTS):
        pairs = zip(seconds[True], seconds[False], strict=True)
        ratios = tuple(mine[index] / plain[index] for mine, plain in pairs)
        added = [(m[index] - p[index]) * 1e6 / ROWS for m, p in zip(*_both(seconds), strict=True)]
        note = f"{sorted(added)[len(added) // 2]:.2f} us a row"
        yield Figure(f"raw {what}", "no capture", ratios, limit=2.0, note=note)


def _both(seconds: dict[bool, list[list[float]]]) -> tuple[list[list[float]], list[list[float]]]:
    return seconds[True], seconds[False]


def _statements(bench: Bench, captured: bool) -> list[float]:
    """CPU seconds of each statement."""
    path = bench.fresh("bulk.db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(_TABLES)
    if captured:
        bequest.install(url(path))
    taken: list[float] = []
    for statement in STATEMENTS.values():
        begin = time.process_time()
        db.execute(statement)
        taken.append(time.process_time() - begin)
    db.close()
    forget(path)
    return taken
