"""When to publish: the loop's body, without a thread or a clock of its own.

`Watcher.tick` does what is due and says how long to wait; a thread (or a simulation) calls it again
then, or at once when a wake-up comes. A wake-up is only a hint: every tick looks for itself.

A lone change is published at once. Under a stream of changes each publish costs the controller:
whoever meets the lock that a publish takes sleeps for a millisecond (SQLite's busy handler), and
its syncs share one disk with the controller's. So once publish after publish leaves something
behind that was committed meanwhile, `REST_SECONDS` lie between two of them, which is the most that
this adds to the lag, however slow the store.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from .compactor import Limits
from .errors import BequestError, Refused, Superseded
from .model import Memory
from .ports import Clock, Listener, Schedule, Source
from .publisher import Publisher
from .report import PublishReport

POLL_SECONDS: Final = 1.0
FOLLOW_SECONDS: Final = 1.0
REFUSED_SECONDS: Final = 60.0
SUPERSEDED: Final = "superseded"
SETTLE_SECONDS: Final = (0.001, 0.002, 0.005, 0.010, 0.020)
"""A wake-up may come before its commit is visible (239 of 251 did on SQLite): look again."""

REST_SECONDS: Final = 0.05
"""Between two publishes under a stream of changes."""
STREAM: Final = 5
"""So many publishes in a row, less those that left nothing behind, make a stream."""


class Watcher:
    """Decides, at every tick, whether to publish."""

    def __init__(
        self,
        source: Source,
        publisher: Publisher,
        clock: Clock,
        listener: Listener,
        *,
        mode: str,
        schedule: Schedule,
        limits: Limits | None = None,
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._clock = clock
        self._listener = listener
        self._mode = mode
        self._schedule = schedule
        self._limits = limits or Limits()
        self._leading = False
        self._due: float | None = None
        self._seen = float("-inf")
        self._started = False
        self._failures = 0
        self._not_before = float("-inf")
        self._stream = 0
        self._settle = 0
        self._poll = 0.0
        self.stopped_by: BequestError | None = None

    @property
    def leading(self) -> bool:
        """Whether this process is the one that publishes."""
        return self._leading

    @property
    def rest_seconds(self) -> float:
        """How long ticks do nothing, whoever wakes; 0 when the next one is free to."""
        return max(0.0, self._not_before - self._clock.monotonic())

    def tick(self, *, woken: bool = False) -> float:
        """Do what is due; returns the seconds until the next tick unless a wake-up comes first."""
        self._heal()
        if self.stopped_by is not None and self._still_superseded():
            return REFUSED_SECONDS
        # Whoever wakes, a store that failed is left alone until its time has come.
        if left := self.rest_seconds:
            return left
        try:
            if not self._lead():
                return FOLLOW_SECONDS
            if not woken and self._is_idle():
                return self._next_poll()
            report = self._publish_if_due()
        except BequestError as error:
            return self._failed(error)
        self.stopped_by = None
        if self._failures:
            self._failures = 0
            self._listener("recovered", {})
        return self._rest(report, woken)

    def _heal(self) -> None:
        """Also while the store is away, or another process publishes: `bequest.ports.Healing`."""
        heal = getattr(self._source, "heal", None)
        if heal is not None:
            with suppress(BequestError):
                heal()

    def _still_superseded(self) -> bool:
        """Whether there is nothing to ask the store about.

        `bequest adopt` makes a superseded database the owner again; and of a publish whose
        outcome was never known it may turn out that it happened.
        """
        try:
            memory = self._source.recall()
        except BequestError:
            return True
        return memory.state == SUPERSEDED and not memory.intents

    def _lead(self) -> bool:
        if self._source.lead() is False:
            if self._leading or not self._started:
                self._started = True
                self._listener("waiting", {"why": "another process publishes this database"})
            self._leading = False
            return False
        if not self._leading:
            self._leading = self._started = True
            self._listener("leading", {"mode": self._mode})
        return True

    def _publish_if_due(self) -> PublishReport | None:
        now = self._clock.time()
        tail_bytes = 0
        if self._due is None or not self._seen <= now < self._due:
            # Asked anew when the time has come: a flush or another process may have had this turn.
            memory = self._source.recall()
            self._due = self._next_due(now, memory)
            tail_bytes = memory.tail_bytes
        self._seen = now
        due = now >= self._due
        if self._mode == "schedule" and not due:
            return None
        rewrite = due and self._mode == "per-change" and tail_bytes > 0
        # Once in a schedule's turn the store is asked even when nothing is pending: an object that
        # somebody deleted or put back is then made current again.
        report = self._publisher.publish(rewrite=rewrite, check=due)
        if due:
            self._due = self._schedule.next_after(now)
        if report.action == "create" and report.serial > 1:
            why = "the object that was published before was gone; a new one was made"
            self._listener("vanished", {"error": why, "serial": report.serial})
        if report.action != "unchanged" or (due and self._mode == "schedule"):
            self._listener("published", dict(report))
        if report.action != "unchanged" and self._mode == "per-change":
            self._pace()
        return report

    def _pace(self) -> None:
        """Tell a stream of changes from lone ones, which nothing holds up."""
        step = -1
        # Not told: the next tick meets the same fault, and says so.
        with suppress(BequestError):
            step = 1 if self._source.pending(self._source.recall()).mutations else -1
        self._stream = min(max(self._stream + step, 0), 2 * STREAM)
        if self._stream >= STREAM:
            self._not_before = self._clock.monotonic() + REST_SECONDS

    def _next_due(self, now: float, memory: Memory) -> float:
        """When the schedule asks for the next publish, by what the database remembers of the last.

        A time in the future, which a clock that was wrong has left behind, counts for nothing.
        """
        last = memory.last_success
        if last is not None and self._mode == "per-change":
            last = memory.last_rewrite or last
        if last is None or last > now:
            return now
        return self._schedule.next_after(last)

    def _rest(self, report: PublishReport | None, woken: bool) -> float:
        idle = report is None or report.action == "unchanged"
        if self._mode == "schedule":
            wait = (self._due or 0.0) - self._clock.time()
            return min(max(wait, 0.0), 30.0)
        if not idle:
            self._poll = 0.0
            self._settle = len(SETTLE_SECONDS)
            return SETTLE_SECONDS[-1]
        if woken:
            self._settle = 0
        if self._settle < len(SETTLE_SECONDS):
            self._settle += 1
            return SETTLE_SECONDS[self._settle - 1]
        return self._next_poll()

    def _is_idle(self) -> bool:
        """Whether a source that must be polled says, at little cost, that nothing changed."""
        if self._mode == "schedule" or self._due is None or self._clock.time() >= self._due:
            return False
        idle = getattr(self._source, "idle", None)
        if self._publisher.files_due or self._failures:
            return False
        return bool(idle is not None and idle())

    def _next_poll(self) -> float:
        """The pause doubles while nothing happens. `Source` may say from what to what."""
        first, last = getattr(self._source, "poll_seconds", (POLL_SECONDS, POLL_SECONDS))
        self._poll = min(max(first, self._poll * 2), last)
        return self._poll

    def _failed(self, error: BequestError) -> float:
        self._failures += 1
        name = "failed"
        known = self.stopped_by is not None
        if isinstance(error, Superseded):
            name, self.stopped_by = SUPERSEDED, error
        elif isinstance(error, Refused):
            name = "refused"
        retry = self._backoff() if name == "failed" else REFUSED_SECONDS
        self._not_before = self._clock.monotonic() + retry
        if name != SUPERSEDED or not known:
            self._listener(name, {"error": str(error), "retry_seconds": retry})
        return retry

    def _backoff(self) -> float:
        limits = self._limits
        doubled = limits.retry_first_seconds * 2.0 ** min(self._failures - 1, 16)
        return min(doubled, limits.retry_last_seconds)
