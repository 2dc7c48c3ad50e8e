"""When to publish files: after events that have calmed down, and every half minute if need be.

Invariants: an event is only a hint; a folder that is written without end is looked at a few times
per second and not more; a folder that is replaced by another one is watched again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from bequest import forking
from bequest.errors import BequestError

from ..wakeups.inherited import let_go
from .recording import Glance, Listener, Recorder

logger = logging.getLogger("bequest")

EVENTS: Final[list[type[FileSystemEvent]]] = [
    DirCreatedEvent, DirDeletedEvent, DirModifiedEvent, DirMovedEvent, FileClosedEvent,
    FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent,
]  # fmt: skip
CALM_SECONDS: Final = 0.05
BURST_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = (0.2, 0.5, 2.5)
"""Looks after a change, then twice as long each time. The last is past `scanning.RACY_NS`."""
REST_SHARE: Final = 4.0
"""A look is followed by a rest of so many times its duration."""
FAILED_SECONDS: Final = 5.0
NOT_LEADING_SECONDS: Final = 1.0


class Watching:
    """A thread that wakes the publisher when something happens in the recorder's roots."""

    def __init__(
        self,
        recorder: Recorder,
        lead: Callable[[], bool],
        wake: Callable[[], None],
        listener: Listener,
    ) -> None:
        """``lead``: whether this process is the one that publishes. ``wake``: a look is due."""
        self._recorder = recorder
        self._lead = lead
        self._wake = wake
        self._listener = listener
        self._handler = _Handler(recorder, self._seen)
        self._event = threading.Event()
        self._stop = threading.Event()
        self._observer: Any = None
        self._watched: tuple[object, ...] = ()
        self._tries = 0
        self._thread = threading.Thread(target=self._run, name="bequest-folders", daemon=True)
        forking.enrol(self)

    def start(self) -> None:
        """Begin to watch."""
        self._watch()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for a look that is under way."""
        self._stop.set()
        self._event.set()
        self._thread.join()
        self._unwatch()

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on watching."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`: the threads are not in the child."""
        self._event, self._stop = threading.Event(), threading.Event()
        observer, self._observer, self._watched = self._observer, None, ()
        let_go(observer)

    def _seen(self) -> None:
        self._event.set()

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.is_set():
            self._event.wait(wait)
            self._calm()
            if self._stop.is_set():
                return
            begun = time.monotonic()
            wait = self._look()
            self._stop.wait((time.monotonic() - begun) * REST_SHARE)

    def _calm(self) -> None:
        """Wait until events have ceased for a moment, but not for ever."""
        until = time.monotonic() + BURST_SECONDS
        while self._event.is_set() and time.monotonic() < until and not self._stop.is_set():
            self._event.clear()
            self._stop.wait(CALM_SECONDS)
        self._event.clear()

    def _look(self) -> float:
        try:
            if not self._lead():
                return NOT_LEADING_SECONDS
            self._watch()
            found = self._recorder.glance()
        except BequestError as error:
            self._listener("failed", {"error": str(error)})
            return FAILED_SECONDS
        except Exception:  # the thread must outlive a fault that nobody foresaw
            logger.exception("Watching files met an unexpected error; it goes on in half a minute")
            return LOOK_SECONDS
        return self._wait_after(found)

    def _wait_after(self, found: Glance) -> float:
        if found is not Glance.CHANGED:
            self._tries = 0
            return LOOK_SECONDS if found is Glance.SAME else SETTLE_SECONDS[-1]
        self._recorder.expect()
        self._wake()
        self._tries += 1
        if self._tries <= len(SETTLE_SECONDS):
            return SETTLE_SECONDS[self._tries - 1]
        doubled = SETTLE_SECONDS[-1] * 2.0 ** (self._tries - len(SETTLE_SECONDS))
        return min(doubled, LOOK_SECONDS)

    def _watch(self) -> None:
        """Watch the folders that are there now, unless they are being watched already."""
        places = [os.path.realpath(root.place) for root in self._recorder.roots]
        present = [place for place in places if os.path.isdir(place)]
        identities = tuple((place, _identity(place)) for place in present)
        if identities == self._watched:
            return
        self._unwatch()
        try:
            # A child that is forked meanwhile would not know what to let go of.
            with forking.guard():
                self._observer = self._begun(present)
        except OSError as error:
            logger.warning(
                "The folders cannot be watched through the operating system (%s). Bequest looks at "
                "them every %d s instead; raise fs.inotify.max_user_watches to mend it.",
                error,
                LOOK_SECONDS,
            )
            return
        self._watched = identities

    def _begun(self, places: list[str]) -> Any:
        observer: Any = Observer()
        try:
            for place in places:
                observer.schedule(self._handler, place, recursive=True, event_filter=EVENTS)
            observer.start()
        except OSError:
            observer.stop()
            raise
        return observer

    def _unwatch(self) -> None:
        observer, self._observer, self._watched = self._observer, None, ()
        if observer is not None:
            observer.stop()
            observer.join()


class _Handler(FileSystemEventHandler):
    """Passes on everything but what the database and Bequest write themselves."""

    def __init__(self, recorder: Recorder, seen: Callable[[], None]) -> None:
        self._own = recorder.own
        self._seen = seen

    def on_any_event(self, event: FileSystemEvent) -> None:
        # A database beside the files makes and removes its logs all the time, also for our looks.
        if isinstance(event, DirModifiedEvent) and self._own.is_folder(os.fsdecode(event.src_path)):
            return
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        if not all(self._own(path) for path in paths):
            self._seen()


def _identity(place: str) -> tuple[int, int] | None:
    try:
        found = os.stat(place)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# watchdog adds a new folder twice when its events come quickly, warns, and does the right thing.
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
