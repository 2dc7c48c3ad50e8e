"""Configuration files in an object: counted, listed, and written where they are wanted."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from . import registry
from .errors import AccessError, BequestError, Refused, SnapshotError, UsageError
from .opening import opened
from .ports import Store
from .recorded import known_from
from .report import FilesReport, PreflightReport, RestoreReport
from .snapshot.fold import Snapshot


def count_files(snapshot: Snapshot) -> int:
    """How many files and links an object holds."""
    return known_from(snapshot).files


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files are to be written: below ``folder``, or to where they were recorded."""

    folder: str | None


def destination(to: str | os.PathLike[str] | None, in_place: bool) -> Destination | None:
    """The destination that two arguments mean. Raises `UsageError` when both are given."""
    if to is not None and in_place:
        raise UsageError(
            "Files can go to one folder or to their recorded places, not to both. Nothing was "
            "done. Give --files-to or --files-in-place."
        )
    if to is not None:
        return Destination(os.fspath(to))
    return Destination(None) if in_place else None


def check_files(store: Store, wanted: Destination, *, force: bool) -> None:
    """Raise what would keep the object's files from being written. Writes nothing."""
    with opened(store) as snapshot:
        collection: Any = registry.files().from_snapshot(snapshot)
        collection.check(wanted.folder, force=force)


def list_or_place(store: Store, wanted: Destination | None, *, force: bool) -> FilesReport:
    """The object's files; written to ``wanted``, if that is given."""
    with opened(store) as snapshot:
        collection: Any = registry.files().from_snapshot(snapshot)
        found: FilesReport = collection.report()
        if wanted is None:
            return found
        placed: FilesReport = collection.place(wanted.folder, force=force)
        return placed


def with_files_checked(
    report: PreflightReport, store: Store, wanted: Destination, *, force: bool
) -> PreflightReport:
    """``report`` with one more check: whether the recorded files could be written as wanted."""
    if report.skipped is not None or report.fault is not None:
        return report
    try:
        check_files(store, wanted, force=force)
    except BequestError as error:
        check = {"name": "files", "level": "fail", "text": str(error)}
        return replace(report, ok=False, checks=(*report.checks, check), fault=error)
    check = {"name": "files", "level": "ok", "text": "they can be written where they are wanted"}
    return replace(report, checks=(*report.checks, check))


@dataclass(frozen=True, slots=True)
class Placing:
    """The files of a restore: looked at before it, written after it, from the very same object."""

    wanted: Destination | None
    force: bool

    def check(self, snapshot: Snapshot) -> None:
        """Raise what would keep the files from being written. Writes nothing."""
        if self.wanted is not None:
            collection: Any = registry.files().from_snapshot(snapshot)
            collection.check(self.wanted.folder, force=self.force)

    def place(self, snapshot: Snapshot, report: RestoreReport) -> RestoreReport:
        """Write the files, if they are wanted, and say so in ``report``.

        This comes after the database: files are replaced one folder at a time, so until the
        database is complete and adopted they must stay with the old one. An error here leaves a
        complete database.
        """
        collection: Any = registry.files().from_snapshot(snapshot)
        recorded: FilesReport = collection.report()
        uncovered = (*report.not_covered, *recorded.not_covered)
        report = replace(report, files=recorded.files, not_covered=uncovered)
        if self.wanted is None:
            return report
        try:
            placed: FilesReport = collection.place(self.wanted.folder, force=self.force)
        except (AccessError, Refused, SnapshotError) as error:
            raise type(error)(
                f"The database is restored and complete, but its files are not in place. {error}"
            ) from error
        return replace(report, files_in=tuple(placed.places.values()))
