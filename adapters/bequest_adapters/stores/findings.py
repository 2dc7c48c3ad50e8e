"""What `bequest doctor` asks of a store beyond the port, and what it is told.

A store takes part by two methods: ``scratch`` gives a place beside the object where harm does none,
``survey`` tells what only its own kind has, such as versioning. Both are optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from bequest.errors import BequestError
from bequest.ports import Store

MOST_SKEW_SECONDS: Final = 300.0
"""AWS refuses a request at 15 minutes; a third of that leaves time to act."""


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``kind`` is what an error stands for, and so gives the exit code."""

    check: str
    level: Level
    text: str
    remedy: str = ""
    kind: type[BequestError] | None = None


@dataclass(frozen=True, slots=True)
class Scratch:
    """A place beside the object. A base of ``large_bytes`` is appended to inside the store."""

    store: Store
    large_bytes: int
    remove: Callable[[], None]


@runtime_checkable
class Examinable(Protocol):
    """A store that can be examined."""

    def scratch(self, suffix: str) -> Scratch:
        """The place whose name is the object's with ``suffix`` behind it. Sends nothing yet."""
        ...

    def survey(self, suffix: str) -> Iterable[Finding]:
        """What this kind of store has; the scratch object with ``suffix`` stands there."""
        ...


def ok(check: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, remedy: str) -> Finding:
    """It works; somebody should know."""
    return Finding(check, Level.WARNING, text, remedy)


def failure(check: str, text: str, remedy: str, kind: type[BequestError]) -> Finding:
    """It will not work, or must not."""
    return Finding(check, Level.ERROR, text, remedy, kind)


def skew(date: str | None, now_seconds: float) -> Finding:
    """Compare the server's Date header with our clock."""
    try:
        server = parsedate_to_datetime(date or "")
    except ValueError:
        return warning("clock", "The server does not say what time it is.", "Check the clock.")
    seconds = now_seconds - server.replace(tzinfo=server.tzinfo or UTC).timestamp()
    text = f"This machine's clock is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}."
    if abs(seconds) > MOST_SKEW_SECONDS:
        remedy = "Set the clock, and keep it by NTP: requests are signed with the time."
        return warning("clock", text, remedy)
    return ok("clock", f"This machine's clock is right to {max(1, abs(round(seconds)))} s.")


def now() -> float:
    """Seconds since the epoch."""
    return datetime.now(UTC).timestamp()


TURN_ON: Final = "Turn versioning on, with a lifecycle rule that ends versions after some days."


def versions_kept(kept: bool, where: str, remedy: str = TURN_ON) -> Finding:
    """What versioning means for a backup that is overwritten often."""
    if kept:
        return warning(
            "versioning",
            f"{where} keeps every object that a publish replaces: `bequest history` lists them, "
            "and each of them is billed at its full size.",
            "Have a lifecycle rule end them after some days.",
        )
    return warning(
        "versioning",
        f"{where} keeps nothing of what a publish replaces: there is no way back to an earlier "
        "state.",
        remedy,
    )


def public(open_to_all: bool) -> Finding:
    """Whether somebody without any credential was served."""
    if not open_to_all:
        return ok("public access", "A request without credentials is refused.")
    return failure(
        "public access",
        "A request without credentials is answered: everybody who finds the address can read the "
        "configuration, secrets included.",
        "Block public access to the bucket or container.",
        BequestError,
    )
