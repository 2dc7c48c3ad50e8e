"""Processes and threads of the simulated world: the shipped code, stopped at every port call.

Every thread is a greenlet. A call to a port hands control to the scheduler, which lets the same or
another thread go on, strikes the call with a fault, or ends the whole process there. Nothing runs
between two port calls that another thread could see, as nothing does between two system calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from bequest.errors import BequestError, Unreachable


class Crash(BaseException):
    """The process is gone."""


class Clocks:
    """The world's time. ``jump`` moves the wall clock only, both ways."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.offset = 0.0

    def time(self) -> float:
        return self.now + self.offset

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        current().sleep(seconds)


class Lock:
    """What one thread holds at a time; it is given back when its holder dies."""

    def __init__(self) -> None:
        self.holder: Thread | None = None
        self.depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = current()
        deadline = me.clock.now + timeout
        while self.holder is not None and self.holder is not me:
            if me.clock.now >= deadline:
                return False
            me.wait_for(self, deadline)
        self.holder = me
        self.depth += 1
        return True

    def release(self) -> None:
        if self.holder is getcurrent():
            self.depth -= 1
            if self.depth == 0:
                self.holder = None

    def bury(self, thread: Thread) -> None:
        if self.holder is thread:
            self.holder, self.depth = None, 0


class Process:
    """What is killed as a whole."""

    def __init__(self, name: str, machine: Any) -> None:
        self.name = name
        self.machine = machine
        self.alive = True
        self.threads: list[Thread] = []
        self.publisher: Any = None


class Thread(greenlet):
    """One thread of control; ``at`` is the port call that it is about to make."""

    def __init__(
        self,
        process: Process,
        clock: Clocks,
        name: str,
        work: Callable[[], object],
        hub: greenlet,
    ) -> None:
        super().__init__(parent=hub)
        self.process = process
        self.clock = clock
        self.name = name
        self.work = work
        self.at = "start"
        self.until = 0.0
        self.lock: Lock | None = None
        self.woken = False
        self.sleeping = False
        self.in_cut = False
        self.harmed = ""
        self.order = ""
        self.session: int | None = None
        self.read_commit: Any = None
        self.cut_commit: Any = None
        self.cut_proof: object = None
        self.result: object = None
        self.error: BequestError | None = None
        process.threads.append(self)

    def run(self, *_: object) -> None:
        try:
            self.result = self.work()
        except Crash:
            return
        except BequestError as error:
            self.error = error

    def call(self, step: str) -> str:
        """Make a port call: the scheduler decides when, and what strikes it."""
        if not self.process.alive:
            raise Crash
        self.at = step
        fault: str = self.parent.switch()
        return fault

    def sleep(self, seconds: float) -> bool:
        """Wait; True when woken before the time was over."""
        self.until = self.clock.now + max(0.0, seconds)
        self.sleeping, self.woken = True, False
        self.call("sleep")
        self.sleeping = False
        return self.woken

    def wait_for(self, lock: Lock, deadline: float) -> None:
        self.lock, self.until = lock, deadline
        self.call("wait")
        self.lock = None

    def wake(self) -> None:
        if self.sleeping:
            self.woken, self.until = True, 0.0

    def ready(self, now: float) -> bool:
        if self.lock is not None and self.lock.holder is None:
            return True
        return now >= self.until


def current() -> Thread:
    """The thread that runs."""
    found = getcurrent()
    assert isinstance(found, Thread), "a port was called outside the simulated world"
    return found


def busy(what: str) -> Unreachable:
    return Unreachable(f"{what} is busy")
