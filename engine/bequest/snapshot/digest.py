"""A table's digest: the same for the same rows, whatever their order.

Per row BLAKE2b-128 over the row packed as a msgpack array; the digests are added modulo 2**128
(Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing", 1997: AdHASH). It tells
accidental differences apart. It is no defence against somebody who forges both rows and digest:
that is what the frames' chain and encryption are for.

`RowSum` is the same idea for two sides that are compared at once in one process: a third of the
cost, and of no use to anybody else. `RowRun` is a third of that again, for two sides that are
expected to have their rows in one order.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from ..model import Row, TableDigest
from .frame import pack

_MODULUS = 1 << 128
_SUM_MODULUS = 1 << 64
_PLAIN: Final = 2
"""The last version of marshal in which equal values are always equal bytes: 3 and 4 refer back."""
_LIST_HEAD_BYTES: Final = 5
STEP_ROWS: Final = 4096
"""Rows at a time: what stays in a processor's cache."""
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


class RowSum:
    """Adds rows up to a number that equal rows share, in any order, within this process.

    Python's hash of the packed row: 64 bits, keyed at random when the process starts. Equal sums of
    different rows are as likely as 1 in 2**64.
    """

    __slots__ = ("rows", "total")

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowSum):
            return NotImplemented
        return (self.rows, self.total) == (other.rows, other.total)

    __hash__ = None  # type: ignore[assignment]

    def add(self, rows: Sequence[Row]) -> None:
        """Take in ``rows``."""
        pack_row: Callable[[Row], bytes] = _msgpack.Packer(use_bin_type=True).pack
        try:
            total = sum(map(hash, map(pack_row, rows)))
        except UnicodeEncodeError:
            total = sum(hash(pack(row)) for row in rows)
        self.rows += len(rows)
        self.total = (self.total + total) % _SUM_MODULUS

    def blank(self) -> RowSum:
        """One for the other side."""
        return RowSum()


class RowRun:
    """A digest of rows in their order; how they came in blocks is all one.

    Another process of the same Python may make it of its own rows: nothing in it is keyed.
    SHA-1, which most processors have an instruction for, over the rows as `marshal` writes them:
    the types and every bit of a value count, so 1, 1.0 and True are three values, and -0.0 is not
    0.0. It is to tell accidents apart, as `RowSum` is.
    """

    __slots__ = ("_hash", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha1(usedforsecurity=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowRun):
            return NotImplemented
        return (self.rows, self.digest) == (other.rows, other.digest)

    __hash__ = None  # type: ignore[assignment]

    @property
    def digest(self) -> bytes:
        """Of the rows so far."""
        return self._hash.digest()

    def add(self, rows: Sequence[Row]) -> None:
        """Take in ``rows``, each of them a tuple."""
        for start in range(0, len(rows), STEP_ROWS):
            data = marshal.dumps(list(rows[start : start + STEP_ROWS]), _PLAIN)
            # Without the list's head, so that row follows row.
            self._hash.update(memoryview(data)[_LIST_HEAD_BYTES:])
        self.rows += len(rows)

    def blank(self) -> RowRun:
        """One for the other side."""
        return RowRun()


Sum = RowSum | RowRun
