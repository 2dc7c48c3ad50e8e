"""Making the table equal to the folders, and never by mistake the folders' loss into a record.

Every look is a whole reconciliation: events only say when to look. So nothing is missed while
Bequest is down, nor when the system's queue of events overflows. Three things are not recorded
until somebody confirms them, because they rarely mean what they seem to mean: that a folder which
held files holds none or is not named any more, and, after a restore onto this machine, that its
disk is not what was restored.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .entries import FILE, LINK, ROOT, SKIPPED, Bounds, Entry, Root
from .own import Own
from .scanning import UNREADABLE, Scan, Scanner, content
from .table import Change, FilesTable

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Content in one transaction, which then holds SQLite's write lock for some ten milliseconds."""
NAMED: Final = 5
"""How many paths a message names."""

Listener = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one look did. ``unsettled``: something was being written, so look again soon."""

    recorded: int
    removed: int
    unsettled: bool
    uncovered: tuple[tuple[str, str], ...]
    held: str


@dataclass(slots=True)
class _Plan:
    scan: Scan
    writes: list[tuple[Entry, bool]]
    removals: list[str]
    uncovered: list[tuple[str, str]]
    held: str = ""


class Recorder:
    """Records some folders in one database. `reconcile` may be called from any thread."""

    def __init__(
        self,
        table: FilesTable,
        roots: tuple[Root, ...],
        bounds: Bounds,
        own: Own,
        *,
        accept_files: bool = False,
        listener: Listener = lambda name, facts: None,
    ) -> None:
        self.roots = roots
        self.own = own
        self.bounds = bounds
        self.uncovered: tuple[tuple[str, str], ...] = ()
        self._table = table
        self._scanner = Scanner(bounds, own, time.time_ns)
        self._accepted = accept_files
        self._listener = listener
        self._lock = threading.Lock()
        self._held = ""
        self._here = False

    def prepare(self) -> bool:
        """Make the table. Capture is to be installed after this; True when it was made."""
        return self._table.create()

    def reconcile(self) -> Reconciled:
        """Look at every root and record what differs. Raises `AccessError`."""
        with self._lock:
            return self._reconcile()

    def _reconcile(self) -> Reconciled:
        known = self._table.entries()
        here = self._here or not known or self._table.is_here()
        plans = [self._plan(root, known, here) for root in self.roots]
        left = {} if self._accepted else self._unnamed(known)
        names = {root.name for root in self.roots} | left.keys()
        changes = [Change(name, path, None) for name, path in known if name not in names]
        missed = False
        writing = [plan for plan in plans if not plan.held]
        for plan in writing:
            changes += [Change(plan.scan.root.name, path, None) for path in plan.removals]
        removed = len(changes)
        recorded = 0
        for plan in writing:
            for entry, is_new in plan.writes:
                data = content(plan.scan.root, entry, self.bounds.file_bytes) if is_new else None
                if is_new and data is None:
                    missed = True
                    continue
                changes.append(Change(entry.root, entry.path, entry, data))
                recorded += 1
                if sum(len(change.content or b"") for change in changes) > BATCH_BYTES:
                    self._table.write(changes)
                    changes = []
        if changes:
            self._table.write(changes)
        if not self._here and len(writing) == len(plans):
            if not self._table.is_here():
                self._table.set_here()
            self._here, self._accepted = True, False
        held = {plan.scan.root.name: plan.held for plan in plans if plan.held} | left
        return self._told(plans, held, recorded, removed, missed)

    def _unnamed(self, known: Mapping[tuple[str, str], Entry]) -> dict[str, str]:
        """Why the recorded files of a folder stay that is not to be recorded any more."""
        names = {root.name for root in self.roots}
        counts = Counter(
            name
            for (name, _), entry in known.items()
            if name not in names and entry.kind in (FILE, LINK)
        )
        return {
            name: f"The folder {name!r}, of which {count} files are recorded, is not named any "
            "more. They are kept in the backup as they were. Name it again, or confirm once with "
            "`bequest backup --files ... --accept-files` that it is to go."
            for name, count in sorted(counts.items())
        }

    def _told(
        self,
        plans: list[_Plan],
        reasons: Mapping[str, str],
        recorded: int,
        removed: int,
        missed: bool,
    ) -> Reconciled:
        pairs = [pair for plan in plans for pair in plan.uncovered]
        uncovered = (*pairs, *reasons.items())
        held = " ".join(reasons.values())
        if recorded or removed:
            self._listener("files", {"recorded": recorded, "removed": removed})
        if held and held != self._held:
            self._listener("held", {"error": held})
        if uncovered and uncovered != self.uncovered:
            self._listener("uncovered", {"error": _not_covered(uncovered), "count": len(uncovered)})
        self._held, self.uncovered = held, uncovered
        unsettled = missed or any(plan.scan.unsettled for plan in plans)
        return Reconciled(recorded, removed, unsettled, uncovered, held)

    def _plan(self, root: Root, known: Mapping[tuple[str, str], Entry], here: bool) -> _Plan:
        scan = self._scanner.scan(root)
        before = {path: entry for (name, path), entry in known.items() if name == root.name}
        plan = _Plan(scan, [], [], [])
        if scan.missing:
            why = f"{root.place} {UNREADABLE} ({scan.missing}); what was recorded of it stays"
            plan.uncovered.append((root.name, why))
            return plan
        for path, found in sorted(scan.entries.items()):
            self._compare(plan, found, before.get(path))
        if scan.full:
            why = f"more than {self.bounds.entries} paths; those that come later are not recorded"
            plan.uncovered.append((root.name, why))
        else:
            plan.removals = [path for path in before if path not in scan.entries]
            plan.removals = [path for path in plan.removals if not _below(path, scan.blind)]
        if not self._accepted:
            plan.held = _suspicion(plan, before, here)
        return plan

    def _compare(self, plan: _Plan, found: Entry, before: Entry | None) -> None:
        if found.kind == FILE and found.digest is None:  # it was being written
            return
        reason = found.note or ""
        unreadable = found.kind == SKIPPED and reason.startswith(UNREADABLE)
        if unreadable and before is not None and before.kind == FILE:
            reason += "; its content is as it was last recorded"
            found = replace(before, note=reason)
        if reason and found.kind not in (LINK, ROOT):
            plan.uncovered.append((found.name, reason))
        if found == before:
            return
        is_new = found.kind == FILE and (
            before is None or before.kind != FILE or before.digest != found.digest
        )
        plan.writes.append((found, is_new))


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


def _suspicion(plan: _Plan, before: Mapping[str, Entry], here: bool) -> str:
    """Why the changes should not be recorded unbidden; empty when they may."""
    root = plan.scan.root
    contents = (FILE, LINK)
    had = sum(entry.kind in contents for entry in before.values())
    has = sum(entry.kind in contents for entry in plan.scan.entries.values())
    found = plan.scan.entries
    changed = [path for path in plan.removals if before[path].kind in contents]
    changed += [
        entry.path
        for entry, _ in plan.writes
        if entry.path in before
        and before[entry.path].kind in contents
        and found[entry.path].what != before[entry.path].what
    ]
    if had and not has:
        what = f"The folder {root.place} held {had} files when it was recorded and holds none now."
    elif changed and not here:
        what = (
            f"The files of {root.name!r} came with a restore, and {len(changed)} of them are not "
            f"in {root.place} as they were recorded ({_some(sorted(changed))})."
        )
    else:
        return ""
    return (
        f"{what} What was recorded is kept in the backup, and changes of this folder are not. Put "
        "the recorded files in place with `bequest files`, or confirm what is on the disk once "
        "with `bequest backup --files ... --accept-files`."
    )


def _not_covered(pairs: tuple[tuple[str, str], ...]) -> str:
    listed = _some([f"{name}: {reason}" for name, reason in pairs])
    return f"Not all configuration files are in the backup ({listed}). Everything else is."


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
