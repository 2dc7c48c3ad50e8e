"""What the verbs answer. Every report is also a mapping, so ``dict(report)`` is its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from .errors import BequestError
from .model import Author


class Report:
    """Reads like an object and like a mapping."""

    def keys(self) -> list[str]:
        """The names of the facts."""
        return [item.name for item in fields(self)]  # type: ignore[arg-type]  # subclasses are dataclasses

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


@dataclass(frozen=True)
class PublishReport(Report):
    """One publish. ``action`` is create, append, rewrite or unchanged; sizes in bytes.

    ``key_id``, here and below, names the key that the object is encrypted under: ``None`` for none.
    ``replaced`` has ``lineage``, ``epoch``, ``serial``, ``rows`` and ``at`` of an object that was
    replaced by name; the last two are ``None`` where it could not be read. ``kept`` is the address
    of its copy.
    """

    action: str
    lineage: str
    epoch: int
    serial: int
    rows: int
    tables: int
    bytes: int
    bytes_sent: int
    duration_s: float
    not_covered: tuple[tuple[str, str], ...] = ()
    key_id: str | None = None
    replaced: dict[str, Any] | None = None
    kept: str | None = None


@dataclass(frozen=True)
class AdoptReport(Report):
    """A database that is the owner of its lineage from now on.

    ``adopted`` is false where it was the owner before. ``kept`` is the address of the copy of
    another history's object, where there was one.
    """

    adopted: bool
    lineage: str
    epoch: int
    epoch_before: int
    serial: int
    rows: int
    tables: int
    duration_s: float
    kept: str | None = None


@dataclass(frozen=True)
class RestoreReport(Report):
    """One replay. ``kept`` is where the data that it replaced can be found.

    ``at`` is the time of the restored state, ISO 8601 in UTC. Pairs are name and reason: ``added``
    tables that a chosen one needs, ``left_out`` objects that need a table which is not there,
    ``converted`` what another dialect changed. ``skipped`` says why nothing was done; all the rest
    is then empty. ``files`` counts the configuration files that the object holds at that state,
    ``files_in`` names the folders into which they were written.
    """

    rows: int
    tables: int
    serial: int
    epoch: int
    lineage: str
    verified: bool
    adopted: bool
    duration_s: float
    kept: str | None = None
    dry_run: bool = False
    not_covered: tuple[tuple[str, str], ...] = ()
    files: int = 0
    files_in: tuple[str, ...] = ()
    at: str | None = None
    added: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    converted: tuple[tuple[str, str], ...] = ()
    skipped: str | None = None
    key_id: str | None = None


def nothing_restored(reason: str) -> RestoreReport:
    """The report of a restore that found nothing to do."""
    return RestoreReport(0, 0, 0, 0, "", False, False, 0.0, skipped=reason)


@dataclass(frozen=True)
class PreflightReport(Report):
    """Whether a restore would work. ``rows`` is an upper bound; times in seconds, sizes in bytes.

    ``checks`` are maps of ``name``, ``level`` (ok, warn, fail) and ``text``. The other facts are as
    in `RestoreReport`, as far as they are known beforehand. ``published_by`` (``host``,
    ``process``) and ``published_at`` are those of the object's last publish. `fault` is what a
    restore would raise.
    """

    ok: bool = True
    checks: tuple[dict[str, str], ...] = ()
    rows: int = 0
    tables: int = 0
    serial: int = 0
    epoch: int = 0
    lineage: str = ""
    at: str | None = None
    needed_bytes: int = 0
    estimated_s: float = 0.0
    verified: bool = False
    adopted: bool = False
    duration_s: float = 0.0
    kept: str | None = None
    dry_run: bool = True
    not_covered: tuple[tuple[str, str], ...] = ()
    added: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    converted: tuple[tuple[str, str], ...] = ()
    skipped: str | None = None
    key_id: str | None = None
    published_by: dict[str, Any] | None = None
    published_at: str | None = None
    fault: BequestError | None = field(default=None, compare=False)

    def keys(self) -> list[str]:
        """The names of the facts."""
        return [item.name for item in fields(self) if item.name != "fault"]


@dataclass(frozen=True)
class DrillReport(Report):
    """One drill. Times in seconds, sizes in bytes; ``fault`` is the error behind ``error``.

    ``kept`` is where the restored database can be looked at, ``recorded`` whether the controller's
    database knows of the drill. ``published_by`` (``host``, ``process``) and ``published_at`` are
    those of the last publish, as far as the object says.
    """

    ok: bool
    at: str
    store: str
    serial: int = 0
    epoch: int = 0
    lineage: str = ""
    rows: int = 0
    tables: int = 0
    object_bytes: int = 0
    download_s: float = 0.0
    restore_s: float = 0.0
    duration_s: float = 0.0
    error: str | None = None
    kept: str | None = None
    recorded: bool = False
    published_by: dict[str, Any] | None = None
    published_at: str | None = None
    fault: BequestError | None = field(default=None, compare=False)

    def keys(self) -> list[str]:
        """The names of the facts."""
        return [item.name for item in fields(self) if item.name != "fault"]


@dataclass(frozen=True)
class VerifyReport(Report):
    """``tables`` maps each name to ``{"rows": int, "digest": str}``.

    ``pending_mutations`` are in the database's journal and not published yet.
    """

    ok: bool
    serial: int
    epoch: int
    lineage: str
    tables: dict[str, dict[str, Any]]
    differences: tuple[str, ...]
    pending_mutations: int = 0
    unfinished_bytes: int = 0
    not_covered: tuple[tuple[str, str], ...] = ()
    key_id: str | None = None


@dataclass(frozen=True)
class InspectReport(Report):
    """What an object holds. Times are ISO 8601 in UTC, sizes in bytes.

    ``locked``: its key was not given. Then only what stands outside of the payloads is known, and
    that the object is whole; ``rows``, ``tables``, ``objects``, ``tail_mutations``, ``files`` and
    ``not_covered`` are empty. ``published_by`` has ``host`` and ``process`` of who made the last
    publish, as the object says it; ``None`` when it does not. ``published_at`` is its time.
    """

    store: str
    format: int
    lineage: str
    epoch: int
    serial: int
    dialect: str
    server: str
    written_by: str
    revisions: tuple[str, ...]
    base_serial: int
    base_at: str
    at: str
    bytes: int
    base_bytes: int
    tail_bytes: int
    tail_publishes: int
    tail_mutations: int
    unfinished_bytes: int
    rows: int
    tables: dict[str, dict[str, Any]]
    objects: dict[str, int]
    not_covered: tuple[tuple[str, str], ...]
    files: int = 0
    key_id: str | None = None
    locked: bool = False
    published_by: dict[str, Any] | None = None
    published_at: str = ""


@dataclass(frozen=True)
class LogEntry(Report):
    """One mutation of the tail. ``row`` is ``None`` for a row that is gone or changed again.

    ``serial`` and ``published``, the time of its publish, are ``None`` for one that is in no
    object yet.
    """

    serial: int | None
    at: str
    table: str
    operation: str
    key: dict[str, Any]
    row: dict[str, Any] | None
    published: str | None = None


@dataclass(frozen=True)
class RowChange(Report):
    """One row that differs. ``change``: added, removed or changed.

    ``columns`` of a changed row maps each column that differs to ``[before, after]``, each a list
    of one value, empty where that side has no such column. ``row`` is that of an added or removed
    one. ``key`` is empty for rows that no key identifies.
    """

    table: str
    change: str
    key: dict[str, Any]
    columns: dict[str, list[Any]] | None
    row: dict[str, Any] | None


@dataclass(frozen=True)
class DiffReport(Report):
    """What leads from one state to another. ``tables`` are those that differ.

    Each maps to ``in`` (both, before, after), ``rows_before``, ``rows_after``, ``added``,
    ``removed``, ``changed``.
    """

    equal: bool
    before: str
    after: str
    tables: dict[str, dict[str, Any]]
    tables_equal: int
    schema: tuple[str, ...]
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class HistoryEntry(Report):
    """One state of the object that the store keeps.

    ``serial``, ``epoch`` and ``lineage`` are ``None`` for what is no Bequest snapshot.
    """

    version: str
    current: bool
    serial: int | None
    epoch: int | None
    lineage: str | None
    at: str
    bytes: int


@dataclass(frozen=True)
class Status(Report):
    """How a controller's backup stands. ``state``: ok, behind, failing, superseded, refused.

    ``last_drill`` has ``at``, ``ok``, ``serial``, ``duration_s`` and ``error``.
    """

    state: str
    mode: str
    lineage: str
    epoch: int
    serial: int
    pending_transactions: int
    pending_mutations: int
    pending_seconds: float
    last_success: str | None
    last_error: str | None
    store: str
    files: int = 0
    last_drill: dict[str, Any] | None = None
    key_id: str | None = None


@dataclass(frozen=True)
class FollowReport(Report):
    """One look at a followed object. ``action`` is unchanged, applied or reloaded.

    ``publishes`` were applied one by one; ``behind_s`` is the age of the state in seconds, ``at``
    its time as ISO 8601 in UTC. ``kept`` is where the definitions without rows are that the first
    load replaced.
    """

    action: str
    lineage: str
    epoch: int
    serial: int
    at: str
    publishes: int
    behind_s: float
    duration_s: float
    kept: str | None = None


@dataclass(frozen=True)
class PromoteReport(Report):
    """A followed database that publishes from now on. ``at`` is the time of its state."""

    lineage: str
    epoch: int
    serial: int
    at: str
    duration_s: float


@dataclass(frozen=True)
class FilesReport(Report):
    """Recorded configuration files. ``roots`` and ``places`` map a root's name to a folder.

    ``places`` is where they were written now, ``kept`` where that which they replaced is.
    """

    files: int
    bytes: int
    roots: dict[str, str]
    entries: tuple[dict[str, Any], ...]
    not_covered: tuple[tuple[str, str], ...] = ()
    places: dict[str, str] = field(default_factory=dict[str, str])
    kept: dict[str, str] = field(default_factory=dict[str, str])


def author_facts(by: Author | None) -> dict[str, Any] | None:
    """Who published, as reports have it."""
    return None if by is None else {"host": by.host, "process": by.process}


def iso(time: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
