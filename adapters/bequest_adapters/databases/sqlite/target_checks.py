"""What stands between a restore and its destination file, looked at one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing

from bequest.check import Check, asked, failed, passed, warned
from bequest.errors import BequestError, Denied

from .target_faults import is_in_use
from .target_file import Hold, check_place, refuse_data, refuse_users


def problems(path: str, name: str, *, force: bool, needed_bytes: int) -> list[Check]:
    """Place, users, data and room of the file at ``path``. Changes nothing."""
    place = asked("target", lambda: check_place(path, name), f"{name} can be written")
    if place.level == "fail":
        return [place]
    return [place, *_present(path, name, force=force), _room(path, needed_bytes)]


def is_vacant(path: str, name: str) -> bool:
    """Whether no table at ``path`` has a row. Raises `Refused` when it is locked."""
    if not os.path.exists(path):
        return True
    with closing(Hold(path, name)) as hold:
        return not hold.has_data


def _present(path: str, name: str, *, force: bool) -> Iterator[Check]:
    users = asked("in use", lambda: refuse_users(path, name), "nobody has it open")
    yield users
    if not os.path.exists(path):
        yield passed("data", "there is none yet")
        return
    try:
        with closing(Hold(path, name)) as hold:
            refuse_data(hold, name, force=force)
            data, kept = hold.has_data, hold.worth_keeping
    except BequestError as error:
        # Whoever has it open may have locked it too: one cause is told once.
        if users.level != "fail" or not is_in_use(error):
            yield failed("data", error)
        return
    if data:
        yield warned("data", "what it holds is replaced; the old file is kept beside it")
    elif kept:
        yield passed("data", "its tables have no rows; the old file is kept beside it")
    else:
        yield passed("data", "it holds none")


def _room(path: str, needed_bytes: int) -> Check:
    """The old file stays: the new one needs room of its own. ``needed_bytes`` is a high guess."""
    free = shutil.disk_usage(os.path.dirname(path)).free
    told = f"about {needed_bytes:,} bytes are needed, {free:,} are free"
    if free >= needed_bytes:
        return passed("room", told)
    if free >= needed_bytes // 2:
        return warned("room", f"{told}: it may be just enough")
    return failed(
        "room",
        Denied(
            f"There is not enough room for the restored database: {told}. Nothing was changed. "
            "Make room on that disk, or restore to another one."
        ),
    )
