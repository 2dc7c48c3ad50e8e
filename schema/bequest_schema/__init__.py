"""The tables that Bequest adds to a controller's database, and how they come to be there."""

from .tables import ALL_TABLES, HEAD, TABLES, VERSION_TABLE, is_internal

__all__ = [
    "ALL_TABLES",
    "HEAD",
    "TABLES",
    "VERSION_TABLE",
    "is_internal",
]
