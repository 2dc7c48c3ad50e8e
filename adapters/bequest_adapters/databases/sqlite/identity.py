"""Who a database is, so that it is recognised even when Bequest's tables in it were lost.

The settings hold it: ``installation`` (random; a new one at each adoption), those that the database
had before, and ``lineage`` and ``epoch``, the history that it publishes. Every captured table's
insert trigger holds the first installation again, as a comment, which SQLite keeps and never looks
at. A tool that drops tables that it does not know leaves triggers alone, so a database that lost
the settings is healed under the same identity.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import uuid
from dataclasses import dataclass, replace
from typing import Final

from bequest.model import Memory, Selection
from bequest_schema.tables import LIFTED, SETTINGS

from .catalog import IS_OUR_TRIGGER, exists

NAMES: Final = ("installation", "lineage", "epoch", "earlier_installations")
EARLIER: Final = 8
"""So many earlier installations are remembered; the first one always is."""
_STAMP = re.compile(r"/\* bequest ([0-9a-f]{32}) \*/")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which installation a database is, and which history it publishes.

    ``earlier``: its installations before the present one, the newest first.
    """

    installation: str = ""
    lineage: str = ""
    epoch: int = 0
    earlier: tuple[str, ...] = ()

    @property
    def installations(self) -> tuple[str, ...]:
        """All of them, the present one first."""
        return (self.installation, *self.earlier) if self.installation else ()

    @property
    def first(self) -> str:
        """The installation that the triggers name: they stay as they are at an adoption."""
        return self.earlier[-1] if self.earlier else self.installation

    def named(self, memory: Memory) -> Memory:
        """``memory``, of this database where it does not say whose it is."""
        if memory.installation:
            return memory
        return replace(
            memory, installation=self.installation, lineage=self.lineage, epoch=self.epoch
        )

    def succeeded(self, memory: Memory) -> Identity:
        """Who this database is once it is whom ``memory`` names."""
        earlier = self.earlier
        if self.installation and self.installation != memory.installation:
            earlier = (self.installation, *earlier)
        if len(earlier) > EARLIER:
            earlier = (*earlier[: EARLIER - 1], earlier[-1])
        return Identity(memory.installation, memory.lineage, memory.epoch, earlier)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a database from elsewhere; used only where it lost its own settings.

    ``seq`` is the last journal row that was ever published: a journal that had to be made again
    goes on behind it. ``selection`` is the choice of tables.
    """

    identity: Identity
    seq: int = 0
    selection: Selection | None = None


STAMPED: Final = (
    f"SELECT sql FROM sqlite_schema WHERE ({IS_OUR_TRIGGER} OR name = '{LIFTED}')"
    " AND sql GLOB '*/[*] bequest *' ORDER BY rowid LIMIT 1"
)
"""The text of a trigger, or of what stands in for them all, that names the installation."""


def stamp(installation: str) -> str:
    """The comment in a trigger's text; empty where nothing is installed yet."""
    return f"/* bequest {installation} */ " if installation else ""


def installation_in_triggers(connection: sqlite3.Connection) -> str:
    """The installation that the surviving triggers name; empty when none does.

    Reads all of ``sqlite_schema``: only for a database that does not say who it is.
    """
    found = connection.execute(STAMPED).fetchone()
    return "" if found is None else installation_in(found[0])


def installation_in(sql: str) -> str:
    """The installation that a trigger's text names; empty when it names none."""
    named = _STAMP.search(sql)
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
        settings.get("installation", ""),
        settings.get("lineage", ""),
        int(settings.get("epoch", 0)),
        tuple(json.loads(settings.get("earlier_installations", "[]"))),
    )


def settings_of(identity: Identity) -> dict[str, str]:
    """What `parse` reads."""
    return {
        "installation": identity.installation,
        "lineage": identity.lineage,
        "epoch": str(identity.epoch),
        "earlier_installations": json.dumps(identity.earlier),
    }


def write_identity(connection: sqlite3.Connection, identity: Identity) -> None:
    """Let the settings say who the database is, in the caller's transaction."""
    connection.executemany(
        f"INSERT OR REPLACE INTO {SETTINGS} VALUES (?, ?)", settings_of(identity).items()
    )


def completed(connection: sqlite3.Connection, said: Identity, known: Known | None) -> Identity:
    """``said``; where it says nothing, ``known``, or one that is made.

    ``known`` counts only where nothing in the database names another installation.
    """
    if said.installation:
        return Identity(
            said.installation, said.lineage or str(uuid.uuid4()), said.epoch or 1, said.earlier
        )
    surviving = installation_in_triggers(connection)
    if known is not None and surviving in ("", known.identity.first):
        return known.identity
    return Identity(surviving or secrets.token_hex(16), str(uuid.uuid4()), 1)
