"""Restore: verify the object, load its state into a target, prove it by digest, adopt.

Nothing is written before the whole object is verified, and nothing is announced before the rows
read back from the target add up to the same sums as the rows folded from the object.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, cast

from .errors import Conflict, Different, Refused, Unreachable
from .model import Mark, Memory, Stat
from .ports import Clock, Cut, Loading, Source, Store, Target
from .report import RestoreReport
from .snapshot.digest import RowSum
from .snapshot.fold import Snapshot, full_name
from .snapshot.frame import SEAL
from .snapshot.writer import FrameWriter, seal_of

Progress = Callable[[str, int, int | None], None]
SPOOL_BYTES: Final = 16 * 1024 * 1024
ADOPT_ATTEMPTS: Final = 5


@contextmanager
def opened(store: Store) -> Generator[Snapshot]:
    """The store's object, downloaded once and verified. Raises `SnapshotError`, `AccessError`."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
        with store.read() as stream:
            shutil.copyfileobj(stream, spool, 1 << 20)
        yield Snapshot.open(cast(BinaryIO, spool))


@dataclass(frozen=True, slots=True)
class Adoption:
    """What adopting needs besides the target: the new database as a source, and tokens."""

    source: Callable[[], Source]
    token: Callable[[], str]


def restore(
    store: Store,
    target: Target,
    clock: Clock,
    *,
    adoption: Adoption | None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RestoreReport:
    """Replay the object into ``target``; with ``adoption``, continue its lineage there.

    Raises `SnapshotError`, `Refused`, `AccessError`; the target is then as it was.
    """
    started = clock.monotonic()
    for attempt in range(ADOPT_ATTEMPTS):
        with opened(store) as snapshot:
            _check_dialect(snapshot, target)
            target.check(force=force)
            if dry_run:
                rows = sum(len(block) for _, block in snapshot.rows())
                report = _report(snapshot, target, rows, adopted=False)
                return replace(report, verified=False, dry_run=True)
            try:
                report = _replay(store, snapshot, target, clock, adoption, force, progress)
            except Conflict:
                if attempt == ADOPT_ATTEMPTS - 1:
                    raise
                continue
            return replace(report, duration_s=clock.monotonic() - started)
    raise AssertionError("the loop above returns or raises")


def _replay(
    store: Store,
    snapshot: Snapshot,
    target: Target,
    clock: Clock,
    adoption: Adoption | None,
    force: bool,
    progress: Progress | None,
) -> RestoreReport:
    memory: Memory | None = None
    with target.replace(force=force) as loading:
        rows = _load(snapshot, loading, progress)
        if adoption is not None:
            # Before the new database exists: whoever published meanwhile makes this fail.
            memory = _adopt(store, snapshot, clock, adoption.token(), rows)
    if adoption is not None and memory is not None:
        _settle_in(adoption.source(), snapshot, memory)
    return _report(snapshot, target, rows, adopted=memory is not None)


def _report(snapshot: Snapshot, target: Target, rows: int, *, adopted: bool) -> RestoreReport:
    mark = snapshot.mark
    return RestoreReport(
        rows=rows,
        tables=len(snapshot.catalog.tables),
        serial=mark.serial,
        epoch=mark.epoch + adopted,
        lineage=mark.lineage,
        verified=True,
        adopted=adopted,
        duration_s=0.0,
        kept=getattr(target, "kept", None),
        not_covered=(*snapshot.catalog.not_covered, *getattr(target, "left_out", ())),
    )


def _check_dialect(snapshot: Snapshot, target: Target) -> None:
    dialect = snapshot.header.get("dialect")
    if dialect != target.dialect:
        raise Refused(
            f"The snapshot comes from {dialect} and {target.name} is {target.dialect}. Nothing was "
            f"changed. This release restores into the same kind of database: give a {dialect} URL."
        )


def _load(snapshot: Snapshot, loading: Loading, progress: Progress | None) -> int:
    loading.create(snapshot.catalog, snapshot.attributes)
    expected = {table.id: RowSum() for table in snapshot.catalog.tables}
    total = 0
    for table, rows in snapshot.rows():
        loading.load(table, rows)
        expected[table.id].add(rows)
        total += len(rows)
        if progress is not None:
            progress("loading", total, None)
    loading.finish()
    checked = 0
    for table in snapshot.catalog.tables:
        found = RowSum()
        for block in loading.scan(table):
            found.add(block)
            checked += len(block)
            if progress is not None:
                progress("verifying", checked, total)
        if found != expected[table.id]:
            raise Different(
                f"Table {full_name(table)!r} does not read back as it was written. The restore was "
                "undone and the target is as it was. Please report this, with `bequest inspect`."
            )
    return total


def _adopt(store: Store, snapshot: Snapshot, clock: Clock, token: str, rows: int) -> Memory:
    """Say in the object that the lineage goes on elsewhere: epoch + 1. Raises `Conflict`."""
    before = snapshot.mark
    mark = Mark(before.lineage, before.epoch + 1, before.serial + 1, token)
    parts: list[bytes] = []
    writer = FrameWriter(mark.serial, snapshot.chain, parts.append)
    writer.frame(SEAL, {"adopted": True}, seal_of(mark, clock.time()))
    data = b"".join(parts)
    stat = store.head()
    if stat is None or stat.mark != before:
        raise _restless(store)
    after = _append(store, data, stat, mark)
    return Memory(
        lineage=mark.lineage,
        epoch=mark.epoch,
        serial=mark.serial,
        token=mark.token,
        store=store.name,
        version=after.version,
        chain=writer.chain.hex(),
        base_bytes=snapshot.base_bytes,
        tail_bytes=snapshot.size_bytes - snapshot.base_bytes + len(data),
        rows=rows,
        attributes=snapshot.attributes,
        state="ok",
        last_success=snapshot.at,
    )


def _append(store: Store, data: bytes, stat: Stat, mark: Mark) -> Stat:
    try:
        return store.append(data, onto=stat, mark=mark)
    except (Conflict, Unreachable) as error:
        after = store.head()
        if after is not None and after.mark == mark:
            return after
        if isinstance(error, Conflict):
            raise _restless(store) from error
        raise


def _restless(store: Store) -> Conflict:
    return Conflict(
        f"The backup at {store.name} changes while it is being restored: the old controller is "
        "still publishing. The target is as it was. Stop the old controller and restore again, or "
        "take a copy with --no-adopt."
    )


def _settle_in(source: Source, snapshot: Snapshot, memory: Memory) -> None:
    """Install capture in the new database and let it remember its inheritance."""
    try:
        source.install()
        with source.cut(Memory()) as cut:
            same = cut.attributes() == snapshot.attributes and _same_tables(cut, snapshot)
            position = cut.position if same else ""
        source.remember(replace(memory, position=position), durable=True)
    finally:
        source.close()


def _same_tables(cut: Cut, snapshot: Snapshot) -> bool:
    """Whether the tail can go on: the same tables under the same numbers."""
    found, stored = (
        {table.id: (table.name, table.columns, table.key) for table in catalog.tables}
        for catalog in (cut.catalog(), snapshot.catalog)
    )
    return found == stored
