"""Encryption on against off."""

from __future__ import annotations

from collections.abc import Iterator

from ..bench import Bench
from ..measure import Figure

TITLE = "encryption on (goal <= 1.1x of off): not built yet"
PEERS = ()


def run(bench: Bench) -> Iterator[Figure]:
    """Nothing to measure before it is built."""
    yield from ()
