"""One module per row of the table: ``TITLE``, ``PEERS``, and ``run(bench)`` that yields figures."""

from __future__ import annotations

from types import ModuleType

from . import (
    bulk,
    commits,
    controller_first,
    encryption,
    fold,
    lag,
    latency,
    memory,
    postgresql,
    restore,
    size_independence,
    small_controller,
    snapshot,
    start,
    tables,
    throughput,
    traffic,
)

ROWS: dict[str, ModuleType] = {
    "commits": commits,
    "bulk": bulk,
    "lag": lag,
    "size-independence": size_independence,
    "traffic": traffic,
    "snapshot": snapshot,
    "restore": restore,
    "small-controller": small_controller,
    "throughput": throughput,
    "fold": fold,
    "memory": memory,
    "latency": latency,
    "controller-first": controller_first,
    "tables": tables,
    "start": start,
    "encryption": encryption,
    "postgresql": postgresql,
}
