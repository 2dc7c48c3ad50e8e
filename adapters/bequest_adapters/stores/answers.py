"""What every store's answers have in common, whatever its SDK calls it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bequest.errors import Conflict


def conflict(name: str) -> Conflict:
    """A condition did not hold."""
    return Conflict(
        f"{name} is not the object this publisher last saw: somebody else has written, made or "
        "removed it. Nothing was written. Compare it with `bequest status`."
    )


def age_seconds(written: datetime | None, date: str | None) -> float | None:
    """How long ago an object was written, by the store's clock as its Date header tells it.

    By ours where the store does not say; ``None`` where nobody knows when it was written.
    """
    if written is None:
        return None
    try:
        now = parsedate_to_datetime(date or "")
    except ValueError:
        now = datetime.now(UTC)
    return (now.replace(tzinfo=now.tzinfo or UTC) - written).total_seconds()


def retry_after_seconds(text: str | None) -> float | None:
    """The seconds of a Retry-After header; ``None`` when it holds none.

    The header may also hold a date; our clock may be wrong, so that form is not used.
    """
    return float(text) if text is not None and text.isascii() and text.isdecimal() else None
