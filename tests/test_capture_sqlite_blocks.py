"""A scan gives every row once, in order, and never holds more than a block of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing

import pytest

from bequest_adapters.databases.sqlite.reading import BLOCK_BYTES, BLOCK_ROWS, FEW_ROWS, blocks

SQL = "SELECT t.k, t.v FROM main.t AS t NOT INDEXED"
LARGE_BYTES = 600_000


@pytest.fixture
def db() -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v)")
        yield connection


def fill(db: sqlite3.Connection, first: int, rows: int, value: str = "'small'") -> None:
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)"
        f" INSERT INTO t SELECT i, {value} FROM n",
        (first, first + rows),
    )


def test_small_rows_come_in_full_blocks(db: sqlite3.Connection) -> None:
    fill(db, 0, 1000)
    found = list(blocks(db, SQL))
    assert [len(block) for block in found] == [BLOCK_ROWS] * 3 + [1000 - 3 * BLOCK_ROWS]


@pytest.mark.parametrize(("value_bytes", "values"), [(100_000, FEW_ROWS), (LARGE_BYTES, 1)])
def test_no_block_is_large_where_large_values_follow_small_ones(
    db: sqlite3.Connection, value_bytes: int, values: int
) -> None:
    fill(db, 0, 1000)
    fill(db, 1000, 100, f"zeroblob({value_bytes})")
    fill(db, 1100, 1000)
    keys: list[object] = []
    for block in blocks(db, SQL):
        keys += [key for key, _ in block]
        assert sum(len(value) for _, value in block) <= BLOCK_BYTES + values * value_bytes
    assert keys == list(range(2100))


@pytest.mark.parametrize("order", ["large first", "text first"])
def test_large_values_and_text_that_is_no_utf8_meet_in_one_table(
    db: sqlite3.Connection, order: str
) -> None:
    fill(db, 0, 300)
    odd, large = "CAST(x'41ff' AS TEXT)", f"zeroblob({LARGE_BYTES})"
    first, second = (large, odd) if order == "large first" else (odd, large)
    fill(db, 300, 2, first)
    fill(db, 302, 300)
    fill(db, 602, 2, second)
    fill(db, 604, 300)
    found = [row for block in blocks(db, SQL) for row in block]
    assert [key for key, _ in found] == list(range(904))
    turned = {odd: "A\udcff", large: bytes(LARGE_BYTES)}
    assert {found[300][1], found[301][1]} == {turned[first]}
    assert {found[602][1], found[603][1]} == {turned[second]}


def test_whoever_reads_may_ask_for_large_values_in_between(db: sqlite3.Connection) -> None:
    fill(db, 0, 1000)
    for _ in blocks(db, SQL):
        assert db.execute("SELECT length(?)", (bytes(LARGE_BYTES * 100),)).fetchone()
