"""From a form's value to the text that the type's input function takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from bequest.model import Value

_INT32_MAX: Final = 2**31 - 1
_INT64_MAX: Final = 2**63 - 1
_DAY_MICROSECONDS: Final = 86_400_000_000
_EPOCH_DAYS: Final = 730_425
"""Days from 0000-03-01 to 2000-01-01 in the Gregorian calendar without a beginning."""


def text_of(form: str) -> Callable[[Value], str | None]:
    """What turns a value of ``form`` into text for the server's input function; NULL stays None."""
    turn = _TURNS.get(form)

    def either(value: Value) -> str | None:
        if value is None:
            return None
        return str(value) if turn is None else turn(cast(Any, value))

    return either


def date_text(days: int) -> str:
    """A date from days since 2000-01-01. The extremes of an int32 are the infinities."""
    if days == _INT32_MAX:
        return "infinity"
    if days == -_INT32_MAX - 1:
        return "-infinity"
    return _era(*_day(days))


def time_text(microseconds: int) -> str:
    """A time of day, up to 24:00:00."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}.{fraction:06d}"


def timestamp_text(microseconds: int) -> str:
    """A timestamp from microseconds since 2000-01-01; the extremes of an int64 are infinite.

    A session of ours has the time zone UTC, so this holds for both kinds.
    """
    if microseconds == _INT64_MAX:
        return "infinity"
    if microseconds == -_INT64_MAX - 1:
        return "-infinity"
    days, rest = divmod(microseconds, _DAY_MICROSECONDS)
    return _era(*_day(days), " " + time_text(rest))


def _era(year: int, month: int, day: int, time: str = "") -> str:
    """ISO 8601, with PostgreSQL's own mark for the years before 1."""
    era = "" if year > 0 else " BC"
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}{time}{era}"


def _day(days: int) -> tuple[int, int, int]:
    """Year (astronomical: 0 is 1 BC), month and day. Years are counted from March inside."""
    era, day = divmod(days + _EPOCH_DAYS, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    return era * 400 + year + (month >= 10), month - 9 if month >= 10 else month + 3, day + 1


def _bytea_text(value: bytes) -> str:
    return "\\x" + value.hex()


_TURNS: Final[dict[str, Callable[[Any], str]]] = {
    "float": repr,
    "bytes": _bytea_text,
    "uuid": bytes.hex,
    "date": date_text,
    "time": time_text,
    "timestamp": timestamp_text,
    "timestamptz": timestamp_text,
}
