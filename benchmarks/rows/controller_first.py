"""What a controller's commits take: without Bequest, captured, published, rewritten, store away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import bequest

from ..bench import Bench, forget, url
from ..measure import Figure, percentile
from .latency import transactions

TITLE = "the controller's commits: off, idle, publishing, rewriting, store down"
PEERS = ()
SECONDS = 2.0


def run(bench: Bench) -> Iterator[Figure]:
    """Five states in turns, each over the one without Bequest, of the same round."""
    ratios: dict[str, list[tuple[float, float]]] = {}
    for _ in range(bench.few):
        taken: dict[str, list[float]] = {}
        for state in ("off", "idle", "publishing", "rewriting", "store down"):
            database, store = bench.controller(bench.small), bench.fresh("store")
            with _state(state, database, store):
                taken[state] = transactions(database, SECONDS)
            forget(database, store)
        for state, found in taken.items():
            pair = [percentile(found, p) / percentile(taken["off"], p) for p in (0.5, 0.99)]
            ratios.setdefault(state, []).append((pair[0], pair[1]))
    for state, pairs in ratios.items():
        if state == "off":
            continue
        yield Figure(f"{state}, p50", "off", tuple(pair[0] for pair in pairs))
        p99 = tuple(pair[1] for pair in pairs)
        yield Figure(f"{state}, p99", "off", p99, limit=2.0 if state == "publishing" else None)


def _state(name: str, database: Path, store: Path) -> AbstractContextManager[object]:
    if name == "off":
        return nullcontext()
    bequest.install(url(database))
    if name == "idle":
        return nullcontext()
    if name == "store down":
        # A file where a folder is needed: every publish fails at once, and is tried again.
        (store.parent / "in-the-way").write_bytes(b"")
        return bequest.Backup(url(database), str(store.parent / "in-the-way" / "object"))
    backup = bequest.Backup(url(database), str(store))
    return _rewriting(backup) if name == "rewriting" else backup


@contextmanager
def _rewriting(backup: bequest.Backup) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            backup.backup_now(rewrite=True)

    with backup:
        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            over.set()
            worker.join()
