"""A verified restore into a new SQLite file against ``zstd -dc | sqlite3``."""

from __future__ import annotations

from collections.abc import Iterator

import bequest

from ..bench import Bench, forget, url
from ..measure import Figure, in_turns
from ..peers import program, shell

TITLE = "restore into SQLite, verified"
PEERS = ("sqlite3", "zstd")


def run(bench: Bench) -> Iterator[Figure]:
    database, store = bench.controller(bench.normal), bench.fresh("snapshot")
    dump, new, other = bench.fresh("dump.zst"), bench.fresh("new.db"), bench.fresh("other.db")
    sqlite3, zstd = program("sqlite3"), program("zstd")
    shell(f"{sqlite3} {database} .dump | {zstd} -3 -q -f -o {dump}")
    bequest.backup(url(database), str(store))

    def restored(_: int) -> None:
        forget(new)
        bequest.restore(str(store), url(new), adopt=False)

    def loaded(_: int) -> None:
        forget(other)
        shell(f"{zstd} -dcq {dump} | {sqlite3} {other}")

    turns = in_turns(bench.rounds, {"bequest": restored, "sqlite3": loaded})
    against = "zstd -dc | sqlite3 (unverified)"
    faster = turns.ratios("sqlite3", "bequest")
    yield Figure("times as fast", against, faster, limit=2.0, at_least=True)
    yield Figure("times less CPU", against, turns.ratios("sqlite3", "bequest", cpu=True))
    yield Figure("time", "-", tuple(t.wall for t in turns.takes["bequest"]), unit="s")
    forget(database, store, dump, new, other)
