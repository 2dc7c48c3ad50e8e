"""Who published the object last, and how long ago: what an adoption may take it away from.

Invariant: in doubt the owner is alive. The age goes by the store's own clock where that can be
asked, else by the time in the object; a time that is still to come is no age at all, and so young.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .check import Check, failed, passed, warned
from .errors import OwnerAlive
from .model import Author, Stat
from .plan import Plan
from .report import iso
from .snapshot.fold import Snapshot

ALIVE_WITHIN_SECONDS: Final = 600.0
"""Whoever has published since is taken for alive, unless another limit is given."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The last publish. ``at`` is in seconds since the epoch, ``age_seconds`` below 0 in future."""

    by: Author | None
    serial: int
    at: float
    age_seconds: float

    def __str__(self) -> str:
        age = self.age_seconds
        since = f"{age:,.0f} s ago" if age >= 0 else f"{-age:,.0f} s in the future, by the clocks"
        return f"{named(self.by)} published serial {self.serial} at {iso(self.at)}, {since}"


def named(by: Author | None) -> str:
    """An author as a message shows it: nothing that it is called can steer a terminal."""
    if by is None:
        return "a process that does not say which"
    return f"host {by.host!r}, process {by.process}" + (f" ({by.name!r})" if by.name else "")


def owner_of(snapshot: Snapshot, stat: Stat | None, now: float) -> Owner:
    """Who published the object that ``stat`` is of; ``now`` in seconds since the epoch."""
    last = snapshot.history[-1]
    age = None if stat is None else stat.age_seconds
    return Owner(last.by, last.mark.serial, last.at, now - last.at if age is None else age)


def check_owner(owner: Owner, plan: Plan) -> Check:
    """What the last publish means for this restore."""
    adoption = plan.adoption
    # A limit of 0 asks nothing, whatever the clocks say.
    limit = 0.0 if adoption is None else adoption.alive_within_seconds
    if adoption is None or limit <= max(0.0, owner.age_seconds):
        return passed("owner", str(owner))
    if adoption.even_alive:
        return warned("owner", f"{owner}: it seems alive, and loses the object by this")
    return failed("owner", _alive(owner, limit))


def _alive(owner: Owner, within_seconds: float) -> OwnerAlive:
    return OwnerAlive(
        f"The controller that owns this backup seems to be alive: {owner}. Nothing was changed. A "
        "plain restore takes the backup over, and that controller could not publish any more. For "
        "a look or an exercise take a copy with --copy, which leaves it alone. To replace the "
        "controller, stop it, and restore when its last publish is older than "
        f"{within_seconds:g} s (--alive-within), or at once with --adopt."
    )
