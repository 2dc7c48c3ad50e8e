"""What is to be recorded of some folders, and never by mistake the folders' loss.

Every look is a whole comparison: events only say when to look. So nothing is missed while Bequest
is down, nor when the system's queue of events overflows. Three things are not recorded until
an operator confirms them, because they rarely mean what they seem to mean: that a folder which held
files holds none or is not named any more, and, after a restore onto this machine, that its disk is
not what was restored.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from bequest.model import Recording, Row
from bequest.ports import Look

from .entries import FILE, LINK, ROOT, SKIPPED, Bounds, Entry, Root
from .own import Own
from .reading import Reader, Unsettled
from .scanning import UNREADABLE, Scan, Scanner, copied

NAMED: Final = 5
"""How many paths a message names."""

Path = tuple[str, str]
Listener = Callable[[str, dict[str, Any]], None]


class Glance(Enum):
    """What the time stamps show."""

    SAME = "nothing has changed since the last look"
    YOUNG = "something changed so recently that it may change again under the same stamp"
    CHANGED = "a look is due"


@dataclass(slots=True)
class _Plan:
    """What one root's scan asks for. ``kept``: known paths whose recorded state stays."""

    scan: Scan
    writes: list[tuple[Entry, bool]]
    removals: list[str]
    uncovered: list[tuple[str, str]]
    kept: dict[str, Entry] = field(default_factory=dict[str, Entry])
    held: str = ""


class Recorder:
    """`bequest.ports.Folders`. Every method may be called from any thread."""

    def __init__(
        self,
        roots: Sequence[Root],
        bounds: Bounds,
        own: Own,
        *,
        accept: bool = False,
        listener: Listener = lambda name, facts: None,
    ) -> None:
        """``accept``: record, once, what would be held back."""
        self.roots = tuple(roots)
        self.own = own
        self.bounds = bounds
        self.uncovered: tuple[tuple[str, str], ...] = ()
        self._scanner = Scanner(bounds, own, time.time_ns)
        self._accept = accept
        self._listener = listener
        self._lock = threading.RLock()
        self._held = ""
        self._scans: dict[str, Scan] = {}
        self._expected = 1
        self._looked = 0
        self._done = 0

    def request(self) -> dict[str, Any]:
        """What `open_recorder` makes the same of in another process."""
        return {
            "folders": [f"{root.name}={root.place}" for root in self.roots],
            "ignore": list(self.bounds.ignore),
            "limit_bytes": self.bounds.file_bytes,
        }

    @property
    def due(self) -> bool:
        """`Folders.due`."""
        return self._done != self._expected

    def expect(self) -> None:
        """`Folders.expect`."""
        self._expected += 1

    @contextmanager
    def look(self, known: Mapping[Path, Row], here: bool) -> Generator[Look]:
        """`Folders.look`."""
        with self._lock, Reader() as reader:
            self._looked = self._expected
            entries = {path: Entry.of(row) for path, row in known.items()}
            plans = [self._plan(root, entries, here, reader) for root in self.roots]
            self._scans = {plan.scan.root.name: plan.scan for plan in plans}
            left = {} if self._accept else self._unnamed(entries)
            held = {plan.scan.root.name: plan.held for plan in plans if plan.held} | left
            self._tell(plans, held)
            yield Compared(plans, entries, left.keys(), here, reader, self.bounds.file_bytes)

    def done(self, look: Look) -> None:
        """`Folders.done`."""
        if not isinstance(look, Compared):
            return
        self._done = self._looked
        if look.here:
            self._accept = False
        if look.recorded or look.removed:
            self._listener("files", {"recorded": look.recorded, "removed": look.removed})

    def glance(self) -> Glance:
        """Whether a look would find anything, as far as shows without reading a file."""
        with self._lock:
            found = Glance.SAME
            for root in self.roots:
                scan, before = self._scanner.scan(root, None), self._scans.get(root.name)
                if before is None or scan.unread or _differ(scan, before):
                    return Glance.CHANGED
                if scan.unsettled:
                    found = Glance.YOUNG
            return found

    def _unnamed(self, known: Mapping[Path, Entry]) -> dict[str, str]:
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

    def _tell(self, plans: list[_Plan], reasons: Mapping[str, str]) -> None:
        pairs = [pair for plan in plans for pair in plan.uncovered]
        uncovered = (*pairs, *reasons.items())
        held = " ".join(reasons.values())
        if held and held != self._held:
            self._listener("held", {"error": held})
        if uncovered and uncovered != self.uncovered:
            self._listener("uncovered", {"error": _not_covered(uncovered), "count": len(uncovered)})
        self._held, self.uncovered = held, uncovered

    def _plan(self, root: Root, known: Mapping[Path, Entry], here: bool, reader: Reader) -> _Plan:
        scan = self._scanner.scan(root, reader)
        before = {path: entry for (name, path), entry in known.items() if name == root.name}
        plan = _Plan(scan, [], [], [])
        if scan.missing:
            why = f"{root.place} {UNREADABLE} ({scan.missing}); what was recorded of it stays"
            plan.uncovered.append((root.name, why))
            plan.kept = before
            return plan
        for path, found in sorted(scan.entries.items()):
            self._compare(plan, path, found, before.get(path))
        gone = [path for path in before if path not in scan.entries]
        if scan.full:
            why = f"more than {self.bounds.entries} paths; those that come later are not recorded"
            plan.uncovered.append((root.name, why))
        else:
            plan.removals = [path for path in gone if not _below(path, scan.blind)]
        removed = set(plan.removals)
        plan.kept |= {path: before[path] for path in gone if path not in removed}
        if not self._accept:
            plan.held = _suspicion(plan, before, here)
        if plan.held:
            plan.kept, plan.writes, plan.removals = before, [], []
        return plan

    def _compare(self, plan: _Plan, path: str, found: Entry, before: Entry | None) -> None:
        if found.kind == FILE and found.digest is None:  # it was being written
            if before is not None:
                plan.kept[path] = before
            return
        reason = found.note or ""
        unreadable = found.kind == SKIPPED and reason.startswith(UNREADABLE)
        if unreadable and before is not None and before.kind == FILE:
            reason += "; its content is as it was last recorded"
            found = plan.kept[path] = replace(before, note=reason)
        if reason and found.kind not in (LINK, ROOT):
            plan.uncovered.append((found.name, reason))
        if found == before:
            return
        is_new = found.kind == FILE and (
            before is None or before.kind != FILE or before.digest != found.digest
        )
        plan.writes.append((found, is_new))


class Compared:
    """`bequest.ports.Look`."""

    def __init__(
        self,
        plans: Sequence[_Plan],
        known: Mapping[Path, Entry],
        unnamed: Collection[str],
        here: bool,
        reader: Reader,
        limit_bytes: int,
    ) -> None:
        self._plans = plans
        self._reader = reader
        self._limit = limit_bytes
        self.here = here or not any(plan.held or plan.scan.missing for plan in plans)
        names = {plan.scan.root.name for plan in plans}.union(unnamed)
        self._dropped = [path for path in known if path[0] not in names]
        self._unnamed = {path: entry for path, entry in known.items() if path[0] in unnamed}
        self._known = known
        self.recorded = 0
        self.removed = 0

    @property
    def keeps(self) -> bool:
        """`Look.keeps`."""
        kept = (entry for plan in self._plans for entry in plan.kept.values())
        return any(entry.kind == FILE for entry in (*self._unnamed.values(), *kept))

    @property
    def paths(self) -> int:
        """`Look.paths`."""
        return len(self._unnamed) + sum(
            len(plan.kept) + (0 if plan.held else len(plan.scan.entries)) for plan in self._plans
        )

    def is_kept(self, path: Path) -> bool:
        """`Look.is_kept`."""
        root, below = path
        return path in self._unnamed or any(
            below in plan.kept for plan in self._plans if plan.scan.root.name == root
        )

    def changes(self) -> Iterator[Recording]:
        """`Look.changes`."""
        removals = [(plan.scan.root.name, path) for plan in self._plans for path in plan.removals]
        for path in (*self._dropped, *removals):
            self.removed += 1
            yield Recording(path, None, None)
        for plan in self._plans:
            for entry, is_new in plan.writes:
                found = self._recording(plan.scan.root, entry) if is_new else _as_recorded(entry)
                if found is not None:
                    self.recorded += 1
                    yield found

    def everything(self) -> Iterator[Recording]:
        """`Look.everything`."""
        self.removed = len(self._dropped) + sum(len(plan.removals) for plan in self._plans)
        self.recorded = sum(len(plan.writes) for plan in self._plans)
        yield from map(_as_recorded, self._unnamed.values())
        for plan in self._plans:
            yield from map(_as_recorded, plan.kept.values())
            if not plan.held:
                yield from self._fresh(plan)

    def _fresh(self, plan: _Plan) -> Iterator[Recording]:
        root = plan.scan.root
        for path, entry in sorted(plan.scan.entries.items()):
            if path in plan.kept or (entry.kind == FILE and entry.digest is None):
                continue
            found = self._recording(root, entry)
            before = self._known.get((root.name, path))
            if found is None and before is not None:
                found = _as_recorded(before)
            if found is not None:
                yield found

    def _recording(self, root: Root, entry: Entry) -> Recording | None:
        """``entry`` with its content of now; ``None`` while it cannot be had."""
        if entry.kind != FILE:
            return Recording((entry.root, entry.path), entry.row, ())
        try:
            fresh, found = copied(root, entry, self._reader, self._limit)
        except (Unsettled, OSError):
            return None
        return Recording((entry.root, entry.path), fresh.row, found.pieces)


def _as_recorded(entry: Entry) -> Recording:
    content = None if entry.kind == FILE else ()
    return Recording((entry.root, entry.path), entry.row, content)


def _differ(scan: Scan, before: Scan) -> bool:
    return (scan.entries, scan.missing, scan.full) != (before.entries, before.missing, before.full)


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
