"""What is fuzzed: reading an object, and reading content that bears the right digests."""

from __future__ import annotations

import io
from collections.abc import Iterator

import msgpack

from bequest.errors import SnapshotDamaged
from bequest.report import iso
from bequest.snapshot.fold import Snapshot
from bequest.snapshot.frame import HEADER, ROWS, SCHEMA, TAIL
from tests.hostile.objects import HEADER_CONTENT, SCHEMA_CONTENT, WHOLE, crafted

KINDS = (HEADER, SCHEMA, ROWS, TAIL)


def fold(data: bytes) -> None:
    """Read all that an object holds."""
    snapshot = Snapshot.open(io.BytesIO(data))
    snapshot.digests()
    for publish in snapshot.publishes:
        iso(publish.at)
        for mutation in publish.mutations:
            iso(mutation.at)


def read(data: bytes) -> None:
    """One input. Anything but `SnapshotDamaged` that gets out is a finding."""
    inputs = [data]
    if data:
        inputs.append(crafted(payloads={KINDS[data[0] % len(KINDS)]: data[1:] or b"\xc0"}))
    for each in inputs:
        try:
            fold(each)
        except SnapshotDamaged:
            continue


def seeds() -> Iterator[bytes]:
    """Where to begin: whole objects, and the content of each kind of frame."""
    yield from (make() for make in WHOLE.values())
    contents = (
        HEADER_CONTENT,
        SCHEMA_CONTENT,
        [1, [[1, 2], ["a", b"b"]], True],
        [[[1, "u", [1], [1, "x"], 1.5], [1, "d", [2], None, 2.5]], {"user_version": 3}],
    )
    for number, content in enumerate(contents):
        yield bytes([number]) + msgpack.packb(content)
