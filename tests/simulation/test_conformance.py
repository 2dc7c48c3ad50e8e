"""The simulated stores keep the port's contract as the real ones do: the shipped suite.

Else the simulation would show what an engine does with a store that nobody has.
"""

from __future__ import annotations

import random
from threading import Lock
from typing import Any

import pytest

from bequest import registry
from bequest.model import Stat
from bequest.testing.store import KeepingConformance, OpenStore, StoreConformance

from . import bucket as great
from . import small_world as small
from .database import Commit

NOWHERE = Commit(None, 0, {}, (), 1, 0)


class Unscheduled:
    """Stands for the simulated thread: nobody else runs, and nothing is struck."""

    in_cut = False
    harmed = order = ""
    read_commit: Any = None

    def call(self, step: str) -> str:
        return ""


class GreatBucket(great.Bucket):
    """The suite races with real threads, which the simulation has none of."""

    lock = Lock()

    def put(self, *arguments: Any) -> Stat:
        with self.lock:
            return super().put(*arguments)


class SmallBucket(small.Bucket):
    lock = Lock()

    def put(self, *arguments: Any) -> Stat:
        with self.lock:
            return super().put(*arguments)


class TestTheStoreOfTheWorld(StoreConformance, KeepingConformance):
    @pytest.fixture
    def open_store(self, monkeypatch: pytest.MonkeyPatch) -> OpenStore:
        monkeypatch.setattr(great, "current", Unscheduled)
        bucket = GreatBucket(lambda *told: NOWHERE)
        sender = great.Sender("m1", NOWHERE)

        def opened(bucket: great.Bucket) -> great.SimulatedStore:
            return great.SimulatedStore(bucket, lambda: sender, random.Random(0))

        def kept(address: str) -> great.SimulatedStore:
            return opened(next(each for each in bucket.kept.values() if each.name == address))

        monkeypatch.setattr(registry, "open_store", kept)
        return lambda: opened(bucket)


class TestTheStoreOfTheSmallWorld(StoreConformance, KeepingConformance):
    @pytest.fixture
    def open_store(self, monkeypatch: pytest.MonkeyPatch) -> OpenStore:
        bucket = SmallBucket()

        def kept(address: str) -> small.SimulatedStore:
            return small.SimulatedStore(bucket.kept[address.removeprefix("sim://bucket.")])

        monkeypatch.setattr(registry, "open_store", kept)
        return lambda: small.SimulatedStore(bucket)
