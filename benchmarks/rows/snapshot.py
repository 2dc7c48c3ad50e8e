"""A full snapshot of SQLite against ``.dump | zstd -3`` and against ``.backup`` + ``zstd -3``."""

from __future__ import annotations

from collections.abc import Iterator

import bequest

from ..bench import Bench, forget, url
from ..measure import Figure, in_turns
from ..peers import program, shell

TITLE = "full snapshot, SQLite"
PEERS = ("sqlite3", "zstd")


def run(bench: Bench) -> Iterator[Figure]:
    database, store = bench.controller(bench.normal), bench.fresh("snapshot")
    dump, copy = bench.fresh("dump.zst"), bench.fresh("copy.db")
    sqlite3, zstd = program("sqlite3"), program("zstd")
    bequest.install(url(database))

    def backup(_: int) -> None:
        bequest.backup(url(database), str(store), rewrite=True)

    def dumped(_: int) -> None:
        shell(f"{sqlite3} {database} .dump | {zstd} -3 -q -f -o {dump}")

    def copied(_: int) -> None:
        shell(f"{sqlite3} {database} '.backup {copy}' && {zstd} -3 -q -f {copy}")

    turns = in_turns(bench.rounds, {"bequest": backup, "dump": dumped, "copy": copied})
    size = store.stat().st_size
    against = ".dump | zstd -3"
    yield Figure("time", against, turns.ratios("bequest", "dump"), limit=0.7)
    yield Figure("CPU", against, turns.ratios("bequest", "dump", cpu=True))
    yield Figure("size", against, (size / dump.stat().st_size,), limit=0.85)
    copy_size = copy.with_name(copy.name + ".zst").stat().st_size
    yield Figure("time", ".backup + zstd -3", turns.ratios("bequest", "copy"))
    yield Figure("size", ".backup + zstd -3", (size / copy_size,), limit=0.6)
    yield Figure("time", "-", tuple(t.wall for t in turns.takes["bequest"]), unit="s")
    forget(database, store, dump, copy)
