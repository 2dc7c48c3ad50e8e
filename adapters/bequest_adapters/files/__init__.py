"""Configuration files: recorded beside the tables of a cut, and put in place from an object."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bequest.errors import BequestError, UsageError
from bequest.ports import Source, Store
from bequest.recorded import ATTRIBUTE, noted

from .entries import Bounds, Root, roots_of
from .own import own_files
from .placing import Collection, from_snapshot
from .recording import Recorder
from .watching import Watching


def open_recorder(
    source: Source,
    store: Store,
    folders: Sequence[str | os.PathLike[str]],
    *,
    ignore: Sequence[str] | None = None,
    limit_bytes: int | None = None,
    accept: bool = False,
    listener: Callable[[str, dict[str, Any]], None] = lambda name, facts: None,
) -> Recorder:
    """What records ``folders`` (each ``DIR`` or ``NAME=DIR``) with the tables of ``source``.

    ``ignore`` replaces the usual globs of names; ``limit_bytes`` is the largest file; ``accept``
    confirms what would be held back. Touches nothing yet. Raises `UsageError`, also for a folder
    that is not there and never was recorded.
    """
    bounds = Bounds()
    if ignore is not None:
        bounds = replace(bounds, ignore=(*ignore, ".bequest-*"))
    if limit_bytes is not None:
        if limit_bytes < 0:
            raise UsageError("The largest file's size must not be negative. Nothing was done.")
        bounds = replace(bounds, file_bytes=limit_bytes)
    roots = roots_of(folders)
    _refuse_strangers(roots, source)
    return Recorder(roots, bounds, own_files(source, store), accept=accept, listener=listener)


def _refuse_strangers(roots: Sequence[Root], source: Source) -> None:
    """Refuse a misspelt folder now: later its absence is no reason to stop."""
    absent = [root for root in roots if not os.path.lexists(root.place)]
    if not absent:
        return
    try:
        known = _recorded_roots(source)
    except BequestError:  # whoever opens the database next says why
        return
    for root in absent:
        if known is not None and root.name not in known:
            raise UsageError(
                f"There is no folder {root.place}, and none was recorded as {root.name!r}. Nothing "
                "was done. Correct --files, or make the folder first."
            )


def _recorded_roots(source: Source) -> set[str] | None:
    """Names, ``None`` when only the object knows them."""
    if not source.installed():
        return set()
    found = source.recall().attributes.get(ATTRIBUTE)
    known = noted(source)
    if found is None:
        return set()
    return {name for name, _ in known.facts} if known is not None and known.id == found else None


def watch(
    recorder: Recorder,
    lead: Callable[[], bool],
    wake: Callable[[], None],
    listener: Callable[[str, dict[str, Any]], None],
) -> Callable[[], None]:
    """Wake whenever something happens in the recorder's folders; returns what ends it."""
    watching = Watching(recorder, lead, wake, listener)
    watching.start()
    return watching.stop


__all__ = ["Collection", "Recorder", "from_snapshot", "open_recorder", "watch"]
