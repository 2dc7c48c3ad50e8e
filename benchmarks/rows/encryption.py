"""Encryption on against off: a full snapshot, its verified restore, and one publish of a change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import bequest
from bequest import registry
from bequest.publisher import Publisher
from bequest_adapters import cipher

from ..bench import Bench, forget, url
from ..measure import Figure, in_turns

TITLE = "encryption"
PEERS = ()
CHANGES = 100


class _Publishing:
    """One change and its publish after the other, without a watcher of its own."""

    def __init__(self, database: Path, store: Path | str) -> None:
        self._db = sqlite3.connect(database, isolation_level=None)
        self._store = registry.open_store(str(store) if isinstance(store, Path) else store)
        self._source = registry.open_source(url(database))
        self._publisher = Publisher(self._source, self._store, registry.system_clock())

    def publish(self) -> None:
        for _ in range(CHANGES):
            self._db.execute("UPDATE interface SET mtu = mtu + 1 WHERE id = 1")
            self._publisher.publish()

    def close(self) -> None:
        for part in (self._db, self._source, self._store):
            part.close()


def run(bench: Bench) -> Iterator[Figure]:
    key_file = bench.fresh("key")
    cipher.make(str(key_file))
    on, off = bench.controller(bench.normal), bench.controller(bench.normal)
    locked, plain, new = bench.fresh("locked"), bench.fresh("plain"), bench.fresh("new.db")
    under_key = bequest.keyed(locked, key_file=key_file)

    def taken(database: object, store: str) -> None:
        bequest.backup(f"sqlite:///{database}", store, rewrite=True)

    def restored(store: str) -> None:
        forget(new)
        bequest.restore(store, url(new), adopt=False)

    taken(on, under_key)
    taken(off, str(plain))
    turns = in_turns(
        bench.rounds,
        {"on": lambda _: taken(on, under_key), "off": lambda _: taken(off, str(plain))},
    )
    size = locked.stat().st_size / plain.stat().st_size
    yield Figure("snapshot, time", "off", turns.ratios("on", "off"), limit=1.1)
    yield Figure("snapshot, CPU", "off", turns.ratios("on", "off", cpu=True), limit=1.1)
    yield Figure("snapshot, size", "off", (size,))
    turns = in_turns(
        bench.rounds, {"on": lambda _: restored(under_key), "off": lambda _: restored(str(plain))}
    )
    yield Figure("restore, time", "off", turns.ratios("on", "off"), limit=1.1)
    yield Figure("restore, CPU", "off", turns.ratios("on", "off", cpu=True), limit=1.1)

    with closing(_Publishing(on, under_key)) as first, closing(_Publishing(off, plain)) as second:
        works = {"on": lambda _: first.publish(), "off": lambda _: second.publish()}
        in_turns(1, works)
        turns = in_turns(bench.times(15, 3), works)
    yield Figure("publish of a change, CPU", "off", turns.ratios("on", "off", cpu=True), limit=1.1)
    forget(on, off, locked, plain, new, key_file)
