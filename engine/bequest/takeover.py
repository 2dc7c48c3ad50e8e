"""An operator decides that a database is the backup from now on: adopting, and replacing by name.

These are the only two ways past the fence. Both are commands, given once, and neither loses a
history: an object that is not an ancestor of the database is copied beside itself, in the store,
before the first byte is written over it. Who the database is (its epoch, and for a copy its
installation) is written down before the publish, so a crash in between is finished by the next
publish, or refused by the fence, and never leaves two owners of one epoch.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from .compactor import Limits
from .errors import BequestError, Refused, SnapshotError, UsageError
from .fence import is_ancestor, judge, ours, replacement_of
from .keeping import keep
from .model import Mark, Memory, Stat
from .ports import Source, Store
from .publisher import Publisher
from .report import AdoptReport, PublishReport
from .verify import inspect

_NAMED: Final = re.compile(r"(?P<lineage>[0-9a-fA-F-]{36})/(?P<serial>[0-9]{1,19})")


def adopt(source: Source, store: Store, publisher: Publisher, limits: Limits) -> AdoptReport:
    """Let ``source`` be the owner of its lineage at ``store``, under the next epoch.

    For a database that was copied or moved, a superseded controller whose successor was a mistake,
    and one that was rolled back. The object of another history of the same lineage is kept beside
    the new one. Changes nothing where the database is the owner already, but publishes. Raises
    `Refused` for an object of another lineage, `AccessError`.
    """
    with source.exclusive(limits.lock_seconds):
        memory = _installed(source)
        stat = store.head()
        owner = _owns(memory, stat, store, source)
        mark = None if stat is None or owner else ours(memory, stat, store.name)
        kept = None
        if stat and mark and not is_ancestor(memory, mark, source.descends):
            kept = _keep(store, stat, mark)
        if not owner:
            source.remember(_taken(memory, mark, publisher.token()), durable=True)
    if owner:
        return _adopted(memory, publisher.publish(check=True, exact=True), adopted=False)
    report = _published(source, store, publisher, mark)
    return replace(_adopted(memory, report, adopted=True), kept=kept)


def replace_named(
    source: Source,
    store: Store,
    publisher: Publisher,
    limits: Limits,
    named: str,
) -> PublishReport:
    """Replace the object that ``named`` (LINEAGE/SERIAL) names by the state of ``source``.

    A copy of it is kept in the store. Raises `UsageError` for a malformed name, `Refused` when the
    object at ``store`` is another one, or cannot be kept, and `AccessError`.
    """
    lineage, serial = parse_named(named)
    with source.exclusive(limits.lock_seconds):
        memory = _installed(source)
        stat = store.head()
        mark = None if stat is None else stat.mark
        if stat is None or mark is None or (mark.lineage, mark.serial) != (lineage, serial):
            raise _another(store, named, mark)
        replaced = _facts(store, mark)
        kept = _keep(store, stat, mark)
        if mark.lineage == memory.lineage and not _owns(memory, stat, store, source):
            source.remember(_taken(memory, mark, publisher.token()), durable=True)
        elif memory.copied:
            source.remember(_taken(memory, None, publisher.token()), durable=True)
    report = publisher.publish(rewrite=True, check=True, exact=True, replacing=mark)
    return replace(report, replaced=replaced, kept=kept)


def parse_named(named: str) -> tuple[str, int]:
    """Lineage and serial of ``LINEAGE/SERIAL``. Raises `UsageError`."""
    found = _NAMED.fullmatch(named)
    if found is None:
        raise UsageError(
            f"{named!r} names no object. Nothing was done. Give LINEAGE/SERIAL as the refusal, or "
            "`bequest inspect`, shows them, such as 2f6c2b1e-8f5d-4c3a-9d0e-5b7a6c1d2e3f/42."
        )
    return found["lineage"].lower(), int(found["serial"])


def _installed(source: Source) -> Memory:
    memory = source.recall()
    if not memory.lineage:
        raise Refused(
            f"{source.name} has never been backed up, so it is no history that could go on. "
            "Nothing was changed. Run `bequest backup` to begin one."
        )
    return memory


def _owns(memory: Memory, stat: Stat | None, store: Store, source: Source) -> bool:
    """Whether an ordinary publish would do."""
    if memory.state == "superseded":
        return False
    try:
        judge(memory, stat, store.name, source.descends)
    except Refused:
        return False
    return True


def _taken(memory: Memory, mark: Mark | None, installation: str) -> Memory:
    """Who the database is from now on, which nobody else has ever been."""
    epoch = memory.epoch if mark is None else max(memory.epoch, mark.epoch)
    return replace(
        memory,
        installation=installation,
        epoch=epoch + 1,
        position="",
        intents=(),
        state="",
        last_error="",
        copied="",
    )


def _published(
    source: Source, store: Store, publisher: Publisher, mark: Mark | None
) -> PublishReport:
    try:
        return publisher.publish(rewrite=True, check=True, exact=True, replacing=mark)
    except Refused:
        # A sidecar that is alive may have published first, now that it is allowed to.
        memory = source.recall()
        if not _owns(memory, store.head(), store, source):
            raise
        return publisher.publish(check=True, exact=True)


def _facts(store: Store, mark: Mark) -> dict[str, Any]:
    """What is about to be replaced. A damaged object, or one without its key, may be as well."""
    rows, at = None, None
    with suppress(SnapshotError):
        found = inspect(store)
        at, rows = found.at, None if found.locked else found.rows
    return {
        "lineage": mark.lineage,
        "epoch": mark.epoch,
        "serial": mark.serial,
        "rows": rows,
        "at": at,
    }


def _keep(store: Store, stat: Stat, mark: Mark) -> str:
    return keep(store, stat, f"replaced-{mark.lineage[:8]}-{mark.epoch}.{mark.serial}")


def _another(store: Store, named: str, mark: Mark | None) -> BequestError:
    there = "no Bequest snapshot" if mark is None else replacement_of(mark)
    return Refused(
        f"The object at {store.name} is {there}, not {named}. It was left as it is and nothing was "
        "backed up. Look at it with `bequest inspect` before you replace it."
    )


def _adopted(before: Memory, report: PublishReport, *, adopted: bool) -> AdoptReport:
    return AdoptReport(
        adopted=adopted,
        lineage=report.lineage,
        epoch=report.epoch,
        epoch_before=before.epoch,
        serial=report.serial,
        rows=report.rows,
        tables=report.tables,
        duration_s=report.duration_s,
    )
