"""SQLite as a source (capture by triggers) and as a target (replay)."""

from __future__ import annotations

from contextlib import AbstractContextManager

from sqlalchemy import URL, Connection

from bequest.ports import Following, Source, Target

from .connection import locate
from .source import SqliteSource


def open_source(url: URL, *, journal_limit: int | None = None) -> Source:
    """The database at ``url`` as a source. Touches nothing yet.

    Raises `UsageError` for a database in memory. ``journal_limit`` is in rows.
    """
    return SqliteSource(locate(url), journal_limit=journal_limit)


def open_following(url: URL) -> Following:
    """The database at ``url`` as one that follows an object; see `target_following`."""
    from . import target_following

    return target_following.open_following(url)


def migration(connection: Connection) -> AbstractContextManager[None]:
    """Lift capture for a migration of the controller's own; see `lifting`."""
    from . import lifting

    return lifting.migration(connection)


def open_target(url: URL) -> Target:
    """The database at ``url`` as a target; see `target`."""
    from . import target

    return target.open_target(url)
