"""The journal is a ring: it trims itself, a little at a time, and its numbers only grow."""

from __future__ import annotations

from typing import Final

import pytest

from bequest_adapters.databases.sqlite.healing import continue_behind
from bequest_adapters.databases.sqlite.record import JOURNAL_LIMIT
from bequest_adapters.databases.sqlite.triggers import LIMIT_EVERY, LIMIT_ROWS
from tests.capture_sqlite import Controller, Make, controller

__all__ = ["controller"]

TABLE: Final = "CREATE TABLE t(id INTEGER PRIMARY KEY, a)"


def insert(app: Controller, rows: int) -> None:
    app(
        "INSERT INTO t(a) WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
        " WHERE i < ?) SELECT i FROM n",
        (rows,),
    )


def journal(app: Controller) -> tuple[int, int, int]:
    ((count, first, last),) = app("SELECT count(*), min(seq), max(seq) FROM bequest_journal")
    assert isinstance(count, int)
    assert isinstance(first, int)
    assert isinstance(last, int)
    return count, first, last


@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_it_keeps_the_newest_rows_without_a_gap(controller: Make, limit: int) -> None:
    app = controller(TABLE, journal_limit=limit)
    for total in range(100, 5000, 100):
        insert(app, 100)
        count, first, last = journal(app)
        assert last == total
        assert count == last - first + 1
        assert min(limit, total) <= count <= limit + LIMIT_EVERY


def test_nothing_is_trimmed_before_the_limit_that_is_the_default(controller: Make) -> None:
    app = controller(TABLE)
    insert(app, JOURNAL_LIMIT)
    assert journal(app) == (JOURNAL_LIMIT, 1, JOURNAL_LIMIT)
    insert(app, LIMIT_EVERY)
    count, _, last = journal(app)
    assert JOURNAL_LIMIT <= count <= JOURNAL_LIMIT + LIMIT_EVERY
    assert last == JOURNAL_LIMIT + LIMIT_EVERY


def test_one_row_pays_for_a_few_others_at_most(controller: Make) -> None:
    app = controller(TABLE)
    insert(app, 4 * LIMIT_ROWS)
    app("DROP TRIGGER bequest_journal_limit")
    app.source.close()
    lower = Controller(app.path, journal_limit=1)
    lower("PRAGMA synchronous = OFF")
    while (before := journal(lower)[0]) > LIMIT_ROWS + LIMIT_EVERY:
        insert(lower, 1)
        assert before - journal(lower)[0] < LIMIT_ROWS
    lower.close()


def test_a_journal_made_again_goes_on_where_the_last_one_ended(controller: Make) -> None:
    app = controller(TABLE, journal_limit=500)
    insert(app, 10)
    app("DELETE FROM bequest_journal")
    for known in (7 * LIMIT_EVERY - 2, 7 * LIMIT_EVERY - 1):
        continue_behind(app.db, known)
    for known in (5, 0):
        continue_behind(app.db, known)
    assert journal(app)[2] == 7 * LIMIT_EVERY - 1
    app.rebase()
    insert(app, LIMIT_EVERY)
    app.check()
    assert journal(app)[2] == 8 * LIMIT_EVERY - 1


def test_a_rolled_back_transaction_uses_no_number_up(controller: Make) -> None:
    app = controller(TABLE, journal_limit=300)
    insert(app, LIMIT_EVERY - 1)
    app.check()
    for _ in range(3):
        app("BEGIN")
        insert(app, 2 * LIMIT_EVERY)
        app("ROLLBACK")
    assert journal(app) == (LIMIT_EVERY - 1, 1, LIMIT_EVERY - 1)
    insert(app, 2)
    app.check()
