"""Bequest: controller high availability without a standby.

    with bequest.Backup(engine, "s3://acme-ha/controller.bequest"):
        ...                                          # the controller works

    bequest.restore("s3://acme-ha/controller.bequest", "sqlite:///new.db")

Importing this loads no driver and no cloud SDK; they come with the address that needs them.
"""

from __future__ import annotations

__version__ = "0.1.0"

from .backup import Backup
from .compactor import Limits
from .encryption import keyed
from .errors import (
    AccessError,
    BequestError,
    Conflict,
    Denied,
    Different,
    KeyMissing,
    Overtaken,
    OwnerAlive,
    Refused,
    SnapshotDamaged,
    SnapshotError,
    SnapshotMissing,
    Superseded,
    Throttled,
    Unreachable,
    UsageError,
)
from .inheriting import diff, drill, files, follow, preflight, promote, restore
from .report import (
    AdoptReport,
    DiffReport,
    DrillReport,
    FilesReport,
    FollowReport,
    HistoryEntry,
    InspectReport,
    LogEntry,
    PreflightReport,
    PromoteReport,
    PublishReport,
    RestoreReport,
    RowChange,
    Status,
    VerifyReport,
)
from .verbs import (
    adopt,
    alembic_filter,
    backup,
    history,
    inspect,
    install,
    log,
    migration,
    status,
    uninstall,
    verify,
)

__all__ = [
    "AccessError",
    "AdoptReport",
    "Backup",
    "BequestError",
    "Conflict",
    "Denied",
    "DiffReport",
    "Different",
    "DrillReport",
    "FilesReport",
    "FollowReport",
    "HistoryEntry",
    "InspectReport",
    "KeyMissing",
    "Limits",
    "LogEntry",
    "Overtaken",
    "OwnerAlive",
    "PreflightReport",
    "PromoteReport",
    "PublishReport",
    "Refused",
    "RestoreReport",
    "RowChange",
    "SnapshotDamaged",
    "SnapshotError",
    "SnapshotMissing",
    "Status",
    "Superseded",
    "Throttled",
    "Unreachable",
    "UsageError",
    "VerifyReport",
    "__version__",
    "adopt",
    "alembic_filter",
    "backup",
    "diff",
    "drill",
    "files",
    "follow",
    "history",
    "inspect",
    "install",
    "keyed",
    "log",
    "migration",
    "preflight",
    "promote",
    "restore",
    "status",
    "uninstall",
    "verify",
]
