"""A controller's own migrations, while capture is installed.

No DDL of PostgreSQL fails because of our triggers, so nothing has to be lifted. New tables have no
triggers until the next cut, which sees the new fingerprint, installs and rewrites; this only spares
the controller's first writes that wait.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection

from ...autogenerate import hidden


@contextmanager
def migration(_: Connection) -> Generator[None]:
    """Only hides Bequest's tables from autogenerate; the rest the next cut finds by itself."""
    with hidden():
        yield
