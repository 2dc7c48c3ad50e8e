"""When a scheduled publish is due: a cron expression in a time zone.

Days on which the clock changes go by Debian's cron, as `cronsim` does: a time that the change skips
is due right after it, and a time that comes twice is due once (expressions with ``*`` in the hour
or minute simply go by elapsed time).
"""

from __future__ import annotations

import difflib
import logging
import os
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from bequest.errors import UsageError

logger = logging.getLogger("bequest")

LOCAL_ZONE_FILE: Final = Path("/etc/localtime")


class CronSchedule:
    """Implements `bequest.ports.Schedule`.

    ``timezone`` is an IANA name; ``None`` means the machine's own. Raises `UsageError` for an
    expression or a name that does not exist, and for a date that never comes.
    """

    def __init__(self, expression: str, timezone: str | None = None) -> None:
        self._expression = expression
        self._zone = local_zone() if timezone is None else named_zone(timezone)
        self.next_after(0.0)

    def next_after(self, time: float) -> float:
        """The first moment after ``time``, both in seconds since the epoch."""
        try:
            moments = CronSim(self._expression, datetime.fromtimestamp(time, self._zone))
            # In the hour that comes twice cronsim answers with its first pass, which may be over.
            return next(moment for each in moments if (moment := each.timestamp()) > time)
        except CronSimError as error:
            raise UsageError(
                f"The schedule {self._expression!r} is no cron expression ({error}), so no backup "
                "would ever be due. Write minute, hour, day of month, month and day of week, such "
                "as '0 0 * * *' for every midnight or '30 2 * * MON-FRI'."
            ) from error
        except StopIteration as error:
            raise UsageError(
                f"The schedule {self._expression!r} names a date that never comes, so no backup "
                "would ever be due. Correct its day, month or day of week."
            ) from error


def named_zone(name: str) -> tzinfo:
    """The zone of an IANA name. Raises `UsageError` that names similar ones."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        similar = difflib.get_close_matches(name, available_timezones(), 3, 0.6)
        example = " or ".join(similar or ["Europe/Amsterdam", "UTC"])
        raise UsageError(
            f"There is no time zone {name!r}, so nobody could say when a backup is due. "
            f"Give an IANA name such as {example}."
        ) from error


def local_zone() -> tzinfo:
    """The machine's own zone, from ``TZ`` or the system's setting; UTC where there is neither."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        return _zone_of_variable(name)
    try:
        with LOCAL_ZONE_FILE.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return ZoneInfo("UTC")


def _zone_of_variable(name: str) -> tzinfo:
    try:
        if name.startswith("/"):
            with Path(name).open("rb") as file:
                return ZoneInfo.from_file(file)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        logger.warning(
            "TZ is %r, which is no IANA time zone: schedules go by its present offset from UTC "
            "and do not follow a change of the clock. Name a time zone to mend that.",
            name,
        )
        zone = datetime.now().astimezone().tzinfo
        return zone if zone is not None else ZoneInfo("UTC")
