"""The simulated side file: what SQLite's publisher remembers, synced apart from the database.

A power cut takes back any number of its last records, unless they were synced. Its inode number is
its own only as long as it is the file that was made here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from bequest.model import Memory


@dataclass(frozen=True)
class Content:
    """What is on the disk."""

    own: bool = False
    records: dict[str, Memory] = field(default_factory=dict)


@dataclass
class SideFile:
    """A file beside the database, or none."""

    chance: random.Random
    fragile: bool = False
    content: Content | None = None
    undo: list[Content | None] = field(default_factory=list)

    @property
    def records(self) -> dict[str, Memory]:
        return {} if self.content is None else self.content.records

    @property
    def own(self) -> bool:
        return self.content is not None and self.content.own

    def stranger(self, record: Memory | None) -> str:
        """Why the database beside this file seems to be a copy."""
        if self.own:
            return "" if record is not None else "its side file belongs to another database"
        return "its side file is not there" if record is None else "its side file was copied"

    def append(self, memory: Memory, *, durable: bool) -> None:
        if self.content is None:
            self.show(Content(own=True))
        assert self.content is not None
        records = {**self.content.records, memory.installation: memory}
        self.content = replace(self.content, records=records)
        if self.fragile:
            self.undo = [self.content] if durable else [*self.undo, self.content]

    def take_over(self, installation: str) -> None:
        """Begin the file again here, unless it is this database's."""
        if not self.own:
            kept = {name: each for name, each in self.records.items() if name == installation}
            self.show(Content(own=True, records=kept))

    def remove(self) -> None:
        self.content = None
        if self.fragile:
            self.undo.append(None)

    def show(self, content: Content | None) -> None:
        """What is there from now on, whatever happens."""
        self.content = content
        self.undo = [content]

    def copy(self) -> Content | None:
        """What a copy of the file holds, which has another inode number."""
        return self.content and replace(self.content, own=False)

    def power_cut(self) -> None:
        if self.undo:
            self.show(self.undo[self.chance.randrange(len(self.undo))])
