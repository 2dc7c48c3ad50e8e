"""A fork waits for what must not be cut in two, and never for ever."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from bequest import forking


@contextmanager
def inside(**options: object) -> Generator[threading.Event]:
    """Another thread in a guard, until the event that is given is set, or the context ends."""
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with forking.guard(**options):  # type: ignore[arg-type]
            entered.set()
            leave.wait()
            with forking.guard():  # whoever is inside gets in again, or the fork waits in vain
                pass

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait()
    try:
        yield leave
    finally:
        leave.set()
        thread.join()


def fork() -> None:
    """A child that ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def test_who_takes_long_is_interrupted(caplog: pytest.LogCaptureFixture) -> None:
    leave = threading.Event()
    with inside(interrupt=lambda: leave.set()) as left:
        threading.Thread(target=lambda: (leave.wait(), left.set())).start()
        fork()
        assert leave.is_set()
    assert not caplog.records


def test_who_does_not_leave_is_not_waited_for_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), inside(seconds=0.05):
        fork()
    assert "forked while Bequest was at work" in caplog.text


def test_the_thread_that_forks_does_not_wait_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    with forking.guard():
        fork()
    assert not caplog.records


def test_others_go_on_after_a_fork() -> None:
    fork()
    with inside():
        pass


def test_an_error_in_what_is_enrolled_stops_no_fork() -> None:
    class Broken:
        def before_fork(self) -> None:
            raise RuntimeError("a bug")

        def forget(self) -> None:
            raise RuntimeError("a bug")

    broken = Broken()
    forking.enrol(broken)
    fork()
    with inside():
        pass
