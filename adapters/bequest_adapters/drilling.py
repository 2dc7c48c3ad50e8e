"""A scheduled drill in a process of its own.

A drill fills and reads a whole database. In the controller's process it would take the interpreter
lock from the controller, and a fork of that process would have to wait for it, or end it (see
`bequest.forking`).
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import Any, Final

from bequest.encryption import cipher_of
from bequest.errors import Unreachable
from bequest.ports import Store
from bequest.report import DrillReport

from .apart import Apart
from .cipher import KeyRing, parsed

NICE: Final = 10


class DrillApart:
    """Drills the object at ``address``, opened as ``store``, in another process."""

    def __init__(self, address: str, store: Store) -> None:
        self._address = address
        self._cipher = cipher_of(store)
        self._apart = Apart()

    def __call__(self) -> DrillReport | None:
        """The report; ``None`` where no such process can be started. Raises `Unreachable`."""
        if self._cipher is not None and not isinstance(self._cipher, KeyRing):
            return None
        lines = [] if self._cipher is None else self._cipher.lines()
        answered = self._apart.ask(__name__, {"store": self._address, "keys": lines})
        if answered is None:
            return None
        printed, code = answered
        if code < 0:
            raise Unreachable(
                "The process that drilled the object was ended before it was done. The object is "
                "as it was, and the backup goes on. The drill is tried again."
            )
        try:
            return DrillReport(**json.loads(printed))
        except (ValueError, TypeError):
            return None

    def kill(self) -> None:
        """End the process, if one runs."""
        self._apart.kill()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Drill, inside the process that `DrillApart` started."""
    from bequest import registry
    from bequest.drill import drill

    os.nice(NICE)
    cipher = parsed("\n".join(request["keys"]), "The request") if request["keys"] else None
    with closing(registry.open_store(request["store"], cipher)) as store:
        clock = registry.system_clock()
        return dict(drill(store, clock, registry.open_target, into=None, keep=None))
