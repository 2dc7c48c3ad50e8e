"""Who may write the object: a pure decision from what the database and the object say.

There is no heartbeat. A controller that should not write finds out at its next publish.
"""

from __future__ import annotations

from enum import Enum

from .errors import Refused, Superseded
from .model import Intent, Mark, Memory, Stat


class Verdict(Enum):
    """What may follow."""

    CREATE = "there is no object: make one"
    CONTINUE = "the object is as remembered: append or rewrite"
    REWRITE = "the object is an older one of ours: replace it"
    ACKNOWLEDGE = "the object bears a publish of ours whose answer was lost"


def judge(memory: Memory, stat: Stat | None, store: str) -> tuple[Verdict, Intent | None]:
    """Compare what the database remembers with the object at ``store``.

    Raises `Superseded` when a newer epoch owns the object, `Refused` when it is not this
    database's to overwrite.
    """
    if stat is None:
        if memory.state == "superseded":
            raise Superseded(
                f"This controller is superseded, and the object at {store} is gone. Nothing was "
                "backed up: the controller that inherited it will make it anew. If this one is to "
                "be the controller again, say so once with `bequest backup --overwrite`."
            )
        return Verdict.CREATE, None
    mark = stat.mark
    if mark is None:
        raise Refused(
            f"The object at {store} is not a Bequest snapshot, or it is damaged. It was left as it "
            "is and nothing was backed up. Choose another name, or use --overwrite to replace it."
        )
    if not memory.lineage:
        raise Refused(
            f"There is already a backup at {store} (lineage {mark.lineage}, serial {mark.serial}), "
            "and this database has no part in it. It was left as it is and nothing was backed up. "
            "To inherit its configuration run `bequest restore`; to give it up use --overwrite."
        )
    if mark.lineage != memory.lineage:
        raise Refused(
            f"The backup at {store} is of another controller (lineage {mark.lineage}; this "
            f"database is {memory.lineage}). It was left as it is and nothing was backed up. "
            "Choose another name, or use --overwrite to replace it."
        )
    for intent in memory.intents:
        if (intent.serial, intent.token) == (mark.serial, mark.token):
            return Verdict.ACKNOWLEDGE, intent
    if mark.epoch > memory.epoch:
        raise Superseded(
            f"This controller is superseded: another one has inherited the backup at {store} "
            f"(epoch {mark.epoch}; this database is at epoch {memory.epoch}). Bequest does not "
            "write any more. Shut this controller down; its journal keeps its unpublished changes."
        )
    if mark.epoch < memory.epoch or mark.serial < memory.serial:
        return Verdict.REWRITE, None
    if _same(mark, memory):
        known = stat.version == memory.version and store == memory.store
        return (Verdict.CONTINUE if known else Verdict.REWRITE), None
    raise Refused(
        f"The backup at {store} is ahead of this database (serial {mark.serial}; this database "
        f"remembers {memory.serial}). The database was probably rolled back, or copied while the "
        "original went on. The backup was left as it is and nothing was added. Run `bequest "
        "restore` to take the newer state, or use --overwrite to make this database the backup."
    )


def _same(mark: Mark, memory: Memory) -> bool:
    return (mark.serial, mark.token) == (memory.serial, memory.token)
