"""A lone change is published at once; a stream does not keep the controller from its work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bequest.errors import Unreachable
from bequest.publisher import Publisher
from bequest.watcher import REST_SECONDS, STREAM, Watcher
from tests.simulation.small_world import (
    Bucket,
    Clock,
    Database,
    SimulatedSource,
    SimulatedStore,
    state_of,
)


class Never:
    """A schedule that is not due again."""

    def next_after(self, time: float) -> float:
        return time + 1e9


class Scene:
    """A controller, its watcher, and a store whose writes take ``takes`` seconds."""

    def __init__(self, takes: float = 0.002, mode: str = "per-change") -> None:
        self.database, self.bucket, self.clock = Database(), Bucket(), Clock()
        self.published: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self._takes, self._last = takes, 0
        store = SimulatedStore(self.bucket, self._written)
        source = SimulatedSource(self.database)
        self.publisher = Publisher(source, store, self.clock, mode=mode)
        self.watcher = Watcher(
            source, self.publisher, self.clock, self._heard, mode=mode, schedule=Never()
        )
        self.watcher.tick()

    def _written(self, name: str) -> str:
        self.clock.now += self._takes
        self.meanwhile()
        return ""

    def _heard(self, name: str, facts: object) -> None:
        if name == "published":
            self.published.append(self.clock.now)

    def change(self) -> None:
        self._last += 1
        self.database.write({1: str(self._last)}, self.clock.now)

    @property
    def stored(self) -> str | None:
        assert self.bucket.body is not None
        return state_of(self.bucket.body).get(1)

    def newest(self) -> bool:
        return self.stored == str(self._last)

    def stream(self) -> None:
        """Publish while something is committed during every publish."""
        self.meanwhile = self.change
        self.change()
        for _ in range(STREAM):
            assert self.watcher.rest_seconds == 0
            self.watcher.tick(woken=True)


def test_changes_that_wait_for_each_other_are_each_published_at_once() -> None:
    scene = Scene()
    for _ in range(10 * STREAM):
        scene.change()
        scene.watcher.tick(woken=True)
        assert scene.newest()
        assert scene.watcher.rest_seconds == 0


@pytest.mark.parametrize("takes", [0.002, 0.08])
def test_under_a_stream_there_is_a_rest_between_publishes(takes: float) -> None:
    scene = Scene(takes)
    scene.stream()
    for _ in range(10):
        requests = len(scene.published)
        assert scene.watcher.rest_seconds == pytest.approx(REST_SECONDS)
        scene.clock.now += REST_SECONDS / 2
        assert scene.watcher.tick(woken=True) == pytest.approx(REST_SECONDS / 2)
        assert len(scene.published) == requests
        scene.clock.now += scene.watcher.rest_seconds
        scene.watcher.tick(woken=True)
        assert len(scene.published) == requests + 1


def test_the_end_of_a_stream_is_published_and_a_lone_change_goes_at_once_again() -> None:
    scene = Scene()
    scene.stream()
    scene.meanwhile = lambda: None
    scene.clock.now += scene.watcher.rest_seconds
    scene.watcher.tick()
    assert scene.newest()
    scene.clock.now += REST_SECONDS
    scene.change()
    scene.watcher.tick(woken=True)
    assert scene.newest()


def test_no_flush_waits_for_the_pace() -> None:
    scene = Scene()
    scene.stream()
    scene.meanwhile = lambda: None
    assert scene.watcher.rest_seconds > 0
    scene.publisher.publish()
    assert scene.newest()


def test_a_schedule_knows_no_pace() -> None:
    scene = Scene(mode="schedule")
    scene.meanwhile = scene.change
    for _ in range(2 * STREAM):
        scene.clock.now += 1e9
        scene.watcher.tick()
        assert scene.watcher.rest_seconds == 0


def test_a_look_behind_that_fails_is_no_failure_of_the_publish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()

    def broken(*_: object) -> None:
        raise Unreachable("busy")

    monkeypatch.setattr(SimulatedSource, "pending", broken)
    scene.change()
    scene.watcher.tick(woken=True)
    assert scene.newest()
    assert scene.watcher.rest_seconds == 0
