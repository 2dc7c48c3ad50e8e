"""A table's digest: the same for the same rows, whatever their order.

Per row BLAKE2b-128 over the row packed as a msgpack array; the digests are added modulo 2**128
(Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing", 1997: AdHASH). It tells
accidental differences apart. It is no defence against somebody who forges both rows and digest:
that is what the frames' chain and encryption are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from ..model import Row, TableDigest
from .frame import pack

_MODULUS = 1 << 128
_msgpack: Any = msgpack  # it ships no annotations


class DigestBuilder:
    """Adds rows up to a `TableDigest`."""

    __slots__ = ("_rows", "_sum")

    def __init__(self) -> None:
        self._rows = 0
        self._sum = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Take in ``rows``."""
        blake2b, from_bytes = hashlib.blake2b, int.from_bytes
        packer: Any = _msgpack.Packer(use_bin_type=True)
        total, count = 0, 0
        for row in rows:
            try:
                data = packer.pack(row)
            except UnicodeEncodeError:
                packer.reset()
                data = pack(row)
            total += from_bytes(blake2b(data, digest_size=16).digest())
            count += 1
        self._rows += count
        self._sum = (self._sum + total) % _MODULUS

    def result(self) -> TableDigest:
        """Rows and digest so far."""
        return TableDigest(self._rows, f"{self._sum:032x}")
