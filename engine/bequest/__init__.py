"""Bequest: controller high availability without a standby.

    with bequest.Backup(engine, "s3://acme-ha/controller.bequest"):
        ...                                          # the controller works

    bequest.restore("s3://acme-ha/controller.bequest", "sqlite:///new.db")

Importing this loads no driver and no cloud SDK; they come with the address that needs them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from . import registry, versions
from .backup import Backup, ask, read_status, selection_of
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
from .publisher import Publisher
from .replay import Adoption
from .replay import restore as _restore
from .report import (
    HistoryEntry,
    InspectReport,
    LogEntry,
    PublishReport,
    RestoreReport,
    Status,
    VerifyReport,
    iso,
)
from .verify import inspect as _inspect
from .verify import log as _log
from .verify import verify as _verify

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .model import Version
    from .ports import Source, Store

__all__ = [
    "AccessError",
    "Backup",
    "BequestError",
    "Conflict",
    "Denied",
    "Different",
    "HistoryEntry",
    "InspectReport",
    "Limits",
    "LogEntry",
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
    "history",
    "inspect",
    "install",
    "log",
    "migration",
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
) -> PublishReport:
    """Publish once, now.

    Without ``include`` and ``exclude`` the tables chosen at the last time are kept. Raises
    `Refused` when the object is not this database's to overwrite (``overwrite`` does so anyway).
    """
    with closing(registry.open_store(store)) as opened, closing(_source(database)) as source:
        source.install(selection_of(include, exclude))
        publisher = Publisher(
            source,
            opened,
            registry.system_clock(),
            limits=limits,
            overwrite=overwrite,
            progress=progress,
        )
        return publisher.publish(rewrite=rewrite, check=True, exact=True)


def restore(
    store: str | Store,
    database: Any,
    *,
    force: bool = False,
    dry_run: bool = False,
    adopt: bool = True,
    version: str | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Replay the object into ``database``: exactly its state, or no change at all.

    With ``adopt`` the new database continues the lineage (epoch + 1), and the old controller is
    fenced at its next publish. ``version`` is one that `history` lists; of an earlier one only a
    copy can be made. Raises `SnapshotError`, `Refused`, `AccessError`.
    """
    adoption = Adoption(lambda: _source(database), lambda: uuid.uuid4().hex) if adopt else None
    with _version_of(store, version, to_adopt=adopt and not dry_run) as opened:
        with closing(registry.open_target(database)) as target:
            return _restore(
                opened,
                target,
                registry.system_clock(),
                adoption=adoption,
                force=force,
                dry_run=dry_run,
                progress=progress,
            )


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
            return _verify(opened, source, progress)


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


def log(store: str | Store) -> Iterator[LogEntry]:
    """The mutations of the object's tail, oldest first."""
    with closing(registry.open_store(store)) as opened:
        yield from _log(opened)


def status(database: Any, store: str | Store | None = None) -> Status:
    """How a controller's backup stands, from its database alone; nothing is written.

    With ``store`` the object is asked too, whether it is still this database's to write.
    """
    with closing(_source(database)) as source:
        if store is None:
            return read_status(source, registry.system_clock())
        with closing(registry.open_store(store)) as opened:
            error = ask(opened, source.recall())
        return read_status(source, registry.system_clock(), error)


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
