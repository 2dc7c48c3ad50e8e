"""The retry loop: what it repeats, how long it waits, and that it never repeats a success."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest

from bequest.errors import (
    AccessError,
    BequestError,
    Conflict,
    Denied,
    Superseded,
    Throttled,
    Unreachable,
)
from bequest.model import Mark, Stat
from bequest_adapters.stores.retrying import LONGEST_OBEYED_SECONDS, retrying

MARK = Mark("lineage", 1, 2, "ours")
BEFORE = Stat("before", 10, Mark("lineage", 1, 1, "earlier"))
DONE = Stat("after", 20, MARK)


class Scripted:
    """Gives, call by call, what it was told to: an error is raised, anything else returned."""

    name = "scripted"

    def __init__(self, *, calls: Iterable[object] = (), heads: Iterable[object] = ()) -> None:
        self._calls = iter(calls)
        self._heads = iter(heads)
        self.bodies: list[bytes] = []

    def head(self) -> Stat | None:
        found: Stat | None = self._next(self._heads)
        return found

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        yield self._next(self._calls)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        done: Stat = self._next(self._calls)
        return done

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        self.bodies.append(body.read())
        done: Stat = self._next(self._calls)
        return done

    def close(self) -> None: ...

    def _next(self, script: Any) -> Any:
        step = next(script)
        if isinstance(step, BequestError):
            raise step
        return step


def _append(store: Scripted, waits: list[float], attempts: int = 6) -> Stat:
    return retrying(store, sleep=waits.append, attempts=attempts).append(
        b"x", onto=BEFORE, mark=MARK
    )


def test_what_may_pass_is_tried_again() -> None:
    waits: list[float] = []
    store = Scripted(calls=[Unreachable("a"), Throttled("b"), DONE])
    assert _append(store, waits) == DONE
    assert len(waits) == 2


@pytest.mark.parametrize("error", [Denied("d"), Superseded("s"), AccessError("a")])
def test_what_will_not_pass_is_not(error: BequestError) -> None:
    waits: list[float] = []
    with pytest.raises(type(error)):
        _append(Scripted(calls=[error]), waits)
    assert waits == []


def test_attempts_are_limited_and_waits_bounded() -> None:
    waits: list[float] = []
    with pytest.raises(Unreachable):
        _append(Scripted(calls=[Unreachable("no")] * 12), waits, attempts=12)
    assert len(waits) == 11
    assert all(0 <= wait <= 20 for wait in waits)


def test_a_throttling_store_is_given_the_time_it_asks_for() -> None:
    waits: list[float] = []
    _append(Scripted(calls=[Throttled("slow", 33), DONE]), waits)
    assert waits[0] >= 33


def test_a_store_that_asks_for_too_long_is_left_to_the_next_publish() -> None:
    waits: list[float] = []
    with pytest.raises(Throttled):
        _append(Scripted(calls=[Throttled("slow", LONGEST_OBEYED_SECONDS + 1)]), waits)
    assert waits == []


def test_a_conflict_with_ourselves_is_a_success() -> None:
    store = Scripted(calls=[Unreachable("lost"), Conflict("changed")], heads=[DONE])
    assert _append(store, []) == DONE


def test_a_conflict_with_somebody_else_is_a_conflict() -> None:
    theirs = Stat("after", 20, Mark("lineage", 1, 2, "theirs"))
    for found in (theirs, Stat("after", 20, None), None):
        with pytest.raises(Conflict):
            _append(Scripted(calls=[Unreachable("lost"), Conflict("c")], heads=[found]), [])


def test_a_conflict_about_an_unchanged_object_is_tried_again() -> None:
    assert _append(Scripted(calls=[Conflict("busy"), DONE], heads=[BEFORE]), []) == DONE


def test_looking_after_a_conflict_is_tried_again_too() -> None:
    store = Scripted(
        calls=[Unreachable("lost"), Conflict("c"), Conflict("c")], heads=[Unreachable("x"), DONE]
    )
    assert _append(store, []) == DONE


@pytest.mark.parametrize(
    ("calls", "heads"),
    [
        ([Unreachable("lost"), Denied("no such right")], []),
        ([Conflict("with ourselves, perhaps")], [Denied("no such right")]),
    ],
)
def test_a_denial_says_nothing_of_an_earlier_attempt(
    calls: list[object], heads: list[object]
) -> None:
    with pytest.raises(Unreachable, match=r"no such right.*the next publish finds out"):
        _append(Scripted(calls=calls, heads=heads), [])


def test_every_attempt_sends_the_whole_body() -> None:
    store = Scripted(calls=[Unreachable("lost"), DONE])
    patient = retrying(store, sleep=lambda _: None)
    patient.rewrite(io.BytesIO(b"whole"), 5, onto=None, mark=MARK)
    assert store.bodies == [b"whole", b"whole"]


def test_opening_is_tried_again_but_not_what_the_reader_does() -> None:
    store = Scripted(calls=[Unreachable("lost"), io.BytesIO(b"x")])
    with pytest.raises(Unreachable, match="mid"):  # noqa: PT012 - what the reader does counts
        with retrying(store, sleep=lambda _: None).read() as stream:
            assert stream.read() == b"x"
            raise Unreachable("mid")
