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

from .bucket import Sender, Version
from .database import ITEMS, JOURNAL_LIMIT, Commit, Database, pending
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


def promise_2_consistent(sender: Sender, snapshot: Snapshot) -> Commit:
    """What is published is the state at one cut; returns the commit."""
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
    commit: Commit | None = sender.head
    while commit is not None:
        if commit.same(rows, notes, generation) and count == len(rows) + notes.total():  # type: ignore[arg-type]
            return commit
        commit = commit.parent
    raise Broken("2 consistent", f"no commit ever had the state {rows} {notes}")


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


def promise_5_fenced(
    sender: Sender,
    before: Version | None,
    mark: Mark,
    commit: Commit,
    *,
    undone: bool,
    twins: bool,
) -> None:
    """Only whoever owns the object writes it, and no write drops what an earlier one held.

    ``undone``: somebody deleted the object or put an older one back, so it does not tell all that
    was. A superseded controller that has not heard of it may then make it anew, until its heir
    takes it back; and of
    ``twins`` (copies of one database) nothing tells any more which one went on.
    """
    if before is None or before.mark is None or sender.overwrite:
        return
    old = before.mark
    if mark.lineage != old.lineage:
        raise Broken("5 fenced", "another controller wrote the object")
    if mark.epoch > old.epoch and undone:
        return
    if (mark.epoch, mark.serial) <= (old.epoch, old.serial) or mark.serial <= old.serial:
        raise Broken("5 fenced", f"{mark} was written over {old}")
    if sender.adopting:
        if mark.epoch != old.epoch + 1 or not commit.same(
            before.commit.rows, Counter(before.commit.notes), before.commit.generation
        ):
            raise Broken("5 fenced", f"{mark} adopted {old}: another state, or no new epoch")
        return
    if mark.epoch != old.epoch:
        raise Broken("5 fenced", f"{mark} changed the epoch of {old} without a restore")
    if undone and old.epoch > 1 and sender.family != before.family:
        # Two heirs of one epoch: the object was deleted, its superseded controller made it anew,
        # and another replacement adopted that. The epoch no longer tells them apart; see "What is
        # not promised" in docs/reliability.md.
        return
    if sender.family != before.family:
        raise Broken("5 fenced", f"{sender.machine} wrote what is {before.owner}'s")
    if not commit.holds(before.commit) and not (undone and twins):
        raise Broken("5 fenced", f"commit {commit.number} dropped commit {before.commit.number}")


def promise_5_acknowledged(machine: Machine, commit: Commit) -> None:
    """What a publish reported as stored was stored."""
    landed = machine.database.landed
    if landed is None or not landed.holds(commit):
        raise Broken("5 acknowledged", f"commit {commit.number} of {machine} is in no object")


def promise_5_durable(machine: Machine, *, twins: bool) -> None:
    """Nothing was published that a power cut could still take back from the database."""
    database = machine.database
    if database.landed is not None and not database.commit.holds(database.landed):
        if not twins:
            raise Broken("5 durable", f"{machine} lost commit {database.landed.number}")
        # A copy had published more than this machine had on its disk.
        while database.landed is not None and not database.commit.holds(database.landed):
            database.landed = database.landed.parent


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
    database, memory = machine.database, machine.database.memory
    if not memory.position or memory.intents or database.captured != database.generation:
        return
    installation, _, after = memory.position.partition(":")
    if int(installation) != database.installation or pending(database, memory).mutations:
        return
    first = database.journal[0][0] if database.journal else database.last + 1
    if first > int(after) + 1:
        return
    landed = database.landed
    if landed is None or not landed.same(
        database.rows, Counter(database.notes), database.generation
    ):
        raise Broken("9 honest", f"{machine} counts nothing as pending and {landed} is stored")
