"""One publish: from the database's journal to the stored object, conditionally, exactly once.

The cycle, under the cross-process publish lock: recall, fence, cut, write the intent down (durable:
in the source's log everything in the cut is then durable too), send, remember, trim. Invariants:

* Nothing is sent before its intent is durable, so a lost answer or a crash is recognised.
* Nothing is acknowledged, and no journal row trimmed, before the store said yes.
* Every write names the object it replaces. On a conflict the fence decides; nothing is forced.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain as chained
from threading import RLock
from typing import Any, BinaryIO, Final, Protocol, cast

from . import __version__
from .beside import Beside, Restless
from .compactor import Limits, allowance, collapsed
from .encryption import check_allowed, lock_of, told, writing_lock
from .errors import (
    BequestError,
    Conflict,
    Denied,
    Overtaken,
    Refused,
    Superseded,
    Unreachable,
)
from .fence import Verdict, judge
from .model import (
    LEFT_OUT,
    Attributes,
    Author,
    Catalog,
    Intent,
    Key,
    Mark,
    Memory,
    Mutation,
    Operation,
    Row,
    Stat,
    Table,
    Value,
)
from .ports import Clock, Cut, Folders, Source, Store, Unsettled
from .report import PublishReport
from .snapshot.frame import FORMAT_VERSION
from .snapshot.writer import TailTooLarge, write_base, write_tail
from .spool import Spool

LOOKUP_KEYS: Final = 500
ATTEMPTS: Final = 5
OPEN_INTENTS: Final = 100
"""Intents kept while their outcome is unknown. With the watcher's waits a hundred attempts take an
hour and a half: no request that old is still on its way, and the memory must not grow for weeks."""
_STEP: Final = {Operation.INSERT: 1, Operation.DELETE: -1}


class _Stale(Exception):
    """Capture is not installed, or does not cover the cut's schema."""


class _Apart(Exception):
    """The rewrite that is due is large: it should not run in the controller's process."""


class _NeedsRewrite(Exception):
    """The journal cannot be continued in this cut; the reason is the first argument.

    The database may be another, older one by now, so the fence looks at the object again.
    """


class Apart(Protocol):
    """Publishes a rewrite in another process; ``None`` when that cannot be done here."""

    def __call__(self) -> PublishReport | None:
        """The other process's report; raises what it raised."""
        ...


def _token() -> str:
    return uuid.uuid4().hex


class Publisher:
    """Publishes one source to one store. Safe to call from several threads and processes."""

    def __init__(
        self,
        source: Source,
        store: Store,
        clock: Clock,
        *,
        limits: Limits | None = None,
        mode: str = "",
        token: Callable[[], str] = _token,
        progress: Callable[[str, int, int | None], None] | None = None,
        apart: Apart | None = None,
        by: Author | None = None,
        folders: Folders | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._clock = clock
        self._limits = limits or Limits()
        self._mode = mode
        self.token = token
        self._progress = progress
        self._apart = apart
        self._by = by
        self._files = Beside(source, store, folders)
        self._lock = RLock()
        self._checked = False
        self._replacing: Mark | None = None
        self.last_error: BequestError | None = None

    def publish(
        self,
        *,
        rewrite: bool = False,
        check: bool = False,
        exact: bool = False,
        wait_seconds: float | None = None,
        replacing: Mark | None = None,
    ) -> PublishReport:
        """Bring the object up to the newest cut.

        ``rewrite`` forces a new base, ``check`` asks the store even when nothing is pending,
        ``exact`` counts the rows for the report. ``wait_seconds`` bounds the wait for another
        publish to end. ``replacing`` is the one object that may be replaced although nothing proves
        that it is an ancestor: an operator named it (`bequest.takeover`). Raises `Refused`,
        `Superseded`, `AccessError`.
        """
        started = self._clock.monotonic()
        if check:
            self._files.expect()
        wait = self._limits.lock_seconds if wait_seconds is None else wait_seconds
        if not self._lock.acquire(timeout=wait):
            raise Unreachable(
                f"Another thread is still publishing to {self._store.name} after {wait:g} s. Its "
                "publish goes on; wait longer, or look at the status."
            )
        try:
            try:
                self._replacing = replacing
                report = self._here_or_apart("asked for" if rewrite else "", check, exact, wait)
            except BequestError as error:
                self.last_error = error
                raise
            self.last_error = None
        finally:
            self._replacing = None
            self._lock.release()
        return replace(report, duration_s=self._clock.monotonic() - started)

    @property
    def files_due(self) -> bool:
        """Whether the folders of files should be looked at, whatever the database says."""
        return self._files.due

    def _here_or_apart(self, reason: str, check: bool, exact: bool, wait: float) -> PublishReport:
        try:
            with self._source.exclusive(wait):
                return self._recorded(reason, check, exact)
        except _Apart:
            pass
        # The right to publish is free again: the other process takes it.
        report = None if self._apart is None else self._apart()
        if report is None:
            self._apart = None
            return self._here_or_apart(reason, check, exact, wait)
        self._checked = True
        self._files.forget()
        return report

    def _recorded(self, reason: str, check: bool, exact: bool) -> PublishReport:
        """One cycle; a failure is written down where `status` finds it, if that is possible."""
        try:
            return self._cycle(reason, check, exact)
        except BequestError as error:
            with suppress(BequestError):
                memory = self._source.recall()
                # Whom another one has succeeded stays so, whatever fails next: an object that is
                # gone is not this controller's to make.
                superseded = memory.state == "superseded"
                state = memory.state if superseded else state_of(error)
                failed = replace(memory, state=state, last_error=str(error))
                failed = replace(failed, mode=self._mode or memory.mode)
                # A copy has no memory of its own until it is adopted.
                if failed != memory and memory.installation and not memory.copied:
                    self._source.remember(failed, durable=False)
            raise

    def _cycle(self, reason: str, check: bool, exact: bool) -> PublishReport:
        overtaken: Overtaken | None = None
        for _ in range(ATTEMPTS):
            try:
                memory, stat, verdict = self._fence(check)
                if self._replacing is None:
                    check_allowed(self._store, memory.key_id)
                if verdict is not Verdict.CONTINUE or not memory.position:
                    reason = reason or verdict.value
                if memory.key_id != self._key_id():
                    reason = reason or "the object is not under the current key"
                report = self._attempt(memory, stat, reason, exact)
            except _Stale:
                self._source.install()
            except _NeedsRewrite as need:
                reason = str(need.args[0])
                self._checked = False
            except Conflict:
                self._checked = False
            except Overtaken as error:
                overtaken = error
            except Restless:
                continue
            else:
                self._checked = True
                return report
        raise Unreachable(
            f"The object at {self._store.name}, or the database's schema, changed {ATTEMPTS} times "
            "during one publish. Nothing is lost; the next publish tries again."
        ) from overtaken

    def _fence(self, check: bool) -> tuple[Memory, Stat | None, Verdict]:
        memory = self._source.recall()
        if not memory.installation:
            raise _Stale
        if self._replacing is not None:
            return replace(memory, position=""), self._named(self._replacing), Verdict.REWRITE
        unsure = check or not self._checked or memory.intents or memory.store != self._store.name
        unsure = unsure or bool(memory.copied)
        if not unsure and memory.version:
            mark = Mark(memory.lineage, memory.epoch, memory.serial, memory.token)
            size = memory.base_bytes + memory.tail_bytes
            return memory, Stat(memory.version, size, mark), Verdict.CONTINUE
        stat = self._store.head()
        verdict, intent = judge(memory, stat, self._store.name, self._source.descends)
        if intent is not None and stat is not None:
            memory = self._acknowledge(memory, intent, stat)
            verdict = Verdict.CONTINUE
        return memory, stat, verdict

    def _named(self, mark: Mark) -> Stat:
        """The object that is to be replaced, as long as it is the one that was named."""
        stat = self._store.head()
        if stat is None or stat.mark != mark:
            raise Refused(
                f"The object at {self._store.name} has changed since it was named for replacement. "
                "It was left as it is and nothing was backed up. Look at it again with `bequest "
                "inspect`, and repeat the command with what is there now."
            )
        return stat

    def _next_mark(self, memory: Memory, stat: Stat | None, cut: Cut) -> Mark:
        """The mark of the next publish; the object of this lineage that it replaces comes before.

        A copy of this database may have published more often and added nothing, and a database that
        was adopted as a copy does not remember how often it has published.
        """
        serial = memory.serial
        there = None if stat is None else stat.mark
        if there is not None and there.lineage == memory.lineage:
            serial = max(serial, there.serial)
        token = self.token()
        return Mark(memory.lineage, memory.epoch, serial + 1, token, cut.origin(token))

    def _attempt(
        self, memory: Memory, stat: Stat | None, reason: str, exact: bool
    ) -> PublishReport:
        if reason or stat is None:
            if self._apart is not None and self._large():
                raise _Apart
            return self._rewrite(memory, stat)
        while True:
            with suppress(Unsettled):
                return self._append(memory, stat, exact)

    # -- append ---------------------------------------------------------------------------

    def _append(self, memory: Memory, stat: Stat, exact: bool) -> PublishReport:
        with self._files.cut(memory, stat) as cut:
            if cut.stale:
                raise _Stale
            if cut.fault:
                raise _NeedsRewrite(cut.fault)
            at = self._clock.time()
            catalog = cut.catalog()
            mutations, whole, rows = self._collect(cut, catalog, memory)
            position, attributes = cut.position, cut.attributes()
            changed = _difference(memory.attributes, attributes)
            if exact or any(table.key for table in whole):
                rows = sum(cut.count(table) for table in catalog.tables)
            mark = self._next_mark(memory, stat, cut)
            data, chain = b"", bytes.fromhex(memory.chain)
            # With an intent whose outcome is open, an empty tail settles it: whatever is still on
            # its way to the store then finds another object than the one it names.
            if mutations or whole or changed or memory.intents:
                self._guard(memory, rows, cut, catalog)
                blocks = [(table, cut.scan(table)) for table in whole]
                room = allowance(memory.base_bytes, self._limits) - memory.tail_bytes
                try:
                    lock = lock_of(self._store, memory.key_id)
                    both = chained(mutations, cut.recordings(at))
                    data, chain = write_tail(
                        both, changed, blocks, mark, at, chain, room, lock, self._by
                    )
                except TailTooLarge as error:
                    raise _NeedsRewrite("the tail outweighs its share of the base") from error
                rows = max(0, rows + cut.gained)
        if not data:
            self._files.settled(cut)
            return self._unchanged(memory, stat, rows, catalog)
        intent = Intent(
            mark.serial,
            mark.token,
            position,
            chain.hex(),
            memory.base_bytes,
            memory.tail_bytes + len(data),
            rows,
            attributes,
            rewrite=False,
            epoch=mark.epoch,
            key_id=memory.key_id,
        )
        memory = self._intend(memory, intent)
        after = self._sent(lambda: self._store.append(data, onto=stat, mark=mark), memory)
        self._acknowledge(memory, intent, after)
        self._files.settled(cut)
        return _report("append", mark, intent, catalog, len(data))

    def _collect(
        self, cut: Cut, catalog: Catalog, memory: Memory
    ) -> tuple[list[Mutation], list[Table], int]:
        tables = {table.id: table for table in catalog.tables}
        journal: list[Mutation] = []
        whole: dict[int, Table] = {}
        for mutation in cut.mutations():
            table = tables.get(mutation.table)
            if table is None:
                raise _NeedsRewrite("the journal names a table that is gone")
            if not mutation.key and (table.key or mutation.row is None):
                whole[table.id] = table
                continue
            journal.append(mutation)
            if len(journal) > self._limits.tail_mutations:
                raise _NeedsRewrite("there are more mutations than a tail takes")
        if whole:
            journal = [mutation for mutation in journal if mutation.table not in whole]
        net = sum(_STEP.get(item.operation, 0) for item in journal if not item.key)
        for number, keys in _positions(journal).items():
            net += _settle(cut, tables[number], keys, journal)
        return journal, list(whole.values()), max(0, memory.rows + net)

    def _guard(self, memory: Memory, rows: int, cut: Cut, catalog: Catalog) -> None:
        """Hold the last good object when nearly everything is gone.

        Raises `Refused`.
        """
        if not catalog.tables and any(why == LEFT_OUT for _, why in catalog.not_covered):
            raise Refused(
                "The choice of tables leaves none: no name matches what --include and --exclude "
                f"say. The backup at {self._store.name} is as it was and nothing was published. "
                "Correct the choice; `--include '*'` takes all tables again."
            )
        if self._replacing is not None or not collapsed(memory.rows, rows, self._limits):
            return
        counted = sum(cut.count(table) for table in catalog.tables)
        if collapsed(memory.rows, counted, self._limits):
            raise Refused(
                f"The configuration shrank from {memory.rows} rows to {counted}. The last good "
                f"backup at {self._store.name} is kept and nothing was published. If rows were "
                "lost, restore it; if the configuration is meant to be that small, confirm it once "
                f"with `bequest backup --replace {memory.lineage}/{memory.serial}`, which keeps a "
                "copy of the backup."
            )

    def _unchanged(self, memory: Memory, stat: Stat, rows: int, catalog: Catalog) -> PublishReport:
        if memory.state not in ("", "ok") or memory.last_error:
            memory = replace(memory, state="ok", last_error="", mode=self._mode or memory.mode)
            self._source.remember(memory, durable=False)
        return PublishReport(
            "unchanged",
            memory.lineage,
            memory.epoch,
            memory.serial,
            rows,
            len(catalog.tables),
            stat.size_bytes,
            0,
            0.0,
            catalog.not_covered,
            told(memory.key_id),
        )

    def _large(self) -> bool:
        size: int | None = getattr(self._source, "size_bytes", None)
        return size is not None and size >= self._limits.rewrite_apart_bytes

    # -- rewrite --------------------------------------------------------------------------

    def _rewrite(self, memory: Memory, stat: Stat | None) -> PublishReport:
        lock = writing_lock(self._store)
        with Spool() as spool:
            body = cast(BinaryIO, spool)
            with self._files.cut(replace(memory, position=""), stat) as cut:
                if cut.stale:
                    raise _Stale
                at = self._clock.time()
                mark = self._next_mark(memory, stat, cut)
                catalog, attributes, position = cut.catalog(), cut.attributes(), cut.position
                header = self._header(mark, at, cut.revisions())
                seen = _Counter(self._progress, memory.rows or None)
                chain, size, rows = write_base(
                    cut, header, catalog, attributes, mark, at, body, seen.add, lock, self._by
                )
                self._guard(memory, rows, cut, catalog)
            self._check_descent(stat)
            intent = Intent(
                mark.serial,
                mark.token,
                position,
                chain.hex(),
                size,
                0,
                rows,
                attributes,
                rewrite=True,
                epoch=mark.epoch,
                key_id=self._key_id(),
            )
            memory = self._intend(memory, intent)

            def send() -> Stat:
                body.seek(0)
                return self._store.rewrite(body, size, onto=stat, mark=mark)

            after = self._sent(send, memory)
        self._acknowledge(memory, intent, after)
        self._files.settled(cut)
        action = "create" if stat is None else "rewrite"
        return _report(action, mark, intent, catalog, size)

    def _check_descent(self, stat: Stat | None) -> None:
        """The database may have been replaced by an older one between the fence and the cut."""
        mark = None if stat is None or self._replacing is not None else stat.mark
        if mark is not None and self._source.descends(mark.origin) is False:
            raise _NeedsRewrite("the database was replaced meanwhile")

    def _header(self, mark: Mark, at: float, revisions: tuple[str, ...]) -> dict[str, Any]:
        return {
            "format": FORMAT_VERSION,
            "lineage": mark.lineage,
            "epoch": mark.epoch,
            "created": at,
            "dialect": self._source.dialect,
            "server": getattr(self._source, "server", ""),
            "written_by": f"bequest {__version__}",
            "revisions": list(revisions),
        }

    def _key_id(self) -> str:
        """Of the key that a rewrite goes under; empty for none."""
        lock = writing_lock(self._store)
        return "" if lock is None else lock.key_id

    # -- before and after the store -------------------------------------------------------

    def _intend(self, memory: Memory, intent: Intent) -> Memory:
        intents = (*memory.intents, intent)[-OPEN_INTENTS:]
        memory = replace(memory, intents=intents, mode=self._mode or memory.mode)
        self._source.remember(memory, durable=True)
        return memory

    def _sent(self, send: Callable[[], Stat], memory: Memory) -> Stat:
        """Send what was intended last; recognise it behind what looks like a conflict."""
        try:
            return send()
        except Conflict:
            stat = self._store.head()
            token = memory.intents[-1].token
            if stat is not None and stat.mark is not None and stat.mark.token == token:
                return stat
            raise
        except Denied:
            self._forget_last(memory)
            raise

    def _forget_last(self, memory: Memory) -> None:
        """A denied publish was not done, and will not be: nothing to recognise later.

        The object is looked at all the same: a store may be denied its last, tidying step only.
        """
        with suppress(BequestError):
            stat = self._store.head()
            token = memory.intents[-1].token
            if stat is None or stat.mark is None or stat.mark.token != token:
                memory = replace(memory, intents=memory.intents[:-1])
                self._source.remember(memory, durable=False)

    def _acknowledge(self, memory: Memory, intent: Intent, stat: Stat) -> Memory:
        now = self._clock.time()
        memory = replace(
            memory,
            epoch=intent.epoch,
            serial=intent.serial,
            token=intent.token,
            store=self._store.name,
            version=stat.version,
            chain=intent.chain,
            position=intent.position,
            base_bytes=intent.base_bytes,
            tail_bytes=intent.tail_bytes,
            rows=intent.rows,
            attributes=intent.attributes,
            key_id=intent.key_id,
            intents=(),
            mode=self._mode or memory.mode,
            state="ok",
            last_success=now,
            last_error="",
            last_rewrite=now if intent.rewrite else memory.last_rewrite,
        )
        self._source.remember(memory, durable=False)
        self._source.trim(intent.position)
        return memory


def state_of(error: BequestError) -> str:
    """The state that a failed publish leaves behind: failing, refused or superseded."""
    if isinstance(error, Superseded):
        return "superseded"
    return "refused" if isinstance(error, Refused) else "failing"


class _Counter:
    """Adds rows up for a progress listener."""

    def __init__(
        self, progress: Callable[[str, int, int | None], None] | None, total: int | None
    ) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress("reading", self._done, self._total)


def _positions(journal: Sequence[Mutation]) -> dict[int, dict[Key, int]]:
    """Where every key of every table is named last."""
    last: dict[int, dict[Key, int]] = {}
    for index, mutation in enumerate(journal):
        if mutation.key:
            last.setdefault(mutation.table, {})[mutation.key] = index
    return last


def _settle(cut: Cut, table: Table, keys: dict[Key, int], journal: list[Mutation]) -> int:
    """Give the last mutation of every key its state at the cut; returns rows gained or lost."""
    state: dict[Key, Row] = {}
    wanted = list(keys)
    for start in range(0, len(wanted), LOOKUP_KEYS):
        for row in cut.lookup(table, wanted[start : start + LOOKUP_KEYS]):
            state[table.key_of(row)] = row
    net = 0
    for key, index in keys.items():
        mutation = journal[index]
        now = state.get(key)
        gone = mutation.operation is Operation.DELETE
        if gone == (now is None):
            journal[index] = replace(mutation, row=now)
        else:
            correction = replace(mutation, operation=Operation.CORRECTION, row=now)
            journal.append(correction)
        if mutation.operation in (Operation.INSERT, Operation.DELETE):
            net += 1 if now is not None else -1
    return net


def _difference(before: Attributes, now: Attributes) -> dict[str, Value]:
    changed: dict[str, Value] = {
        name: value for name, value in now.items() if before.get(name) != value
    }
    changed.update({name: None for name in before if name not in now})
    return changed


def _report(action: str, mark: Mark, intent: Intent, catalog: Catalog, sent: int) -> PublishReport:
    return PublishReport(
        action,
        mark.lineage,
        mark.epoch,
        mark.serial,
        intent.rows,
        len(catalog.tables),
        intent.base_bytes + intent.tail_bytes,
        sent,
        0.0,
        catalog.not_covered,
        told(intent.key_id),
    )
