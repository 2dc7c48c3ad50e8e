"""Everything on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

from ..bench import Bench
from ..measure import Figure

TITLE = "PostgreSQL: capture, snapshot, restore, eight committers: adapter not in this tree yet"
PEERS = ()


def run(bench: Bench) -> Iterator[Figure]:
    """Nothing to measure before the adapter is here."""
    yield from ()
