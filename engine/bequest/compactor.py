"""When to append and when to rewrite: a pure rule.

Appending costs the change; a long tail costs whoever restores. A rewrite follows when the tail
would outweigh ``tail_share`` of the base (never below ``tail_free_bytes``), when there are more
mutations than ``tail_mutations`` at once (reading each key again would cost more than reading the
tables), or when the tail would be too large to be folded in memory. A rewrite that `Backup` makes
of a database of ``rewrite_apart_bytes`` or more runs in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from .errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules go by. Sizes in bytes, times in seconds."""

    tail_share: float = 0.5
    tail_free_bytes: int = 256 * 1024
    tail_bytes: int = 64 * 1024 * 1024
    tail_mutations: int = 200_000
    rewrite_apart_bytes: int = 16 * 1024 * 1024
    lock_seconds: float = 30.0
    collapse_from_rows: int = 1000
    collapse_share: float = 0.1
    retry_first_seconds: float = 1.0
    retry_last_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Raise `UsageError` for what no rule can go by."""
        for item in fields(self):
            value: object = getattr(self, item.name)
            whole = isinstance(item.default, int)
            allowed = int if whole else int | float
            if (
                isinstance(value, bool)
                or not isinstance(value, allowed)
                or not 0 <= value < float("inf")
            ):
                raise UsageError(
                    f"The limit {item.name} must be a {'whole ' * whole}number of at least 0. "
                    "Nothing was done; correct it."
                )


def allowance(base_bytes: int, limits: Limits) -> int:
    """How many bytes a tail may weigh on a base of ``base_bytes`` before a rewrite."""
    return min(limits.tail_bytes, max(limits.tail_free_bytes, int(limits.tail_share * base_bytes)))


def collapsed(rows_before: int, rows_now: int, limits: Limits) -> bool:
    """Whether so many rows are gone that a person should confirm it."""
    return (
        rows_before >= limits.collapse_from_rows and rows_now < rows_before * limits.collapse_share
    )
