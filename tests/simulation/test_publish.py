"""Promises 2 to 6 hold for the shipped engine in a simulated world, whatever the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from bequest.compactor import Limits
from bequest.errors import BequestError, Refused, Superseded, Unreachable
from bequest.publisher import Publisher
from bequest.watcher import Watcher
from tests.simulation.world import (
    Bucket,
    Clock,
    Crash,
    Database,
    SimulatedSource,
    SimulatedStore,
    state_of,
)

SEEDS = range(400)
LIMITS = Limits(tail_free_bytes=2000, collapse_from_rows=10)


@dataclass
class World:
    """One controller, one bucket, one seed."""

    seed: int
    clock: Clock = field(default_factory=Clock)
    database: Database = field(default_factory=Database)
    bucket: Bucket = field(default_factory=Bucket)
    trace: list[str] = field(default_factory=list)
    faulty: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.acknowledged: dict[int, str] = {}
        self.boot()

    def boot(self) -> None:
        store = SimulatedStore(self.bucket, self._store_fault)
        source = SimulatedSource(self.database, self._crash)
        self.publisher = Publisher(
            source, store, self.clock, limits=LIMITS, token=lambda: self.random.randbytes(16).hex()
        )

    def _store_fault(self, name: str) -> str:
        if not self.faulty:
            return ""
        kinds = ["request", "answer", "late", "crash", "crash after"]
        return self.random.choices(["", *kinds], [12, 2, 2, 1, 1, 1])[0]

    def _crash(self, step: str) -> bool:
        return self.faulty and self.random.random() < 0.03

    def write(self) -> None:
        changes: dict[int, str | None] = {}
        for _ in range(self.random.randint(1, 4)):
            gone = self.random.random() < 0.3
            changes[self.random.randint(1, 9)] = None if gone else f"v{self.random.random()}"
        self.database.write(changes, self.clock.time())

    def publish(self) -> None:
        before = dict(self.database.rows)
        try:
            report = self.publisher.publish(check=self.random.random() < 0.3)
        except Unreachable as error:
            self.trace.append(f"unreachable: {error}")
        except Crash:
            self.trace.append("crash")
            self.boot()
        else:
            self.trace.append(f"{report.action} {report.serial}")
            self.acknowledged = before
            assert self.bucket.body is not None
            assert state_of(self.bucket.body) == before

    def late(self) -> None:
        while self.bucket.late:
            self.bucket.late.pop()()

    def step(self) -> None:
        self.clock.now += self.random.random() * 10
        action = self.random.choices(
            [self.write, self.publish, self.late, self.boot, self._limit, self._alter],
            [8, 8, 2, 1, 1, 1],
        )[0]
        action()
        self.check()

    def _limit(self) -> None:
        self.database.limit(self.random.randint(1, 5))

    def _alter(self) -> None:
        self.database.generation += 1

    def check(self) -> None:
        """Every object that was ever stored is some cut, and serials never fall."""
        history = self.bucket.history
        for _, body in history[-1:]:
            assert state_of(body) in self.database.commits
        serials = [mark.serial for mark, _ in history]
        assert serials == sorted(set(serials))


def live(world: World) -> None:
    """Sixty steps with faults, then none: every invariant, and convergence in two publishes."""
    for _ in range(60):
        world.step()
    world.late()
    world.faulty = False
    for _ in range(2):
        world.publish()
    assert world.bucket.body is not None
    assert state_of(world.bucket.body) == world.database.rows
    assert world.database.memory.intents == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_published_object_is_a_cut_and_faults_heal(seed: int) -> None:
    world = World(seed)
    try:
        live(world)
    except (AssertionError, BequestError):
        print(f"seed {seed}:", *world.trace, sep="\n  ")
        raise


def quiet(database: Database, bucket: Bucket) -> tuple[Publisher, SimulatedStore]:
    store = SimulatedStore(bucket)
    return Publisher(SimulatedSource(database), store, Clock(), limits=LIMITS), store


def started() -> tuple[Database, Bucket, Publisher, SimulatedStore]:
    database, bucket = Database(), Bucket()
    database.write({1: "a", 2: "b"}, 1.0)
    publisher, store = quiet(database, bucket)
    assert publisher.publish().action == "create"
    return database, bucket, publisher, store


def test_a_small_change_is_one_request_and_idle_is_none() -> None:
    database, _, publisher, store = started()
    before = store.requests
    database.write({1: "c"}, 2.0)
    assert publisher.publish().action == "append"
    assert store.requests == before + 1
    assert publisher.publish().action == "unchanged"
    assert store.requests == before + 1


def test_a_fresh_empty_controller_cannot_destroy_the_backup() -> None:
    _, bucket, _, _ = started()
    good = bucket.body
    fresh, _ = quiet(Database(), bucket)
    with pytest.raises(Refused, match="no part in it"):
        fresh.publish()
    assert bucket.body == good


def test_a_foreign_controller_and_a_foreign_object_are_refused() -> None:
    database, bucket, publisher, _ = started()
    other_database, other_bucket, _, _ = started()
    stranger, _ = quiet(other_database, bucket)
    with pytest.raises(Refused, match="another controller"):
        stranger.publish(check=True)
    bucket.mark = None
    with pytest.raises(Refused, match="not a Bequest snapshot"):
        publisher.publish(check=True)
    assert other_bucket.body is not None
    assert database.rows == {1: "a", 2: "b"}


def test_a_superseded_controller_never_writes_again() -> None:
    database, bucket, publisher, _ = started()
    assert bucket.mark is not None
    bucket.mark = replace(bucket.mark, epoch=2, serial=2, token="33" * 16)
    bucket.version += 1
    body = bucket.body
    database.write({1: "z"}, 2.0)
    for _ in range(3):
        with pytest.raises(Superseded):
            publisher.publish()
    assert bucket.body == body
    assert len(database.journal) > 0


def test_a_copied_database_cannot_overwrite_what_the_original_went_on_to_write() -> None:
    database, bucket, publisher, _ = started()
    copy = database.copy()
    database.write({1: "new"}, 2.0)
    publisher.publish()
    copy.write({1: "old"}, 2.0)
    with pytest.raises(Refused, match="ahead"):
        quiet(copy, bucket)[0].publish()
    assert bucket.body is not None
    assert state_of(bucket.body)[1] == "new"


def test_two_copies_at_the_same_serial_are_told_apart() -> None:
    database, bucket, publisher, _ = started()
    copy, apart = database.copy(), Bucket(bucket.body, bucket.mark, bucket.version)
    copy.write({1: "theirs"}, 2.0)
    quiet(copy, apart)[0].publish()
    database.write({1: "ours"}, 2.0)
    publisher.publish()
    with pytest.raises(Refused):
        quiet(copy, bucket)[0].publish(check=True)


def test_overwrite_takes_a_foreign_object_and_then_goes_on() -> None:
    _, bucket, _, _ = started()
    mine = Database()
    mine.write({7: "mine"}, 1.0)
    publisher = Publisher(
        SimulatedSource(mine), SimulatedStore(bucket), Clock(), limits=LIMITS, overwrite=True
    )
    publisher.publish()
    assert bucket.body is not None
    assert state_of(bucket.body) == {7: "mine"}
    mine.write({8: "more"}, 2.0)
    assert publisher.publish().action == "append"


def test_a_deleted_object_is_made_again() -> None:
    _, bucket, publisher, _ = started()
    bucket.body = bucket.mark = None
    report = publisher.publish(check=True)
    assert (report.action, report.serial) == ("create", 2)


def test_an_older_object_that_came_back_is_replaced() -> None:
    database, bucket, publisher, _ = started()
    old = (bucket.body, bucket.mark)
    database.write({1: "x"}, 2.0)
    publisher.publish()
    bucket.body, bucket.mark = old
    bucket.version += 1
    database.write({1: "y"}, 3.0)
    assert publisher.publish().action == "rewrite"
    assert bucket.body is not None
    assert state_of(bucket.body)[1] == "y"


def test_a_tail_that_outweighs_its_share_is_compacted() -> None:
    database, bucket, publisher, _ = started()
    actions = set()
    for number in range(60):
        database.write({1: f"v{number}"}, 2.0)
        actions.add(publisher.publish().action)
    assert actions == {"append", "rewrite"}
    assert bucket.body is not None
    assert len(bucket.body) < 2 * LIMITS.tail_free_bytes


def test_a_collapse_holds_the_last_good_object() -> None:
    database, bucket, publisher, store = started()
    database.write(dict.fromkeys(range(100), "v"), 2.0)
    publisher.publish()
    good = bucket.body
    database.write(dict.fromkeys(range(99)), 3.0)
    with pytest.raises(Refused, match="shrank from"):
        publisher.publish()
    with pytest.raises(Refused, match="shrank from"):
        publisher.publish(rewrite=True)
    assert bucket.body == good
    Publisher(SimulatedSource(database), store, Clock(), limits=LIMITS, overwrite=True).publish()
    assert bucket.body is not None
    assert len(state_of(bucket.body)) == 1


class Daily:
    """Due at every full 1000 seconds."""

    def next_after(self, time: float) -> float:
        return (time // 1000 + 1) * 1000


def watcher(database: Database, bucket: Bucket, mode: str) -> tuple[Watcher, list[str], Clock]:
    events: list[str] = []
    clock = Clock()
    source, store = SimulatedSource(database), SimulatedStore(bucket)
    publisher = Publisher(source, store, clock, limits=LIMITS, mode=mode)
    listener = lambda name, _: events.append(name)  # noqa: E731
    return (
        Watcher(source, publisher, clock, listener, mode=mode, schedule=Daily(), limits=LIMITS),
        events,
        clock,
    )


def test_the_first_enable_backs_up_at_once_and_then_on_schedule() -> None:
    database, bucket = Database(), Bucket()
    database.write({1: "a"}, 1.0)
    watch, events, clock = watcher(database, bucket, "schedule")
    watch.tick()
    assert events == ["leading", "published"]
    database.write({1: "b"}, 2.0)
    for _ in range(9):
        clock.now += 100
        watch.tick()
    assert events.count("published") == 1
    clock.now += 100
    watch.tick()
    assert events.count("published") == 2
    assert bucket.body is not None
    assert state_of(bucket.body) == {1: "b"}


def test_a_backup_missed_while_down_is_made_at_the_next_start() -> None:
    database, bucket = Database(), Bucket()
    watch, _, clock = watcher(database, bucket, "schedule")
    watch.tick()
    database.write({1: "b"}, 2.0)
    watch, events, later = watcher(database, bucket, "schedule")
    later.now = clock.now + 5000
    watch.tick()
    assert events == ["leading", "published"]


def test_an_outage_is_loud_backs_off_and_heals_by_itself() -> None:
    database, bucket = Database(), Bucket()
    watch, events, clock = watcher(database, bucket, "per-change")
    store = watch._publisher._store
    watch.tick()
    store.fault = lambda _: "request"
    waits = []
    for number in range(10):
        database.write({1: str(number)}, clock.now)
        waits.append(watch.tick(woken=True))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert database.memory.state == "failing"
    store.fault = lambda _: ""
    watch.tick()
    assert events[-1] == "recovered"
    assert database.memory.state == "ok"
    assert bucket.body is not None
    assert state_of(bucket.body) == {1: "9"}


def test_wake_ups_do_not_hurry_a_store_that_failed() -> None:
    database, bucket = Database(), Bucket()
    watch, events, clock = watcher(database, bucket, "per-change")
    watch._publisher._store.fault = lambda _: "request"
    watch.tick()
    for _ in range(100):
        clock.now += 0.001
        assert 0 < watch.tick(woken=True) < 1
    assert events.count("failed") == 1
    clock.now += 1
    watch.tick()
    assert events.count("failed") == 2


def test_a_follower_takes_over_when_the_leader_is_gone() -> None:
    database, bucket = Database(), Bucket()
    watch, events, _ = watcher(database, bucket, "per-change")
    watch._source.leader = False
    watch.tick()
    assert bucket.body is None
    watch._source.leader = True
    watch.tick()
    assert bucket.body is not None
    assert events == ["waiting", "leading", "published"]
