"""Values that no honest writer makes: well-formed msgpack that a database or a report trips over.

A digest proves that an object is as somebody wrote it, not that somebody meant well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

VALUE_TYPES: Final = frozenset({int, float, str, bytes, type(None)})
"""Exactly what a value may be; a boolean is none."""
NUMBER_LIMIT: Final = 1 << 62
"""No serial and no epoch comes near it, and both can still be added to and stored anywhere."""
FIRST_MOMENT_SECONDS: Final = -62_135_596_800.0
LAST_MOMENT_SECONDS: Final = 253_402_300_799.0
"""The years 1 to 9999: what dates can be told of. A clock that is wrong may be before 1970."""


def scalars(values: Iterable[Any]) -> None:
    """Raises `ValueError` unless all are values of `bequest.model.Value`."""
    if not VALUE_TYPES.issuperset(map(type, values)):
        raise ValueError("a value is of no type that a database holds")


def moment(value: Any) -> float:
    """Seconds since the epoch. Raises `ValueError` for what is no time."""
    if type(value) not in (int, float) or not (
        FIRST_MOMENT_SECONDS <= value <= LAST_MOMENT_SECONDS
    ):
        raise ValueError(f"{value!r} is no time")
    return float(value)


def counted(value: Any) -> bool:
    """Whether ``value`` can be a serial or an epoch."""
    return type(value) is int and 0 <= value < NUMBER_LIMIT


def texts(mapping: dict[Any, Any], names: Iterable[str]) -> None:
    """Raises `ValueError` unless all of ``names`` that are there are texts."""
    for name in names:
        if not isinstance(mapping.get(name, ""), str):
            raise ValueError(f"{name} is no text")
