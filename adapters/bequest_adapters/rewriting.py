"""A large rewrite in a process of its own, at a lower priority.

A thread that reads a million rows shares the interpreter lock with the controller: its p99 latency
grew from 0.35 to 4.6 ms when measured, and to 0.57 ms beside a process of lower priority. All state
of a publish is in the database, so a process that does the next one needs nothing but the two
addresses and the keys; they go through its standard input, where nobody else sees them. Killing it
is harmless at any moment.
"""

from __future__ import annotations

import json
import os
from dataclasses import astuple, replace
from typing import Any, Final, cast

from bequest import errors
from bequest.compactor import Limits
from bequest.errors import BequestError, Unreachable
from bequest.model import Author
from bequest.ports import Cipher
from bequest.report import PublishReport

from .apart import Apart
from .author import this_process
from .cipher import KeyRing, parsed

NICE: Final = 10


class RewriteApart:
    """Publishes a rewrite of ``database`` to ``store`` in a process of its own."""

    def __init__(
        self,
        database: str,
        store: str,
        mode: str,
        limits: Limits,
        cipher: Cipher | None = None,
        files: dict[str, Any] | None = None,
    ) -> None:
        """``files``: what `bequest_adapters.files.open_recorder` is to be called with."""
        self._request = {
            "database": database,
            "store": store,
            "mode": mode,
            "limits": {name: getattr(limits, name) for name in Limits.__dataclass_fields__},
            "files": files or {"folders": []},
        }
        self._cipher = cipher
        self._apart = Apart()

    def __call__(self) -> PublishReport | None:
        """The report, or ``None`` where no such process can be started.

        Raises what the publish raised there, `Unreachable` when it was killed.
        """
        if self._cipher is not None and not isinstance(self._cipher, KeyRing):
            return None  # somebody else's, which cannot be told to another process
        lines = [] if self._cipher is None else self._cipher.lines()
        request = {**self._request, "keys": lines, "by": astuple(this_process())}
        answered = self._apart.ask(__name__, request)
        return None if answered is None else _understood(*answered)

    def kill(self) -> None:
        """End the process, if one runs: whoever waits for it gets `Unreachable`."""
        self._apart.kill()


def _understood(printed: str, code: int) -> PublishReport | None:
    if code < 0:
        raise _ended()
    try:
        found: dict[str, Any] = json.loads(printed)
        report, name, message = found["report"], found["error"], found["message"]
    except (ValueError, KeyError, TypeError):
        return None
    if report is not None:
        not_covered = tuple((what, why) for what, why in report.pop("not_covered"))
        return PublishReport(**report, not_covered=not_covered)
    kind = cast("type[BequestError]", getattr(errors, name, BequestError))
    raise kind(message)


def _ended() -> Unreachable:
    return Unreachable(
        "The process that rewrote the object was ended before it was done. The object is as it "
        "was, and the journal goes on; the next publish tries again."
    )


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what `RewriteApart` asks, inside the process that it started."""
    from bequest import registry
    from bequest.backup import open_recorder
    from bequest.publisher import Publisher

    os.nice(NICE)
    # The very keys of who asks: the file may hold others by now.
    cipher = parsed("\n".join(request["keys"]), "The request") if request["keys"] else None
    store = registry.open_store(request["store"], cipher)
    source = registry.open_source(request["database"])
    try:
        recorder = open_recorder(source, store, **request["files"])
        publisher = Publisher(
            source,
            store,
            registry.system_clock(),
            limits=Limits(**request["limits"]),
            mode=request["mode"],
            folders=recorder,
            by=Author(*request["by"]),
        )
        report = publisher.publish(rewrite=True, check=True)
    except BequestError as error:
        return {"report": None, "error": type(error).__name__, "message": str(error)}
    finally:
        source.close()
        store.close()
    uncovered = () if recorder is None else recorder.uncovered
    report = replace(report, not_covered=(*report.not_covered, *uncovered))
    return {"report": dict(report), "error": None, "message": None}
