"""Who may write the object: a pure decision from what the database and the object say.

Invariant: an object is only replaced by its descendant. Proof is either content, the journal rows
that the object's state came from (`bequest.ports.Source.descends`), or the memory of having
published that very object. Serial numbers prove nothing: a copy of a database counts on as well.

There is no heartbeat. A controller that should not write finds out at its next publish.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from .errors import Refused, Superseded
from .model import Intent, Mark, Memory, Stat

Descends = Callable[[str], bool | None]
"""`bequest.ports.Source.descends`."""


class Verdict(Enum):
    """What may follow."""

    CREATE = "there is no object: make one"
    CONTINUE = "the object is as remembered: append or rewrite"
    REWRITE = "the object is an ancestor of this database: replace it"
    ACKNOWLEDGE = "the object bears a publish of ours whose answer was lost"


def judge(
    memory: Memory, stat: Stat | None, store: str, descends: Descends
) -> tuple[Verdict, Intent | None]:
    """Compare what the database remembers with the object at ``store``.

    Raises `Superseded` when a newer epoch owns the object, `Refused` when it is not proven to be an
    ancestor of this database.
    """
    if memory.copied:
        raise _copied(memory, store)
    if stat is None:
        return _create(memory, store), None
    mark = ours(memory, stat, store)
    for intent in memory.intents:
        # A database that was rolled back behind its intent does not hold what it meant to publish.
        same = (intent.serial, intent.token) == (mark.serial, mark.token)
        if same and descends(mark.origin) is not False:
            return Verdict.ACKNOWLEDGE, intent
    if mark.epoch > memory.epoch:
        raise _superseded(memory, mark, store)
    if not is_ancestor(memory, mark, descends):
        raise _forked(memory, mark, store)
    known = _is_last(memory, mark) and stat.version == memory.version and store == memory.store
    return (Verdict.CONTINUE if known else Verdict.REWRITE), None


def ours(memory: Memory, stat: Stat, store: str) -> Mark:
    """The mark of an object of this database's lineage. Raises `Refused` for any other object."""
    mark = stat.mark
    if mark is None:
        raise Refused(
            f"The object at {store} is not a Bequest snapshot, or it lost its metadata. It was "
            "left as it is and nothing was backed up. Choose another name for the backup."
        )
    if mark.lineage != memory.lineage:
        never = "" if memory.serial else ", and has not published anything yet"
        raise Refused(
            f"The backup at {store} is of another controller (lineage {mark.lineage}, epoch "
            f"{mark.epoch}, serial {mark.serial}); this database is {memory.lineage or 'new'}"
            f"{never}. The backup was left as it is and nothing was backed up. To inherit its "
            f"configuration run `bequest restore`; else choose another name. {_replacing(mark)}"
        )
    return mark


def is_ancestor(memory: Memory, mark: Mark, descends: Descends) -> bool:
    """Whether the history of this database contains the object that bears ``mark``.

    A database that remembers the object as its own last publish need not prove more, unless its
    journal shows the opposite: then it was rolled back behind that publish.
    """
    proven = descends(mark.origin)
    if _is_last(memory, mark) or (mark.token == memory.inherited and mark.token):
        return proven is not False
    return bool(proven)


def _is_last(memory: Memory, mark: Mark) -> bool:
    return bool(mark.token) and (mark.serial, mark.token) == (memory.serial, memory.token)


def _create(memory: Memory, store: str) -> Verdict:
    if memory.state == "superseded":
        raise Superseded(
            f"This controller is superseded, and the object at {store} is gone. Nothing was "
            "backed up: the controller that inherited it will make it again. If this one is to "
            "be the controller again, run `bequest adopt` once."
        )
    return Verdict.CREATE


def _copied(memory: Memory, store: str) -> Refused:
    return Refused(
        f"This database seems to be a copy of the one that published (lineage {memory.lineage}, "
        f"epoch {memory.epoch}): {memory.copied}. Nothing was backed up and {store} was left as it "
        "is, because the original may still be running. If this database was moved, or is to take "
        "over, run `bequest adopt` once; to use it for something else, run `bequest uninstall` "
        "first."
    )


def _superseded(memory: Memory, mark: Mark, store: str) -> Superseded:
    return Superseded(
        f"This controller is superseded: another one has inherited the backup at {store} "
        f"(epoch {mark.epoch}, serial {mark.serial}; this database is at epoch {memory.epoch}). "
        "Nothing was backed up, and the journal keeps the unpublished changes. Shut this "
        "controller down; if that was a mistake, stop the other one and run `bequest adopt` here."
    )


def _forked(memory: Memory, mark: Mark, store: str) -> Refused:
    return Refused(
        f"The backup at {store} (epoch {mark.epoch}, serial {mark.serial}) is not an earlier state "
        f"of this database (epoch {memory.epoch}, last published serial {memory.serial}): the two "
        "histories have forked. The database was probably rolled back, or copied while the "
        "original went on. The backup was left as it is and nothing was added. See what differs "
        "with `bequest diff`; take the backup's state with `bequest restore`; or keep both, with "
        f"this database as the backup, by `bequest adopt`. {_replacing(mark)}"
    )


def replacement_of(mark: Mark) -> str:
    """How an object is named where it is to be replaced."""
    return f"{mark.lineage}/{mark.serial}"


def _replacing(mark: Mark) -> str:
    return (
        "To replace it by this database, with a copy of it kept, run `bequest backup --replace "
        f"{replacement_of(mark)}`."
    )
