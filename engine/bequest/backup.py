"""`Backup`: the engine inside a controller's process. Its failure is never the controller's."""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, Literal, Self

from . import forking, registry
from .arguments import checked
from .compactor import Limits
from .drill import check_drillable, drill, note, noted
from .drilling import Drills
from .encryption import cipher_of, told
from .errors import AccessError, BequestError, Refused, UsageError
from .fence import judge
from .model import Selection
from .ports import Clock, Source, Store, Watchful
from .publisher import Publisher, state_of
from .recorded import noted as recorded_files
from .report import DrillReport, PublishReport, Status, iso
from .verify import pending_status
from .watcher import Watcher

logger = logging.getLogger("bequest")
Mode = Literal["per-change", "schedule"]
LOOK_SECONDS: Final = 1.0
"""The longest sleep that no wake-up ends."""
LOUD: Final = frozenset(
    {"failed", "drill_failed", "refused", "superseded", "vanished", "uncovered", "held"}
)

ORPHANED: Final = (
    "The process that published has ended, and this one was forked from it. Its changes are "
    "recorded, but nobody publishes them. Call Backup.start() in the process that goes on."
)


class Backup:
    """Keeps one object current while the controller works.

    ``database`` is an SQLAlchemy `Engine`, an `AsyncEngine` or a URL; ``store`` an address.
    ``include`` and ``exclude`` are globs of table names; without either, the choice of the last
    install is kept (all tables at first). ``drill_schedule`` is a cron expression: when the stored
    object is restored into a throw-away database and verified. ``on_event`` receives a name and a
    dict of facts.
    ``files`` are folders, ``DIR`` or ``NAME=DIR``, whose files are recorded with the tables;
    without it, what was recorded stays as it is. ``files_ignore`` replaces the globs of names that
    are left out, ``files_limit`` is the largest file in bytes (64 MiB).
    Construction raises `UsageError` for what can never work; everything later is logged, reported
    by `status` and tried again.

    A forked child has not started: what it commits its parent publishes, for as long as that lives.
    `start` in the child lets it publish as soon as its parent does not; all other calls work in it.
    """

    @checked
    def __init__(
        self,
        database: Any,
        store: str | Store,
        *,
        mode: Mode = "per-change",
        schedule: str = "0 0 * * *",
        timezone: str | None = None,
        include: tuple[str, ...] | None = None,
        exclude: tuple[str, ...] | None = None,
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
        limits: Limits | None = None,
        drill_schedule: str | None = None,
        watch_files: bool = True,
        files: Sequence[str | os.PathLike[str]] = (),
        files_ignore: Sequence[str] | None = None,
        files_limit: int | None = None,
    ) -> None:
        if mode not in ("per-change", "schedule"):
            raise UsageError(f"The mode is {mode!r}; it can be 'per-change' or 'schedule'.")
        self._database = database
        self._address = store
        self._mode = mode
        self._limits = limits or Limits()
        self._selection = selection_of(include, exclude)
        self._on_event = on_event
        self._watch_files = watch_files
        self._clock: Clock = registry.system_clock()
        self._schedule = registry.cron(schedule, timezone)
        self._files = files
        self._files_options = {"ignore": files_ignore, "limit_bytes": files_limit}
        self._store = registry.open_store(store)
        self._open()
        self._drill_schedule = None
        if drill_schedule is not None:
            check_drillable(self._source)
            self._drill_schedule = registry.cron(drill_schedule, timezone)
        self._rest()
        self._undo: list[Callable[[], None]] = []
        self._started_by: int | None = None
        self._parent: int | None = None
        self._inherited = False
        forking.enrol(self)

    def _open(self) -> None:
        """Everything that holds a handle, or what was learnt through one."""
        self._source: Source = registry.open_source(self._database)
        self._recorder = open_recorder(
            self._source,
            self._store,
            self._files,
            listener=self._event,
            **self._files_options,
        )
        self._apart = registry.rewriting(
            self._database,
            self._address,
            self._mode,
            self._limits,
            cipher_of(self._store),
            None if self._recorder is None else self._recorder.request(),
        )
        self._publisher = Publisher(
            self._source,
            self._store,
            self._clock,
            limits=self._limits,
            mode=self._mode,
            apart=self._apart,
            by=registry.this_process(),
            folders=self._recorder,
        )
        self._watcher = Watcher(
            self._source,
            self._publisher,
            self._clock,
            self._event,
            mode=self._mode,
            schedule=self._schedule,
            limits=self._limits,
        )
        self._drill_apart = registry.drilling(self._address, self._store)
        self._ready = False

    def _rest(self) -> None:
        """As before the first `start`."""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._drills: Drills | None = None

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: the parent goes on publishing."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`: only what cannot wait until it is used here."""
        self._parent = self._started_by
        self._rest()
        self._inherited = True

    def _own(self) -> None:
        """In a forked child: open all that was inherited, before the first use of it."""
        if not self._inherited:
            return
        self._inherited = False
        self._unlisten()
        if isinstance(self._address, str):
            # With the keys of the parent: this process may not be allowed to read them any more.
            self._store = registry.open_store(self._address, cipher_of(self._store))
        self._open()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Install capture if need be and begin to watch. Never raises for a store's fault."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._own()
        self._unlisten()
        self._started_by, self._parent = os.getpid(), None
        self._stop.clear()
        self._prepare()
        self._listen()
        self._thread = threading.Thread(target=self._loop, name="bequest", daemon=True)
        self._thread.start()
        self._begin_drills()

    @checked
    def stop(self, timeout: float = 10.0) -> bool:
        """Publish what is left, for at most ``timeout`` seconds, and end. True if all is stored."""
        if self._thread is None:
            return True
        deadline = time.monotonic() + timeout
        if self._drills is not None:
            if self._drill_apart is not None:
                self._drill_apart.kill()
            self._drills.stop(0.0)
            self._drills = None
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)
        if self._thread.is_alive() and self._apart is not None:
            self._apart.kill()
            self._thread.join(1.0)
        self._unlisten()
        stored = self._last_publish(deadline)
        self._event("stopped", {"stored": stored})
        if not self._thread.is_alive():
            self._source.close()
            self._store.close()
        self._thread = self._started_by = None
        return stored

    @checked
    def flush(self, timeout: float | None = 30.0) -> PublishReport:
        """Return when all that was committed before is in the store.

        Waits and tries again for up to ``timeout`` seconds (``None``: for ever), then raises what
        kept it from being so: `AccessError`. Raises `Refused` at once.
        """
        self._own()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while True:
            try:
                self._prepare()
                self._look_at_files()
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                report = self._publisher.publish(wait_seconds=left)
            except AccessError:
                if deadline is not None and time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            else:
                if report.action != "unchanged":
                    self._event("published", dict(report))
                return self._with_files(report)

    @checked
    def backup_now(self, *, rewrite: bool = False) -> PublishReport:
        """Publish once, now, and say what was done."""
        self._own()
        self._prepare()
        report = self._publisher.publish(rewrite=rewrite, check=True, exact=True)
        report = self._with_files(report)
        self._event("published", dict(report))
        return report

    def status(self) -> Status:
        """How the backup stands, by what the database remembers and the journal holds."""
        self._own()
        status = read_status(self._source, self._clock, self._publisher.last_error)
        if self._publisher.files_due:
            waits = status.state == "ok" and self._mode == "per-change"
            state = "behind" if waits else status.state
            pending = max(1, status.pending_transactions)
            status = replace(status, state=state, pending_transactions=pending)
        return with_files(status, self._source)

    @property
    def stopped_by(self) -> BequestError | None:
        """Why nothing is published any more, when that is so."""
        return self._watcher.stopped_by

    def _prepare(self) -> None:
        if self._ready:
            return
        try:
            self._source.install(self._selection)
            self._ready = True
        except AccessError as error:
            self._event("failed", {"error": str(error)})
        except Refused:
            logger.debug("capture is refused here; the publish that follows says why")

    def _look_at_files(self) -> None:
        if self._recorder is not None:
            self._recorder.expect()

    def _with_files(self, report: PublishReport) -> PublishReport:
        if self._recorder is None:
            return report
        named = (*report.not_covered, *self._recorder.uncovered)
        # A process that rewrote the object has named its own already.
        return replace(report, not_covered=tuple(dict.fromkeys(named)))

    def _begin_drills(self) -> None:
        if self._drill_schedule is None:
            return
        self._drills = Drills(
            self._drill_schedule,
            self._clock,
            self._drill,
            lambda: noted(self._source),
            lambda: self._watcher.leading,
            self._event,
        )
        self._drills.start()

    def _drill(self) -> DrillReport:
        report = None if self._drill_apart is None else self._drill_apart()
        if report is None:
            report = self._drill_here()
        return replace(report, recorded=note(self._source, report))

    def _drill_here(self) -> DrillReport:
        # A store of its own: this runs beside a publish.
        with closing(registry.open_store(self._address, cipher_of(self._store))) as store:
            return drill(store, self._clock, registry.open_target, into=None, keep=None)

    def _listen(self) -> None:
        attend = getattr(self._source, "attend", None)
        if hasattr(self._database, "url") and attend is not None:
            self._undo.append(attend(self._database))
        if self._recorder is not None:
            watch = registry.files().watch
            self._undo.append(watch(self._recorder, self._source.lead, self._wake.set, self._event))
        if self._mode != "per-change":
            return
        if hasattr(self._database, "url"):
            module = importlib.import_module("bequest_adapters.wakeups.commits")
            self._undo.append(module.wake_on_commit(self._database, self._woken))
        paths = getattr(self._source, "wake_paths", None)
        if self._watch_files and paths is not None:
            module = importlib.import_module("bequest_adapters.wakeups.files")
            try:
                self._undo.append(module.wake_on_file(paths(), self._wake.set))
            except AccessError as error:
                self._event("failed", {"error": str(error)})

    def _woken(self) -> None:
        """After a commit through the controller's engine, in whichever process."""
        self._wake.set()
        if self._parent is not None and not _is_alive(self._parent):
            self._parent = None
            self._event("failed", {"error": ORPHANED})

    def _unlisten(self) -> None:
        for undo in self._undo:
            undo()
        self._undo.clear()

    def _loop(self) -> None:
        while not self._stop.is_set():
            woken = self._wake.is_set()
            self._wake.clear()
            try:
                self._prepare()
                wait = self._watcher.tick(woken=woken)
            except Exception:  # the thread must outlive a fault that nobody foresaw
                logger.exception("Bequest met an unexpected fault; it goes on in a minute")
                wait = 60.0
            # A controller that commits all the while must not wake a thread that may do nothing.
            rest = self._watcher.rest_seconds
            # Nor must it sleep so long that it could not heal: see `Watcher.tick`.
            if not self._stop.wait(min(rest, LOOK_SECONDS)) and rest <= LOOK_SECONDS:
                self._wake.wait(max(0.0, wait - rest))

    def _last_publish(self, deadline: float) -> bool:
        if isinstance(self._publisher.last_error, Refused) or not self._ready:
            return False
        try:
            self.flush(max(0.0, deadline - time.monotonic()))
        except BequestError as error:
            self._event("failed", {"error": str(error)})
            return False
        return self._publisher.last_error is None

    def _event(self, name: str, facts: dict[str, Any]) -> None:
        level = logging.WARNING if name in LOUD else logging.INFO
        logger.log(level, "%s %s", name, facts.get("error") or facts)
        if self._on_event is None:
            return
        try:
            self._on_event(name, facts)
        except Exception:  # a listener's fault is not ours, and must not stop us
            logger.exception("the on_event callback raised")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def selection_of(include: Sequence[str] | None, exclude: Sequence[str] | None) -> Selection | None:
    """The selection that two lists of globs mean; ``None`` when neither is given."""
    if include is None and exclude is None:
        return None
    return Selection(_globs(include) or ("*",), _globs(exclude))


def _globs(given: Sequence[str] | None) -> tuple[str, ...]:
    """One glob may be given without a list around it."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def open_recorder(
    source: Source,
    store: Store,
    folders: Sequence[str | os.PathLike[str]],
    **options: Any,
) -> Any:
    """What records ``folders``; ``None`` when there are none. Raises `UsageError`."""
    if not folders:
        return None
    return registry.files().open_recorder(source, store, folders, **options)


def with_files(status: Status, source: Source) -> Status:
    """``status`` with the number of files that are recorded."""
    known = recorded_files(source) if source.installed() else None
    return status if known is None else replace(status, files=known.files)


def ask(store: Store, source: Source) -> BequestError | None:
    """What would keep a publish from ``store`` now; ``None`` when nothing would."""
    try:
        judge(source.recall(), store.head(), store.name, source.descends)
    except BequestError as error:
        return error
    return None


def read_status(source: Source, clock: Clock, error: BequestError | None = None) -> Status:
    """A controller's status, from its database alone."""
    memory = source.recall()
    transactions, mutations, seconds = pending_status(source, memory, clock.time())
    moved = bool(memory.position) and isinstance(source, Watchful) and source.moved(memory)
    transactions = max(transactions, int(moved))
    state = state_of(error) if error is not None else memory.state or "ok"
    if memory.copied and state == "ok":
        state = "refused"
    waiting = (mutations or moved) and memory.mode != "schedule"
    if state == "ok" and (waiting or not memory.serial):
        state = "behind"
    last = memory.last_success
    return Status(
        state=state,
        mode=memory.mode,
        lineage=memory.lineage,
        epoch=memory.epoch,
        serial=memory.serial,
        pending_transactions=transactions,
        pending_mutations=mutations,
        pending_seconds=round(seconds, 3),
        last_success=None if last is None else iso(last),
        last_error=(str(error) if error else memory.last_error) or None,
        store=memory.store,
        last_drill=noted(source),
        key_id=told(memory.key_id),
    )
