"""The format is what schema/FORMAT.md says, to the byte, and damage never passes."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bequest.errors import SnapshotDamaged
from bequest.model import Author, Catalog, Column, Mark, Mutation, Operation, Row, Table
from bequest.snapshot.extent import extent
from bequest.snapshot.fold import Snapshot
from bequest.snapshot.frame import (
    HEADER,
    NO_DIGEST,
    PREAMBLE_BYTES,
    SEAL,
    encode,
    pack,
    preamble,
    unpack,
)
from bequest.snapshot.outside import outside
from bequest.snapshot.writer import seal_of, write_base, write_tail
from bequest_adapters.stores.marks import from_metadata, to_metadata
from tests.format import plain_reader

SITES = Table(1, "sites", (Column("id", "INTEGER"), Column("name", "TEXT")), (0,), "CREATE ...")
NOTES = Table(2, "notes", (Column("rowid", "", "rowid"), Column("text")), (0,), "CREATE ...")
LINEAGE = "00000000-0000-4000-8000-000000000001"
VECTOR_OBJECT_SHA256 = "64fbfb94171e0a4fa0e8c2e13e10ed977082fc33b7bba592cee358d0f9243e95"
VECTOR_PREAMBLE = "c4204245515545535401000000000000000000000000000003e8"


class FakeCut:
    """A cut over rows in memory."""

    def __init__(self, rows: dict[int, Sequence[Row]]) -> None:
        self._rows = rows

    def scan(self, table: Table):
        yield self._rows.get(table.id, [])


def small_object(tails: int = 2) -> bytes:
    """A base of three rows and ``tails`` appends."""
    rows: dict[int, Sequence[Row]] = {1: [(1, "a"), (2, "b")], 2: [(1, b"\x00\xff")]}
    body = io.BytesIO()
    mark = Mark(LINEAGE, 1, 1, "11" * 16)
    header = {"format": 1, "lineage": LINEAGE, "epoch": 1, "dialect": "sqlite"}
    catalog = Catalog((SITES, NOTES))
    attributes = {"user_version": 7}
    chain, _, _ = write_base(FakeCut(rows), header, catalog, attributes, mark, 1.5, body)  # type: ignore[arg-type]
    data = body.getvalue()
    for serial in range(2, 2 + tails):
        mutations = [
            Mutation(1, Operation.UPDATE, (1,), (1, f"a{serial}"), 2.0),
            Mutation(1, Operation.DELETE, (2,), None, 2.0),
            Mutation(2, Operation.INSERT, (serial,), (serial, "bad \udcff text"), 2.0),
        ]
        mark = Mark(LINEAGE, 1, serial, "22" * 16)
        more, chain = write_tail(mutations, {"user_version": serial}, [], mark, 2.5, chain, 1 << 20)
        data = preamble(len(data) + len(more)) + data[PREAMBLE_BYTES:] + more
    return data


def folded(data: bytes) -> dict[str, set[Row]]:
    snapshot = Snapshot.open(io.BytesIO(data))
    state: dict[str, set[Row]] = {table.name: set() for table in snapshot.catalog.tables}
    for table, rows in snapshot.rows():
        state[table.name].update(rows)
    return state


def test_preamble_is_the_vector() -> None:
    data = preamble(1000)
    assert data.hex() == VECTOR_PREAMBLE + hashlib.blake2b(data[2:26], digest_size=8).hexdigest()
    assert len(data) == PREAMBLE_BYTES


def test_an_object_is_the_vector() -> None:
    assert hashlib.sha256(small_object(0)).hexdigest() == VECTOR_OBJECT_SHA256


def test_the_plain_reader_and_the_fold_agree() -> None:
    data = small_object()
    tables, attributes = plain_reader.read(data)
    assert {name: set(rows.values()) for name, rows in tables.items()} == folded(data)
    assert folded(data)["sites"] == {(1, "a3")}
    assert attributes == {"user_version": 3}
    assert Snapshot.open(io.BytesIO(data)).attributes == attributes


def test_the_plain_reader_has_at_most_sixty_lines() -> None:
    with open(plain_reader.__file__, encoding="utf-8") as file:
        assert len(file.readlines()) <= 60


def test_every_truncation_is_detected() -> None:
    data = small_object()
    for length in range(len(data)):
        with pytest.raises(SnapshotDamaged):
            folded(data[:length])


def test_every_flipped_bit_is_detected() -> None:
    data = small_object(1)
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << (position % 8)
        with pytest.raises(SnapshotDamaged):
            folded(bytes(flipped))


def test_an_unfinished_append_is_not_part_of_the_object() -> None:
    data = small_object()
    for rest in (b"\x92", b"garbage", bytes(5000), small_object(3)[len(data) - 9 :]):
        snapshot = Snapshot.open(io.BytesIO(data + rest))
        assert snapshot.mark.serial == 3
        assert snapshot.unfinished_bytes == len(rest)


def test_frames_cannot_be_dropped_repeated_or_reordered() -> None:
    data = small_object(3)
    ends = [publish.end for publish in Snapshot.open(io.BytesIO(data)).publishes]
    first, second, third = (data[a:b] for a, b in itertools.pairwise(ends))
    base = data[PREAMBLE_BYTES : ends[0]]
    for frames in (
        base + second + third,
        base + first + first + second,
        base + second + first + third,
        base + first + second + third + third,
    ):
        with pytest.raises(SnapshotDamaged):
            folded(preamble(PREAMBLE_BYTES + len(frames)) + frames)


def test_a_floor_object_goes_to_the_end_of_the_stream() -> None:
    data = small_object()
    ends = [publish.end for publish in Snapshot.open(io.BytesIO(data)).publishes]
    floor = preamble(ends[0], floor=True) + data[PREAMBLE_BYTES:]
    assert folded(floor) == folded(data)
    assert plain_reader.read(floor) == plain_reader.read(data)
    with pytest.raises(SnapshotDamaged):
        folded(floor[:-1])
    with pytest.raises(SnapshotDamaged):
        folded(floor[: ends[0] - 1])


def test_extent_finds_the_last_seal() -> None:
    data = small_object()
    found = extent(io.BytesIO(data))
    assert found is not None
    assert (found.mark, found.end) == (Mark(LINEAGE, 1, 3, "22" * 16), len(data))


@pytest.mark.parametrize(
    "content",
    [b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"\xc1", b"\xc7\x00\x05", b"\xdf\xff\xff\xff\xff"],
    ids=["long array", "deep nesting", "reserved", "unknown extension", "long map"],
)
def test_hostile_msgpack_is_damage(content: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        unpack(content)


def test_a_frame_that_lies_about_its_length_is_damage() -> None:
    frames = b"\x92\xc6\xff\xff\xff\xff" + bytes(100)
    with pytest.raises(SnapshotDamaged):
        folded(preamble(PREAMBLE_BYTES + len(frames)) + frames)
    with pytest.raises(SnapshotDamaged):
        folded(preamble(PREAMBLE_BYTES, floor=True) + frames)


values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.binary(min_size=1).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@given(st.lists(values))
def test_values_come_back_as_they_were(row: list[object]) -> None:
    back = unpack(pack(row))
    assert [(type(value), repr(value)) for value in back] == [
        (type(value), repr(value)) for value in row
    ]


@given(st.randoms(use_true_random=False))
def test_garbage_is_damage_and_never_a_crash(random_: random.Random) -> None:
    data = bytearray(small_object(1))
    for _ in range(random_.randint(1, 8)):
        begin = random_.randrange(len(data))
        data[begin : begin + random_.randint(0, 40)] = random_.randbytes(random_.randint(0, 40))
    if bytes(data) == small_object(1):
        return
    try:
        state = folded(bytes(data))
    except SnapshotDamaged:
        return
    assert state == folded(small_object(1))


def test_small_frames_are_small() -> None:
    content = [[[1, "u", [1], [1, "name"], 1.0]], {}]
    data, _ = encode("tail", 9, bytes(32), {"epoch": 1, "at": 1.0, "token": bytes(16)}, content)
    assert len(data) < 200


# What a seal says besides: where the state came from, and who published it

ORIGIN = "7f3a:1204:00112233445566778899aabbccddeeff"
AUTHOR = Author("gate-1", 4211, "controller")


def sealed(
    mark: Mark, author: Author | None = None, facts: Mapping[str, object] | None = None
) -> bytes:
    """An object of one publish, whose seal says ``facts`` too."""
    header, digest = encode(HEADER, 1, NO_DIGEST, None, {"lineage": LINEAGE})
    seal, _ = encode(
        SEAL, 1, digest, {**seal_of(mark, 1.5, author), **(facts or {})}, {"tables": {}}
    )
    return preamble(PREAMBLE_BYTES + len(header + seal)) + header + seal


def test_a_seal_tells_where_the_state_came_from_and_who_published_it() -> None:
    mark = Mark(LINEAGE, 1, 1, "11" * 16, ORIGIN)
    data = sealed(mark, AUTHOR)
    found = extent(io.BytesIO(data))
    assert found is not None
    assert found.mark.origin == ORIGIN
    (publish,) = Snapshot.open(io.BytesIO(data)).history
    assert (publish.mark.origin, publish.by) == (ORIGIN, AUTHOR)
    (seal,) = outside(io.BytesIO(data)).seals
    assert (seal.mark.origin, seal.by) == (ORIGIN, AUTHOR)
    (told,) = [seal for *_, seal, _ in plain_reader.frames(data, None) if seal]
    assert told["origin"] == ORIGIN
    assert told["by"] == {"host": "gate-1", "process": 4211, "name": "controller"}


def test_a_seal_that_says_neither_is_as_it_always_was() -> None:
    data = sealed(Mark(LINEAGE, 1, 1, "11" * 16))
    (publish,) = Snapshot.open(io.BytesIO(data)).history
    assert (publish.mark.origin, publish.by) == ("", None)
    (told,) = [seal for *_, seal, _ in plain_reader.frames(data, None) if seal]
    assert sorted(told) == ["at", "epoch", "token"]


@pytest.mark.parametrize(
    "facts",
    [
        {"origin": "x" * 401},
        {"origin": "two\nlines"},
        {"origin": "\x1b[31m"},
        {"origin": "caf\xe9"},
        {"origin": b"bytes"},
        {"origin": None},
        {"by": "gate-1"},
        {"by": {"host": 7}},
        {"by": {"host": "h" * 256}},
        {"by": {"host": "h", "process": -1}},
        {"by": {"host": "h", "process": True}},
        {"by": {"host": "h", "process": 1, "name": b"x"}},
    ],
)
def test_an_origin_or_author_that_no_writer_makes_is_damage(facts: dict[str, object]) -> None:
    data = sealed(Mark(LINEAGE, 1, 1, "11" * 16), facts=facts)
    with pytest.raises(SnapshotDamaged):
        Snapshot.open(io.BytesIO(data))
    with pytest.raises(SnapshotDamaged):
        outside(io.BytesIO(data))


def test_an_origin_that_no_reader_would_take_is_never_written() -> None:
    for bad in ("x" * 401, "two\nlines", "caf\xe9"):
        with pytest.raises(ValueError, match="origin"):
            seal_of(Mark(LINEAGE, 1, 1, "11" * 16, bad), 1.5)


def test_an_origin_of_any_characters_and_full_length_travels_as_metadata() -> None:
    printable = "".join(map(chr, range(32, 127)))
    for origin in (printable, f" {printable}  ", "%" * 400, " " * 400, ""):
        mark = Mark(LINEAGE, 2**61, 2**61, "11" * 16, origin)
        for joint in ("_", "-"):
            metadata = to_metadata(mark, joint)
            assert sum(len(name) + len(value) for name, value in metadata.items()) < 2000
            assert all(value == value.strip() for value in metadata.values())
            found = from_metadata(metadata, joint)
            assert found is not None
            assert (found, found.origin) == (mark, origin)
