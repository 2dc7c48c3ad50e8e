"""What a fork of the controller's process must not break: neither the child nor what goes on here.

A forked child has one thread and copies of everything else. Locks that other threads held stay
locked in it for ever, and handles are shared with the parent: what the child does to them, it does
to the parent's. SQLite's library moreover keeps account, per process, of the locks that it holds.
The child inherits the account but not the locks, so one connection that is open at the fork can
keep every later connection of the child from ever being granted a lock.

Therefore, around every ``os.fork`` (also `multiprocessing` and a ``preexec_fn``):

* before it, all threads leave what they `guard`, and no more enter; after `PATIENCE_SECONDS` they
  are interrupted, and after `LONGEST_SECONDS` the fork goes on without them, so it never hangs;
* then every `Forkable` is asked to close what should not be inherited;
* in the child every `Forkable` forgets what it inherited, without a word to whoever is at the other
  end, and the guard is as new.

Nothing is registered with the interpreter before the first guard is entered or the first
`Forkable` is enrolled.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

logger = logging.getLogger("bequest")

PATIENCE_SECONDS: Final = 0.5
"""How long a fork waits before it interrupts what is under way; a publish is then tried again."""
LONGEST_SECONDS: Final = 5.0
"""How long a fork waits at most."""
LOOK_SECONDS: Final = 0.01


class Forkable(Protocol):
    """What holds handles or locks that a forked child must not use."""

    def before_fork(self) -> None:
        """Close what can be opened again. No guard is entered by another thread meanwhile."""
        ...

    def forget(self) -> None:
        """In the child: make every lock new, and let go of every handle without using it."""
        ...


class _Entry:
    """One thread inside a guard."""

    __slots__ = ("interrupt", "seconds", "thread")

    def __init__(self, interrupt: Callable[[], object] | None, seconds: float) -> None:
        self.thread = threading.get_ident()
        self.interrupt = interrupt
        self.seconds = seconds


class _Gate:
    """Who is inside, and which threads fork. All waits are bounded on the side of the fork."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.inside: set[_Entry] = set()
        self.forking: list[int] = []

    def enter(self, entry: _Entry) -> None:
        with self.changed:
            # Whoever is inside already must be able to finish, or the fork would wait in vain.
            while self.forking and not self._may_pass(entry.thread):
                self.changed.wait()
            self.inside.add(entry)

    def _may_pass(self, thread: int) -> bool:
        return thread in self.forking or any(entry.thread == thread for entry in self.inside)

    def leave(self, entry: _Entry) -> None:
        with self.changed:
            self.inside.discard(entry)
            if self.forking:
                self.changed.notify_all()

    def close(self) -> bool:
        """Keep others out, and wait for those who are inside; whether all have left."""
        began = time.monotonic()
        with self.changed:
            # One fork at a time: another one's child must not see this one close things.
            while self._another_forks() and time.monotonic() < began + LONGEST_SECONDS:
                self.changed.wait(LOOK_SECONDS)
            self.forking.append(threading.get_ident())
            while others := self._others():
                waited = time.monotonic() - began
                if waited > max(entry.seconds for entry in others):
                    return False
                if waited > PATIENCE_SECONDS:
                    _interrupt(others)
                self.changed.wait(LOOK_SECONDS)
        return True

    def _another_forks(self) -> bool:
        return bool(self.forking) and threading.get_ident() not in self.forking

    def _others(self) -> list[_Entry]:
        return [entry for entry in self.inside if entry.thread not in self.forking]

    def open(self) -> None:
        with self.changed:
            with suppress(ValueError):
                self.forking.remove(threading.get_ident())
            self.changed.notify_all()

    def renew(self) -> None:
        """In the child, whose one thread may be inside."""
        self.changed = threading.Condition()
        self.forking = []
        self.inside = {entry for entry in self.inside if entry.thread == threading.get_ident()}


def _interrupt(entries: list[_Entry]) -> None:
    for entry in entries:
        if entry.interrupt is not None:
            with suppress(Exception):  # it was closed in this moment
                entry.interrupt()


_gate = _Gate()
_enrolled: weakref.WeakSet[Forkable] = weakref.WeakSet()
_guarding = threading.RLock()
_registered = False


@contextmanager
def guard(
    interrupt: Callable[[], object] | None = None, *, seconds: float = LONGEST_SECONDS
) -> Generator[None]:
    """No other thread forks inside, for ``seconds`` at most; waits while one does.

    ``interrupt`` ends what takes long, called from the thread that forks. May be nested.
    """
    _register()
    entry = _Entry(interrupt, seconds)
    _gate.enter(entry)
    try:
        yield
    finally:
        _gate.leave(entry)


def enrol(thing: Forkable) -> None:
    """Have ``thing`` called around every fork for as long as it lives."""
    _register()
    with _guarding:
        _enrolled.add(thing)


def detach(descriptor: int) -> None:
    """Let go of an inherited descriptor: its number leads nowhere, until whoever owns it closes it.

    The open file itself is not touched, for the parent goes on using it.
    """
    with suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, descriptor, inheritable=False)
        os.close(null)


def _register() -> None:
    global _registered
    if _registered or not hasattr(os, "register_at_fork"):
        return
    with _guarding:
        if not _registered:
            os.register_at_fork(before=_before, after_in_parent=_parent, after_in_child=_child)
            _registered = True


def _before() -> None:
    if not _gate.close():
        logger.warning(
            "A process was forked while Bequest was at work, which did not come to an end within "
            "seconds. The backup goes on here. The new process may find the database locked: let "
            "it execute a program of its own, or fork it before Bequest starts."
        )
    for thing in _things():
        with suppress(Exception):  # a fork is none of Bequest's to fail
            thing.before_fork()


def _parent() -> None:
    _gate.open()


def _child() -> None:
    global _guarding
    things = list(_enrolled)
    _gate.renew()
    _guarding = threading.RLock()
    for thing in things:
        try:
            thing.forget()
        except Exception:  # the child is the controller's, and goes on
            logger.exception("Bequest could not forget what a forked process inherited")


def _things() -> list[Forkable]:
    if not _guarding.acquire(timeout=LONGEST_SECONDS):
        return []
    try:
        return list(_enrolled)
    finally:
        _guarding.release()
