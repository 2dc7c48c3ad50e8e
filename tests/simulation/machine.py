"""A controller's machine: its disk, the processes on it, and what the world knows about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .bucket import Bucket, Version
from .database import ORIGIN_ROWS, Commit, Database, Proof
from .process import Process
from .sidefile import Content


@dataclass(eq=False)
class Machine:
    """A controller's machine: its disk, and the processes on it."""

    name: str
    database: Database
    bucket: Bucket
    complete: bool = True
    restoring: bool = False
    troubles: int = 0
    """What happened to it that may need an operator before it publishes again."""
    processes: list[Process] = field(default_factory=list)
    sent: Commit | None = None
    """The newest commit that it published itself."""
    sent_to: dict[str, Commit] = field(default_factory=dict)
    saved: deque[tuple[dict[str, Any], Content | None]] = field(
        default_factory=lambda: deque(maxlen=3)
    )
    birth: object = None
    """The restore that made its database."""
    rolled_back_to: int | None = None
    """The last row of its journal after a roll-back."""

    def forgot_where_it_was_rolled_back(self) -> bool:
        """Whether its journal no longer reaches back to there; see docs/reliability.md."""
        journal, before = self.database.journal, self.rolled_back_to
        if before is None or self.database.server or not journal:
            return False
        return journal[0].number > max(1, before - ORIGIN_ROWS + 1)

    def proves(self, version: Version) -> bool:
        """Whether its database still shows that ``version`` is an earlier state of it.

        A file by the stamps of the journal's rows, which the engine never sees.
        """
        database, mark = self.database, version.mark
        who = database.identity
        memory = database.recall()
        if mark is None or self.troubles or memory.copied or memory.state == "superseded":
            return False
        if mark.lineage != who.lineage or mark.epoch > who.epoch:
            return False
        if version.proof is not None and version.proof is self.birth:
            return True
        if database.server:
            return mark.token in database.witnesses
        return isinstance(version.proof, Proof) and version.proof.shown_by(database)

    @property
    def usable(self) -> bool:
        return self.complete and not self.restoring

    def __str__(self) -> str:
        return self.name
