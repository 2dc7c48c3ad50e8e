"""Bequest: controller high availability without a standby.

    with bequest.Backup(engine, "s3://acme-ha/controller.bequest"):
        ...                                          # the controller works

    bequest.restore("s3://acme-ha/controller.bequest", "sqlite:///new.db")

Importing this loads no driver and no cloud SDK; they come with the address that needs them.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from . import registry, versions
from .backup import Backup, ask, open_recorder, read_status, selection_of, with_files
from .compactor import Limits
from .difference import DatabaseSide, ObjectSide, compare
from .drill import drill as _drill
from .drill import note as _note
from .errors import (
    AccessError,
    BequestError,
    Conflict,
    Denied,
    Different,
    Refused,
    SnapshotDamaged,
    SnapshotError,
    SnapshotMissing,
    Superseded,
    Throttled,
    Unreachable,
    UsageError,
)
from .files import (
    after_restore,
    check_files,
    destination,
    list_or_place,
    with_files_checked,
)
from .follow import Follower, followed_status
from .follow import follow as _follow
from .follow import promote as _promote
from .model import Memory
from .moment import Moment, checked, parse_moment
from .opening import opened as _opened
from .plan import Adoption, Plan
from .publisher import Publisher
from .replay import preflight as _preflight
from .replay import restore as _restore
from .report import (
    DiffReport,
    DrillReport,
    FilesReport,
    FollowReport,
    HistoryEntry,
    InspectReport,
    LogEntry,
    PreflightReport,
    PromoteReport,
    PublishReport,
    RestoreReport,
    RowChange,
    Status,
    VerifyReport,
    iso,
)
from .verify import inspect as _inspect
from .verify import log as _log
from .verify import unpublished as _unpublished
from .verify import verify as _verify

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .model import Version
    from .ports import Following, Source, Store

__all__ = [
    "AccessError",
    "Backup",
    "BequestError",
    "Conflict",
    "Denied",
    "DiffReport",
    "Different",
    "DrillReport",
    "FilesReport",
    "FollowReport",
    "HistoryEntry",
    "InspectReport",
    "Limits",
    "LogEntry",
    "PreflightReport",
    "PromoteReport",
    "PublishReport",
    "Refused",
    "RestoreReport",
    "RowChange",
    "SnapshotDamaged",
    "SnapshotError",
    "SnapshotMissing",
    "Status",
    "Superseded",
    "Throttled",
    "Unreachable",
    "UsageError",
    "VerifyReport",
    "__version__",
    "backup",
    "diff",
    "drill",
    "files",
    "follow",
    "history",
    "inspect",
    "install",
    "log",
    "migration",
    "preflight",
    "promote",
    "restore",
    "status",
    "uninstall",
    "verify",
]

Progress = Callable[[str, int, int | None], None]
IF_EMPTY_WAIT_SECONDS = 3600.0
"""How long `restore` with ``if_empty`` waits for another one into the same database."""
_RESTORE_FACTS = frozenset(item.name for item in fields(RestoreReport))


def backup(
    database: Any,
    store: str | Store,
    *,
    include: tuple[str, ...] | None = None,
    exclude: tuple[str, ...] | None = None,
    overwrite: bool = False,
    rewrite: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    files: Sequence[str | os.PathLike[str]] = (),
    files_ignore: Sequence[str] | None = None,
    files_limit: int | None = None,
) -> PublishReport:
    """Publish once, now.

    Without ``include`` and ``exclude`` the tables chosen at the last time are kept. ``files`` and
    its companions are as for `Backup`. Raises
    `Refused` when the object is not this database's to overwrite (``overwrite`` does so anyway).
    """
    with closing(registry.open_store(store)) as opened, closing(_source(database)) as source:
        recorder = open_recorder(
            database, source, opened, files,
            ignore=files_ignore, limit_bytes=files_limit, overwrite=overwrite,
        )  # fmt: skip
        if recorder is not None:
            source.installed()  # a database that is not there must not be made by a table
            recorder.prepare()
        source.install(selection_of(include, exclude))
        if recorder is not None:
            recorder.reconcile()
        publisher = Publisher(
            source,
            opened,
            registry.system_clock(),
            limits=limits,
            overwrite=overwrite,
            progress=progress,
        )
        report = publisher.publish(rewrite=rewrite, check=True, exact=True)
        uncovered = () if recorder is None else recorder.uncovered
        return replace(report, not_covered=(*report.not_covered, *uncovered))


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
    if_empty: bool = False,
    if_exists: bool = False,
    version: str | None = None,
    alembic: Any = None,
    progress: Progress | None = None,
    files_to: str | os.PathLike[str] | None = None,
    files_in_place: bool = False,
) -> RestoreReport:
    """Replay the object into ``database``: exactly its state, or no change at all.

    With ``adopt`` (the default) the new database continues the lineage (epoch + 1), and the old
    controller is fenced at its next publish. ``at`` is a serial or a time with its zone: the state
    then, as far back as the object's tail goes. ``version`` is one that `history` lists; of an
    earlier one only a copy can be made. ``tables`` and ``exclude`` are globs: a part of the tables,
    with all that those refer to; such a copy cannot adopt. ``if_empty`` and ``if_exists`` do
    nothing when the database holds data already, or when there is no object. Recorded files are
    written below ``files_to``, or with ``files_in_place`` to where they were, after the database is
    complete; otherwise they are in the database only. ``alembic`` is the
    controller's Alembic `Config` or the path of its ``alembic.ini``: its migrations then make the
    schema of the recorded revision, and lead it and the rows to the head.

    Raises `SnapshotError`, `Refused`, `AccessError`, `UsageError`: all that is in the way at once.
    """
    plan = _plan(database, at, tables, exclude, force, adopt, if_empty, if_exists, alembic)
    clock = registry.system_clock()
    wanted = destination(files_to, files_in_place)
    adopts = plan.adoption is not None and not dry_run
    with _version_of(store, version, to_adopt=adopts) as opened:
        if wanted is not None:
            check_files(opened, wanted, force=force)
        with closing(registry.open_target(database)) as target:
            if not dry_run:
                report = _restore(opened, target, clock, plan, progress=progress)
                return after_restore(report, database, wanted, force=force)
            found = _preflight(opened, target, clock, plan)
    if found.fault is not None:
        raise found.fault
    shared = {name: found[name] for name in found.keys() if name in _RESTORE_FACTS}  # noqa: SIM118
    return RestoreReport(**shared)


def preflight(
    store: str | Store,
    database: Any,
    *,
    at: Moment | str | None = None,
    tables: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    force: bool = False,
    adopt: bool | None = None,
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
    plan = _plan(database, at, tables, exclude, force, adopt, if_empty, if_exists, alembic)
    with _version_of(store, version) as opened:
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
    adoption = Adoption(lambda: _source(database), lambda: uuid.uuid4().hex)
    return Plan(
        at=parse_moment(at) if isinstance(at, str) else None if at is None else checked(at),
        tables=part,
        cross=registry.crossing(),
        migrations=None if alembic is None else registry.alembic_migrations(alembic),
        adoption=adoption if part is None and adopt is not False else None,
        force=force,
        if_empty=if_empty,
        if_exists=if_exists,
        wait_seconds=IF_EMPTY_WAIT_SECONDS if if_empty else 0.0,
    )


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
        with closing(_source(database)) as source, source.cut(Memory()) as cut:
            before = DatabaseSide(source.name, source.dialect, cut)
            return compare(before, side, selection, on_change)


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
    with closing(_source(database)) as source:
        return replace(report, recorded=_note(source, report))


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

    The first time the database must be empty or absent; it is loaded whole. Afterwards what is new
    is applied, one publish in one transaction. The database refuses other writers until it is
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
        address = store if isinstance(store, str) else ""
        follower = Follower(opened, following, registry.system_clock(), listener, address=address)
        return follower.step() if once else _follow(follower, listener, poll, ended.wait)


def promote(
    database: Any,
    store: str | Store | None = None,
    *,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
) -> PromoteReport:
    """Let a followed database take its lineage over: it publishes from now on (epoch + 1).

    ``store`` is the object that it follows, if its address is another one here. What was published
    last is applied first. Raises `Refused`, `SnapshotError`, `AccessError`.
    """
    with closing(registry.open_following(database)) as following:
        address = store or _followed_address(following)
        with closing(registry.open_store(address)) as opened:
            return _promote(
                opened,
                following,
                lambda: _source(database),
                registry.system_clock(),
                lambda: uuid.uuid4().hex,
                on_event or _unheard,
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


def verify(
    store: str | Store,
    database: Any = None,
    *,
    version: str | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check that the object is whole; with ``database`` also that it equals the object.

    ``version`` is one that `history` lists.
    """
    with _version_of(store, version) as opened:
        if database is None:
            return _verify(opened, None, progress)
        with closing(_source(database)) as source:
            return _verify(opened, source, progress, registry.pair)


def inspect(store: str | Store, *, version: str | None = None) -> InspectReport:
    """What the object holds, or held as the ``version`` that `history` lists."""
    with _version_of(store, version) as opened:
        return _inspect(opened)


def history(store: str | Store, *, limit: int = versions.LIMIT) -> list[HistoryEntry]:
    """The states of the object that the store keeps, newest first, the present one among them.

    Raises `UsageError` for a store that cannot tell.
    """
    with closing(registry.open_store(store)) as opened:
        return [_entry(found) for found in versions.history(opened, limit)]


def log(store: str | Store | None = None, *, database: Any = None) -> Iterator[LogEntry]:
    """The mutations of the object's tail, oldest first.

    With ``database`` in place of an object: those in its journal that are not published, such as a
    superseded controller keeps them, each with its row as it is now. Raises `Different` after the
    last one if the journal may lack some.
    """
    if (store is None) == (database is None):
        raise UsageError("Give an object or a database, whose mutations are to be listed.")
    if store is None:
        with closing(_source(database)) as source:
            yield from _unpublished(source)
        return
    with closing(registry.open_store(store)) as opened:
        yield from _log(opened)


def status(database: Any, store: str | Store | None = None) -> Status:
    """How a controller's backup stands, from its database alone; nothing is written.

    A database that follows an object has the state ``following``.

    With ``store`` the object is asked too, whether it is still this database's to write.
    """
    with closing(_source(database)) as source:
        standing = getattr(source, "followed", lambda: None)()
        if standing is not None:
            return followed_status(standing)
        if store is None:
            return with_files(read_status(source, registry.system_clock()), database, source)
        with closing(registry.open_store(store)) as opened:
            error = ask(opened, source.recall())
        found = read_status(source, registry.system_clock(), error)
        return with_files(found, database, source)


def install(
    database: Any, *, include: tuple[str, ...] | None = None, exclude: tuple[str, ...] | None = None
) -> bool:
    """Install or mend capture; True when anything was changed."""
    with closing(_source(database)) as source:
        return source.install(selection_of(include, exclude))


def migration(connection: Connection) -> AbstractContextManager[None]:
    """Lift capture for the controller's own migration, and put it back afterwards.

        with context.begin_transaction(), bequest.migration(connection):   # Alembic's env.py
            context.run_migrations()

    Does nothing where capture is not installed. The next publish is a rewrite.
    """
    return registry.migration(connection)


def uninstall(database: Any) -> None:
    """Remove all that Bequest ever put into the database."""
    with closing(_source(database)) as source:
        source.uninstall()


def _entry(found: Version) -> HistoryEntry:
    mark = found.mark
    return HistoryEntry(
        version=found.id,
        current=found.current,
        serial=None if mark is None else mark.serial,
        epoch=None if mark is None else mark.epoch,
        lineage=None if mark is None else mark.lineage,
        at=iso(found.at),
        bytes=found.size_bytes,
    )


@contextmanager
def _version_of(
    store: str | Store, version: str | None, *, to_adopt: bool = False
) -> Generator[Store]:
    """The store, or the version of its object that is meant."""
    with closing(registry.open_store(store)) as opened:
        if version is None:
            yield opened
            return
        with closing(versions.at(opened, version)) as past:
            if not to_adopt:
                yield past
                return
            versions.check_present(opened, past)
            yield opened


def _source(database: Any) -> Source:
    return registry.open_source(database)
