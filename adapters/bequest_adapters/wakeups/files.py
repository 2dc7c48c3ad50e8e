"""A wake-up from a database's files, for whoever stands beside the controller.

Quiet databases are watched through watchdog (inotify on Linux). watchdog spends several threads on
every event, which at hundreds of commits per second costs far more than asking: so a burst is
followed by looking at the files' times every few milliseconds until it is over (measured at 1,000
commits/s: 15% of a core with events alone). Invariants: the folder is watched, not the file, so a
file that is deleted and made again stays watched; and an inotify that fails means looking, not
failing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from bequest import forking
from bequest.errors import Unreachable

from .inherited import let_go

logger = logging.getLogger("bequest")

SUFFIXES: Final = ("", "-wal", "-journal")
EVENTS: Final[list[type[FileSystemEvent]]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
BURST_EVENTS: Final = 50
BURST_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.01
QUIET_SECONDS: Final = 0.5
FALLBACK_SECONDS: Final = 0.05

State = tuple[tuple[int, int, int] | None, ...]
AnyPath = str | os.PathLike[str]


def wake_on_file(
    paths: AnyPath | Iterable[AnyPath], wake: Callable[[], None]
) -> Callable[[], None]:
    """Call ``wake`` when a database file among ``paths`` is written to; returns what stops it.

    A file's ``-wal`` and ``-journal`` belong to it. Raises `Unreachable` when its folder is absent.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    databases = [os.path.realpath(path) for path in listed]
    for folder in sorted({os.path.dirname(path) for path in databases}):
        if not os.path.isdir(folder):
            raise Unreachable(
                f"The database's folder {folder} does not exist, so nothing there can be watched "
                "or backed up. Create it, or correct the database's address."
            )
    files = frozenset(path + suffix for path in databases for suffix in SUFFIXES)
    watch = _FileWatch(files, wake)
    watch.start()
    return watch.stop


class _Handler(FileSystemEventHandler):
    """Passes on what concerns one of ``files``."""

    def __init__(self, files: frozenset[str], seen: Callable[[], None]) -> None:
        self._files = files
        self._seen = seen

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.src_path in self._files or event.dest_path in self._files:
            self._seen()


class _FileWatch:
    """Events while it is quiet, looking during a burst or where events cannot be had."""

    def __init__(self, files: frozenset[str], wake: Callable[[], None]) -> None:
        self._files = files
        self._wake = wake
        self._handler = _Handler(files, self._seen)
        self._observer: Any = None
        self._burst = threading.Event()
        self._stop = threading.Event()
        self._count = 0
        self._window = 0.0
        self._thread = threading.Thread(target=self._run, name="bequest-files", daemon=True)
        forking.enrol(self)

    def start(self) -> None:
        self._observe()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._burst.set()
        self._thread.join()
        self._unobserve()

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on watching."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`: the threads are not in the child."""
        self._burst, self._stop = threading.Event(), threading.Event()
        observer, self._observer = self._observer, None
        let_go(observer)

    def _seen(self) -> None:
        now = time.monotonic()
        if now - self._window > BURST_SECONDS:
            self._window, self._count = now, 0
        self._count += 1
        if self._count >= BURST_EVENTS:
            self._burst.set()
        self._wake()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._observer is None:
                self._look(FALLBACK_SECONDS, quiet_seconds=None)
                return
            self._burst.wait()
            if self._stop.is_set():
                return
            self._unobserve()
            self._look(LOOK_SECONDS, quiet_seconds=QUIET_SECONDS)
            self._burst.clear()
            self._observe()
            # What was written between the last look and the first event would wake nobody.
            self._wake()

    def _look(self, every_seconds: float, *, quiet_seconds: float | None) -> None:
        """Wake whenever the files have changed; returns after ``quiet_seconds`` without that."""
        before, changed_at = _state(self._files), time.monotonic()
        self._wake()
        while not self._stop.wait(every_seconds):
            now = _state(self._files)
            if now != before:
                before, changed_at = now, time.monotonic()
                self._wake()
            elif quiet_seconds is not None and time.monotonic() - changed_at > quiet_seconds:
                return

    def _observe(self) -> None:
        try:
            # A child that is forked meanwhile would not know what to let go of.
            with forking.guard():
                self._begin()
        except OSError as error:
            logger.warning(
                "The database's files cannot be watched through the operating system (%s). Bequest "
                "looks at them every %d ms instead, which loses nothing and costs a little more; "
                "raise fs.inotify.max_user_watches and max_user_instances to mend it.",
                error,
                FALLBACK_SECONDS * 1000,
            )

    def _begin(self) -> None:
        observer: Any = Observer()
        try:
            for folder in {os.path.dirname(file) for file in self._files}:
                observer.schedule(self._handler, folder, event_filter=EVENTS)
            observer.start()
        except OSError:
            observer.stop()
            raise
        self._observer = observer

    def _unobserve(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


def _state(files: frozenset[str]) -> State:
    return tuple(_stamp(file) for file in sorted(files))


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_news(record: logging.LogRecord) -> bool:
    return "called when the thread is inactive" not in record.getMessage()


# watchdog says so as an *error* whenever a watch with events under way is ended, which is routine.
logging.getLogger("watchdog.observers.inotify").addFilter(_is_news)
