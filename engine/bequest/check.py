"""What a preflight finds: one line for each thing that could keep a restore from working."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import AccessError, BequestError, OwnerAlive, Refused, SnapshotError

Level = Literal["ok", "warn", "fail"]
_FIRST = (SnapshotError, AccessError, Refused)
"""Whose exit code stands for several faults: without an object nothing else matters."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``error`` is what a restore would raise; set when ``level`` is fail."""

    name: str
    level: Level
    text: str
    error: BequestError | None = None


def passed(name: str, text: str) -> Check:
    """Nothing in the way."""
    return Check(name, "ok", text)


def warned(name: str, text: str) -> Check:
    """Worth knowing, but no obstacle."""
    return Check(name, "warn", text)


def failed(name: str, error: BequestError) -> Check:
    """This would keep the restore from working."""
    return Check(name, "fail", str(error), error)


def asked(name: str, question: Callable[[], object], answer: str) -> Check:
    """Passed with ``answer`` when ``question`` raises nothing, else failed with what it raised."""
    try:
        question()
    except BequestError as error:
        return failed(name, error)
    return passed(name, answer)


def fault(checks: Sequence[Check]) -> BequestError | None:
    """All that failed as one error, of the kind that says most; ``None`` when nothing did."""
    errors = [check.error for check in checks if check.error is not None]
    if len(errors) < 2:
        return errors[0] if errors else None
    ranked = [error for kind in _FIRST for error in errors if isinstance(error, kind)]
    leading = type((ranked or errors)[0])
    if leading is OwnerAlive:
        leading = Refused  # a word from the operator would not be enough
    told = " ".join(f"({number}) {error}" for number, error in enumerate(errors, 1))
    return leading(f"{len(errors)} things are in the way of this restore. {told}")
