"""The verbs by which a database comes from an object, or is compared with one."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from . import registry, separate, versions
from .arguments import checked
from .backup import selection_of
from .difference import DatabaseSide, ObjectSide, compare
from .drill import drill as _drill
from .drill import note as _note
from .encryption import keyed
from .errors import Refused, UsageError
from .files import Placing, check_files, destination, list_or_place, with_files_checked
from .follow import Follower
from .follow import follow as _follow
from .follow import promote as _promote
from .model import Memory
from .moment import Moment, parse_moment
from .moment import checked as _checked_moment
from .opening import opened as _opened
from .owner import ALIVE_WITHIN_SECONDS
from .plan import Adoption, Plan
from .replay import preflight as _preflight
from .replay import restore as _restore
from .report import (
    DiffReport,
    DrillReport,
    FilesReport,
    FollowReport,
    PreflightReport,
    PromoteReport,
    RestoreReport,
    RowChange,
)

if TYPE_CHECKING:
    from .ports import Following, Store

Progress = Callable[[str, int, int | None], None]
IF_EMPTY_WAIT_SECONDS = 3600.0
"""How long `restore` with ``if_empty`` waits for another one into the same database."""
_RESTORE_FACTS = frozenset(item.name for item in fields(RestoreReport))


@checked
def restore(
    store: str | Store,
    database: Any,
    *,
    at: Moment | str | None = None,
    tables: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    force: bool = False,
    dry_run: bool = False,
    adopt: bool | None = None,
    alive_within_seconds: float = ALIVE_WITHIN_SECONDS,
    if_empty: bool = False,
    if_exists: bool = False,
    version: str | None = None,
    alembic: Any = None,
    progress: Progress | None = None,
    files_to: str | os.PathLike[str] | None = None,
    files_in_place: bool = False,
) -> RestoreReport:
    """Replay the object into ``database``: exactly its state, or no change at all.

    The new database continues the lineage (epoch + 1), and the old controller is fenced at its next
    publish. If somebody published within ``alive_within_seconds``, that takes ``adopt=True``, and
    without it `OwnerAlive` is raised; ``adopt=False`` makes a copy, which leaves everybody alone.
    ``at`` is a serial or a time with its zone: the state then, as far back as the object's tail
    goes. ``version`` is one that `history` lists; of an earlier one only a copy can be made.
    ``tables`` and ``exclude`` are globs: a part of the tables, with all that those refer to; such a
    copy cannot adopt. ``if_empty`` and ``if_exists`` do nothing when the database holds data
    already, or when there is no object. Recorded files are written below ``files_to``, or with
    ``files_in_place`` to where they were, after the database is complete; otherwise they stay in
    the object only. ``alembic`` is the controller's Alembic `Config` or the path of its
    ``alembic.ini``: its migrations then make the schema of the recorded revision, and lead it and
    the rows to the head.

    Raises `SnapshotError`, `Refused`, `AccessError`, `UsageError`: all that is in the way at once.
    """
    plan = _plan(
        database, at, tables, exclude, force, adopt, alive_within_seconds, if_empty, if_exists,
        alembic,
    )  # fmt: skip
    clock = registry.system_clock()
    wanted = destination(files_to, files_in_place)
    adopts = plan.adoption is not None and not dry_run
    with versions.version_of(store, version, to_adopt=adopts) as opened:
        with closing(registry.open_target(database)) as target:
            if not dry_run:
                plan = replace(plan, files=Placing(wanted, force))
                return _restore(opened, target, clock, plan, progress=progress)
            if wanted is not None:
                check_files(opened, wanted, force=force)
            found = _preflight(opened, target, clock, plan)
    if found.fault is not None:
        raise found.fault
    shared = {name: found[name] for name in found.keys() if name in _RESTORE_FACTS}  # noqa: SIM118
    return RestoreReport(**shared)


@checked
def preflight(
    store: str | Store,
    database: Any,
    *,
    at: Moment | str | None = None,
    tables: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    force: bool = False,
    adopt: bool | None = None,
    alive_within_seconds: float = ALIVE_WITHIN_SECONDS,
    if_empty: bool = False,
    if_exists: bool = False,
    version: str | None = None,
    files_to: str | os.PathLike[str] | None = None,
    files_in_place: bool = False,
    alembic: Any = None,
) -> PreflightReport:
    """Whether `restore` with the same arguments would work, and all that is in the way.

    Changes nothing, and raises only for what cannot be meant (`UsageError`) or a database or store
    that has no adapter.
    """
    plan = _plan(
        database, at, tables, exclude, force, adopt, alive_within_seconds, if_empty, if_exists,
        alembic,
    )  # fmt: skip
    with versions.version_of(store, version) as opened:
        with closing(registry.open_target(database)) as target:
            report = _preflight(opened, target, registry.system_clock(), plan)
        wanted = destination(files_to, files_in_place)
        return report if wanted is None else with_files_checked(report, opened, wanted, force=force)


def _plan(
    database: Any,
    at: Moment | str | None,
    tables: Sequence[str] | None,
    exclude: Sequence[str] | None,
    force: bool,
    adopt: bool | None,
    alive_within_seconds: float,
    if_empty: bool,
    if_exists: bool,
    alembic: Any,
) -> Plan:
    part = selection_of(tables, exclude)
    if part is not None and adopt:
        raise UsageError(
            "A part of the tables cannot adopt: it would publish the part in the whole's place. "
            "Nothing was done. Restore everything, or leave adopt out."
        )
    if part is not None and alembic is not None:
        raise UsageError(
            "Migrations need all of the tables. Nothing was done. Restore everything with alembic, "
            "or a part without it."
        )
    adoption = Adoption(
        lambda: registry.open_source(database),
        lambda: uuid.uuid4().hex,
        registry.this_process(),
        alive_within_seconds,
        even_alive=adopt is True,
    )
    return Plan(
        at=parse_moment(at) if isinstance(at, str) else None if at is None else _checked_moment(at),
        tables=part,
        cross=registry.crossing(),
        migrations=None if alembic is None else registry.alembic_migrations(alembic),
        adoption=adoption if part is None and adopt is not False else None,
        force=force,
        if_empty=if_empty,
        if_exists=if_exists,
        wait_seconds=IF_EMPTY_WAIT_SECONDS if if_empty else 0.0,
    )


@checked
def diff(
    store: str | Store,
    other: str | Store | None = None,
    *,
    database: Any = None,
    tables: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    on_change: Callable[[RowChange], None] | None = None,
) -> DiffReport:
    """What a restore of the object into ``database`` would change, or what leads to ``other``.

    With a database the database is what was before; with ``other`` the object at ``store`` is.
    ``on_change`` hears of every row as it is found. ``tables`` and ``exclude`` are globs; schema
    and attributes are then not compared. Raises `SnapshotError`, `AccessError`, `Refused`.
    """
    if (other is None) == (database is None):
        raise UsageError("Give one thing to compare with: another object, or a database.")
    selection = selection_of(tables, exclude)
    with closing(registry.open_store(store)) as first, _opened(first) as snapshot:
        side = ObjectSide(first.name, snapshot)
        if other is not None:
            with closing(registry.open_store(other)) as second, _opened(second) as newer:
                return compare(side, ObjectSide(second.name, newer), selection, on_change)
        with closing(registry.open_source(database)) as source, source.cut(Memory()) as cut:
            follows = getattr(source, "followed", lambda: None)() is not None
            before = DatabaseSide(source.name, source.dialect, cut, follows)
            after = replace(side, follows=follows, files=False)
            return compare(before, after, selection, on_change)


@checked
def drill(
    store: str | Store,
    database: Any = None,
    *,
    into: str | None = None,
    keep: str | None = None,
    progress: Progress | None = None,
) -> DrillReport:
    """Restore the stored object into a throw-away database, verify it, and measure.

    ``database`` is the controller's: the result is noted there, for `status`. ``into`` is the URL
    of an empty database to restore into, which stays; without, an SQLite object goes into a file
    that is removed, or left in the folder ``keep``. A failure is in the report (``ok``, ``error``).
    """
    with closing(registry.open_store(store)) as opened:
        report = _drill(
            opened,
            registry.system_clock(),
            registry.open_target,
            into=into,
            keep=keep,
            progress=progress,
        )
    if database is None:
        return report
    with closing(registry.open_source(database)) as source:
        return replace(report, recorded=_note(source, report))


@checked
def follow(
    store: str | Store,
    database: Any,
    *,
    poll: float = 1.0,
    once: bool = False,
    stop: threading.Event | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
) -> FollowReport | None:
    """Keep ``database`` equal to the object, until ``stop`` is set; with ``once`` look once.

    The first time the database must be absent, or none of its tables have a row; it is loaded
    whole, and ``kept`` in the report says where old definitions are. Afterwards what is new is
    applied, one publish in one transaction. The database refuses other writers until it is
    promoted. ``poll`` is in seconds. Returns what the last look found, if any did. Raises `Refused`
    when the object is another controller's, `UsageError`, `SnapshotDamaged`; with ``once`` also
    `SnapshotMissing` and `AccessError`, which otherwise are reported to ``on_event`` and tried
    again.
    """
    listener = on_event or _unheard
    ended = stop or threading.Event()
    with (
        closing(registry.open_store(store)) as opened,
        closing(registry.open_following(database)) as following,
    ):
        address = _lasting(store, opened) if isinstance(store, str) else ""
        follower = Follower(opened, following, registry.system_clock(), listener, address=address)
        return follower.step() if once else _follow(follower, listener, poll, ended.wait)


def _lasting(address: str, store: Store) -> str:
    """``address`` so that it means the same from every working folder."""
    plain, mark, options = address.partition("?")
    scheme = plain.split("://", 1)[0].lower() if "://" in plain else "file"
    return f"{store.name}{mark}{options}" if scheme == "file" else address


@checked
def promote(
    database: Any,
    store: str | Store | None = None,
    *,
    key_file: str | os.PathLike[str] | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
) -> PromoteReport:
    """Let a followed database take its lineage over: it publishes from now on (epoch + 1).

    ``store`` is the object that it follows, if its address is another one here; ``key_file`` holds
    its keys, see `keyed`. What was published
    last is applied first. Raises `Refused`, `SnapshotError`, `AccessError`.
    """
    with closing(registry.open_following(database)) as following:
        address = store or _followed_address(following)
        if store is None:
            separate.check({"database": database, "store": address, "key_file": key_file})
        if isinstance(address, str) and key_file is not None:
            address = keyed(address, key_file=key_file)
        with closing(registry.open_store(address)) as opened:
            return _promote(
                opened,
                following,
                lambda: registry.open_source(database),
                registry.system_clock(),
                lambda: uuid.uuid4().hex,
                on_event or _unheard,
                registry.this_process(),
            )


def _followed_address(following: Following) -> str:
    address = following.address()
    if not address:
        raise Refused(
            f"{following.name} does not follow any object, so it cannot be promoted. Nothing was "
            "changed. Use `bequest restore` to make a database from an object."
        )
    return address


def _unheard(_: str, __: dict[str, Any]) -> None:
    """Nobody listens."""


@checked
def files(
    store: str | Store,
    *,
    files_to: str | os.PathLike[str] | None = None,
    files_in_place: bool = False,
    force: bool = False,
) -> FilesReport:
    """The configuration files in the object; with a destination they are written there.

    ``files_to`` is a folder in which each recorded folder becomes one of its name. A destination
    that is not empty is refused unless ``force``, which keeps what was there. Raises
    `SnapshotError`, `Refused`, `AccessError`.
    """
    wanted = destination(files_to, files_in_place)
    with closing(registry.open_store(store)) as opened:
        return list_or_place(opened, wanted, force=force)
