"""Configuration files: recorded as rows of a Bequest table, restored from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import URL

from bequest.errors import BequestError, UsageError
from bequest.ports import Source, Store

from .entries import FILE, LINK, Bounds, Root, roots_of
from .own import own_files
from .placing import Collection, from_database, from_snapshot
from .recording import Recorder
from .table import FilesTable
from .watching import Watching


def open_recorder(
    url: URL,
    source: Source,
    store: Store,
    folders: Sequence[str | os.PathLike[str]],
    *,
    ignore: Sequence[str] | None = None,
    limit_bytes: int | None = None,
    accept_files: bool = False,
    listener: Callable[[str, dict[str, Any]], None] = lambda name, facts: None,
) -> Recorder:
    """What records ``folders`` (each ``DIR`` or ``NAME=DIR``) in the database at ``url``.

    ``ignore`` replaces the usual globs of names; ``limit_bytes`` is the largest file. Touches
    nothing yet. Raises `UsageError`, also for a folder that is not there and never was recorded.
    """
    bounds = Bounds()
    if ignore is not None:
        bounds = replace(bounds, ignore=(*ignore, ".bequest-*"))
    if limit_bytes is not None:
        if limit_bytes < 0:
            raise UsageError("The largest file's size must not be negative. Nothing was done.")
        bounds = replace(bounds, file_bytes=limit_bytes)
    table = FilesTable(url, source.name)
    own = own_files(source, store)
    roots = roots_of(folders)
    _refuse_strangers(roots, table, source)
    return Recorder(table, roots, bounds, own, accept_files=accept_files, listener=listener)


def _refuse_strangers(roots: Sequence[Root], table: FilesTable, source: Source) -> None:
    """Refuse a misspelt folder: later its absence is no reason to stop, now it is told at once."""
    absent = [root for root in roots if not os.path.lexists(root.place)]
    if not absent:
        return
    try:
        known = _recorded_roots(table, source)
    except BequestError:  # whoever opens the database next says why
        return
    for root in absent:
        if root.name not in known:
            raise UsageError(
                f"There is no folder {root.place}, and none was recorded as {root.name!r}. Nothing "
                "was done. Correct --files, or make the folder first."
            )


def _recorded_roots(table: FilesTable, source: Source) -> set[str]:
    # Asked of the source first: looking for the table would make an SQLite file.
    if not source.installed() or not table.exists():
        return set()
    return {name for name, _ in table.entries()}


def recorded(url: URL, name: str) -> int:
    """How many files and links are recorded in the database at ``url``. Raises `AccessError`."""
    table = FilesTable(url, name)
    if not table.exists():
        return 0
    return sum(entry.kind in (FILE, LINK) for entry in table.entries().values())


def watch(
    recorder: Recorder,
    lead: Callable[[], bool],
    wake: Callable[[], None],
    listener: Callable[[str, dict[str, Any]], None],
) -> Callable[[], None]:
    """Record whenever something happens in the recorder's folders; returns what ends it."""
    watching = Watching(recorder, lead, wake, listener)
    watching.start()
    return watching.stop


__all__ = [
    "Collection",
    "Recorder",
    "from_database",
    "from_snapshot",
    "open_recorder",
    "recorded",
    "watch",
]
