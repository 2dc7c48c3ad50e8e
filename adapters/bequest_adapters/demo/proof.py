"""The proof: what must a database hold that has seen transactions 1 to N?

The sample controller's work is a function of the number alone, so it is done again on a database
that Bequest has never touched, and the tables are compared by a digest that is made here, from the
rows that plain SQL returns: nothing of Bequest judges Bequest.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from .models import Base, Change, last_number, work

TABLES: Final = tuple(Base.metadata.tables)
DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Content:
    """A table's number of rows, and a digest over them in the order of the primary key."""

    rows: int
    digest: str


def contents(database: Path) -> dict[str, Content]:
    """All tables of the sample controller in the file ``database``."""
    with closing(sqlite3.connect(database)) as connection:
        return {name: _content(connection, name) for name in TABLES}


def numbers(database: Path) -> set[int]:
    """The transactions that the file ``database`` holds."""
    with closing(sqlite3.connect(database)) as connection:
        return {row[0] for row in connection.execute(f"SELECT number FROM {Change.__tablename__}")}


@contextmanager
def without_bequest(database: Path) -> Generator[Redone]:
    """A database at ``database`` on which the work can be done again."""
    redone = Redone(database)
    try:
        yield redone
    finally:
        redone.close()


class Redone:
    """The same work on a database without Bequest."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._engine = create_engine(f"sqlite:///{database}")
        Base.metadata.create_all(self._engine)

    def up_to(self, last: int) -> dict[str, Content]:
        """What a database holds after transactions 1 to ``last``."""
        with Session(self._engine) as session:
            for number in range(last_number(session) + 1, last + 1):
                work(session, number)
                session.flush()
                session.expire_all()
            session.commit()
        return contents(self._database)

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()


def _content(connection: sqlite3.Connection, table: str) -> Content:
    count, digest = 0, hashlib.blake2b(digest_size=DIGEST_BYTES)
    for row in connection.execute(f'SELECT * FROM "{table}" ORDER BY 1'):
        digest.update(repr(row).encode())
        count += 1
    return Content(count, digest.hexdigest())
