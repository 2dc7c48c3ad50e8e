"""The simulation finds bugs: engines broken on purpose do not survive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bequest.errors import BequestError
from bequest.fence import Verdict
from bequest.model import Memory, Stat
from bequest.publisher import Publisher
from tests.simulation.test_publish import World, live
from tests.simulation.world import Bucket, SimulatedCut

Break = Callable[[pytest.MonkeyPatch], None]


def forgets_its_intents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Publisher, "_intend", lambda self, memory, intent: memory)


def acknowledges_before_sending(patch: pytest.MonkeyPatch) -> None:
    acknowledge, sent = Publisher._acknowledge, Publisher._sent

    def early(self: Any, send: Callable[[], Stat], mark: Any) -> Stat:
        memory = self._source.recall()
        if memory.intents:
            acknowledge(self, memory, memory.intents[-1], Stat(memory.version, 0, mark))
        return sent(self, send, mark)

    patch.setattr(Publisher, "_sent", early)


def publishes_half_a_cut(patch: pytest.MonkeyPatch) -> None:
    collect = Publisher._collect

    def half(self: Any, cut: Any, catalog: Any, memory: Memory) -> Any:
        mutations, opaque, rows = collect(self, cut, catalog, memory)
        return mutations[: (len(mutations) + 1) // 2], opaque, rows

    patch.setattr(Publisher, "_collect", half)


def trusts_the_journal_across_a_gap(patch: pytest.MonkeyPatch) -> None:
    begin = SimulatedCut.__init__

    def trusting(self: Any, database: Any, memory: Memory) -> None:
        begin(self, database, memory)
        if memory.position:
            self.fault = ""

    patch.setattr(SimulatedCut, "__init__", trusting)


def writes_without_a_condition(patch: pytest.MonkeyPatch) -> None:
    put = Bucket.put

    def forced(self: Any, body: bytes, mark: Any, onto: str | None) -> Stat:
        present = None if self.body is None else str(self.version)
        return put(self, body, mark, present)

    patch.setattr(Bucket, "put", forced)


def does_not_look_before_it_goes_on(patch: pytest.MonkeyPatch) -> None:
    fence = Publisher._fence

    def blind(self: Any, check: bool) -> Any:
        memory = self._source.recall()
        if not memory.version:
            return fence(self, check)
        self._source.remember(replace(memory, intents=()), durable=True)
        memory = self._source.recall()
        return memory, Stat(memory.version, 0, None), Verdict.CONTINUE

    patch.setattr(Publisher, "_fence", blind)


@pytest.mark.parametrize(
    "break_it",
    [
        forgets_its_intents,
        acknowledges_before_sending,
        publishes_half_a_cut,
        trusts_the_journal_across_a_gap,
        writes_without_a_condition,
        does_not_look_before_it_goes_on,
    ],
    ids=lambda each: each.__name__.replace("_", " "),
)
def test_a_broken_engine_is_caught(break_it: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    for seed in range(400):
        try:
            live(World(seed))
        except (AssertionError, BequestError):
            return
    pytest.fail("four hundred seeds did not tell it from the engine that ships")
