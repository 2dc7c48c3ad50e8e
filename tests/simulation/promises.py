"""The promises of the design, as code: one function each, asked after every step it concerns.

A function raises `Broken`, which names the promise. Promise 1 (capture) and 10 (the format) are
about real databases and real bytes: the differential tests and tests/format hold them.
"""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from bequest.errors import SnapshotError
from bequest.model import Mark
from bequest.snapshot.fold import Snapshot
from bequest_adapters.cipher import KeyRing

from .bucket import Bucket, Sender, Version
from .database import ITEMS, JOURNAL_LIMIT, Commit, Database, Position, Proof
from .process import Thread

if TYPE_CHECKING:
    from .world import Machine


KEYS = KeyRing([bytes(range(32))])
"""Those of every other seed; the others publish in the clear."""


class Broken(AssertionError):
    """A promise does not hold."""

    def __init__(self, promise: str, why: str) -> None:
        super().__init__(f"{promise}: {why}")
        self.promise = promise


def promise_2_consistent(commit: Commit, snapshot: Snapshot) -> None:
    """What is published is the state at one cut."""
    rows: dict[int, str] = {}
    notes: Counter[str] = Counter()
    count = 0
    for table, block in snapshot.rows():
        for row in block:
            count += 1
            if table.id == ITEMS:
                rows[row[0]] = row[1]  # type: ignore[index,assignment]
            else:
                notes[str(row[0])] += 1
    generation = snapshot.attributes.get("user_version")
    same = commit.same(rows, notes, generation)  # type: ignore[arg-type]
    if not same or count != len(rows) + notes.total():
        raise Broken("2 consistent", f"{rows} {notes} is not commit {commit.number}")


def promise_3_one_whole_object(body: bytes, mark: Mark) -> Snapshot:
    """At any moment there is one complete, restorable object, and it is what its mark says."""
    try:
        snapshot = Snapshot.open(io.BytesIO(body), KEYS)
    except SnapshotError as error:
        raise Broken("3 atomic", f"the object cannot be restored: {error}") from error
    if snapshot.mark != mark:
        raise Broken("3 atomic", f"the mark says {mark}, the object {snapshot.mark}")
    return snapshot


def promise_9_encrypted(snapshot: Snapshot, *, wanted: bool) -> None:
    """Encryption is never silently off."""
    if bool(snapshot.key_id) != wanted:
        raise Broken("9 honest", f"the object is under the key {snapshot.key_id!r}")


def promise_4_costs_the_change(how: str, sent: int, before: Commit, commit: Commit) -> None:
    """An append costs the change: bytes per mutation, not per row of the configuration."""
    mutations = max(0, commit.mutations - before.mutations)
    limit = 1400 + 160 * mutations
    if how == "append" and sent > limit:
        raise Broken("4 O(change)", f"{sent} bytes for {mutations} mutations")


def promise_5_descends(bucket: Bucket, sender: Sender, mark: Mark, commit: Commit) -> None:
    """An object is only ever replaced by its descendant, unless an operator named it.

    Then there is a copy of it. So nothing that an object ever held is lost by Bequest, and no two
    controllers can write over each other.
    """
    before = bucket.present
    if before is None or before.mark is None:
        return
    old = before.mark
    if mark.lineage == old.lineage and mark.serial <= old.serial:
        raise Broken("5 fenced", f"{mark} was written over {old}")
    if sender.adopting:
        if mark.lineage != old.lineage or mark.epoch != old.epoch + 1:
            raise Broken("5 fenced", f"{mark} adopted {old}")
        return
    if _ordered(bucket, sender, before):
        if mark.lineage == old.lineage and mark.epoch == old.epoch and _strangers(sender, before):
            raise Broken("5 fenced", f"two controllers own epoch {mark.epoch}")
    else:
        if mark.lineage != old.lineage:
            raise Broken("5 fenced", "another controller wrote the object")
        if mark.epoch < old.epoch:
            raise Broken("5 fenced", f"a superseded controller wrote {mark} over {old}")
        if not commit.holds(before.commit) and not sender.machine.forgot_where_it_was_rolled_back():
            lost = f"commit {commit.number} of {sender.machine} dropped {before.commit.number}"
            raise Broken("5 fenced", f"{lost} of {before.owner}")


def _strangers(sender: Sender, before: Version) -> bool:
    """Whether two installations published these."""
    now, then = sender.proof, before.proof
    both = isinstance(now, Proof) and isinstance(then, Proof)
    return both and now.installation != then.installation


def _ordered(bucket: Bucket, sender: Sender, before: Version) -> bool:
    """Whether an operator wanted it, with a copy kept."""
    mark = before.mark
    assert mark is not None
    allowed = ("adopt", f"{mark.lineage}/{mark.serial}")
    return any(
        order.version is before and order.machine is sender.machine and order.named in allowed
        for order in bucket.orders
    )


def promise_5_acknowledged(
    machine: Machine, commit: Commit, bucket: Bucket, exchanges: int
) -> None:
    """What a publish reported as stored was stored.

    ``exchanges``: how often somebody had exchanged the object when the publish began.
    """
    landed = machine.sent_to.get(bucket.name)
    found: Commit | None = machine.database.commit
    if landed is not None and landed.holds(commit):
        found = landed
    elif not machine.database.commit.holds(commit):
        return  # the database was rolled back meanwhile
    while found is not None and found.number >= commit.number:
        if bucket.name in found.stored and found.holds(commit):
            if bucket.exchanges == exchanges:
                older = [each for each in bucket.acknowledged if found.holds(each)]
                left = [each for each in bucket.acknowledged if each not in older]
                bucket.acknowledged = [*left, commit.restored_from]
            return
        found = found.parent
    raise Broken("5 acknowledged", f"commit {commit.number} of {machine} is in no object")


def promise_5_kept(bucket: Bucket) -> None:
    """What was acknowledged is in the object, or in a copy that was kept of it."""
    there = [each.present for each in (bucket, *bucket.kept.values())]
    for commit in bucket.acknowledged:
        if not any(version is not None and version.commit.holds(commit) for version in there):
            raise Broken("5 acknowledged", f"commit {commit.number} is not in {bucket.name} now")


def promise_5_durable(machine: Machine) -> None:
    """Nothing was published that a power cut could still take back from the database."""
    database = machine.database
    if machine.sent is not None and not database.commit.holds(machine.sent):
        raise Broken("5 durable", f"{machine} lost commit {machine.sent.number}")


def promise_6_bounded(database: Database) -> None:
    """The journal keeps its limit, whatever the store does."""
    if len(database.journal) > JOURNAL_LIMIT:
        raise Broken("6 bounded", f"{len(database.journal)} rows in the journal")


def promise_7_verified(thread: Thread) -> None:
    """Whoever read a damaged object said so."""
    if thread.harmed and not isinstance(thread.error, SnapshotError):
        found = "went on" if thread.error is None else repr(thread.error)
        raise Broken("7 verified", f"{thread.name} read a {thread.harmed} object and {found}")


def promise_8_replaced(database: Database, restored: Commit) -> None:
    """After a restore the target is exactly the state that was read."""
    if not restored.same(database.rows, Counter(database.notes), database.generation):
        raise Broken("8 replace", f"{database.rows} instead of {restored.rows}")


def promise_8_untouched(before: Commit, database: Database) -> None:
    """After a restore that failed the target is as it was."""
    if not before.same(database.rows, Counter(database.notes), database.generation):
        raise Broken("8 replace", f"a failed restore left {database.rows}")


def promise_9_honest(machine: Machine) -> None:
    """Nothing counts as stored that the database did not see stored."""
    database = machine.database
    if database.captured != database.generation:
        return
    memory = database.recall()
    if not memory.position or memory.intents or memory.copied:
        return
    position = Position.parsed(memory.position)
    if position.number != database.last or position.fault(database.capture, database.journal):
        return
    if memory.store not in database.commit.stored:
        raise Broken("9 honest", f"{machine} counts nothing as pending, and it is not stored")
