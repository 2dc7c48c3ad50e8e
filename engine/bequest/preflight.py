"""Everything that could keep a restore from working, found in one go before anything is touched.

Each thing is looked at whatever came out of the others, so that an operator mends all of it at
once. A real restore looks first, too, and fails with the very same list.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from .adopting import restless
from .check import Check, asked, failed, fault, passed, warned
from .encryption import cipher_of
from .errors import AccessError, BequestError, KeyMissing, Refused
from .model import Attributes, Catalog, Row, Stat, Table
from .moment import find
from .opening import opened
from .owner import Owner, check_owner, owner_of
from .plan import Plan
from .ports import Crossing, Store, Target
from .report import iso
from .selecting import Part, part_of
from .snapshot.fold import Snapshot
from .spool import passage

ROWS_PER_SECOND: Final = 150_000
"""Loaded, read back and compared: measured on two cores with SQLite, rounded down."""
BYTES_PER_SECOND: Final = 15_000_000
OVERHEAD: Final = 2.0
"""Size of a database, with its indexes, per byte of unpacked rows: an upper guess."""


@dataclass(frozen=True, slots=True)
class Straight:
    """The `Crossing` between two databases of one dialect: everything as it is."""

    catalog: Catalog
    attributes: Attributes
    losses: Sequence[tuple[str, str]] = ()

    def convert(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """`Crossing.convert`."""
        return rows

    def canonical(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """`Crossing.canonical`."""
        return rows


@dataclass(frozen=True, slots=True)
class Ready:
    """What a restore goes on with: the object at the chosen moment, the part, the crossing."""

    snapshot: Snapshot
    part: Part
    crossing: Crossing


@dataclass(frozen=True, slots=True)
class Survey:
    """The preflight's answer. ``ready`` is there whenever nothing failed."""

    checks: tuple[Check, ...]
    ready: Ready | None
    needed_bytes: int = 0
    estimated_seconds: float = 0.0
    owner: Owner | None = None

    @property
    def fault(self) -> BequestError | None:
        """All that is in the way, as one error."""
        return fault(self.checks)

    def go(self) -> Ready:
        """What to go on with. Raises `fault`."""
        error = self.fault
        if error is not None:
            raise error
        if self.ready is None:
            raise AssertionError("nothing failed, yet there is nothing to restore")
        return self.ready


@contextmanager
def surveyed(store: Store, target: Target, plan: Plan, now: float) -> Generator[Survey]:
    """Look at everything; the object stays open while the context lasts. Raises nothing known.

    ``now``: seconds since the epoch.
    """
    with ExitStack() as stack:
        checks: list[Check] = []
        snapshot: Snapshot | None = None
        stat: Stat | None = None
        try:
            stat = store.head()
            checks += [] if stat is None else [passage(stat.size_bytes)]
            if fault(checks) is None:  # else reading it would fill that disk
                snapshot = stack.enter_context(opened(store))
        except BequestError as error:
            name = "key" if isinstance(error, KeyMissing) else "object"
            checks.append(failed(name, untouched(error)))
        owner = None if snapshot is None else owner_of(snapshot, stat, now)
        yield _look(store, snapshot, target, plan, owner, checks)


def untouched(error: BequestError) -> BequestError:
    """A store's fault, with what it means for a restore."""
    if not isinstance(error, AccessError):
        return error
    told = type(error)(f"{error} The target is untouched.")
    told.__cause__ = error
    return told


def _look(
    store: Store,
    snapshot: Snapshot | None,
    target: Target,
    plan: Plan,
    owner: Owner | None,
    checks: list[Check],
) -> Survey:
    ready: Ready | None = None
    needed, seconds = 0, 0.0
    if snapshot is not None:
        checks += _object(snapshot, keys_given=cipher_of(store) is not None)
        ready = _prepare(snapshot, target, plan, checks)
        if plan.migrations is not None:
            chosen = snapshot if ready is None else ready.snapshot
            checks += plan.migrations.checks(chosen.revisions())
        else:
            checks.append(_schema(snapshot))
        needed = int(snapshot.unpacked_bytes * OVERHEAD)
        seconds = snapshot.row_count / ROWS_PER_SECOND + snapshot.unpacked_bytes / BYTES_PER_SECOND
    wanted = None if ready is None else ready.crossing.catalog
    checks += target.problems(force=plan.force, needed_bytes=needed, catalog=wanted)
    if snapshot is not None:
        checks.append(_adoptable(store, snapshot, plan))
    if owner is not None:
        checks.append(check_owner(owner, plan))
    if snapshot is not None:
        checks.append(_duration(snapshot, seconds))
    return Survey(tuple(checks), ready, needed, round(seconds, 3), owner)


def _object(snapshot: Snapshot, *, keys_given: bool) -> list[Check]:
    header, last = snapshot.header, snapshot.history[-1]
    size = f"{snapshot.size_bytes:,} bytes"
    found = [
        passed("object", f"whole: {size}, serial {last.mark.serial} of {iso(last.at)}"),
        passed("format", f"version {header.get('format')}, by {header.get('written_by')}"),
        _key(snapshot.key_id, keys_given),
    ]
    if snapshot.unfinished_bytes:
        text = f"{snapshot.unfinished_bytes} bytes of an unfinished append are ignored"
        found.append(warned("object", text))
    return found


def _key(key_id: str, keys_given: bool) -> Check:
    if key_id:
        return passed("key", f"right: {key_id} opens every frame")
    if keys_given:
        return warned("key", "a key was given, but the object is not encrypted: is it yours?")
    return passed("key", "none needed: the object is not encrypted")


def _prepare(snapshot: Snapshot, target: Target, plan: Plan, checks: list[Check]) -> Ready | None:
    chosen, part, crossing = snapshot, None, None
    try:
        publish = find(snapshot, plan.at)
        chosen = snapshot.as_of(publish)
        if plan.at is not None:
            checks.append(passed("moment", f"serial {publish.mark.serial} of {iso(publish.at)}"))
    except BequestError as error:
        checks.append(failed("moment", error))
        return None
    try:
        part = part_of(chosen.catalog, chosen.attributes, plan.tables)
        checks += _partial(part, plan)
    except BequestError as error:
        checks.append(failed("tables", error))
    try:
        whole = part_of(chosen.catalog, chosen.attributes, None)
        crossing = _cross(chosen, part or whole, target, plan)
        checks += _converted(chosen, crossing, target)
    except BequestError as error:
        checks.append(failed("conversion", error))
    return Ready(chosen, part, crossing) if part is not None and crossing is not None else None


def _partial(part: Part, plan: Plan) -> list[Check]:
    if plan.tables is None:
        return []
    found = [passed("tables", f"{len(part.catalog.tables)} are restored")]
    found += [passed("tables", f"{name} is added: {why}") for name, why in part.added]
    return found + [warned("tables", f"{name} is left out: {why}") for name, why in part.left_out]


def _cross(snapshot: Snapshot, part: Part, target: Target, plan: Plan) -> Crossing:
    dialect = str(snapshot.header.get("dialect"))
    if dialect == target.dialect:
        return Straight(part.catalog, part.attributes)
    if plan.cross is not None and plan.migrations is not None:
        raise Refused(
            f"The snapshot comes from {dialect} and {target.name} is {target.dialect}: the "
            "controller's migrations cannot take its rows there. Nothing was changed. Restore "
            "across without --alembic, then let the controller upgrade."
        )
    if plan.cross is None:
        raise Refused(
            f"The snapshot comes from {dialect} and {target.name} is {target.dialect}. Nothing was "
            f"changed. This release restores into the same kind of database: give a {dialect} URL."
        )
    return plan.cross(
        part.catalog,
        part.attributes,
        dialect,
        target.dialect,
        lambda: snapshot.rows(part.numbers),
    )


def _converted(snapshot: Snapshot, crossing: Crossing, target: Target) -> list[Check]:
    found = [warned("conversion", f"{name}: {why}") for name, why in crossing.losses]
    found += [
        warned("conversion", f"{name} is not in the object: {why}")
        for name, why in snapshot.catalog.not_covered
    ]
    dialect = snapshot.header.get("dialect")
    same = dialect == target.dialect
    text = "none: both are" if same else f"from {dialect} to"
    return [passed("conversion", f"{text} {target.dialect}"), *found]


def _schema(snapshot: Snapshot) -> Check:
    revisions = ", ".join(snapshot.revisions())
    told = f"; the controller's revision is {revisions}" if revisions else ""
    return passed("schema", f"as recorded in the object{told}")


def _adoptable(store: Store, snapshot: Snapshot, plan: Plan) -> Check:
    if plan.adoption is None:
        return passed("adoption", "none: this makes a copy")

    def unchanged() -> None:
        stat = store.head()
        if stat is None or stat.mark is None:
            raise Refused(
                f"The backup at {store.name} bears no mark that says which publish it is, so "
                "nobody can take it over safely: it was copied without its metadata, or removed. "
                "Nothing was changed. Take a copy of it with --copy."
            )
        if stat.mark != snapshot.newest:
            raise restless(store)  # a restore then reads it again
        writable = getattr(store, "check_writable", None)
        if writable is not None:
            writable()

    mark = snapshot.newest
    return asked("adoption", unchanged, f"epoch {mark.epoch + 1} follows epoch {mark.epoch}")


def _duration(snapshot: Snapshot, seconds: float) -> Check:
    return passed(
        "duration",
        f"about {max(1, round(seconds))} s for up to {snapshot.row_count:,} rows, at "
        f"{ROWS_PER_SECOND:,} rows and {BYTES_PER_SECOND // 1_000_000} MB a second",
    )
