"""Between SQLite and PostgreSQL: a snapshot of one as a database of the other will hold it.

Pure: nothing here opens a database. `cross` decides types, writes the definitions and names all
that is lost, before the target is touched; `pair` says when two databases hold the same.
"""

from __future__ import annotations

from bequest.errors import Refused
from bequest.model import Attributes, Catalog

from .bridges import Bridge, Rows, SnapshotCrossing
from .pairing import Pairing, pair
from .to_postgresql import to_postgresql
from .to_sqlite import to_sqlite

__all__ = ["Bridge", "Pairing", "Rows", "SnapshotCrossing", "cross", "pair"]


def cross(
    catalog: Catalog,
    attributes: Attributes,
    source: str,
    target: str,
    rows: Rows | None = None,
) -> SnapshotCrossing:
    """A snapshot of the dialect ``source`` for a database of the dialect ``target``.

    ``rows`` gives the state block by block and is called once or more; without it the declared
    types are trusted, and a value that does not fit them fails the load. Raises `Refused`.
    """
    if (source, target) == ("sqlite", "postgresql"):
        return to_postgresql(catalog, attributes, rows)
    if (source, target) == ("postgresql", "sqlite"):
        return to_sqlite(catalog, attributes, rows)
    raise Refused(
        f"A backup of {source} cannot be restored into {target} by this release. Nothing was "
        f"changed. Give a {source} URL."
    )
