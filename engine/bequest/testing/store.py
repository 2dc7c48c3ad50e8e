"""What every store must do, as tests.

A third party proves its store like this::

    from bequest.testing.store import StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def open_store(self, my_server):
            address = my_server.new_address()
            return lambda: MyStore(address)

``open_store`` gives, at each call, a new handle to the same place, where no object is yet. The
handles share nothing in memory, as two controllers would not.
"""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import pytest

from .. import registry
from ..errors import Conflict, SnapshotMissing, Unreachable, UsageError
from ..keeping import keep
from ..model import Mark, Stat
from ..ports import Historic, Store
from ..snapshot.extent import Extent
from ..snapshot.soundness import ORIGIN_CHARACTERS
from ..versions import read_newer
from .objects import Sample, sample, whole

OpenStore = Callable[[], Store]
RACERS: Final = 2


class StoreConformance:
    """Subclass it, and give the fixture ``open_store``."""

    large_bytes: int = 0
    """Size of the base that appends are made to; set it where a store writes large ones otherwise.
    """
    race_rounds: int = 50
    races_enforced: bool = True
    """Set to false only for a *server* known to let two simultaneous writers both win."""
    appends: int = 5

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """To be overridden."""
        raise NotImplementedError("override the fixture open_store")

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Store:
        """One handle."""
        return open_store()

    # One object, or none

    def test_nothing_is_there_at_first(self, store: Store) -> None:
        assert store.head() is None
        with pytest.raises(SnapshotMissing), store.read():
            pass
        with pytest.raises(SnapshotMissing), read_newer(store, ""):
            pass

    def test_what_was_written_is_read_back(self, open_store: OpenStore) -> None:
        base = sample(size_bytes=self.large_bytes)
        written = open_store().rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        assert written == open_store().head()
        assert written.mark == base.mark
        assert written.size_bytes == len(base.data)
        found = _read(open_store())
        assert found.mark == base.mark
        assert found.chain == base.chain

    def test_an_append_adds_a_publish(self, open_store: OpenStore) -> None:
        store, current, stat = self._published(open_store)
        witness = open_store()
        for _ in range(self.appends):
            frame, mark, chain = current.next_frame()
            stat = store.append(frame, onto=stat, mark=mark)
            current = current.appended(frame, mark, chain)
            assert stat == witness.head()
            assert stat.mark == mark
            assert stat.size_bytes == len(current.data)
            assert _read(witness).chain == chain

    def test_an_append_needs_no_memory_of_the_object(self, open_store: OpenStore) -> None:
        _, current, _ = self._published(open_store)
        for _ in range(2):
            fresh = open_store()
            onto = _present(fresh)
            frame, mark, chain = current.next_frame()
            fresh.append(frame, onto=onto, mark=mark)
            current = current.appended(frame, mark, chain)
        assert _read(open_store()).chain == current.chain

    def test_a_mark_travels_with_its_origin(self, open_store: OpenStore) -> None:
        current = sample(size_bytes=self.large_bytes, origin=ORIGIN)
        store, witness = open_store(), open_store()
        stat = store.rewrite(current.body(), len(current.data), onto=None, mark=current.mark)
        _bears(witness, stat, ORIGIN)
        for origin in (LONGEST_ORIGIN, "", ORIGIN):
            frame, mark, chain = current.next_frame(origin=origin)
            stat = store.append(frame, onto=stat, mark=mark)
            current = current.appended(frame, mark, chain)
            _bears(witness, stat, origin)
        again = sample(9, size_bytes=self.large_bytes, origin=LONGEST_ORIGIN)
        stat = store.rewrite(again.body(), len(again.data), onto=stat, mark=again.mark)
        _bears(witness, stat, LONGEST_ORIGIN)

    def test_a_rewrite_leaves_nothing_of_the_object_before(self, open_store: OpenStore) -> None:
        store, _, stat = self._published(open_store, size_bytes=max(self.large_bytes, 100_000))
        witness = open_store()
        for size_bytes in (0, self.large_bytes, 0):
            base = sample(9, size_bytes=size_bytes)
            stat = store.rewrite(base.body(), len(base.data), onto=stat, mark=base.mark)
            assert witness.head() == stat
            assert stat.size_bytes == len(base.data)
            assert _read(witness).chain == base.chain

    def test_an_append_can_follow_any_write(self, open_store: OpenStore) -> None:
        store, current, stat = self._published(open_store, size_bytes=0)
        witness = open_store()
        for size_bytes in (self.large_bytes, 0):
            # Noise, so that the frame is as large as its content.
            frame, mark, chain = current.next_frame(random.Random(0).randbytes(size_bytes))
            stat = store.append(frame, onto=stat, mark=mark)
            assert _read(witness).chain == chain
            current = sample(9, size_bytes=size_bytes)
            stat = store.rewrite(current.body(), len(current.data), onto=stat, mark=current.mark)
            frame, mark, chain = current.next_frame()
            stat = store.append(frame, onto=stat, mark=mark)
            assert _read(witness).chain == chain
            current = current.appended(frame, mark, chain)

    def test_every_publish_has_a_version_of_its_own(self, open_store: OpenStore) -> None:
        store, current, stat = self._published(open_store)
        versions = {stat.version}
        for _ in range(2):
            frame, mark, chain = current.next_frame()
            stat = store.append(frame, onto=stat, mark=mark)
            current = current.appended(frame, mark, chain)
            versions.add(stat.version)
        for _ in range(2):
            again = sample(1, size_bytes=self.large_bytes)
            stat = store.rewrite(again.body(), len(again.data), onto=stat, mark=again.mark)
            versions.add(stat.version)
        assert len(versions) == 5

    def test_what_has_not_changed_is_not_read_again(self, open_store: OpenStore) -> None:
        store, current, stat = self._published(open_store)
        reader = open_store()
        with read_newer(reader, "") as found:
            assert found is not None
            assert found[0] == stat
            assert whole(found[1]).chain == current.chain
        with read_newer(reader, stat.version) as found:
            assert found is None
        frame, mark, chain = current.next_frame()
        after = store.append(frame, onto=stat, mark=mark)
        with read_newer(reader, stat.version) as found:
            assert found is not None
            assert found[0] == after
            assert whole(found[1]).chain == chain

    # Conditions

    def test_creating_needs_that_there_is_nothing(self, open_store: OpenStore) -> None:
        _, current, stat = self._published(open_store)
        for size_bytes in (0, self.large_bytes):
            other = sample(size_bytes=size_bytes)
            with pytest.raises(Conflict):
                open_store().rewrite(other.body(), len(other.data), onto=None, mark=other.mark)
        self._unchanged(open_store, current, stat)

    @pytest.mark.parametrize("how", ["append", "rewrite", "large rewrite"])
    def test_a_write_needs_the_object_it_was_made_for(
        self, open_store: OpenStore, how: str
    ) -> None:
        store, current, stale = self._published(open_store)
        frame, mark, chain = current.next_frame()
        late = open_store()
        assert late.head() == stale
        stat = store.append(frame, onto=stale, mark=mark)
        current = current.appended(frame, mark, chain)
        with pytest.raises(Conflict):
            self._write(late, how, current, stale)
        self._unchanged(open_store, current, stat)

    @pytest.mark.parametrize("how", ["append", "rewrite", "large rewrite"])
    def test_a_write_onto_an_object_needs_that_there_is_one(
        self, open_store: OpenStore, how: str
    ) -> None:
        gone = Stat(_LIKE_A_VERSION, 1000 + self.large_bytes, None)
        store = open_store()
        with pytest.raises(Conflict):
            self._write(store, how, sample(), gone)
        assert open_store().head() is None

    def test_a_lost_race_leaves_the_winner(self, open_store: OpenStore) -> None:
        if not self.races_enforced:
            return
        store, current, stat = self._published(open_store)
        rivals = [open_store() for _ in range(RACERS)]
        with ThreadPoolExecutor(RACERS) as pool:
            for _ in range(self.race_rounds):
                current, stat = _race(pool, rivals, current, stat)
                assert store.head() == stat
        assert _read(open_store()).chain == current.chain

    # Readers beside writers

    def test_a_reader_gets_one_version_while_writers_go_on(self, open_store: OpenStore) -> None:
        store, current, stat = self._published(open_store, size_bytes=300_000)
        with open_store().read() as stream:
            begun = stream.read(1000)
            frame, mark, _ = current.next_frame()
            stat = store.append(frame, onto=stat, mark=mark)
            base = sample(9, size_bytes=200_000)
            stat = store.rewrite(base.body(), len(base.data), onto=stat, mark=base.mark)
            try:
                data = begun + stream.read()
            except Unreachable:
                # Allowed: "that version is gone, read again". A mixture is not.
                data = current.data
        assert whole(io.BytesIO(data)).chain == current.chain
        assert _read(open_store()).chain == base.chain

    def test_readers_see_every_publish_whole(self, open_store: OpenStore) -> None:
        store, current, stat = self._published(open_store)
        chains = [current.chain]
        done = threading.Event()

        def read_on() -> list[bytes]:
            reader, seen = open_store(), list[bytes]()
            while not done.is_set():
                seen.append(_read(reader).chain)
            return seen

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_on)
            try:
                for turn in range(10):
                    frame, mark, chain = current.next_frame()
                    chains.append(chain)
                    stat = store.append(frame, onto=stat, mark=mark)
                    current = current.appended(frame, mark, chain)
                    if turn % 3 == 2:
                        current = sample(current.mark.serial + 1, size_bytes=self.large_bytes)
                        chains.append(current.chain)
                        stat = store.rewrite(
                            current.body(), len(current.data), onto=stat, mark=current.mark
                        )
            finally:
                done.set()
            seen = reading.result()
        places = [chains.index(chain) for chain in seen]
        assert places == sorted(places)

    # Manners

    def test_the_name_is_an_address(self, store: Store) -> None:
        assert store.name
        assert "\n" not in store.name

    def _published(
        self, open_store: OpenStore, size_bytes: int | None = None
    ) -> tuple[Store, Sample, Stat]:
        base = sample(size_bytes=self.large_bytes if size_bytes is None else size_bytes)
        store = open_store()
        return store, base, store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)

    def _write(self, store: Store, how: str, current: Sample, onto: Stat) -> Stat:
        if how == "append":
            frame, mark, _ = current.next_frame()
            return store.append(frame, onto=onto, mark=mark)
        other = sample(size_bytes=self.large_bytes if how == "large rewrite" else 0)
        return store.rewrite(other.body(), len(other.data), onto=onto, mark=other.mark)

    def _unchanged(self, open_store: OpenStore, current: Sample, stat: Stat) -> None:
        assert open_store().head() == stat
        assert _read(open_store()).chain == current.chain


class KeepingConformance:
    """For a store that is a `bequest.ports.Keeping` too. As `StoreConformance`."""

    large_bytes: int = 0

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """To be overridden."""
        raise NotImplementedError("override the fixture open_store")

    @pytest.fixture(params=["small", "large"])
    def kept(self, request: pytest.FixtureRequest, open_store: OpenStore) -> tuple[Sample, Stat]:
        """An object of two publishes."""
        base = sample(size_bytes=self.large_bytes if request.param == "large" else 0)
        store = open_store()
        stat = store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        frame, mark, chain = base.next_frame(origin=ORIGIN)
        stat = store.append(frame, onto=stat, mark=mark)
        return base.appended(frame, mark, chain), stat

    def test_a_copy_is_what_the_object_was(
        self, open_store: OpenStore, kept: tuple[Sample, Stat]
    ) -> None:
        current, stat = kept
        address = keep(open_store(), stat, LABEL)
        assert LABEL in address
        self._unchanged(open_store, current, stat)
        base = sample(7)
        open_store().rewrite(base.body(), len(base.data), onto=stat, mark=base.mark)
        with closing(registry.open_store(address)) as copy:
            there = _present(copy)
            assert (there.mark, there.size_bytes) == (stat.mark, stat.size_bytes)
            assert there.mark is not None
            assert there.mark.origin == ORIGIN
            assert _read(copy).chain == current.chain
            frame, mark, chain = current.next_frame()
            copy.append(frame, onto=there, mark=mark)
            assert _read(copy).chain == chain
        assert _read(open_store()).chain == base.chain

    def test_asked_again_there_is_still_one_copy(
        self, open_store: OpenStore, kept: tuple[Sample, Stat]
    ) -> None:
        _, stat = kept
        first = keep(open_store(), stat, LABEL)
        with closing(registry.open_store(first)) as copy:
            before = copy.head()
        assert keep(open_store(), stat, LABEL) == first
        with closing(registry.open_store(first)) as copy:
            assert copy.head() == before

    def test_an_object_that_changed_meanwhile_is_not_copied(
        self, open_store: OpenStore, kept: tuple[Sample, Stat]
    ) -> None:
        current, stat = kept
        frame, mark, _ = current.next_frame()
        after = open_store().append(frame, onto=stat, mark=mark)
        with pytest.raises(Conflict):
            keep(open_store(), stat, LABEL)
        address = keep(open_store(), after, LABEL)
        with closing(registry.open_store(address)) as copy:
            assert _present(copy).mark == mark

    def test_an_object_that_is_gone_is_not_copied(self, open_store: OpenStore) -> None:
        with pytest.raises(Conflict):
            keep(open_store(), Stat(_LIKE_A_VERSION, 1000, None), LABEL)

    def test_a_name_that_is_taken_is_left_alone(
        self, open_store: OpenStore, kept: tuple[Sample, Stat]
    ) -> None:
        current, stat = kept
        first = keep(open_store(), stat, LABEL)
        frame, mark, chain = current.next_frame()
        after = open_store().append(frame, onto=stat, mark=mark)
        second = keep(open_store(), after, LABEL)
        assert second != first
        for address, expected in ((first, current.chain), (second, chain)):
            with closing(registry.open_store(address)) as copy:
                assert _read(copy).chain == expected
        assert keep(open_store(), after, LABEL) == second

    def test_a_label_stays_one_name_beside_the_object(
        self, open_store: OpenStore, kept: tuple[Sample, Stat]
    ) -> None:
        _, stat = kept
        for label in ("", "../x", "a/b", "a b", ".x", "1", "a?b", "\n"):
            with pytest.raises(UsageError):
                keep(open_store(), stat, label)

    def _unchanged(self, open_store: OpenStore, current: Sample, stat: Stat) -> None:
        assert open_store().head() == stat
        assert _read(open_store()).chain == current.chain


LABEL: Final = "replaced-0a1b2c3d-1.2"
ORIGIN: Final = "7f3a: 1204%20 {[two  spaces]}"
LONGEST_ORIGIN: Final = "%~" * (ORIGIN_CHARACTERS // 2)
_LIKE_A_VERSION: Final = '"0123456789abcdef0123456789abcdef"'


def _read(store: Store) -> Extent:
    for _ in range(100):
        try:
            with store.read() as stream:
                return whole(stream)
        except Unreachable:
            continue
    raise AssertionError("the object was replaced during each of 100 reads")


def _bears(store: Store, written: Stat, origin: str) -> None:
    """The writer's answer, the object, its metadata and its listing all tell the origin."""
    marks = [written.mark, _present(store).mark, _read(store).mark]
    with read_newer(store, "") as found:
        assert found is not None
        marks.append(found[0].mark)
    if isinstance(store, Historic):
        marks += [version.mark for version in store.history(9) if version.current]
    assert {None if mark is None else mark.origin for mark in marks} == {origin}


def _present(store: Store) -> Stat:
    stat = store.head()
    assert stat is not None
    return stat


def _race(
    pool: ThreadPoolExecutor, rivals: list[Store], current: Sample, onto: Stat
) -> tuple[Sample, Stat]:
    """Let all rivals append onto the same object at once; exactly one may."""
    start = threading.Barrier(len(rivals))
    frames = [current.next_frame(f"rival {number}") for number in range(len(rivals))]

    def append(store: Store, frame: bytes, mark: Mark) -> Stat | None:
        start.wait(60)
        try:
            return store.append(frame, onto=onto, mark=mark)
        except Conflict:
            return None

    running = [
        pool.submit(append, store, frame, mark)
        for store, (frame, mark, _) in zip(rivals, frames, strict=True)
    ]
    stats = [future.result() for future in running]
    winners = [number for number, stat in enumerate(stats) if stat is not None]
    assert len(winners) == 1, f"{len(winners)} of {len(rivals)} rivals won"
    stat = stats[winners[0]]
    assert stat is not None
    return current.appended(*frames[winners[0]]), stat
