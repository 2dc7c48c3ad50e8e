"""Restore: verify the object, load its state into a target, prove it by digest, adopt.

Nothing is written before the whole object is verified, and nothing is announced before the rows
read back from the target add up to the same digests as the rows folded from the object.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO, Final, cast

from .errors import BequestError, Conflict, Different, Refused
from .model import Mark, Memory, Stat
from .ports import Clock, Loading, Source, Store, Target
from .report import RestoreReport
from .snapshot.digest import DigestBuilder
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


def restore(
    store: Store,
    target: Target,
    clock: Clock,
    *,
    source: Callable[[], Source] | None,
    token: Callable[[], str],
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RestoreReport:
    """Replay the object into ``target``; with ``source``, adopt its lineage there."""
    started = clock.monotonic()
    with opened(store) as snapshot:
        _check_dialect(snapshot, target)
        target.check(force=force)
        rows = 0
        if not dry_run:
            with target.replace(force=force) as loading:
                rows = _load(snapshot, loading, progress)
        adopted = False
        if source is not None and not dry_run:
            adopted = _adopt(store, snapshot, source, clock, token, rows)
        mark = snapshot.mark
        return RestoreReport(
            rows=rows,
            tables=len(snapshot.catalog.tables),
            serial=mark.serial,
            epoch=mark.epoch + adopted,
            lineage=mark.lineage,
            verified=not dry_run,
            adopted=adopted,
            duration_s=clock.monotonic() - started,
            kept=getattr(target, "kept", None),
            dry_run=dry_run,
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
    expected = {table.id: DigestBuilder() for table in snapshot.catalog.tables}
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
        found = DigestBuilder()
        for block in loading.scan(table):
            found.add(block)
            checked += len(block)
            if progress is not None:
                progress("verifying", checked, total)
        if found.result() != expected[table.id].result():
            raise Different(
                f"Table {full_name(table)!r} does not read back as it was written. The restore was "
                "undone and the target is as it was. Please report this, with `bequest inspect`."
            )
    return total


def _adopt(
    store: Store,
    snapshot: Snapshot,
    source: Callable[[], Source],
    clock: Clock,
    token: Callable[[], str],
    rows: int,
) -> bool:
    """Take the lineage over: epoch + 1, in the object first, then in the new database."""
    opened_source = source()
    try:
        opened_source.install()
        memory = _inherited(opened_source, snapshot, store, rows)
        mark = Mark(memory.lineage, memory.epoch, memory.serial + 1, token())
        parts: list[bytes] = []
        writer = FrameWriter(mark.serial, snapshot.chain, parts.append)
        writer.frame(SEAL, {"adopted": True}, seal_of(mark, clock.time()))
        data = b"".join(parts)
        stat = store.head()
        if stat is None or stat.mark != snapshot.mark:
            raise Conflict(
                f"The backup at {store.name} changed while it was being restored: the old "
                "controller is still publishing. The restored database is whole, but older than "
                "the backup. Stop the old controller and restore again with --force."
            )
        after = _append(store, data, stat, mark)
        opened_source.remember(
            replace(
                memory,
                serial=mark.serial,
                token=mark.token,
                version=after.version,
                chain=writer.chain.hex(),
                tail_bytes=memory.tail_bytes + len(data),
                state="ok",
            ),
            durable=True,
        )
    finally:
        opened_source.close()
    return True


def _append(store: Store, data: bytes, stat: Stat, mark: Mark) -> Stat:
    try:
        return store.append(data, onto=stat, mark=mark)
    except BequestError:
        after = store.head()
        if after is not None and after.mark == mark:
            return after
        raise


def _inherited(source: Source, snapshot: Snapshot, store: Store, rows: int) -> Memory:
    with source.cut(Memory()) as cut:
        position, attributes = cut.position, cut.attributes()
    mark = snapshot.mark
    kept: dict[str, Any] = {name: attributes.get(name) for name in attributes}
    same = kept == snapshot.attributes and _same_tables(source, snapshot)
    return Memory(
        lineage=mark.lineage,
        epoch=mark.epoch + 1,
        serial=mark.serial,
        token=mark.token,
        store=store.name,
        position=position if same else "",
        base_bytes=snapshot.base_bytes,
        tail_bytes=snapshot.size_bytes - snapshot.base_bytes,
        rows=rows,
        attributes=snapshot.attributes,
        last_success=snapshot.at,
    )


def _same_tables(source: Source, snapshot: Snapshot) -> bool:
    """Whether the tail can go on: the same tables under the same numbers."""
    with source.cut(Memory()) as cut:
        found = {table.id: (table.name, table.columns, table.key) for table in cut.catalog().tables}
    return found == {
        table.id: (table.name, table.columns, table.key) for table in snapshot.catalog.tables
    }
