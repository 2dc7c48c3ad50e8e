"""Which publish of an object is meant by a serial or a time.

A time means the last publish whose cut was taken at or before it. It must name its zone: on the
worst day nobody should have to guess whose clock was meant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

from .errors import UsageError
from .report import iso
from .snapshot.fold import Publish, Snapshot

Moment: TypeAlias = int | datetime
"""A serial, or a time with its zone."""


def parse_moment(text: str) -> Moment:
    """``"412"`` or ``"2026-11-22T10:15:00+01:00"``. Raises `UsageError`."""
    if text.strip().isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:  # in UTC it may lie before the first year, or after the last
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is neither a serial nor a time. Nothing was done. Give a serial such as 412 "
            "or a time such as 2026-11-22T10:15:00+01:00; `bequest log` shows both."
        ) from error
    return checked(moment)


def checked(moment: Moment) -> Moment:
    """Refuse a time without a zone. Raises `UsageError`."""
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise UsageError(
            f"The time {moment.isoformat()} names no time zone. Nothing was done. Add an offset, "
            f"such as {moment.isoformat()}+01:00, or Z for UTC."
        )
    return moment


def find(snapshot: Snapshot, moment: Moment | None) -> Publish:
    """The publish of ``snapshot`` that ``moment`` means; the last for ``None``.

    Raises `UsageError` naming what there is.
    """
    if moment is None:
        return snapshot.history[-1]
    if isinstance(moment, datetime):
        # By the millisecond that reports show: a time taken from a report means that publish.
        found = [
            publish
            for publish in snapshot.history
            if datetime.fromisoformat(iso(publish.at)) <= moment
        ]
        wanted = f"a state of {moment.astimezone(UTC).isoformat()}"
    else:
        found = [publish for publish in snapshot.history if publish.mark.serial == moment]
        wanted = f"serial {moment}"
    if found:
        return found[-1]
    first, last = snapshot.history[0], snapshot.history[-1]
    raise UsageError(
        f"The object does not hold {wanted}. Nothing was restored. It reaches from serial "
        f"{first.mark.serial} ({iso(first.at)}) to serial {last.mark.serial} ({iso(last.at)}); for "
        "an earlier state take an earlier version of the object."
    )
