"""Drills on a schedule, in a thread of their own: publishing does not wait for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from .errors import BequestError
from .ports import Clock, Listener, Schedule
from .report import DrillReport

logger = logging.getLogger("bequest")
LOOK_SECONDS: Final = 30.0
"""The clock is looked at so often: it may be set while this waits."""


class Drills:
    """Runs ``drill`` whenever ``schedule`` says so, in the one process that ``leads``.

    A drill that was due while nothing ran is made up for at the start. Every result is told:
    ``drilled``, or ``drill_failed`` with the error.
    """

    def __init__(
        self,
        schedule: Schedule,
        clock: Clock,
        drill: Callable[[], DrillReport],
        last: Callable[[], dict[str, Any] | None],
        leads: Callable[[], bool],
        listener: Listener,
    ) -> None:
        self._schedule = schedule
        self._clock = clock
        self._drill = drill
        self._last = last
        self._leads = leads
        self._listener = listener
        self._due: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="bequest-drill", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """End; a drill under way is left alone after the timeout, for it changes nothing."""
        self._stop.set()
        self._thread.join(timeout_seconds)

    def tick(self) -> float:
        """Drill if one is due; the seconds until the next look."""
        now = self._clock.time()
        if self._due is None:
            self._due = self._schedule.next_after(self._since(now))
        if now >= self._due and self._leads():
            self._tell(self._drill())
            self._due = self._schedule.next_after(self._clock.time())
        return min(LOOK_SECONDS, max(1.0, self._due - self._clock.time()))

    def _since(self, now: float) -> float:
        last = self._last()
        return now if last is None else datetime.fromisoformat(last["at"]).timestamp()

    def _tell(self, report: DrillReport) -> None:
        facts = dict(report)
        if report.ok:
            facts.pop("error")
        self._listener("drilled" if report.ok else "drill_failed", facts)

    def _loop(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            try:
                wait = self.tick()
            except BequestError as error:
                if self._stop.is_set():
                    return  # it was ended on purpose
                self._listener("drill_failed", {"error": str(error)})
                wait = LOOK_SECONDS
            except Exception:  # the thread must outlive a fault that nobody foresaw
                logger.exception("Bequest met an unexpected fault in a drill; it goes on")
                wait = LOOK_SECONDS
