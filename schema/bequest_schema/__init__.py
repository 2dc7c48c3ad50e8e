"""The tables that Bequest adds to a controller's database, and how they come to be there."""

from .tables import HEAD, TABLES, VERSION_TABLE

__all__ = ["HEAD", "TABLES", "VERSION_TABLE"]
