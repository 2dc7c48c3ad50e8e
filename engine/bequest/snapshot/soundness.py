"""Values that no honest writer makes: well-formed msgpack that a database or a report trips over.

A digest proves that an object is as somebody wrote it, not that somebody meant well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..model import Author

VALUE_TYPES: Final = frozenset({int, float, str, bytes, type(None)})
"""Exactly what a value may be; a boolean is none."""
NUMBER_LIMIT: Final = 1 << 62
"""No serial and no epoch comes near it, and both can still be added to and stored anywhere."""
FIRST_MOMENT_SECONDS: Final = -62_135_596_800.0
LAST_MOMENT_SECONDS: Final = 253_402_300_799.0
"""The years 1 to 9999: what dates can be told of. A clock that is wrong may be before 1970."""
ORIGIN_CHARACTERS: Final = 400
"""An origin must fit into an object's metadata, of which S3 takes 2 KB."""
NAME_CHARACTERS: Final = 255


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


def origin(value: Any) -> str:
    """The origin of a publish. Raises `ValueError` for what is none."""
    if (
        not isinstance(value, str)
        or len(value) > ORIGIN_CHARACTERS
        or not (value.isascii() and value.isprintable())
    ):
        raise ValueError("an origin is not short and printable")
    return value


def author(value: Any) -> Author | None:
    """Who made a publish; ``None`` when nobody says. Raises `ValueError` for what is no author.

    Names are facts as they were written: whoever shows them escapes control characters.
    """
    if value is None:
        return None
    if type(value) is not dict:
        raise ValueError("an author is no map")
    facts: dict[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
    host, process, name = facts.get("host", ""), facts.get("process", 0), facts.get("name", "")
    if not (_named(host) and counted(process) and _named(name)):
        raise ValueError("an author has no sound name")
    return Author(host, process, name)


def _named(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= NAME_CHARACTERS


def texts(mapping: dict[Any, Any], names: Iterable[str]) -> None:
    """Raises `ValueError` unless all of ``names`` that are there are texts."""
    for name in names:
        if not isinstance(mapping.get(name, ""), str):
            raise ValueError(f"{name} is no text")
