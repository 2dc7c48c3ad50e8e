"""The verbs of a controller that lives: publish, look, install. Each opens what it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace as altered
from typing import TYPE_CHECKING, Any

from . import registry, versions
from .arguments import checked
from .backup import ask, open_recorder, read_status, selection_of, with_files
from .compactor import Limits
from .errors import Refused, UsageError
from .follow import followed_status
from .publisher import Publisher
from .report import (
    AdoptReport,
    HistoryEntry,
    InspectReport,
    LogEntry,
    PublishReport,
    Status,
    VerifyReport,
    iso,
)
from .takeover import adopt as _adopt
from .takeover import replace_named
from .verify import inspect as _inspect
from .verify import log as _log
from .verify import unpublished as _unpublished
from .verify import verify as _verify

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .model import Version
    from .ports import Store

Progress = Callable[[str, int, int | None], None]


@checked
def backup(
    database: Any,
    store: str | Store,
    *,
    include: tuple[str, ...] | None = None,
    exclude: tuple[str, ...] | None = None,
    replace: str | None = None,
    rewrite: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    files: Sequence[str | os.PathLike[str]] = (),
    files_ignore: Sequence[str] | None = None,
    files_limit: int | None = None,
    accept_files: bool = False,
) -> PublishReport:
    """Publish once, now.

    Without ``include`` and ``exclude`` the tables chosen at the last time are kept. ``files`` and
    its companions are as for `Backup`; ``accept_files`` confirms changes of them that are held
    back. Raises `Refused` when the object is not an ancestor of this database. ``replace``, as
    LINEAGE/SERIAL, names the one object that may be replaced all the same; a copy of it is kept.
    """
    with (
        closing(registry.open_store(store)) as opened,
        closing(registry.open_source(database)) as source,
    ):
        recorder = open_recorder(
            source, opened, files,
            ignore=files_ignore, limit_bytes=files_limit, accept=accept_files,
        )  # fmt: skip
        source.install(selection_of(include, exclude))
        publisher = Publisher(
            source,
            opened,
            registry.system_clock(),
            limits=limits,
            progress=progress,
            by=registry.this_process(),
            folders=recorder,
        )
        if replace is None:
            report = publisher.publish(rewrite=rewrite, check=True, exact=True)
        else:
            report = replace_named(source, opened, publisher, limits or Limits(), replace)
        uncovered = () if recorder is None else recorder.uncovered
        return altered(report, not_covered=(*report.not_covered, *uncovered))


@checked
def adopt(
    database: Any,
    store: str | Store | None = None,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> AdoptReport:
    """Let this database own its lineage from now on (epoch + 1), and publish it.

    For a database that was copied or moved, one that was rolled back, and a controller that was
    superseded by mistake. ``store`` is by default the object that it published to last. An object
    of another history of the lineage is kept beside the new one. Raises `Refused` for an object of
    another lineage, `UsageError` where no store is known, `AccessError`.
    """
    with closing(registry.open_source(database)) as source:
        if not source.installed():
            raise Refused(
                f"{source.name} has never been backed up, so it is no history that could go on. "
                "Nothing was changed. Run `bequest backup` to begin one."
            )
        source.install()
        address = store or source.recall().store
        if not address:
            raise UsageError(
                f"{source.name} does not remember where it published, so there is no object to "
                "adopt. Nothing was changed. Name the object with --store."
            )
        with closing(registry.open_store(address)) as opened:
            publisher = Publisher(
                source,
                opened,
                registry.system_clock(),
                limits=limits,
                progress=progress,
                by=registry.this_process(),
            )
            return _adopt(source, opened, publisher, limits or Limits())


@checked
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
    with versions.version_of(store, version) as opened:
        if database is None:
            return _verify(opened, None, progress)
        with closing(registry.open_source(database)) as source:
            return _verify(opened, source, progress, registry.pair)


@checked
def inspect(store: str | Store, *, version: str | None = None) -> InspectReport:
    """What the object holds, or held as the ``version`` that `history` lists."""
    with versions.version_of(store, version) as opened:
        return _inspect(opened)


@checked
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
        with closing(registry.open_source(database)) as source:
            yield from _unpublished(source)
        return
    with closing(registry.open_store(store)) as opened:
        yield from _log(opened)


@checked
def status(database: Any, store: str | Store | None = None) -> Status:
    """How a controller's backup stands, from its database alone; nothing is written.

    A database that follows an object has the state ``following``.

    With ``store`` the object is asked too, whether it is still this database's to write.
    """
    with closing(registry.open_source(database)) as source:
        standing = getattr(source, "followed", lambda: None)()
        if standing is not None:
            return followed_status(standing)
        if store is None:
            return with_files(read_status(source, registry.system_clock()), source)
        with closing(registry.open_store(store)) as opened:
            error = ask(opened, source)
        found = read_status(source, registry.system_clock(), error)
        return with_files(found, source)


@checked
def install(
    database: Any, *, include: tuple[str, ...] | None = None, exclude: tuple[str, ...] | None = None
) -> bool:
    """Install or mend capture; True when anything was changed."""
    with closing(registry.open_source(database)) as source:
        return source.install(selection_of(include, exclude))


def migration(connection: Connection) -> AbstractContextManager[None]:
    """Let the controller's own migration pass, and make capture whole again afterwards.

        with context.begin_transaction(), bequest.migration(connection):   # Alembic's env.py
            context.run_migrations()

    Where capture is not installed nothing is done, but that autogenerate never sees Bequest's
    tables. The next publish is a rewrite if the schema changed.
    """
    return registry.migration(connection)


def alembic_filter(own: Callable[..., bool] | None = None) -> Callable[..., bool]:
    """An ``include_name`` or ``include_object`` for Alembic that leaves Bequest's tables out.

        context.configure(..., include_name=bequest.alembic_filter())   # Alembic's env.py

    ``own`` is the controller's filter of the same kind, asked about everything else. With
    `migration`, or with Alembic 1.18 and newer, nobody has to give it.
    """
    return registry.alembic_filter(own)


def uninstall(database: Any) -> None:
    """Remove all that Bequest ever put into the database."""
    with closing(registry.open_source(database)) as source:
        # A publish that is under way would write its memory into what is empty by then.
        with source.exclusive(Limits().lock_seconds):
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
