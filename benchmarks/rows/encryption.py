"""Encryption on against off."""

from __future__ import annotations

from collections.abc import Iterator

from ..bench import Bench
from ..measure import Figure

TITLE = "encryption"
PEERS = ()


def run(bench: Bench) -> Iterator[Figure]:
    """Nothing to measure before it is built."""
    yield Figure("encryption on", "off", (), limit=1.1)
