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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from . import registry
from .backup import Backup, ask, open_recorder, read_status, selection_of, with_files
from .compactor import Limits
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
from .files import after_restore, check_files, destination, list_or_place
from .follow import Follower, followed_status
from .follow import follow as _follow
from .follow import promote as _promote
from .publisher import Publisher
from .replay import Adoption
from .replay import restore as _restore
from .report import (
    FilesReport,
    FollowReport,
    InspectReport,
    LogEntry,
    PromoteReport,
    PublishReport,
    RestoreReport,
    Status,
    VerifyReport,
)
from .verify import inspect as _inspect
from .verify import log as _log
from .verify import verify as _verify

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .ports import Following, Source, Store

__all__ = [
    "AccessError",
    "Backup",
    "BequestError",
    "Conflict",
    "Denied",
    "Different",
    "FilesReport",
    "FollowReport",
    "InspectReport",
    "Limits",
    "LogEntry",
    "PromoteReport",
    "PublishReport",
    "Refused",
    "RestoreReport",
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
    "files",
    "follow",
    "inspect",
    "install",
    "log",
    "migration",
    "promote",
    "restore",
    "status",
    "uninstall",
    "verify",
]

Progress = Callable[[str, int, int | None], None]


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
    force: bool = False,
    dry_run: bool = False,
    adopt: bool = True,
    progress: Progress | None = None,
    files_to: str | os.PathLike[str] | None = None,
    files_in_place: bool = False,
) -> RestoreReport:
    """Replay the object into ``database``: exactly its state, or no change at all.

    With ``adopt`` the new database continues the lineage (epoch + 1), and the old controller is
    fenced at its next publish. Recorded files are written below ``files_to``, or with
    ``files_in_place`` to where they were, after the database is complete; otherwise they are in the
    database only. Raises `SnapshotError`, `Refused`, `AccessError`.
    """
    wanted = destination(files_to, files_in_place)
    if wanted is not None:
        with closing(registry.open_store(store)) as opened:
            check_files(opened, wanted, force=force)
    adoption = Adoption(lambda: _source(database), lambda: uuid.uuid4().hex) if adopt else None
    with closing(registry.open_store(store)) as opened:
        with closing(registry.open_target(database)) as target:
            report = _restore(
                opened,
                target,
                registry.system_clock(),
                adoption=adoption,
                force=force,
                dry_run=dry_run,
                progress=progress,
            )
    return report if report.dry_run else after_restore(report, database, wanted, force=force)


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
    store: str | Store, database: Any = None, *, progress: Progress | None = None
) -> VerifyReport:
    """Check that the object is whole; with ``database`` also that it equals the object."""
    with closing(registry.open_store(store)) as opened:
        if database is None:
            return _verify(opened, None, progress)
        with closing(_source(database)) as source:
            return _verify(opened, source, progress)


def inspect(store: str | Store) -> InspectReport:
    """What the object holds."""
    with closing(registry.open_store(store)) as opened:
        return _inspect(opened)


def log(store: str | Store) -> Iterator[LogEntry]:
    """The mutations of the object's tail, oldest first."""
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


def _source(database: Any) -> Source:
    return registry.open_source(database)
