"""The order in which things are looked at, and what each outcome means.

The first thing that fails for good (no address, no access) ends the examination of that part:
whatever follows would only repeat it.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from bequest import registry
from bequest.errors import BequestError, Conflict, Refused
from bequest.model import PART_OF_VIRTUAL, Memory, Stat
from bequest.ports import Cut, Source, Store
from bequest.testing.objects import sample
from bequest_adapters.stores.findings import (
    Examinable,
    Finding,
    Scratch,
    failure,
    ok,
    warning,
)
from bequest_adapters.stores.retrying import RetryingStore

from .conditions import REFUSED_CONDITIONS, probe

ROUNDS: Final = 5
NO_SUCH: Final = {"s3": '"00000000000000000000000000000000"', "gs": "1"}
"""Versions that never were, in a form that the store reads as one."""
_OTHER_MEANS: Final = "Keep what it holds by other means, or compute it again after a restore."


def examine_store(store: Store) -> Iterator[Finding]:
    """Everything there is to say of a store, in order. Raises nothing: a fault is a finding."""
    inner = store.inner if isinstance(store, RetryingStore) else store
    reached = yield from _reach(inner)
    if not reached:
        return
    if not isinstance(inner, Examinable):
        text = "This kind of store has no place for a probe, so its conditions were not tried."
        yield warning("conditions", text, "Prove it with bequest.testing.store.StoreConformance.")
        return
    suffix = f".doctor-{secrets.token_hex(4)}"
    with _scratch(inner, suffix) as (scratch, removal):
        findings = list(probe(scratch))
        accepted = getattr(inner, "accepts_unconditional", False)
        yield from map(_accepted, findings) if accepted else findings
        yield from _guarded("survey", inner.survey(suffix))
    yield from removal
    enforced = not any(found.check in REFUSED_CONDITIONS and found.kind for found in findings)
    if enforced:
        yield _may_write(inner)


def examine_database(database: Any) -> Iterator[Finding]:
    """Everything there is to say of a database. Writes nothing."""
    try:
        source = registry.open_source(database)
    except BequestError as error:
        yield failure("database", str(error), "", type(error))
        return
    with closing(source):
        yield from _guarded("database", _examined(source))


def _reach(store: Store) -> Generator[Finding, None, bool]:
    try:
        stat = store.head()
        seconds: list[float] = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            store.head()
            seconds.append(time.perf_counter() - began)
    except BequestError as error:
        yield failure("reach", str(error), "", type(error))
        return False
    middle = statistics.median(seconds) * 1000
    yield ok("reach", f"{store.name} answers.")
    yield ok("round trip", f"{middle:.1f} ms for a small request (median of {ROUNDS}).")
    yield _object(stat)
    return True


def _object(stat: Stat | None) -> Finding:
    if stat is None:
        return ok("object", "There is no object yet; the first publish makes it.")
    if stat.mark is None:
        return warning(
            "object",
            "What stands there is no Bequest snapshot, or has lost its metadata.",
            "Choose another name.",
        )
    mark = stat.mark
    return ok("object", f"serial {mark.serial}, epoch {mark.epoch}, lineage {mark.lineage}")


@contextmanager
def _scratch(
    store: Examinable, suffix: str
) -> Generator[tuple[Scratch, list[Finding]], None, None]:
    """A scratch object, removed at the end; the list then tells how that went."""
    scratch, removal = store.scratch(suffix), list[Finding]()
    try:
        yield scratch, removal
    finally:
        try:
            scratch.remove()
            removal.append(ok("scratch", "The scratch object was removed."))
        except BequestError as error:
            text = f"The scratch object {scratch.store.name} is left behind. {error}"
            removal.append(warning("scratch", text, "Delete it; grant deleting of *.doctor-*."))
        finally:
            scratch.store.close()


def _accepted(found: Finding) -> Finding:
    if found.check not in REFUSED_CONDITIONS or found.kind is not Refused:
        return found
    remedy = "You have accepted this by accept_unconditional. Never let two controllers run."
    return warning(found.check, found.text, remedy)


def _may_write(store: Store) -> Finding:
    """Ask for a write that must be refused for its condition, not for lack of a permission."""
    new = sample()
    never = Stat(NO_SUCH.get(store.name.partition(":")[0], '"0x0"'), len(new.data), None)
    try:
        store.rewrite(new.body(), len(new.data), onto=never, mark=new.mark)
    except Conflict:
        return ok("permission", "The object itself may be written.")
    except BequestError as error:
        return failure("permission", str(error), "See --print-policy.", type(error))
    # Only an endpoint that enforces conditions on one object and not on another gets here.
    text = "The endpoint accepted a write to the object itself onto a version that never was."
    return failure("permission", text, "Do not publish there. Restore the object.", Refused)


def _examined(source: Source) -> Iterator[Finding]:
    yield ok("database", f"{source.name} ({source.dialect}) answers.")
    if not source.installed():
        text = "Capture is not installed."
        yield warning("capture", text, "Run `bequest install`, or just the first backup.")
        with source.cut(Memory()) as cut:
            yield from _uncovered(cut)
        return
    memory = source.recall()
    with source.cut(memory) as cut:
        yield from _capture(cut, memory)
    waiting = source.pending(memory)
    yield ok("waiting", f"{waiting.transactions} transactions are not published yet.")


def _capture(cut: Cut, memory: Memory) -> Iterator[Finding]:
    if cut.stale or (cut.fault and memory.serial):
        text = f"Capture has to be mended: {cut.fault or 'the schema changed'}."
        yield warning("capture", text, "The next publish does so, and sends a rewrite.")
    else:
        yield ok("capture", "Capture is installed, and covers the schema.")
    yield from _uncovered(cut)


def _uncovered(cut: Cut) -> Iterator[Finding]:
    for name, reason in cut.catalog().not_covered:
        if reason != PART_OF_VIRTUAL:  # of one that is named itself
            yield warning("not covered", f"{name} ({reason})", _OTHER_MEANS)


def _guarded(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except BequestError as error:
        yield failure(check, str(error), "", type(error))
