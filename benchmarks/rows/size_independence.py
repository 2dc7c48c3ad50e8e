"""The lag of a change beside a small and beside a large state."""

from __future__ import annotations

from collections.abc import Iterator

from ..bench import Bench, forget
from ..measure import Figure, percentile
from .lag import FileWriter, followed

TITLE = "the same at the normal size"
PEERS = ()


def run(bench: Bench) -> Iterator[Figure]:
    medians: dict[int, list[float]] = {bench.small: [], bench.normal: []}
    for _ in range(bench.few):
        for rows in medians:
            database, store = bench.controller(rows), bench.fresh("store")
            lags = followed(
                database, str(store), FileWriter(bench.fresh("bare")), bench.times(150, 50)
            )
            medians[rows].append(percentile(lags.mine, 0.5) / percentile(lags.bare, 0.5))
            forget(database, store)
    pairs = zip(medians[bench.normal], medians[bench.small], strict=True)
    ratios = tuple(large / small for large, small in pairs)
    yield Figure("p50, file", f"{bench.small} rows", ratios, limit=1.2, note="over bare writes")
