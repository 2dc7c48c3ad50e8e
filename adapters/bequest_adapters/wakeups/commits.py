"""A wake-up from SQLAlchemy, inside the controller's own process.

Its events come a moment *before* the commit, and when the connection goes back to the pool after
it; both wake. A connection that was used without SQLAlchemy's transactions (`raw_connection`) wakes
on its way back, one that only read does not. Invariant: nothing here ever raises into the
application, and a commit costs it two calls that only set a flag.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

logger = logging.getLogger("bequest")

BEGUN: Final = "begun"
COMMITTED: Final = "committed"


def wake_on_commit(engine: Any, wake: Callable[[], None]) -> Callable[[], None]:
    """Call ``wake`` around every commit on ``engine``; returns what undoes that.

    ``engine`` is an `Engine` or an `AsyncEngine`. ``wake`` must be quick and is called in the
    application's threads. What is committed in the driver's autocommit mode without a commit call
    does not wake: the file and the poll behind it find it.
    """
    target: Engine = getattr(engine, "sync_engine", engine)
    listeners = _listeners(wake)
    for name, listener in listeners:
        event.listen(target, name, listener)
    undone = False

    def undo() -> None:
        nonlocal undone
        if not undone:
            undone = True
            for name, listener in listeners:
                event.remove(target, name, listener)

    return undo


def _listeners(wake: Callable[[], None]) -> list[tuple[str, Callable[..., None]]]:
    # Several wake-ups may listen on one engine: each marks connections under a key of its own.
    key = object()

    def woken() -> None:
        try:
            wake()
        except Exception:  # the application's transaction must not fail because of a hint
            logger.exception("a wake-up after a commit failed; the next poll finds the commit")

    def begun(connection: Any, *_: Any) -> None:
        connection.info.setdefault(key, BEGUN)

    def committed(connection: Any, *_: Any) -> None:
        connection.info[key] = COMMITTED
        woken()

    def returned(_: Any, record: Any) -> None:
        if record.info.pop(key, COMMITTED) == COMMITTED:
            woken()

    return [
        ("begin", begun),
        ("begin_twophase", begun),
        ("commit", committed),
        ("commit_twophase", committed),
        ("checkin", returned),
    ]
