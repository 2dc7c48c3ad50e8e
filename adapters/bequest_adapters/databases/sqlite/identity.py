"""Who a database is, so that it is recognised even when Bequest's tables in it were lost.

The settings hold three facts: ``installation`` (random, made once), and ``lineage`` and ``epoch``,
the history that it publishes. Every captured table's insert trigger holds the installation again,
as a comment, which SQLite keeps and never looks at. A tool that drops tables that it does not know
leaves triggers alone, so a database that lost the settings is healed under the same identity.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import uuid
from dataclasses import dataclass

from bequest.model import Selection
from bequest_schema.tables import SETTINGS

from .catalog import IS_OUR_TRIGGER, exists

NAMES = ("installation", "lineage", "epoch")
_STAMP = re.compile(r"/\* bequest ([0-9a-f]{32}) \*/")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which installation a database is, and which history it publishes."""

    installation: str = ""
    lineage: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a database from elsewhere; used only where it lost its own settings.

    ``seq`` is the last journal row that was ever published: a journal that had to be made again
    goes on behind it. ``selection`` is the choice of tables.
    """

    identity: Identity
    seq: int = 0
    selection: Selection | None = None


def stamp(installation: str) -> str:
    """The comment in a trigger's text; empty where nothing is installed yet."""
    return f"/* bequest {installation} */ " if installation else ""


def installation_in_triggers(connection: sqlite3.Connection) -> str:
    """The installation that the surviving triggers name; empty when none does.

    Reads all of ``sqlite_schema``: only for a database that does not say who it is.
    """
    found = connection.execute(
        f"SELECT sql FROM sqlite_schema WHERE {IS_OUR_TRIGGER} AND sql GLOB '*/[*] bequest *'"
        " ORDER BY rowid LIMIT 1"
    ).fetchone()
    named = None if found is None else _STAMP.search(found[0])
    return "" if named is None else named[1]


def read_identity(connection: sqlite3.Connection) -> Identity:
    """What the settings say; blank where there are none."""
    if not exists(connection, SETTINGS):
        return Identity()
    sql = f"SELECT name, value FROM {SETTINGS} WHERE name IN {NAMES}"
    return parse(dict(connection.execute(sql).fetchall()))


def parse(settings: dict[str, str]) -> Identity:
    """The identity among ``settings``."""
    return Identity(
        settings.get("installation", ""), settings.get("lineage", ""), int(settings.get("epoch", 0))
    )


def completed(connection: sqlite3.Connection, said: Identity, known: Known | None) -> Identity:
    """``said`` with what is missing in it: from the triggers, from ``known``, or made.

    ``known`` counts only where nothing in the database names another installation.
    """
    installation = said.installation or installation_in_triggers(connection)
    if known is not None and installation in ("", known.identity.installation):
        installation = installation or known.identity.installation
        said = Identity(
            installation, said.lineage or known.identity.lineage, said.epoch or known.identity.epoch
        )
    return Identity(
        installation or secrets.token_hex(16), said.lineage or str(uuid.uuid4()), said.epoch or 1
    )
