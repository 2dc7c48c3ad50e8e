"""Restore: open, preflight, load, verify, adopt, settle in.

Nothing is written before the whole object is verified and everything else was looked at, and
nothing is announced before the rows read back from the target add up to the same sums as the
rows folded from the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Final

from .adopting import Adoption, settle_in
from .collector import seldom_collecting
from .encryption import told
from .errors import AccessError, BequestError, Conflict, Refused
from .model import Memory
from .plan import Plan
from .ports import Clock, Heir, Loading, Migratable, Migrations, Store, Target
from .preflight import Ready, Survey, surveyed, untouched
from .proof import Proof, finishing
from .recorded import Known, known_from
from .report import PreflightReport, RestoreReport, author_facts, iso, nothing_restored
from .snapshot.digest import Sum

Progress = Callable[[str, int, int | None], None]
ADOPT_ATTEMPTS: Final = 5


def restore(
    store: Store,
    target: Target,
    clock: Clock,
    plan: Plan,
    *,
    progress: Progress | None = None,
) -> RestoreReport:
    """Replay the object into ``target`` as ``plan`` says.

    Raises all that the preflight found as one error, `Refused`, `AccessError`; the target is then
    as it was.
    """
    started = clock.monotonic()
    with target.alone(plan.wait_seconds):
        reason = _nothing_to_do(store, target, plan)
        if reason:
            return nothing_restored(reason)
        for attempt in range(ADOPT_ATTEMPTS):
            try:
                report = _once(store, target, clock, plan, progress)
            except Conflict:
                if attempt == ADOPT_ATTEMPTS - 1:
                    raise
            else:
                return replace(report, duration_s=clock.monotonic() - started)
    raise AssertionError("the loop above returns or raises")


def preflight(store: Store, target: Target, clock: Clock, plan: Plan) -> PreflightReport:
    """Look at everything and change nothing. Raises nothing that it can tell of."""
    started = clock.monotonic()
    reason = _nothing_to_do(store, target, plan)
    if reason:
        return PreflightReport(skipped=reason)
    with surveyed(store, target, plan, clock.time()) as survey:
        report = _surveyed(survey)
    return replace(report, duration_s=clock.monotonic() - started)


def _nothing_to_do(store: Store, target: Target, plan: Plan) -> str:
    if plan.if_empty and not target.vacant():
        return f"{target.name} holds data already"
    if plan.if_exists and _is_missing(store):
        return f"there is no object at {store.name} yet"
    return ""


def _is_missing(store: Store) -> bool:
    try:
        return store.head() is None
    except BequestError as error:
        raise untouched(error) from error


def _once(
    store: Store, target: Target, clock: Clock, plan: Plan, progress: Progress | None
) -> RestoreReport:
    with seldom_collecting(), surveyed(store, target, plan, clock.time()) as survey:
        ready = survey.go()
        if plan.files is not None:
            plan.files.check(ready.snapshot)
        return _replay(store, ready, target, clock, plan, progress)


def _replay(
    store: Store,
    ready: Ready,
    target: Target,
    clock: Clock,
    plan: Plan,
    progress: Progress | None,
) -> RestoreReport:
    memory: Memory | None = None
    recorded = Known()
    heir = False
    with target.replace(force=plan.force) as loading:
        rows, sums = _load(ready, loading, plan.migrations, progress)
        if plan.adoption is not None:
            # Before the new database exists: whoever published meanwhile makes this fail.
            recorded = known_from(ready.snapshot)
            total = rows + recorded.rows
            adoption = Adoption(
                store, ready.snapshot, clock, plan.adoption.token, total, plan.adoption.by
            )
            if isinstance(loading, Heir):
                loading.inherit(adoption.intended())
                heir = True
            memory = adoption.send()
    if plan.adoption is not None and memory is not None:
        # Migrations, or another kind of database, made another schema than the recorded one: the
        # next publish is a rewrite.
        same_kind = ready.snapshot.header.get("dialect") == target.dialect
        can_append = plan.migrations is None and same_kind
        # What an heir cannot settle now it settles itself, with its first publish.
        with suppress(AccessError) if heir else nullcontext():
            source = plan.adoption.source()
            loaded = sums if can_append else None
            settle_in(source, ready.snapshot, memory, loaded=loaded, recorded=recorded)
    report = _restored(ready, target, rows, adopted=memory is not None)
    return report if plan.files is None else plan.files.place(ready.snapshot, report)


def _load(
    ready: Ready, loading: Loading, migrations: Migrations | None, progress: Progress | None
) -> tuple[int, Mapping[int, Sum]]:
    crossing = ready.crossing
    if migrations is None:
        loading.create(crossing.catalog, crossing.attributes)
        return _fill(ready, loading, progress)
    if not isinstance(loading, Migratable):
        raise Refused(
            "This database's adapter cannot let migrations make the tables yet. Nothing was "
            "changed. Restore without --alembic: the recorded schema is made then."
        )
    with loading.lend(crossing.attributes) as connection:
        migrations.build(connection, ready.snapshot.revisions())
    loading.occupy(crossing.catalog, crossing.attributes)
    total, sums = _fill(ready, loading, progress)
    if progress is not None:
        progress("upgrading", 0, None)
    with loading.lend(crossing.attributes) as connection:
        migrations.upgrade(connection)
    return total, sums


def _fill(
    ready: Ready, loading: Loading, progress: Progress | None
) -> tuple[int, Mapping[int, Sum]]:
    targets = {table.id: table for table in ready.crossing.catalog.tables}
    proof = Proof(ready, loading)
    total = 0
    for table, rows in ready.snapshot.rows(ready.part.numbers):
        converted = ready.crossing.convert(table, rows)
        loading.load(targets[table.id], converted)
        proof.expect(table, converted)
        total += len(rows)
        if progress is not None:
            progress("loading", total, None)
    checked = 0

    def read(count: int) -> None:
        nonlocal checked
        checked += count
        if progress is not None:
            progress("verifying", checked, total)

    with finishing(loading):
        return total, proof.verified(read)


def _restored(ready: Ready, target: Target, rows: int, *, adopted: bool) -> RestoreReport:
    snapshot = ready.snapshot
    return RestoreReport(
        rows=rows,
        tables=len(ready.part.catalog.tables),
        serial=snapshot.mark.serial,
        epoch=snapshot.newest.epoch + adopted,
        lineage=snapshot.mark.lineage,
        verified=True,
        adopted=adopted,
        duration_s=0.0,
        kept=getattr(target, "kept", None),
        not_covered=(*snapshot.catalog.not_covered, *getattr(target, "left_out", ())),
        at=iso(snapshot.at),
        added=ready.part.added,
        left_out=ready.part.left_out,
        converted=tuple(ready.crossing.losses),
        key_id=told(snapshot.key_id),
    )


def _surveyed(survey: Survey) -> PreflightReport:
    report = PreflightReport(
        ok=survey.fault is None,
        checks=tuple(
            {"name": check.name, "level": check.level, "text": check.text}
            for check in survey.checks
        ),
        fault=survey.fault,
        needed_bytes=survey.needed_bytes,
        estimated_s=survey.estimated_seconds,
    )
    if survey.owner is not None:
        by, at = author_facts(survey.owner.by), iso(survey.owner.at)
        report = replace(report, published_by=by, published_at=at)
    if survey.ready is None:
        return report
    snapshot, part = survey.ready.snapshot, survey.ready.part
    return replace(
        report,
        rows=snapshot.row_count,
        tables=len(part.catalog.tables),
        serial=snapshot.mark.serial,
        epoch=snapshot.newest.epoch,
        lineage=snapshot.mark.lineage,
        at=iso(snapshot.at),
        not_covered=snapshot.catalog.not_covered,
        added=part.added,
        left_out=part.left_out,
        converted=tuple(survey.ready.crossing.losses),
        key_id=told(snapshot.key_id),
    )
