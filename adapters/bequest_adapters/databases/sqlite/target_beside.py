"""Reading the new file back while its indexes are made in another thread.

SQLite gives Python's lock back while it works, so both go on at once. The reader takes no lock and
looks at the file itself, not at the writer's cache; that is safe because, from the commit of the
rows on, no page of a table is written any more: an index, a view, a trigger or a sequence has pages
of its own. Not so where the file is vacuumed by itself (making an index moves pages), nor where
virtual tables are made (their modules write to tables): `is_still` tells.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from bequest.model import Catalog

INTERRUPT_SECONDS: Final = 0.05
"""How long an interrupted thread is waited for: it may have been between two statements."""


def is_still(connection: sqlite3.Connection, catalog: Catalog) -> bool:
    """Whether nothing that is made from now on writes to a table's pages."""
    moves: int = connection.execute("PRAGMA main.auto_vacuum").fetchone()[0]
    journal: str = connection.execute("PRAGMA main.journal_mode").fetchone()[0]
    virtual = any(item.type == "virtual" for item in catalog.objects)
    return not moves and journal == "off" and not virtual


def as_it_is(path: str) -> str:
    """The URI under which SQLite reads the file without a lock."""
    return f"file:{quote(path)}?mode=ro&immutable=1"


def open_beside(path: str) -> sqlite3.Connection:
    """A reader of the file as it is now: its schema, and the tables' pages.

    It stays within one transaction: to begin another it would look at the first page, which is
    being written. Raises sqlite3's errors.
    """
    connection = sqlite3.connect(as_it_is(path), uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def beside(work: Callable[[], None], interrupt: Callable[[], None]) -> Generator[None]:
    """Have ``work`` done in a thread meanwhile; raises what it raised.

    The thread has ended when this does, also when the caller is stopped: ``interrupt`` hurries it.
    """
    with ThreadPoolExecutor(1, "bequest-finish") as pool:
        done = pool.submit(work)
        try:
            yield
            done.result()
        finally:
            while not done.done():
                interrupt()
                wait([done], INTERRUPT_SECONDS)
