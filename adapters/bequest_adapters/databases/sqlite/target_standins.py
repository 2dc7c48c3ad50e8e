"""Placeholders for functions and collations that only the controller's own process has.

A schema may name what the controller registers at run time. Creating such a schema needs the name;
loading it needs the function only where a value is computed or compared. So a placeholder lets the
first pass and refuses the second: a guess would silently make a wrong value or a misordered index.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Final

from bequest.errors import Refused
from bequest.model import Value

_MISSING: Final = re.compile(r"no such (function|collation sequence): (.+)", re.DOTALL)


class StandIns:
    """Runs statements on a connection, giving placeholders to those that lack something."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._known: set[tuple[str, str]] = set()
        self._needed: tuple[str, str] | None = None

    @property
    def used(self) -> bool:
        """Whether any placeholder was needed."""
        return bool(self._known)

    def execute(self, statement: str, values: Sequence[Value] = ()) -> sqlite3.Cursor:
        """As `sqlite3.Connection.execute`; raises `Refused` when a placeholder is really needed."""
        while True:
            try:
                cursor = self._connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                self.check()
                if not self._provide(str(error)):
                    raise
            else:
                self.check()
                return cursor

    def forgive_functions(self) -> None:
        """What was computed since was not kept anywhere."""
        if self._needed is not None and self._needed[0] == "function":
            self._needed = None

    def check(self) -> None:
        """Raise `Refused` when a placeholder was used since."""
        if self._needed is None:
            return
        kind, missing = self._needed
        raise Refused(
            f"The database uses the {kind} {missing!r}, which the controller's own program "
            "provides and which is not known here, so an index or a stored value cannot be made. "
            f"{self._name} is as it was. Leave the table out of the backup, or build its index or "
            f"column with a built-in {kind}."
        )

    def _provide(self, message: str) -> bool:
        found = _MISSING.fullmatch(message)
        if found is None or (found[1], found[2]) in self._known:
            return False
        kind, missing = found[1], found[2]
        self._known.add((kind, missing))

        def stand_in(*_: object) -> int:
            # SQLite ignores what a collation raises, so the need is noted, and checked for.
            if self._needed is None or kind == "collation":
                self._needed = (kind, missing)
            return 0

        if kind == "function":
            self._connection.create_function(missing, -1, stand_in, deterministic=True)
        else:
            self._connection.create_collation(missing, stand_in)
        return True
