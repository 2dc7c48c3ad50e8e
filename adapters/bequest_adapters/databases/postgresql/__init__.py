"""PostgreSQL as a source (capture by triggers) and as a target (replay)."""

from __future__ import annotations

from contextlib import AbstractContextManager

from sqlalchemy import URL, Connection

from bequest.errors import UsageError
from bequest.ports import Following, Source, Target


def open_source(url: URL, *, journal_limit: int | None = None) -> Source:
    """The database at ``url`` as a source, whichever driver it names. Touches nothing yet.

    ``journal_limit`` is in rows, of which each statement makes one. Raises `UsageError` where
    psycopg is missing.
    """
    try:
        from .connection import locate
        from .source import PostgresSource
    except ImportError as error:
        raise _missing(error) from error
    return PostgresSource(locate(url), journal_limit=journal_limit)


def migration(connection: Connection) -> AbstractContextManager[None]:
    """Mend capture after a migration of the controller's own; see `lifting`."""
    from . import lifting

    return lifting.migration(connection)


def open_target(url: URL) -> Target:
    """The database at ``url`` as a target; see `target`."""
    try:
        from . import target
    except ImportError as error:
        raise _missing(error) from error
    return target.open_target(url)


def open_following(url: URL) -> Following:
    """The database at ``url`` as one that follows an object; see `target_following`."""
    try:
        from . import target_following
    except ImportError as error:
        raise _missing(error) from error
    return target_following.open_following(url)


def _missing(error: ImportError) -> UsageError:
    if (error.name or "").split(".")[0] != "psycopg":
        raise error
    return UsageError(
        "PostgreSQL needs psycopg, which is not installed. Nothing was done. Run: "
        "pip install 'bequest[postgresql]'"
    )
