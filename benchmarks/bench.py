"""What every measurement is given: sizes, rounds, a folder, and databases to measure on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .data import sqlite_controller


@dataclass(slots=True)
class Bench:
    """``small``, ``normal`` and ``large`` are numbers of rows; ``rounds`` of turns."""

    folder: Path
    small: int
    normal: int
    large: int
    rounds: int
    quick: bool
    _made: dict[int, Path] = field(default_factory=dict[int, Path])
    _given: int = 0

    def controller(self, rows: int) -> Path:
        """A fresh copy of the SQLite configuration of ``rows`` rows."""
        if rows not in self._made:
            made = sqlite_controller(self.folder / f"controller-{rows}.db", rows)
            self._made[rows] = made
        path = self.fresh(f"{rows}.db")
        shutil.copy(self._made[rows], path)
        return path

    def fresh(self, name: str) -> Path:
        """A path that nothing is at yet."""
        self._given += 1
        return self.folder / f"{self._given:04}-{name}"

    @property
    def few(self) -> int:
        """Rounds of what takes long and spreads little."""
        return self.times(3, 2)

    def times(self, full: int, quick: int) -> int:
        """How often to repeat: ``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full


def url(path: Path) -> str:
    """The SQLAlchemy URL of an SQLite file."""
    return f"sqlite:///{path}"


def forget(*paths: Path) -> None:
    """Remove databases with all that lies beside them."""
    for path in paths:
        for found in path.parent.glob(path.name + "*"):
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()
