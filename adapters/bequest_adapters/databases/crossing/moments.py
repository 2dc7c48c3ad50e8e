"""Dates and times: PostgreSQL's numbers to text and back.

PostgreSQL counts days or microseconds from 2000-01-01 (its wire format) and knows infinity, years
BC and years beyond 9999. SQLAlchemy keeps text in SQLite: ``2026-11-22 10:15:00.000000``. What a
Python datetime cannot hold is written as PostgreSQL writes it, and read back from that.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(2000, 1, 1)
_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(2000, 1, 1).toordinal()
_FIRST_DAY: Final = date.min.toordinal() - _EPOCH_DAY
_LAST_DAY: Final = date.max.toordinal() - _EPOCH_DAY
_INFINITE_DAY: Final = (1 << 31) - 1
_INFINITE_US: Final = (1 << 63) - 1
_DATE: Final = re.compile(r"(\d{4,7})-(\d\d)-(\d\d)( BC)?", re.ASCII)
_TIME: Final = re.compile(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)
_STAMP: Final = re.compile(
    r"(\d{4,7}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?))?"
    r"(Z|[+-]\d\d(?::?\d\d(?::\d\d)?)?)?( BC)?",
    re.ASCII,
)


class Unfit(ValueError):
    """A value that the other side's type cannot hold."""


def date_text(days: int) -> str:
    """Days since 2000-01-01 as text."""
    if _FIRST_DAY <= days <= _LAST_DAY:
        return date.fromordinal(days + _EPOCH_DAY).isoformat()
    if days == _INFINITE_DAY:
        return "infinity"
    if days == -_INFINITE_DAY - 1:
        return "-infinity"
    year, month, day = _civil(days)
    if year > 0:
        return f"{year:04}-{month:02}-{day:02}"
    return f"{1 - year:04}-{month:02}-{day:02} BC"


def date_days(text: object) -> int:
    """Text as days since 2000-01-01. Raises `Unfit`."""
    if text in ("infinity", "-infinity"):
        return _INFINITE_DAY if text == "infinity" else -_INFINITE_DAY - 1
    found = _DATE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise Unfit("no date")
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if found[4]:
        year = 1 - year
    return _days(year, month, day)


def time_text(microseconds: int) -> str:
    """Microseconds since midnight as text; 24:00:00 is a time of its own to PostgreSQL."""
    if microseconds >= DAY_US:
        return "24:00:00"
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}.{fraction:06}"


def time_us(text: object) -> int:
    """Text as microseconds since midnight. Raises `Unfit`."""
    if text == "24:00:00":
        return DAY_US
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise Unfit("no time of day")
    try:
        found = time.fromisoformat(_padded(text))
    except ValueError as error:
        raise Unfit(str(error)) from error
    seconds = (found.hour * 60 + found.minute) * 60 + found.second
    return seconds * 1_000_000 + found.microsecond


def stamp_text(microseconds: int) -> str:
    """Microseconds since 2000-01-01 as text."""
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return _odd_stamp(microseconds)
    return moment.isoformat(" ", "microseconds")


def is_ordinary_stamp(microseconds: int) -> bool:
    """Whether a Python datetime can hold it."""
    return _FIRST_DAY <= microseconds // DAY_US <= _LAST_DAY


def is_ordinary_date(days: int) -> bool:
    """Whether a Python date can hold it."""
    return _FIRST_DAY <= days <= _LAST_DAY


def _odd_stamp(microseconds: int) -> str:
    if microseconds == _INFINITE_US:
        return "infinity"
    if microseconds == -_INFINITE_US - 1:
        return "-infinity"
    days, rest = divmod(microseconds, DAY_US)
    day, era, _ = date_text(days).partition(" BC")
    clock = time_text(rest)
    return f"{day} {clock.rstrip('0').rstrip('.') if clock.endswith('0') else clock}{era}"


def stamp_us(text: object) -> int:
    """Text without an offset as microseconds since 2000-01-01. Raises `Unfit`."""
    return _stamp(text, offset=False)


def stamp_utc_us(text: object) -> int:
    """Text as microseconds since 2000-01-01 UTC; without an offset it is in UTC. Raises `Unfit`."""
    return _stamp(text, offset=True)


def has_offset(text: object) -> bool:
    """Whether ``text`` is a timestamp that says its distance from UTC."""
    found = _STAMP.fullmatch(text) if isinstance(text, str) else None
    return found is not None and found[3] is not None and found[2] is not None


def _stamp(text: object, *, offset: bool) -> int:
    if not isinstance(text, str):
        raise Unfit("no timestamp")
    found = _STAMP.fullmatch(text)
    if found is None:
        if text in ("infinity", "-infinity"):
            return _INFINITE_US if text == "infinity" else -_INFINITE_US - 1
        raise Unfit("no timestamp")
    day, clock, zone, era = found.groups()
    if zone is not None and (clock is None or not offset):
        raise Unfit("an offset from UTC")
    if era is None and len(day) == 10 and zone is None:
        return _ordinary(text, day, clock)
    days = date_days(day + (era or ""))
    clock_us = time_us(clock) if clock else 0
    if clock_us == DAY_US:
        raise Unfit("no timestamp")
    found_us = days * DAY_US + clock_us - _offset_us(zone)
    if not -_INFINITE_US <= found_us < _INFINITE_US:
        raise Unfit("out of range")
    return found_us


def _ordinary(text: str, day: str, clock: str | None) -> int:
    try:
        # Lengths that need no padding are read in one piece: it is done for every row.
        whole = clock is None or len(clock) in (5, 8, 15)
        moment = datetime.fromisoformat(text if whole else f"{day} {_padded(clock or '')}")
    except ValueError as error:
        raise Unfit(str(error)) from error
    passed = moment - _EPOCH
    return passed.days * DAY_US + passed.seconds * 1_000_000 + passed.microseconds


def _padded(clock: str) -> str:
    # The standard library takes three or six digits of a second only.
    head, dot, fraction = clock.partition(".")
    return f"{head}.{fraction:0<6}" if dot else clock


def _offset_us(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes, seconds = (int(digits[at : at + 2] or 0) for at in (0, 2, 4))
    if hours > 15 or minutes > 59 or seconds > 59:
        raise Unfit("no offset from UTC")
    return (hours * 3600 + minutes * 60 + seconds) * 1_000_000 * (-1 if zone[0] == "-" else 1)


_CYCLE_DAYS: Final = 146_097  # 400 years of the Gregorian calendar


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day; every 400 years the calendar repeats."""
    cycles, rest = divmod(days, _CYCLE_DAYS)
    found = date.fromordinal(rest + _EPOCH_DAY)
    return found.year + 400 * cycles, found.month, found.day


def _days(year: int, month: int, day: int) -> int:
    cycles, rest = divmod(year - 2000, 400)
    try:
        found = date(rest + 2000, month, day).toordinal() - _EPOCH_DAY + cycles * _CYCLE_DAYS
    except ValueError as error:
        raise Unfit(str(error)) from error
    if not -_INFINITE_DAY - 1 < found < _INFINITE_DAY:
        raise Unfit("out of range")
    return found
