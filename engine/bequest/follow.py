"""Follow: keep a database equal to an object by applying what is published, and promote it.

A follower never writes to the object. It goes on from where it stands by the digest of the last
frame it applied: the next frame names it, or the object was rewritten and is read anew. One publish
is one transaction, together with where it leads; so whenever it is killed, it stands at a cut.

Promotion is an adoption, as a restore makes it, of a database that is already there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, cast

from .adopting import adopt, settle_in
from .encryption import cipher_of
from .errors import AccessError, BequestError, Conflict, Refused, SnapshotMissing
from .model import Author, Catalog, Mark, Memory, Standing, Step, Value
from .opening import opened
from .ports import Clock, Counting, Following, Listener, Source, Store
from .recorded import TABLE as FILES_TABLE
from .recorded import without_attribute, without_table
from .report import FollowReport, PromoteReport, Status, iso
from .snapshot.fold import Snapshot
from .snapshot.reader import Place
from .snapshot.tail import Discontinued, catalog_of, steps

ATTEMPTS: Final = 5
RETRY_SECONDS: Final = 30.0


class Follower:
    """Follows one object into one database. One thread at a time."""

    def __init__(
        self,
        store: Store,
        following: Following,
        clock: Clock,
        listener: Listener = lambda name, facts: None,
        *,
        address: str = "",
    ) -> None:
        """``address`` is remembered for a promotion; the store's name by default."""
        self._store = store
        self._following = following
        self._clock = clock
        self._listener = listener
        self._address = address or store.name
        self._catalog: Catalog | None = None
        self._key_id = ""
        self._older: Mark | None = None

    def catalog(self) -> tuple[Catalog, str]:
        """The object's catalog, and the id of its key. Raises `SnapshotError`, `AccessError`."""
        if self._catalog is None:
            self._catalog, self._key_id = read_catalog(self._store)
        return self._catalog, self._key_id

    def step(self) -> FollowReport:
        """Look once and apply what is new. Raises `SnapshotError`, `AccessError`, `Refused`."""
        started = self._clock.monotonic()
        standing = self._following.standing()
        stat = self._store.head()
        if stat is None:
            raise SnapshotMissing(
                f"There is no object at {self._store.name}. The followed database stays as it is. "
                "Check the address, or that the controller publishes."
            )
        mark = stat.mark
        why = self._following.altered() if standing is not None else ""
        if why:
            self._listener("altered", {"error": _altered(self._following.name, why)})
        if standing is not None and mark is not None:
            self._judge(standing, mark)
        known = standing is not None and mark is not None and mark in (standing.mark, self._older)
        if standing is not None and known and not why:
            return self._report("unchanged", standing, 0, started)
        publishes = 0
        action = "applied"
        try:
            if standing is None or why:
                raise Discontinued(why or "it is the first time")
            for after in self._applied(standing):
                standing, publishes = after, publishes + 1
            if not publishes:
                raise Discontinued("the object was rewritten")
        except Discontinued:
            standing, action = self._reload(standing, bool(why)), "reloaded"
        return self._report(action, standing, publishes, started)

    def _judge(self, standing: Standing, mark: Mark) -> None:
        if mark.lineage != standing.lineage:
            raise Refused(
                f"The object at {self._store.name} is now of another controller (lineage "
                f"{mark.lineage}; {self._following.name} follows {standing.lineage}). The database "
                "stays as it is. Follow the new one into an empty database."
            )
        if mark.epoch > standing.epoch:
            self._listener("adopted", {"epoch": mark.epoch, "serial": mark.serial})
        older = (mark.epoch, mark.serial) < (standing.epoch, standing.serial)
        if older and mark != self._older:
            self._listener(
                "older",
                {
                    "error": f"The object at {self._store.name} is older (serial {mark.serial}) "
                    f"than what {self._following.name} holds (serial {standing.serial}). The "
                    "database stays as it is until the object is newer."
                },
            )
        self._older = mark if older else None

    def _applied(self, standing: Standing) -> Iterator[Standing]:
        """Apply every publish behind ``standing``; yields where each of them leads."""
        catalog, key_id = self.catalog()
        place = Place(standing.end, bytes.fromhex(standing.chain), standing.serial, key_id)
        cipher, counts = cipher_of(self._store), isinstance(self._following, Counting)
        with self._store.read() as stream:
            for step in steps(stream, place, standing.lineage, catalog, cipher, counts=counts):
                after = _after(standing, step)
                self._following.apply(without_table(catalog), _of_tables(step), standing, after)
                standing = after
                yield standing

    def _reload(self, before: Standing | None, altered: bool) -> Standing:
        with opened(self._store) as snapshot:
            mark = snapshot.mark
            if before is not None:
                self._judge(before, mark)
                behind = (mark.epoch, mark.serial) < (before.epoch, before.serial)
                if behind or (mark == before.mark and not altered):
                    return before
            dialect = snapshot.header.get("dialect")
            if dialect != self._following.dialect:
                raise Refused(
                    f"The snapshot comes from {dialect} and {self._following.name} is "
                    f"{self._following.dialect}. Nothing was changed. Follow it into the same kind "
                    f"of database: give a {dialect} URL."
                )
            standing = Standing(
                lineage=mark.lineage,
                epoch=mark.epoch,
                serial=mark.serial,
                token=mark.token,
                at=snapshot.at,
                end=snapshot.size_bytes,
                chain=snapshot.chain.hex(),
                base_bytes=snapshot.base_bytes,
                attributes=snapshot.attributes,
                address=self._address,
            )
            tables = without_table(snapshot.catalog)
            rows = snapshot.rows({table.id for table in tables.tables})
            self._following.reload(tables, rows, standing)
            self._catalog, self._key_id = snapshot.catalog, snapshot.key_id
            return standing

    def _report(
        self, action: str, standing: Standing, publishes: int, started: float
    ) -> FollowReport:
        return FollowReport(
            action=action,
            lineage=standing.lineage,
            epoch=standing.epoch,
            serial=standing.serial,
            at=iso(standing.at),
            publishes=publishes,
            behind_s=round(max(0.0, self._clock.time() - standing.at), 3),
            duration_s=self._clock.monotonic() - started,
            kept=getattr(self._following, "kept", None) if action == "reloaded" else None,
        )


def _after(standing: Standing, step: Step) -> Standing:
    attributes: dict[str, Value] = {**standing.attributes, **step.attributes}
    return replace(
        standing,
        epoch=step.mark.epoch,
        serial=step.mark.serial,
        token=step.mark.token,
        at=step.at,
        end=step.end,
        chain=step.chain,
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


def _of_tables(step: Step) -> Step:
    """``step`` without files, which no database holds."""
    rows = {number: found for number, found in step.rows.items() if number != FILES_TABLE.id}
    return replace(step, rows=rows, attributes=without_attribute(step.attributes))


def _altered(name: str, why: str) -> str:
    return (
        f"Somebody else changed {name}, which follows an object: {why}. It is loaded anew from the "
        "object, and the change is lost. To write to it, promote it first."
    )


def follow(
    follower: Follower,
    listener: Listener,
    poll_seconds: float,
    wait: Callable[[float], bool],
) -> FollowReport | None:
    """Step until ``wait``, which is given seconds, says that it is time to end.

    A store or database that is away is tried again. Returns what the last look found. Raises
    `Refused` and `SnapshotDamaged`.
    """
    failures, report = 0, None
    while True:
        pause = poll_seconds
        try:
            report = follower.step()
        except (AccessError, SnapshotMissing) as error:
            failures += 1
            pause = min(poll_seconds * 2.0 ** min(failures, 10), RETRY_SECONDS)
            listener("failed", {"error": str(error), "retry_seconds": pause})
        else:
            if failures:
                listener("recovered", {})
            failures = 0
            if report.action != "unchanged":
                listener(report.action, dict(report))
        if wait(pause):
            return report


def followed_status(standing: Standing) -> Status:
    """The status of a database that follows an object."""
    return Status(
        state="following",
        mode="",
        lineage=standing.lineage,
        epoch=standing.epoch,
        serial=standing.serial,
        pending_transactions=0,
        pending_mutations=0,
        pending_seconds=0.0,
        last_success=iso(standing.at),
        last_error=None,
        store=standing.address,
    )


@dataclass(slots=True)
class _Place:
    """As much of a `Snapshot` as an adoption asks for, from where a database stands."""

    mark: Mark
    newest: Mark
    at: float
    chain: bytes
    base_bytes: int
    size_bytes: int
    attributes: dict[str, Value]
    catalog: Catalog
    key_id: str
    later: tuple[object, ...] = ()


def promote(
    store: Store,
    following: Following,
    source: Callable[[], Source],
    clock: Clock,
    token: Callable[[], str],
    listener: Listener = lambda name, facts: None,
    by: Author | None = None,
) -> PromoteReport:
    """Take the lineage over in a followed database: the last publish, epoch + 1, capture.

    Its duration does not depend on the database's size. Killed in between, it is done again. Raises
    `Refused` when the database follows nothing, `Conflict` when the old controller publishes on
    faster than this can follow, `AccessError`, `SnapshotError`.
    """
    started = clock.monotonic()
    memory = following.promotion()
    if memory is None:
        if following.standing() is None:
            raise Refused(
                f"{following.name} does not follow any object, so it cannot be promoted. Nothing "
                "was changed. Use `bequest restore` to make a database from an object."
            )
        memory, catalog = _inherit(store, following, clock, token, listener, by)
        following.release(memory)
    else:
        catalog, _ = read_catalog(store)
    place = _Place(
        Mark(memory.lineage, memory.epoch, memory.serial, memory.token),
        Mark(memory.lineage, memory.epoch, memory.serial, memory.token),
        memory.last_success or 0.0,
        bytes.fromhex(memory.chain),
        memory.base_bytes,
        memory.base_bytes + memory.tail_bytes,
        dict(memory.attributes),
        catalog,
        memory.key_id,
    )
    settle_in(source(), cast(Snapshot, place), memory, unwritten=True)
    _count(source())
    following.released()
    return PromoteReport(
        lineage=memory.lineage,
        epoch=memory.epoch,
        serial=memory.serial,
        at=iso(memory.last_success or 0.0),
        duration_s=clock.monotonic() - started,
    )


def read_catalog(store: Store) -> tuple[Catalog, str]:
    """The object's catalog, and the id of its key. Raises `SnapshotError`, `AccessError`."""
    with store.read() as stream:
        return catalog_of(stream, cipher_of(store))


def _count(source: Source) -> None:
    """Let the new memory know how many rows there are, which a follower does not count."""
    with closing(source):
        memory = source.recall()
        with source.cut(memory) as cut:
            rows = sum(cut.count(table) for table in cut.catalog().tables)
        source.remember(replace(memory, rows=rows), durable=True)


def _inherit(
    store: Store,
    following: Following,
    clock: Clock,
    token: Callable[[], str],
    listener: Listener,
    by: Author | None,
) -> tuple[Memory, Catalog]:
    for attempt in range(ATTEMPTS):
        follower = Follower(store, following, clock, listener)
        follower.step()
        standing = following.standing()
        if standing is None:
            raise BequestError(
                f"{following.name} ceased to follow while it was promoted. Nothing was adopted. "
                "Look for another process that promotes it."
            )
        catalog, key_id = follower.catalog()
        place = _Place(
            standing.mark,
            standing.mark,
            standing.at,
            bytes.fromhex(standing.chain),
            standing.base_bytes,
            standing.end,
            dict(standing.attributes),
            catalog,
            key_id,
        )
        try:
            return adopt(store, cast(Snapshot, place), clock, token, 0, by), catalog
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")


__all__ = ["Follower", "follow", "followed_status", "promote"]
