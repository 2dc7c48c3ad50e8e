"""Engines broken on purpose: each takes one safeguard out of the code that ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bequest import adopting, fence, replay, takeover
from bequest import publisher as publishing
from bequest.errors import Conflict, Refused, Superseded, Unreachable
from bequest.fence import Verdict, judge, replacement_of
from bequest.model import Mark, Memory, Operation, Stat
from bequest.publisher import Publisher
from bequest.snapshot import frame, reader
from bequest.watcher import Watcher
from bequest_adapters.stores.retrying import RetryingStore

from .bucket import Bucket
from .database import (
    Database,
    Loading,
    Position,
    SimulatedCut,
    SimulatedSource,
    SimulatedTarget,
)
from .world import World

Break = Callable[[pytest.MonkeyPatch], None]


def forgets_its_intents(patch: pytest.MonkeyPatch) -> None:
    """It knows them while it sends, and has not written them down."""

    def unwritten(self: Any, memory: Memory, intent: Any) -> Memory:
        return replace(memory, intents=(*memory.intents, intent))

    patch.setattr(Publisher, "_intend", unwritten)


def keeps_only_its_last_intent(patch: pytest.MonkeyPatch) -> None:
    intend = Publisher._intend
    patch.setattr(
        Publisher, "_intend", lambda self, m, intent: intend(self, replace(m, intents=()), intent)
    )


def writes_its_intent_down_without_waiting_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    remember = SimulatedSource.remember
    patch.setattr(
        SimulatedSource,
        "remember",
        lambda self, memory, durable: remember(self, memory, durable=False),
    )


def acknowledges_before_sending(patch: pytest.MonkeyPatch) -> None:
    acknowledge, sent = Publisher._acknowledge, Publisher._sent

    def early(self: Any, send: Callable[[], Stat], mark: Any) -> Stat:
        memory = self._source.recall()
        if memory.intents:
            acknowledge(self, memory, memory.intents[-1], Stat(memory.version, 0, mark))
        return sent(self, send, mark)

    patch.setattr(Publisher, "_sent", early)


def takes_a_lost_answer_for_a_yes(patch: pytest.MonkeyPatch) -> None:
    def sure(self: Any, send: Callable[[], Stat], mark: Mark) -> Stat:
        try:
            return send()
        except Unreachable:
            return Stat("unknown", 0, mark)

    patch.setattr(Publisher, "_sent", sure)


def counts_a_conflict_as_success(patch: pytest.MonkeyPatch) -> None:
    def sure(self: Any, send: Callable[[], Stat], mark: Mark) -> Stat:
        try:
            return send()
        except Conflict:
            stat: Stat | None = self._store.head()
            return stat or Stat("", 0, mark)

    patch.setattr(Publisher, "_sent", sure)


def trims_before_the_store_said_yes(patch: pytest.MonkeyPatch) -> None:
    intend = Publisher._intend

    def eager(self: Any, memory: Memory, intent: Any) -> Memory:
        memory = intend(self, memory, intent)
        self._source.trim(intent.position)
        return memory

    patch.setattr(Publisher, "_intend", eager)
    trusts_the_journal_across_a_gap(patch)


def publishes_half_a_cut(patch: pytest.MonkeyPatch) -> None:
    collect = Publisher._collect

    def half(self: Any, cut: Any, catalog: Any, memory: Memory) -> Any:
        mutations, whole, rows = collect(self, cut, catalog, memory)
        return mutations[: (len(mutations) + 1) // 2], whole, rows

    patch.setattr(Publisher, "_collect", half)


def drops_a_frame_of_the_base(patch: pytest.MonkeyPatch) -> None:
    scan = SimulatedCut.scan

    def short(self: Any, table: Any) -> Iterator[Any]:
        blocks = list(scan(self, table))
        yield from blocks[:2]

    patch.setattr(SimulatedCut, "scan", short)


def drops_a_frame_of_the_tail(patch: pytest.MonkeyPatch) -> None:
    write = publishing.write_tail

    def first_only(*arguments: Any) -> tuple[bytes, bytes]:
        data, chain = write(*arguments)
        return (data, chain) if data[-1] % 16 else (data, bytes(32))

    patch.setattr(publishing, "write_tail", first_only)


def trusts_the_journal_across_a_gap(patch: pytest.MonkeyPatch) -> None:
    begin = SimulatedCut.__init__

    def trusting(self: Any, database: Any, memory: Memory) -> None:
        begin(self, database, memory)
        if memory.position:
            self.fault = ""

    patch.setattr(SimulatedCut, "__init__", trusting)


def ignores_that_capture_is_stale(patch: pytest.MonkeyPatch) -> None:
    begin = SimulatedCut.__init__

    def blind(self: Any, database: Any, memory: Memory) -> None:
        begin(self, database, memory)
        self.stale = False
        self.position = str(Position.of(database))

    patch.setattr(SimulatedCut, "__init__", blind)


def believes_the_journal_instead_of_the_cut(patch: pytest.MonkeyPatch) -> None:
    settle = publishing._settle

    def uncorrected(cut: Any, table: Any, keys: Any, journal: list[Any]) -> int:
        net = settle(cut, table, keys, journal)
        journal[:] = [each for each in journal if each.operation is not Operation.CORRECTION]
        return net

    patch.setattr(publishing, "_settle", uncorrected)


def takes_the_position_after_the_cut(patch: pytest.MonkeyPatch) -> None:
    intend = Publisher._intend

    def late(self: Any, memory: Memory, intent: Any) -> Memory:
        position = str(Position.of(self._source.database))
        return intend(self, memory, replace(intent, position=position))

    patch.setattr(Publisher, "_intend", late)


def writes_without_a_condition(patch: pytest.MonkeyPatch) -> None:
    put = Bucket.put

    def forced(
        self: Any, sender: Any, how: str, body: bytes, mark: Any, onto: Any, sent: int
    ) -> Stat:
        present = None if self.present is None else str(self.number)
        return put(self, sender, how, body, mark, present, sent)

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


def judges_by(patch: pytest.MonkeyPatch, wrong: Callable[..., Any]) -> None:
    for module in (publishing, takeover):
        patch.setattr(module, "judge", wrong)


def does_not_heed_a_newer_epoch(patch: pytest.MonkeyPatch) -> None:
    def deaf(memory: Memory, stat: Any, store: str, descends: Any) -> Any:
        if stat is not None and stat.mark is not None and stat.mark.epoch > memory.epoch:
            return Verdict.REWRITE, None
        return judge(memory, stat, store, descends)

    judges_by(patch, deaf)


def overwrites_what_is_ahead_of_it(patch: pytest.MonkeyPatch) -> None:
    def greedy(memory: Memory, stat: Any, store: str, descends: Any) -> Any:
        mark = None if stat is None else stat.mark
        if mark is not None and mark.lineage == memory.lineage and mark.epoch == memory.epoch:
            found = [each for each in memory.intents if each.token == mark.token]
            return (Verdict.ACKNOWLEDGE, found[0]) if found else (Verdict.REWRITE, None)
        return judge(memory, stat, store, descends)

    judges_by(patch, greedy)


def compares_serials(patch: pytest.MonkeyPatch) -> None:
    """The judge that went before the fence by ancestry."""

    def counting(memory: Memory, stat: Any, store: str, descends: Any) -> Any:
        if stat is None:
            if memory.state == "superseded":
                raise Superseded("the object is gone")
            return Verdict.CREATE, None
        mark = stat.mark
        if mark is None or mark.lineage != memory.lineage:
            raise Refused("another controller's")
        for intent in memory.intents:
            if (intent.serial, intent.token) == (mark.serial, mark.token):
                return Verdict.ACKNOWLEDGE, intent
        if mark.epoch > memory.epoch:
            raise Superseded("a newer epoch")
        if mark.epoch < memory.epoch or mark.serial < memory.serial:
            return Verdict.REWRITE, None
        if (mark.serial, mark.token) == (memory.serial, memory.token):
            known = stat.version == memory.version and store == memory.store
            return (Verdict.CONTINUE if known else Verdict.REWRITE), None
        raise Refused("ahead of this database")

    judges_by(patch, counting)


def believes_its_token_after_a_roll_back(patch: pytest.MonkeyPatch) -> None:
    proven = fence.is_ancestor

    def trusting(memory: Memory, mark: Mark, descends: Any) -> bool:
        return (mark.serial, mark.token) == (memory.serial, memory.token) or proven(
            memory, mark, descends
        )

    for module in (fence, takeover):
        patch.setattr(module, "is_ancestor", trusting)


def believes_its_intent_after_a_roll_back(patch: pytest.MonkeyPatch) -> None:
    def trusting(memory: Memory, stat: Any, store: str, descends: Any) -> Any:
        mark = None if stat is None else stat.mark
        for intent in memory.intents:
            if mark is not None and intent.token == mark.token:
                return Verdict.ACKNOWLEDGE, intent
        return judge(memory, stat, store, descends)

    judges_by(patch, trusting)


def takes_what_is_not_disproven_for_an_ancestor(patch: pytest.MonkeyPatch) -> None:
    for module in (fence, takeover):
        patch.setattr(
            module,
            "is_ancestor",
            lambda memory, mark, descends: descends(mark.origin) is not False,
        )


def ignores_that_it_was_copied(patch: pytest.MonkeyPatch) -> None:
    """A copy that may prove its ancestry publishes at once, and its original goes on."""

    def unaware(memory: Memory, stat: Any, store: str, descends: Any) -> Any:
        return judge(replace(memory, copied=""), stat, store, descends)

    judges_by(patch, unaware)


def takes_trimmed_rows_for_proven(patch: pytest.MonkeyPatch) -> None:
    holds = Database.holds
    patch.setattr(Database, "holds", lambda self, *asked: holds(self, *asked) is not False)


def proves_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimulatedCut, "origin", lambda self, token: "")


def repairs_capture_without_a_row(patch: pytest.MonkeyPatch) -> None:
    """What was written while capture was broken is in no row that could tell two copies apart."""
    journalled = Database._journalled

    def silent(self: Any, table: int, *rest: Any) -> None:
        if table:
            journalled(self, table, *rest)

    patch.setattr(Database, "_journalled", silent)


def replaces_without_a_copy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(takeover, "_keep", lambda *asked: "nowhere")


def keeps_a_copy_after_it_replaced(patch: pytest.MonkeyPatch) -> None:
    keep, sent = takeover._keep, Publisher._sent

    def then(self: Any, send: Callable[[], Stat], memory: Memory) -> Stat:
        stat = sent(self, send, memory)
        if self._replacing is not None and stat.mark is not None:
            keep(self._store, stat, stat.mark)
        return stat

    patch.setattr(takeover, "_keep", lambda *asked: "later")
    patch.setattr(Publisher, "_sent", then)


def replaces_whatever_is_there(patch: pytest.MonkeyPatch) -> None:
    """The name is not compared with what is there."""
    replacing = takeover.replace_named

    def careless(source: Any, store: Any, publisher: Any, limits: Any, named: str) -> Any:
        stat = store.head()
        there = named if stat is None or stat.mark is None else replacement_of(stat.mark)
        return replacing(source, store, publisher, limits, there)

    patch.setattr(takeover, "replace_named", careless)


def replaces_what_came_after_the_copy(patch: pytest.MonkeyPatch) -> None:
    """Between the copy and the publish the object may become another one."""

    def unnamed(self: Any, mark: Mark) -> Stat | None:
        stat: Stat | None = self._store.head()
        return stat

    patch.setattr(Publisher, "_named", unnamed)


def counts_on_from_its_own_memory(patch: pytest.MonkeyPatch) -> None:
    def own(self: Any, memory: Memory, stat: Any, cut: Any) -> Mark:
        token = self.token()
        return Mark(memory.lineage, memory.epoch, memory.serial + 1, token, cut.origin(token))

    patch.setattr(Publisher, "_next_mark", own)


def does_not_doubt_after_a_gap(patch: pytest.MonkeyPatch) -> None:
    """The database may have been replaced under the process: a head request tells."""
    fencing = Publisher._fence

    def sure(self: Any, check: bool) -> Any:
        self._checked = self._checked or getattr(self, "was_checked", False)
        self.was_checked = self._checked
        return fencing(self, check)

    patch.setattr(Publisher, "_fence", sure)


def adopts_under_the_same_epoch(patch: pytest.MonkeyPatch) -> None:
    taken = takeover._taken

    def same(memory: Memory, *rest: Any) -> Memory:
        found: Memory = taken(memory, *rest)
        return replace(found, epoch=found.epoch - 1)

    patch.setattr(takeover, "_taken", same)


def stays_who_it_was(patch: pytest.MonkeyPatch) -> None:
    taken = takeover._taken
    patch.setattr(
        takeover,
        "_taken",
        lambda memory, *rest: replace(taken(memory, *rest), installation=memory.installation),
    )


def publishes_before_it_knows_who_it_is(patch: pytest.MonkeyPatch) -> None:
    """Capture may be installed between the memory and the cut."""
    fencing = Publisher._fence

    def blank(self: Any, check: bool) -> Any:
        try:
            return fencing(self, check)
        except publishing._Stale:
            if self._store.head() is not None:
                raise
            return Memory(), None, Verdict.CREATE

    patch.setattr(Publisher, "_fence", blank)


def takes_the_oldest_intent_for_whatever_is_there(patch: pytest.MonkeyPatch) -> None:
    def careless(memory: Memory, stat: Any, store: str, descends: Any) -> Any:
        verdict, intent = judge(memory, stat, store, descends)
        return verdict, intent and memory.intents[0]

    judges_by(patch, careless)


def uses_one_token_for_every_publish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(World, "token", lambda self: "5a" * 16)


def does_not_lock_other_processes_out(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def free(self: Any, timeout_seconds: float) -> Iterator[None]:
        self._call("exclusive")
        yield

    patch.setattr(SimulatedSource, "exclusive", free)


def asks_the_store_inside_a_cut(patch: pytest.MonkeyPatch) -> None:
    guard = Publisher._guard

    def asking(self: Any, *arguments: Any) -> None:
        self._store.head()
        guard(self, *arguments)

    patch.setattr(Publisher, "_guard", asking)


def adopts_whatever_is_there(patch: pytest.MonkeyPatch) -> None:
    class Unconditional:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def head(self) -> Stat | None:
            stat: Stat | None = self._store.head()
            return stat and replace(stat, mark=self.before)  # type: ignore[attr-defined]

    class Careless(adopting.Adoption):
        def __init__(self, store: Any, snapshot: Any, *rest: Any) -> None:
            wrapped: Any = Unconditional(store)
            wrapped.before = snapshot.newest
            super().__init__(wrapped, snapshot, *rest)

    patch.setattr(replay, "Adoption", Careless)


def adopts_without_a_new_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        adopting,
        "Mark",
        lambda lineage, epoch, *rest: Mark(lineage, epoch - 1, *rest),
    )


def rewrites_in_the_clear(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(publishing, "writing_lock", lambda store: None)


def forgets_to_inherit(patch: pytest.MonkeyPatch) -> None:
    """The adapter says that it takes its inheritance, and does not."""
    patch.setattr(Loading, "inherit", lambda self, memory: setattr(self, "inherited", Memory()))


def inherits_after_the_adoption(patch: pytest.MonkeyPatch) -> None:
    """The memory is written down behind the commit: between the two it knows nothing."""
    take = SimulatedTarget.take

    def early(self: Any, loading: Loading, commit: Any) -> None:
        inherited, loading.inherited = loading.inherited, None
        take(self, loading, commit)
        loading.inherited = inherited  # its database counts as a controller's all the same

    patch.setattr(SimulatedTarget, "take", early)


def inherits_without_capture(patch: pytest.MonkeyPatch) -> None:
    """What is written before the restore settles in is not journalled, and is taken for stored."""
    settle = replay.settle_in

    def blind(source: Any, *arguments: Any, **options: Any) -> None:
        settle(source, *arguments, **{**options, "unwritten": True})

    take = SimulatedTarget.take

    def bare(self: Any, loading: Loading, commit: Any) -> None:
        take(self, loading, commit)
        self.database.captured = 0

    patch.setattr(SimulatedTarget, "take", bare)
    patch.setattr(replay, "settle_in", blind)


def settles_in_over_what_was_published(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adopting, "_has_gone_on", lambda found, inherited: False)


def takes_a_denial_for_an_answer_to_every_attempt(patch: pytest.MonkeyPatch) -> None:
    def believing(self: Any, attempt: Any, onto: Any, mark: Any) -> Stat:
        stat: Stat = self._persist(lambda: self._settle(attempt, onto, mark))
        return stat

    def gone(self: Any, memory: Memory) -> None:
        self._source.remember(replace(memory, intents=memory.intents[:-1]), durable=False)

    patch.setattr(RetryingStore, "_write", believing)
    patch.setattr(Publisher, "_forget_last", gone)


def merges_what_it_restores(patch: pytest.MonkeyPatch) -> None:
    take = SimulatedTarget.take

    def merging(self: Any, loading: Loading, commit: Any) -> None:
        before = dict(self.database.rows)
        take(self, loading, commit)
        self.database.rows = before | self.database.rows

    patch.setattr(SimulatedTarget, "take", merging)


def restores_before_it_verified(patch: pytest.MonkeyPatch) -> None:
    """Digests and chain are not compared."""

    def trusting(body: bytes, digest: bytes) -> Any:
        found = frame.hashlib.blake2b(body, digest_size=32).digest()
        return frame.decode_body(body, found)

    patch.setattr(reader, "decode_body", trusting)


def gives_up_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    failed = Watcher._failed

    def hopeless(self: Any, error: Any) -> float:
        wait = failed(self, error)
        self._not_before += 1e9
        return wait

    patch.setattr(Watcher, "_failed", hopeless)


def believes_a_clock_that_fell_back(patch: pytest.MonkeyPatch) -> None:
    def trusting(self: Any, now: float, memory: Memory) -> float:
        if self._due is not None:
            return float(self._due)
        last = memory.last_success
        return now if last is None else float(self._schedule.next_after(last))

    patch.setattr(Watcher, "_next_due", trusting)


def stays_superseded_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watcher, "_still_superseded", lambda self: True)


BREAKS: list[Break] = [
    forgets_its_intents,
    keeps_only_its_last_intent,
    writes_its_intent_down_without_waiting_for_the_disk,
    acknowledges_before_sending,
    takes_a_lost_answer_for_a_yes,
    counts_a_conflict_as_success,
    trims_before_the_store_said_yes,
    publishes_half_a_cut,
    drops_a_frame_of_the_base,
    drops_a_frame_of_the_tail,
    trusts_the_journal_across_a_gap,
    ignores_that_capture_is_stale,
    believes_the_journal_instead_of_the_cut,
    takes_the_position_after_the_cut,
    writes_without_a_condition,
    does_not_look_before_it_goes_on,
    does_not_heed_a_newer_epoch,
    overwrites_what_is_ahead_of_it,
    compares_serials,
    believes_its_token_after_a_roll_back,
    believes_its_intent_after_a_roll_back,
    takes_what_is_not_disproven_for_an_ancestor,
    ignores_that_it_was_copied,
    takes_trimmed_rows_for_proven,
    proves_nothing,
    repairs_capture_without_a_row,
    replaces_without_a_copy,
    keeps_a_copy_after_it_replaced,
    replaces_whatever_is_there,
    replaces_what_came_after_the_copy,
    counts_on_from_its_own_memory,
    does_not_doubt_after_a_gap,
    adopts_under_the_same_epoch,
    stays_who_it_was,
    publishes_before_it_knows_who_it_is,
    takes_the_oldest_intent_for_whatever_is_there,
    uses_one_token_for_every_publish,
    does_not_lock_other_processes_out,
    asks_the_store_inside_a_cut,
    adopts_whatever_is_there,
    adopts_without_a_new_epoch,
    rewrites_in_the_clear,
    forgets_to_inherit,
    inherits_after_the_adoption,
    inherits_without_capture,
    settles_in_over_what_was_published,
    takes_a_denial_for_an_answer_to_every_attempt,
    merges_what_it_restores,
    restores_before_it_verified,
    gives_up_after_a_failure,
    believes_a_clock_that_fell_back,
    stays_superseded_for_ever,
]

RARE: frozenset[Break] = frozenset(
    {
        keeps_only_its_last_intent,
        settles_in_over_what_was_published,
        takes_a_denial_for_an_answer_to_every_attempt,
        restores_before_it_verified,
        repairs_capture_without_a_row,
    }
)
"""These need thousands of seeds: they are tried at night."""
