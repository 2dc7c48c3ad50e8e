"""A drill: the stored object, restored into a throw-away database, verified and measured.

What is drilled is what a restore would get on the worst day: the object as it is in the store, not
what the controller believes to have put there. The result is noted in the controller's database,
where `status` finds it, also when it is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, BinaryIO, Final, cast

from .encryption import cipher_of
from .errors import BequestError, UsageError
from .model import Mark, Stat
from .plan import Plan
from .ports import Cipher, Clock, Notes, Source, Store, Target
from .replay import Progress, restore
from .report import DrillReport, author_facts, iso
from .snapshot.fold import Snapshot
from .spool import Spool, temporary

NOTE: Final = "last_drill"
FILE_DIALECT: Final = "sqlite"


class Fetched:
    """A `Store` that was read once: a drill looks at it twice and downloads it once."""

    def __init__(self, store: Store, spool: BinaryIO) -> None:
        self._store = store
        self._spool = spool

    @property
    def name(self) -> str:
        """`Store.name`."""
        return self._store.name

    @property
    def cipher(self) -> Cipher | None:
        """`bequest.ports.Keyed.cipher`."""
        return cipher_of(self._store)

    def head(self) -> Stat | None:
        """`Store.head`."""
        return self._store.head()

    @contextmanager
    def read(self) -> Generator[BinaryIO]:
        """`Store.read`."""
        self._spool.seek(0)
        yield self._spool

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        """Never: a drill changes nothing."""
        raise AssertionError("a drill does not write to the store")

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        """Never: a drill changes nothing."""
        raise AssertionError("a drill does not write to the store")

    def close(self) -> None:
        """The store is closed by who opened it."""


def drill(
    store: Store,
    clock: Clock,
    open_target: Callable[[str], Target],
    *,
    into: str | None,
    keep: str | None,
    progress: Progress | None = None,
) -> DrillReport:
    """Restore the object into ``into``, or into a file that is gone afterwards unless ``keep``.

    Raises nothing of `BequestError`: a failure is in the report.
    """
    begun, at = clock.monotonic(), iso(clock.time())
    report = DrillReport(ok=False, at=at, store=store.name)
    try:
        with Spool() as spooled:
            spool = cast(BinaryIO, spooled)
            with store.read() as stream:
                shutil.copyfileobj(stream, spool, 1 << 20)
            report = replace(
                report,
                download_s=round(clock.monotonic() - begun, 3),
                object_bytes=spool.tell(),
            )
            snapshot = Snapshot.open(spool, cipher_of(store))
            with _place(snapshot, into, keep) as url, closing(open_target(url)) as target:
                done = restore(Fetched(store, spool), target, clock, Plan(), progress=progress)
                kept = target.name if into is not None or keep is not None else None
        report = replace(
            report,
            ok=True,
            serial=done.serial,
            epoch=done.epoch,
            lineage=done.lineage,
            rows=done.rows,
            published_by=author_facts(snapshot.history[-1].by),
            published_at=iso(snapshot.history[-1].at),
            tables=done.tables,
            restore_s=round(done.duration_s, 3),
            kept=kept,
        )
    except BequestError as error:
        report = replace(report, error=str(error), fault=error)
    return replace(report, duration_s=round(clock.monotonic() - begun, 3))


@contextmanager
def _place(snapshot: Snapshot, into: str | None, keep: str | None) -> Generator[str]:
    dialect = snapshot.header.get("dialect")
    if into is not None:
        yield into
        return
    if dialect != FILE_DIALECT:
        raise UsageError(
            f"The object is of {dialect}, which needs a server to be restored into. Nothing was "
            "drilled. Name an empty database that may be thrown away with --into."
        )
    name = f"drill-{snapshot.newest.serial}.db"
    if keep is not None:
        try:
            os.makedirs(keep, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The folder {keep} cannot be made ({error.strerror}). Nothing was drilled. Name "
                "another one with --keep."
            ) from error
        yield _url(os.path.abspath(os.path.join(keep, name)))
        return
    with temporary():
        folder = tempfile.TemporaryDirectory(prefix="bequest-drill-", ignore_cleanup_errors=True)
    with folder as path:
        yield _url(os.path.join(path, name))


def _url(path: str) -> str:
    from sqlalchemy.engine import URL

    return URL.create(FILE_DIALECT, database=path).render_as_string()


def check_drillable(source: Source) -> None:
    """Raise `UsageError` where a schedule could not drill: it has only files to restore into."""
    if source.dialect != FILE_DIALECT:
        raise UsageError(
            f"A drill of {source.name} needs an empty database on a server, and a schedule has "
            "none. Nothing was started. Leave the drill schedule out, and let cron run `bequest "
            "drill STORE --database URL --into URL` with a new database that is dropped afterwards."
        )


def note(source: Source, report: DrillReport) -> bool:
    """Keep the result with the controller; False where that is not possible."""
    if not isinstance(source, Notes) or not source.installed():
        return False
    facts = ("at", "ok", "serial", "duration_s", "error")
    source.note(NOTE, json.dumps({name: report[name] for name in facts}))
    return True


def noted(source: Source) -> dict[str, Any] | None:
    """The last drill's time, outcome, serial, seconds and error; ``None`` when there was none."""
    if not isinstance(source, Notes):
        return None
    text = source.noted(NOTE)
    return None if text is None else json.loads(text)
