"""Rows that come in small blocks fill frames, and the frames are those of one large block."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bequest.errors import BequestError
from bequest.model import Column, Row, Table
from bequest.snapshot import frame
from bequest.snapshot.columns import PackedRows
from bequest.snapshot.frame import BULKY_BYTES, NO_DIGEST, content, decode_body, pack, unpack
from bequest.snapshot.writer import FRAME_BYTES, FRAME_ROWS, FrameWriter

PAIRS = Table(7, "pairs", (Column("id"), Column("value")), (0,), "CREATE ...")
OTHERS = Table(8, "others", (Column("id"), Column("value")), (0,), "CREATE ...")

values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=300),
    st.binary(min_size=1, max_size=9).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


class Written:
    """A writer, and the contents of its frames."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self.writer = FrameWriter(1, NO_DIGEST, self._sink.write)

    def contents(self) -> list[Any]:
        self.writer.frame("seal", {})
        found, unpacker = [], frame.msgpack.Unpacker(io.BytesIO(self._sink.getvalue()))
        for body, digest in unpacker:
            assert hashlib.blake2b(body, digest_size=32).digest() == digest
            found.append(content(decode_body(body, digest)))
        assert found.pop() == {}
        return found


@given(st.lists(st.lists(st.tuples(values, values), max_size=70), max_size=4), st.booleans())
def test_gathered_columns_are_the_bytes_of_columns_packed_at_once(
    blocks: list[list[Row]], reset: bool
) -> None:
    gathered = PackedRows(PAIRS)
    for block in blocks:
        gathered.take_in(PackedRows(PAIRS, block))
    rows = [row for block in blocks for row in block]
    columns = [[row[index] for row in rows] for index in range(2)]
    found = gathered.content(PAIRS, reset=reset)
    assert unpack(found) == unpack(pack([7, columns, reset]))
    if not any(isinstance(value, str) and not value.isascii() for row in rows for value in row):
        assert found == pack([7, columns, reset])


def test_small_blocks_are_gathered_into_frames_of_many_rows() -> None:
    written = Written()
    for start in range(0, 40_000, 500):
        written.writer.rows(PAIRS, [(i, f"v{i}") for i in range(start, start + 500)])
    first, second = written.contents()
    assert (len(first[1][0]), len(second[1][0])) == (FRAME_ROWS // 500 * 500, 7500)
    assert first[1][0] + second[1][0] == list(range(40_000))


def test_a_frame_ends_before_it_is_too_large_and_a_large_row_has_its_own() -> None:
    written = Written()
    big = bytes(BULKY_BYTES + 1)
    rows: Sequence[Row] = [(0, b"a"), (1, big), (2, big), (3, b"b")]
    written.writer.rows(PAIRS, [(i, bytes(1000)) for i in range(3 * FRAME_BYTES // 2000)])
    written.writer.rows(PAIRS, rows)
    contents = written.contents()
    for _, (_, blobs), _ in contents:
        assert len(blobs) == 1 or sum(map(len, blobs)) <= FRAME_BYTES * 2
    assert [key for _, (keys, _), _ in contents for key in keys][-4:] == [0, 1, 2, 3]


def test_what_was_gathered_comes_before_what_is_written_next() -> None:
    written = Written()
    written.writer.rows(PAIRS, [(1, "old")])
    written.writer.rows(OTHERS, [(1, "other")])
    written.writer.rows(PAIRS, [], reset=True)
    written.writer.rows(PAIRS, [(2, "new")])
    written.writer.rows(OTHERS, [])
    written.writer.frame("tail", [[], {"user_version": 1}])
    assert written.contents() == [
        [7, [[1], ["old"]], False],
        [8, [[1], ["other"]], False],
        [7, [[2], ["new"]], True],
        [[], {"user_version": 1}],
    ]


def test_a_row_over_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "FRAME_LIMIT_BYTES", 1000)
    written = Written()
    written.writer.rows(PAIRS, [(1, bytes(2000))])
    with pytest.raises(BequestError, match="row of table 'pairs' is too large"):
        written.contents()
