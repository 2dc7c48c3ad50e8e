"""Restoring a base with a tail of 100,000 mutations against the base alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import bequest
from bequest import Limits

from ..bench import Bench, forget, url
from ..measure import Figure, in_turns

TITLE = "fold at restore: base + a tail of 100k mutations"
PEERS = ()
ROOMY = Limits(tail_share=10.0, tail_bytes=1 << 30)


def run(bench: Bench) -> Iterator[Figure]:
    database = bench.controller(bench.normal)
    base, both, new = bench.fresh("base"), bench.fresh("both"), bench.fresh("new.db")
    mutations = bench.normal // 10
    bequest.backup(url(database), str(base))
    with bequest.Backup(url(database), str(both), limits=ROOMY) as backup:
        backup.flush(None)
        db = sqlite3.connect(database, isolation_level=None)
        db.execute(
            "UPDATE interface SET mtu = mtu + 1 WHERE id * 7919 % 400000 <"
            f" {mutations} * 400000.0 / (SELECT max(id) FROM interface)"
        )
        db.close()
        backup.flush(None)
    tail = sum(1 for _ in bequest.log(str(both)))

    def restored(store: object) -> None:
        forget(new)
        bequest.restore(str(store), url(new), adopt=False)

    works = {"base": lambda _: restored(base), "tail": lambda _: restored(both)}
    turns = in_turns(bench.few, works)
    note = f"{tail} mutations"
    yield Figure("time", "base alone", turns.ratios("tail", "base"), limit=1.3, note=note)
    yield Figure("CPU", "base alone", turns.ratios("tail", "base", cpu=True), note=note)
    forget(database, base, both, new)
