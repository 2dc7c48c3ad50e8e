"""What the publisher and the watcher do, one statement at a time, in a small simulated world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bequest import takeover
from bequest.compactor import Limits
from bequest.errors import Denied, Refused, Superseded, Unreachable
from bequest.fence import replacement_of
from bequest.model import Memory
from bequest.publisher import OPEN_INTENTS, Publisher
from bequest.report import AdoptReport, PublishReport
from bequest.watcher import Watcher
from tests.simulation.small_world import (
    Bucket,
    Clock,
    Database,
    SimulatedSource,
    SimulatedStore,
    state_of,
)

LIMITS = Limits(tail_free_bytes=2000, collapse_from_rows=10)


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
    with pytest.raises(Refused, match="not published anything yet"):
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
    with pytest.raises(Refused, match="forked"):
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


def operator(database: Database, store: SimulatedStore) -> Publisher:
    return Publisher(SimulatedSource(database), store, Clock(), limits=LIMITS)


def replace_it(database: Database, store: SimulatedStore, named: str) -> PublishReport:
    source, publisher = SimulatedSource(database), operator(database, store)
    return takeover.replace_named(source, store, publisher, LIMITS, named)


def adopt(database: Database, store: SimulatedStore) -> AdoptReport:
    source, publisher = SimulatedSource(database), operator(database, store)
    return takeover.adopt(source, store, publisher, LIMITS)


def test_a_named_foreign_object_is_replaced_with_a_copy_kept() -> None:
    _, bucket, _, store = started()
    assert bucket.mark is not None
    good, named = bucket.body, replacement_of(bucket.mark)
    mine = Database()
    mine.write({7: "mine"}, 1.0)
    assert replace_it(mine, store, named).kept is not None
    assert bucket.body is not None
    assert state_of(bucket.body) == {7: "mine"}
    assert [copy.body for copy in bucket.kept.values()] == [good]
    mine.write({8: "more"}, 2.0)
    assert quiet(mine, bucket)[0].publish().action == "append"


def test_the_name_of_an_object_that_is_there_no_more_replaces_nothing() -> None:
    database, bucket, publisher, store = started()
    assert bucket.mark is not None
    named = replacement_of(bucket.mark)
    database.write({1: "newer"}, 2.0)
    publisher.publish()
    good = bucket.body
    with pytest.raises(Refused, match="not " + named):
        replace_it(Database(), store, named)
    assert (bucket.body, bucket.kept) == (good, {})


def test_a_rolled_back_database_does_not_replace_what_it_published() -> None:
    database, bucket, publisher, _ = started()
    older = database.copy()
    database.write({1: "lost"}, 2.0)
    publisher.publish()
    good, older.memory = bucket.body, database.memory
    with pytest.raises(Refused, match="forked"):
        quiet(older, bucket)[0].publish(rewrite=True)
    assert bucket.body == good


def test_a_database_rolled_back_under_its_publisher_is_noticed_without_being_asked() -> None:
    database, bucket, publisher, _ = started()
    older = database.copy()
    database.write({1: "lost"}, 2.0)
    publisher.publish()
    good = bucket.body
    database.rows, database.journal = older.rows, older.journal
    with pytest.raises(Refused, match="forked"):
        publisher.publish()
    assert bucket.body == good


@pytest.mark.parametrize("rewrite", [False, True])
def test_a_rolled_back_database_does_not_acknowledge_its_intent(rewrite: bool) -> None:
    database, bucket, publisher, store = started()
    older = database.copy()
    database.write({1: "lost"}, 2.0)
    store.fault = lambda name: "answer" if name == "append" else ""
    with pytest.raises(Unreachable):
        publisher.publish()
    good, older.memory = bucket.body, database.memory
    with pytest.raises(Refused, match="forked"):
        quiet(older, bucket)[0].publish(rewrite=rewrite)
    assert bucket.body == good


def test_serials_go_on_from_the_object_that_is_replaced() -> None:
    database, bucket, publisher, _ = started()
    copy = database.copy()
    for _ in range(3):
        assert publisher.publish(rewrite=True).action == "rewrite"
    copy.write({1: "on"}, 2.0)
    assert quiet(copy, bucket)[0].publish().serial == 5


def test_capture_is_installed_before_a_database_without_a_name_is_published() -> None:
    database, bucket = Database(), Bucket()
    named, database.memory = database.memory, Memory()
    source = SimulatedSource(database)
    source.install = lambda selection=None: bool(setattr(database, "memory", named))  # type: ignore[method-assign]
    report = Publisher(source, SimulatedStore(bucket), Clock(), limits=LIMITS).publish()
    assert report.lineage == named.lineage


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
    assert bucket.mark is not None
    replace_it(database, store, replacement_of(bucket.mark))
    assert [copy.body for copy in bucket.kept.values()] == [good]
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


def test_a_first_backup_that_somebody_else_made_meanwhile_is_not_made_again() -> None:
    database, bucket = Database(), Bucket()
    database.write({1: "a"}, 1.0)
    watch, events, _ = watcher(database, bucket, "per-change")
    flushing, _ = quiet(database, bucket)
    recall = watch._source.recall

    def recalled_before_the_flushes() -> Memory:
        memory = recall()
        watch._source.recall = recall  # type: ignore[method-assign]
        flushing.publish()
        database.write({1: "b"}, 2.0)
        assert flushing.publish().action == "append"
        return memory

    watch._source.recall = recalled_before_the_flushes  # type: ignore[method-assign]
    watch.tick()
    assert events == ["leading"]


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


def test_a_superseded_watcher_goes_on_once_an_operator_gave_it_the_object_back() -> None:
    database, bucket = Database(), Bucket()
    watch, events, clock = watcher(database, bucket, "per-change")
    watch.tick()
    assert bucket.mark is not None
    bucket.mark = replace(bucket.mark, epoch=2, serial=2, token="33" * 16)
    bucket.version += 1
    database.write({1: "mine"}, clock.now)
    watch.tick()
    clock.now += 60
    watch.tick()
    assert events.count("superseded") == 1
    assert adopt(database, SimulatedStore(bucket)).adopted
    database.write({2: "more"}, clock.now)
    clock.now += 60
    watch.tick()
    assert events[-1] == "recovered"
    assert watch.stopped_by is None
    assert bucket.body is not None
    assert state_of(bucket.body) == {1: "mine", 2: "more"}


def test_an_adoption_that_failed_has_no_effect_on_a_heir_that_published() -> None:
    database, bucket, _, store = started()
    assert bucket.mark is not None
    bucket.mark = replace(bucket.mark, epoch=2, serial=2, token="33" * 16, origin="")
    bucket.version += 1
    store.fault = lambda name: "request" if name == "rewrite" else ""
    with pytest.raises(Unreachable):
        adopt(database, store)
    heir = bucket.mark = replace(bucket.mark, serial=3, token="44" * 16)
    bucket.version += 1
    store.fault = lambda _: ""
    with pytest.raises(Refused, match="forked"):
        quiet(database, bucket)[0].publish()
    assert bucket.mark == heir


def test_an_adoption_whose_answer_was_lost_is_recognised() -> None:
    database, bucket, _, store = started()
    assert bucket.mark is not None
    bucket.mark = replace(bucket.mark, epoch=2, serial=2, token="33" * 16)
    bucket.version += 1
    store.fault = lambda name: "answer" if name == "rewrite" else ""
    with pytest.raises(Unreachable):
        adopt(database, store)
    database.write({5: "on"}, 3.0)
    assert quiet(database, bucket)[0].publish().epoch == 3
    assert bucket.body is not None
    assert state_of(bucket.body)[5] == "on"


def test_an_open_intent_is_settled_without_a_change_so_that_nothing_late_can_land() -> None:
    database, bucket, publisher, store = started()
    database.write({1: "late"}, 2.0)
    store.fault = lambda name: "late" if name == "append" else ""
    with pytest.raises(Unreachable):
        publisher.publish()
    database.write({1: "a"}, 3.0)
    store.fault = lambda _: ""
    assert publisher.publish().action == "append"
    settled = bucket.mark
    bucket.late.pop()()
    assert bucket.mark == settled
    before = store.requests
    assert publisher.publish().action == "unchanged"
    assert store.requests == before


def test_a_denied_publish_leaves_nothing_to_recognise() -> None:
    database, _, publisher, store = started()
    database.write({1: "c"}, 2.0)
    store.fault = lambda name: "denied" if name == "append" else ""
    for _ in range(3):
        with pytest.raises(Denied):
            publisher.publish()
        assert database.memory.intents == ()


def test_a_denial_of_what_was_done_all_the_same_is_seen_through() -> None:
    database, bucket, publisher, store = started()
    database.write({1: "c"}, 2.0)
    store.fault = lambda name: "denied after" if name == "append" else ""
    with pytest.raises(Denied):
        publisher.publish()
    store.fault = lambda _: ""
    database.write({2: "d"}, 3.0)
    assert publisher.publish().action == "append"
    assert bucket.body is not None
    assert state_of(bucket.body) == {1: "c", 2: "d"}


def test_a_store_that_answers_but_takes_nothing_does_not_make_the_memory_grow() -> None:
    database, bucket, publisher, store = started()
    database.write({1: "c"}, 2.0)
    store.fault = lambda name: "request" if name == "append" else ""
    for _ in range(OPEN_INTENTS + 20):
        with pytest.raises(Unreachable):
            publisher.publish()
    assert len(database.memory.intents) == OPEN_INTENTS
    store.fault = lambda _: ""
    publisher.publish()
    assert database.memory.intents == ()
    assert bucket.body is not None
    assert state_of(bucket.body) == {1: "c", 2: "b"}


def test_an_idle_controller_notices_a_deleted_object_when_its_schedule_comes_round() -> None:
    database, bucket = Database(), Bucket()
    watch, events, clock = watcher(database, bucket, "per-change")
    watch.tick()
    bucket.body = bucket.mark = None
    clock.now += 1000
    watch.tick()
    assert bucket.body is not None
    assert events[-2:] == ["vanished", "published"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_ran_ahead_and_was_set_back_stops_no_schedule(restarted: bool) -> None:
    database, bucket = Database(), Bucket()
    watch, _, clock = watcher(database, bucket, "schedule")
    clock.now += 1_000_000
    watch.tick()
    clock.now -= 1_000_000
    if restarted:
        watch, _events, earlier = watcher(database, bucket, "schedule")
        clock = earlier
    database.write({1: "b"}, clock.now)
    for _ in range(2):
        watch.tick()
        clock.now += 1000
    watch.tick()
    assert bucket.body is not None
    assert state_of(bucket.body) == {1: "b"}
