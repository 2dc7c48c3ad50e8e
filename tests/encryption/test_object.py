"""An encrypted object shows nothing of what it holds, and whoever changes it is found out."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from bequest.errors import KeyMissing, SnapshotDamaged
from bequest.model import Catalog, Mark, Mutation, Operation, Row
from bequest.snapshot.extent import extent
from bequest.snapshot.fold import Snapshot
from bequest.snapshot.frame import (
    ENCRYPTION_BYTES,
    HEADER,
    PREAMBLE_BYTES,
    SEAL,
    TAIL,
    Lock,
    content,
    decode_body,
    enclose,
    encode,
    pack,
    preamble,
    squeeze,
    unlocked,
    unpack,
)
from bequest.snapshot.outside import outside
from bequest.snapshot.reader import FrameReader
from bequest.snapshot.writer import FrameWriter, seal_of, write_base, write_tail
from bequest_adapters.cipher import KeyRing, key_id
from tests.format import plain_reader
from tests.format.test_vectors import LINEAGE, NOTES, SITES, FakeCut

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
CANARY = "the canary that nobody may see"
VECTOR_ID = "e68756f1cb26efa1"
VECTOR_PAYLOAD = "202122232425262728292a2b539cd2110ef47f7d9aba35c703af46024ef6d6366fd664bf07"
FORMAT = Path(__file__).parents[2] / "schema" / "FORMAT.md"


def ring(*keys: bytes, seed: int = 7) -> KeyRing:
    """Keys whose nonces are the same in every run; never do that with a real one."""
    return KeyRing(keys or (KEY,), random=random.Random(seed).randbytes)


def mark(serial: int, epoch: int = 1) -> Mark:
    return Mark(LINEAGE, epoch, serial, f"{serial:032x}")


def built(lock: Lock | None, rows: int = 3) -> bytes:
    """A base, a tail, a table told whole again, and an adoption: frames of every kind."""
    state = {1: [(n, f"{CANARY} {n}") for n in range(rows)], 2: [(1, CANARY.encode())]}
    header = {"format": 1, "lineage": LINEAGE, "epoch": 1, "dialect": "sqlite"}
    catalog = Catalog((SITES, NOTES))
    body = io.BytesIO()
    facts = {"fact": CANARY}
    chain, _, _ = write_base(
        FakeCut(state),
        header,
        catalog,
        facts,
        mark(1),
        1.5,
        body,
        lock=lock,  # type: ignore[arg-type]
    )
    data = body.getvalue()
    changes = [Mutation(1, Operation.UPDATE, (1,), (1, f"{CANARY} again"), 2.0)]
    more, chain = write_tail(changes, {"fact": None}, [], mark(2), 2.5, chain, 1 << 20, lock)
    data += more
    whole = [(NOTES, [[(5, CANARY)]])]
    more, chain = write_tail([], {}, whole, mark(3), 3.5, chain, 1 << 20, lock)
    data += more
    parts: list[bytes] = []
    FrameWriter(4, chain, parts.append, lock=lock).frame(
        SEAL, {"adopted": True}, seal_of(mark(4, 2), 4.5)
    )
    return sized(data + b"".join(parts))


def sized(data: bytes, *, floor: bool = False) -> bytes:
    return preamble(len(data), floor=floor) + data[PREAMBLE_BYTES:]


def state(data: bytes, cipher: KeyRing | None = None) -> dict[str, set[Row]]:
    found: dict[str, set[Row]] = {}
    for table, rows in Snapshot.open(io.BytesIO(data), cipher).rows():
        found.setdefault(table.name, set()).update(rows)
    return found


def frames(data: bytes) -> list[bytes]:
    """The frames' bytes, one by one."""
    reader = FrameReader(io.BytesIO(data))
    ends = [PREAMBLE_BYTES, *(reader.end for _ in reader)]
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


def fields_of(frame: bytes) -> list[object]:
    body, _ = unpack(frame)
    return list(unpack(body))


def rebuilt(data: bytes, change: Callable[[int, list[object]], None]) -> bytes:
    """The object with fields of its frames changed, digests and chain made anew."""
    previous, parts = bytes(32), []
    for index, frame in enumerate(frames(data)):
        fields = fields_of(frame)
        fields[2] = previous
        change(index, fields)
        body = pack(fields)
        previous = hashlib.blake2b(body, digest_size=32).digest()
        parts.append(pack([body, previous]))
    return sized(bytes(PREAMBLE_BYTES) + b"".join(parts))


LOCKED = built(Lock(ring(), key_id(KEY)))
LARGE = built(Lock(ring(), key_id(KEY)), rows=5000)
PLAIN = built(None)


def test_the_format_states_the_vector() -> None:
    told = re.sub(r"\s|`", "", FORMAT.read_text(encoding="utf-8"))
    nonce = bytes(range(32, 44))
    lock = Lock(KeyRing([KEY], random=lambda size: nonce[:size]), VECTOR_ID)
    seal = {"epoch": 1, "at": 1.5, "token": bytes(16)}
    data, _ = enclose(SEAL, 1, bytes(32), seal, *squeeze(pack({"tables": {}})), lock)
    body, _ = unpack(data)
    payload = unpack(body)[6]
    assert (key_id(KEY), payload.hex()) == (VECTOR_ID, VECTOR_PAYLOAD)
    assert VECTOR_ID in told
    assert VECTOR_PAYLOAD in told


@pytest.mark.parametrize("data", [LOCKED, LARGE], ids=["small", "large"])
def test_with_the_key_it_is_what_was_written(data: bytes) -> None:
    opened = Snapshot.open(io.BytesIO(data), ring())
    assert opened.key_id == key_id(KEY)
    assert opened.attributes == {}
    assert opened.mark == mark(4, 2)
    found = state(data, ring(OTHER, KEY))
    assert found["notes"] == {(5, CANARY)}
    assert (1, f"{CANARY} again") in found["sites"]
    assert state(sized(data, floor=True), ring()) == found


def test_it_is_the_plain_object_under_a_key() -> None:
    assert state(LOCKED, ring()) == state(PLAIN)
    assert state(PLAIN, ring()) == state(PLAIN)
    assert {fields_of(frame)[0] for frame in frames(LOCKED)} == {
        "header", "schema", "rows", "tail", "seal",
    }  # fmt: skip
    sizes = [len(b) - len(a) for a, b in zip(frames(PLAIN), frames(LOCKED), strict=True)]
    assert sizes[0] == 0
    assert all(ENCRYPTION_BYTES + 16 <= size <= ENCRYPTION_BYTES + 18 for size in sizes[1:])


def test_the_plain_reader_opens_it_with_the_key() -> None:
    def decrypt(front: bytes, payload: bytes) -> bytes:
        return AESGCM(KEY).decrypt(payload[:12], payload[12:], front)

    assert plain_reader.read(LOCKED, decrypt) == plain_reader.read(PLAIN)


def test_it_shows_no_row_no_name_and_no_key() -> None:
    for secret in (CANARY.encode(), b"sites", b"name", KEY, KEY.hex().encode()):
        assert secret not in LOCKED
    assert b"sites" in PLAIN


def test_without_the_key_it_names_the_one_that_is_needed() -> None:
    for cipher in (None, ring(OTHER)):
        with pytest.raises(KeyMissing, match=key_id(KEY)):
            Snapshot.open(io.BytesIO(LOCKED), cipher)


def test_without_the_key_it_can_be_checked_and_placed() -> None:
    found = extent(io.BytesIO(LOCKED))
    assert found is not None
    assert (found.mark, found.end) == (mark(4, 2), len(LOCKED))
    seen = outside(io.BytesIO(LOCKED))
    assert seen.key_id == key_id(KEY)
    assert [(seal.mark.serial, seal.at) for seal in seen.seals] == [
        (1, 1.5), (2, 2.5), (3, 3.5), (4, 4.5),
    ]  # fmt: skip
    for position in range(0, len(LOCKED), 7):
        flipped = bytearray(LOCKED)
        flipped[position] ^= 1
        with pytest.raises(SnapshotDamaged):
            outside(io.BytesIO(bytes(flipped)))


def test_a_payload_holds_in_its_own_place_only() -> None:
    twins = [index for index, frame in enumerate(frames(LOCKED)) if fields_of(frame)[0] == "rows"]
    payloads = [fields_of(frame)[6] for frame in frames(LOCKED)]

    def swapped(index: int, fields: list[object]) -> None:
        if index in twins[:2]:
            fields[6] = payloads[twins[0] + twins[1] - index]

    with pytest.raises(SnapshotDamaged, match="not made under the key"):
        Snapshot.open(io.BytesIO(rebuilt(LOCKED, swapped)), ring())


FORGERIES: dict[str, tuple[int, object]] = {
    "another kind": (0, "tail"),
    "another serial": (1, 9),
    "another seal": (3, {"epoch": 9, "at": 4.5, "token": bytes(16)}),
    "another codec": (4, "zstd"),
    "no nonce": (6, b""),
    "half a nonce": (6, bytes(6)),
    "no tag": (6, bytes(27)),
    "nothing of ours": (6, bytes(64)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_stands_around_a_payload_cannot_be_changed(name: str) -> None:
    field, value = FORGERIES[name]
    last = len(frames(LOCKED)) - 1

    def forged(index: int, fields: list[object]) -> None:
        if index == last:
            fields[field] = value

    data = rebuilt(LOCKED, forged)
    with pytest.raises(SnapshotDamaged):
        Snapshot.open(io.BytesIO(data), ring())


def test_changing_the_header_breaks_what_follows() -> None:
    def forged(index: int, fields: list[object]) -> None:
        if index == 0:
            fields[6] = pack({"format": 1, "lineage": LINEAGE, "epoch": 1, "dialect": "other"})
            fields[4] = "raw"

    with pytest.raises(SnapshotDamaged, match="not made under the key"):
        Snapshot.open(io.BytesIO(rebuilt(LOCKED, forged)), ring())


@pytest.mark.parametrize("key", [None, key_id(OTHER)], ids=["plain", "another key"])
def test_nobody_without_the_key_can_add_a_frame(key: str | None) -> None:
    """Digests are no secret: a chain can be continued by anybody who may write to the store."""
    chain = unpack(frames(LOCKED)[-1])[1]
    lock = None if key is None else Lock(ring(OTHER), key)
    changes = [Mutation(1, Operation.UPDATE, (1,), (1, "forged"), 5.0)]
    more, _ = write_tail(changes, {}, [], mark(5, 2), 5.0, chain, 1 << 20, lock)
    data = sized(LOCKED + more)
    for cipher in (ring(), ring(KEY, OTHER), None):
        with pytest.raises((SnapshotDamaged, KeyMissing)):
            Snapshot.open(io.BytesIO(data), cipher)
    with pytest.raises(SnapshotDamaged, match="not under the key of the others"):
        outside(io.BytesIO(data))


def test_a_key_on_the_header_or_of_unknown_form_is_refused() -> None:
    for index, key in ((0, key_id(KEY)), (1, "aes-512:1"), (1, 7), (1, b"x"), (1, "")):

        def forged(
            number: int, fields: list[object], index: int = index, key: object = key
        ) -> None:
            if number == index:
                fields[5] = key

        with pytest.raises(SnapshotDamaged):
            outside(io.BytesIO(rebuilt(LOCKED, forged)))


values = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary(max_size=400))


@given(
    values, st.sampled_from([TAIL, SEAL, "rows", "schema"]), st.integers(0, 2**40), st.booleans()
)
def test_every_frame_comes_back(value: object, kind: str, serial: int, sealed: bool) -> None:
    seal = seal_of(mark(serial), 1.5) if sealed else None
    lock = Lock(KeyRing([KEY]), key_id(KEY))
    data, digest = enclose(kind, serial, bytes(32), seal, *squeeze(pack(value)), lock)
    body, told = unpack(data)
    assert told == digest
    assert pack(unpack(body)) == body, "the body is msgpack in its shortest form"
    frame = unlocked(decode_body(body, digest), KeyRing([OTHER, KEY]))
    assert content(frame) == value
    plain, _ = encode(kind, serial, bytes(32), seal, value)
    assert ENCRYPTION_BYTES + 16 <= len(data) - len(plain) <= ENCRYPTION_BYTES + 20


def test_a_header_stays_in_the_clear() -> None:
    lock = Lock(ring(), key_id(KEY))
    facts = squeeze(pack({"lineage": LINEAGE}))
    assert enclose(HEADER, 1, bytes(32), None, *facts, lock) == enclose(
        HEADER, 1, bytes(32), None, *facts
    )


@given(st.randoms(use_true_random=False))
def test_garbage_is_damage_and_never_a_crash(chance: random.Random) -> None:
    data = bytearray(LOCKED)
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    if bytes(data) == LOCKED:
        return
    with pytest.raises(SnapshotDamaged):
        Snapshot.open(io.BytesIO(bytes(data)), ring())
