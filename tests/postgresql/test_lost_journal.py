"""The journal is dropped by hand: no writer fails, and the next publish repairs it.

Promises 1 and 6.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import bequest
from bequest import registry
from bequest.model import Memory

from .controller import Make, controller

__all__ = ["controller"]

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE keyless (v int);
CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE p0 PARTITION OF p DEFAULT;
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
INSERT INTO t VALUES (1, 'one'), (2, 'two');
"""
WRITES = [
    "INSERT INTO t VALUES (3, 'three')",
    "UPDATE t SET v = 'changed' WHERE id = 1",
    "UPDATE t SET id = 9 WHERE id = 2",
    "DELETE FROM t WHERE id = 3",
    "INSERT INTO keyless VALUES (1), (2); UPDATE keyless SET v = 3; DELETE FROM keyless",
    "INSERT INTO p0 VALUES (1); INSERT INTO p VALUES (2); UPDATE p SET id = 3 WHERE id = 2",
    "INSERT INTO child VALUES (1); UPDATE parent SET id = 2; DELETE FROM parent",
    "TRUNCATE t; INSERT INTO t VALUES (4, 'four')",
]


@pytest.mark.parametrize("session", ["the same", "another"])
def test_a_lost_journal_fails_no_writer_and_the_next_publish_repairs_it(
    controller: Make, tmp_path: Path, session: str
) -> None:
    c = controller(SCHEMA)
    store = str(tmp_path / "o")
    bequest.backup(c.url, store)
    c("UPDATE t SET v = 'before' WHERE id = 2")  # the plans of this session know the journal
    c("DROP TABLE bequest.bequest_journal")
    with c.another() as other:
        for statement in WRITES:
            (c.db if session == "the same" else other).execute(statement)
    assert bequest.backup(c.url, store).action == "rewrite"
    assert bequest.verify(store, c.url).ok
    c("UPDATE t SET v = 'after' WHERE id = 4")
    assert bequest.backup(c.url, store).action == "append"
    assert bequest.verify(store, c.url).ok


def test_a_watcher_notices_that_the_journal_is_gone(controller: Make) -> None:
    c = controller(SCHEMA)
    with closing(registry.open_source(c.url)) as source:
        with source.cut(Memory()):
            pass
        c("DROP TABLE bequest.bequest_journal")
        assert not source.idle()  # type: ignore[attr-defined]
        with source.cut(c.memory) as cut:
            assert cut.stale
