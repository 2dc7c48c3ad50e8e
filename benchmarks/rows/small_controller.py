"""A small controller (10 MB): its object and its restore against Litestream's."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import bequest

from .. import litestream
from ..bench import Bench, forget, url
from ..measure import Figure, in_turns

TITLE = "a 10 MB database: object and verified restore against Litestream"
PEERS = ("litestream",)
ROWS = 120_000


def run(bench: Bench) -> Iterator[Figure]:
    database, store, replica = bench.controller(ROWS), bench.fresh("store"), bench.fresh("replica")
    with litestream.replicating(
        database, litestream.to_file(replica), bench.fresh("litestream.yml")
    ):
        litestream.settled(replica)
    bequest.backup(url(database), str(store))
    copies = sorted((path.stat().st_size for path in litestream.files(replica)), reverse=True)
    note = f"{len(copies)} files of Litestream's, {sum(copies):,} B in all"
    size = store.stat().st_size
    yield Figure("object's size", "one Litestream copy", (size / copies[0],), limit=0.35, note=note)
    new, other = bench.fresh("new.db"), bench.fresh("other.db")

    def mine(_: int) -> None:
        forget(new)
        bequest.restore(str(store), url(new), adopt=False)

    def theirs(_: int) -> None:
        forget(other)
        litestream.restore(replica, other)

    gc.collect()
    turns = in_turns(bench.times(7, 3), {"bequest": mine, "litestream": theirs})
    note = f"{database.stat().st_size / 1e6:.0f} MB database; theirs is not verified"
    ratios = turns.ratios("bequest", "litestream")
    yield Figure("restore", "litestream restore", ratios, limit=1.5, note=note)
    cpu = turns.ratios("bequest", "litestream", cpu=True)
    yield Figure("restore, CPU", "litestream restore", cpu)
    forget(database, store, replica, new, other)
