"""Frames: the self-contained, checksummed, chained pieces of the object, and its preamble.

Invariants:

* A frame's digest covers every byte of its body, and the body holds the digest of the frame
  before it. Changing, dropping, inserting or reordering any frame breaks the chain.
* The preamble says how long the object is, because a stream that only grows cannot tell a
  truncation between two frames from an older object (`docs/decisions/0002`).
* The payload of every frame but the header may be encrypted; it is then bound to all that stands
  before it in the body. Whether it can be read is asked last, so whoever has no key still checks
  digests and chain.
* A reader never believes a length before it has compared it with `FRAME_LIMIT_BYTES`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import zstandard

from ..errors import KeyMissing, SnapshotDamaged
from ..model import Value
from .soundness import counted

if TYPE_CHECKING:
    from ..ports import Cipher

FORMAT_VERSION: Final = 1
MAGIC: Final = b"BEQUEST"
PREAMBLE_BYTES: Final = 34
DIGEST_BYTES: Final = 32
FRAME_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""No body, packed or unpacked, is larger: it bounds a reader's memory."""
RAW_TEXT: Final = 1
"""msgpack extension type of a text value whose bytes are not valid UTF-8."""
BULKY_BYTES: Final = 8 * 1024 * 1024
"""A larger content is one of few, large values: writers end a frame of many values before that."""
BULKY_VALUES: Final = 1 << 22
MAP_LIMIT: Final = 1 << 20
COMPRESS_FROM_BYTES: Final = 256
COMPRESSION_LEVEL: Final = 3
SHORTEST_MATCH_BYTES: Final = 4
"""Columns repeat in short pieces. With the level's own 5 a base is 8% larger at the same cost, and
with level 6, at three times the cost, 4% larger."""
NO_DIGEST: Final = bytes(DIGEST_BYTES)
ENCRYPTION_BYTES: Final = 28
"""By so much an encrypted payload is longer: 12 bytes of nonce before it, 16 of tag behind it."""
KEY_ID: Final = re.compile("[0-9a-f]{16}")

HEADER, SCHEMA, ROWS, TAIL, SEAL = "header", "schema", "rows", "tail", "seal"
KINDS: Final = frozenset({HEADER, SCHEMA, ROWS, TAIL, SEAL})

_ARRAY_OF_TWO: Final = b"\x92"
_ARRAY_OF_SEVEN: Final = b"\x97"
_msgpack: Any = msgpack  # it ships no annotations
_zstandard: Any = zstandard  # its annotations leave this one open
_PREAMBLE_PREFIX: Final = b"\xc4\x20"
_HELP = "Restore from another copy or an earlier version of the object; keep this one for analysis."


@dataclass(frozen=True, slots=True)
class Preamble:
    """How long the object is: exactly (``floor`` false), or at least."""

    length: int
    floor: bool


@dataclass(frozen=True, slots=True)
class Lock:
    """What a publish is encrypted with: one of a cipher's keys."""

    cipher: Cipher
    key_id: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, its payload still packed as ``codec`` says.

    ``key_id`` is that of the key under which the payload still is, ``bound_to`` all that stands
    before it in the body.
    """

    kind: str
    serial: int
    previous: bytes
    seal: Mapping[str, Any] | None
    codec: str
    payload: bytes
    digest: bytes
    key_id: str | None = None
    bound_to: bytes = b""


def preamble(length: int, *, floor: bool = False) -> bytes:
    """The first 34 bytes of an object of ``length`` bytes."""
    fields = MAGIC + bytes([FORMAT_VERSION, floor]) + bytes(7) + length.to_bytes(8, "big")
    return _PREAMBLE_PREFIX + fields + _check(fields)


def parse_preamble(data: bytes) -> Preamble:
    """Read the first 34 bytes of an object.

    Raises `SnapshotDamaged` when they are not a preamble, or one of a newer format.
    """
    if len(data) < PREAMBLE_BYTES or data[2:9] != MAGIC:
        raise SnapshotDamaged(f"This is not a Bequest snapshot: it does not begin as one. {_HELP}")
    fields, check = data[2:26], data[26:34]
    if data[:2] != _PREAMBLE_PREFIX or _check(fields) != check:
        raise SnapshotDamaged(f"The snapshot's preamble is damaged. {_HELP}")
    if fields[7] != FORMAT_VERSION:
        raise SnapshotDamaged(
            f"The snapshot has format version {fields[7]}; this Bequest reads {FORMAT_VERSION}. "
            "Nothing is wrong with the object: use a Bequest release that reads its version."
        )
    length = int.from_bytes(fields[16:24], "big")
    if fields[8] > 1 or any(fields[9:16]) or length < PREAMBLE_BYTES:
        raise SnapshotDamaged(f"The snapshot's preamble makes no sense. {_HELP}")
    return Preamble(length, floor=bool(fields[8]))


def encode(
    kind: str, serial: int, previous: bytes, seal: Mapping[str, Any] | None, content: Any
) -> tuple[bytes, bytes]:
    """Build one frame; returns its bytes and its digest.

    Raises `ValueError` when a reader would refuse it as too large.
    """
    return enclose(kind, serial, previous, seal, *squeeze(packed(content)))


def packed(content: Any) -> bytes:
    """A payload before compression. Raises `ValueError` when it is over `FRAME_LIMIT_BYTES`."""
    return sized(pack(content))


def sized(payload: bytes) -> bytes:
    """``payload`` itself. Raises `ValueError` when a reader would refuse it as too large."""
    if len(payload) > FRAME_LIMIT_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes is over {FRAME_LIMIT_BYTES}")
    if len(payload) > BULKY_BYTES:
        _readable(payload)
    return payload


def squeeze(payload: bytes) -> tuple[str, bytes]:
    """The codec that suits a packed payload, and the payload under it. Safe in any thread."""
    if len(payload) >= COMPRESS_FROM_BYTES:
        parameters = _zstandard.ZstdCompressionParameters.from_level(
            COMPRESSION_LEVEL, source_size=len(payload), min_match=SHORTEST_MATCH_BYTES
        )
        smaller = zstandard.ZstdCompressor(compression_params=parameters).compress(payload)
        if len(smaller) < len(payload):
            return "zstd", smaller
    return "raw", payload


def enclose(
    kind: str,
    serial: int,
    previous: bytes,
    seal: Mapping[str, Any] | None,
    codec: str,
    payload: bytes,
    lock: Lock | None = None,
) -> tuple[bytes, bytes]:
    """Build one frame around a squeezed payload; returns its bytes and its digest.

    With a ``lock`` the payload is encrypted, unless it is the header's.
    """
    if lock is None or kind == HEADER:
        body = _packb([kind, serial, previous, seal, codec, None, payload])
    else:
        fields = (kind, serial, previous, seal, codec, lock.key_id)
        front = _ARRAY_OF_SEVEN + b"".join(map(_packb, fields))
        front += _bin_header(len(payload) + ENCRYPTION_BYTES)
        body = front + lock.cipher.encrypt(lock.key_id, payload, front)
    digest = hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()
    return _ARRAY_OF_TWO + _packb(body) + _packb(digest), digest


def decode_body(body: bytes, digest: bytes) -> Frame:
    """Check a body against its digest and take it apart.

    Raises `SnapshotDamaged`.
    """
    if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise SnapshotDamaged(f"A frame of the snapshot does not match its digest. {_HELP}")
    try:
        kind, serial, previous, seal, codec, key, payload = unpack(body)
    except (TypeError, ValueError) as error:
        raise SnapshotDamaged(f"A frame has not the shape of one ({error}). {_HELP}") from error
    shaped = (
        isinstance(kind, str)
        and counted(serial)
        and isinstance(previous, bytes)
        and len(previous) == DIGEST_BYTES
        and (seal is None or isinstance(seal, dict))
        and isinstance(payload, bytes)
    )
    if not shaped:
        raise SnapshotDamaged(f"A frame of the snapshot has not the shape of one. {_HELP}")
    if key is not None and not (isinstance(key, str) and KEY_ID.fullmatch(key)):
        raise SnapshotDamaged(
            "The snapshot is encrypted in a way that this Bequest does not know. Nothing is wrong "
            "with the object if a newer Bequest wrote it: use that release."
        )
    if kind not in KINDS or codec not in ("raw", "zstd"):
        raise SnapshotDamaged(
            f"The snapshot holds a frame of an unknown kind or codec ({kind!r}, {codec!r}). "
            "If a newer Bequest wrote it, use that release."
        )
    front = b"" if key is None else body[: len(body) - len(payload)]
    seal = cast("dict[str, Any] | None", seal)
    return Frame(kind, serial, previous, seal, codec, payload, digest, key, front)


def unlocked(frame: Frame, cipher: Cipher | None) -> Frame:
    """``frame`` with its payload in the clear, where ``cipher`` has its key; else as it is.

    Raises `SnapshotDamaged` when the payload was not made for this place.
    """
    key_id = frame.key_id
    if key_id is None or cipher is None or not cipher.holds(key_id):
        return frame
    clear = cipher.decrypt(key_id, frame.payload, frame.bound_to)
    return replace(frame, payload=clear, key_id=None, bound_to=b"")


def content(frame: Frame, *, lists: bool = True) -> Any:
    """A frame's payload, decompressed and unpacked; arrays as tuples unless ``lists``.

    Raises `SnapshotDamaged` when it cannot be, or is larger than `FRAME_LIMIT_BYTES`, and
    `KeyMissing` when it is encrypted.
    """
    return unpack(payload(frame), lists=lists)


def outline(frame: Frame) -> tuple[Any, int, int, bool]:
    """Table number, columns, rows and reset of a rows frame, its values checked for form only.

    Raises `SnapshotDamaged`, `TypeError`, `ValueError`.
    """
    data = payload(frame)
    if len(data) > BULKY_BYTES:
        number, columns, reset = unpack(data)
        return number, len(columns), len(columns[0]) if columns else 0, bool(reset)
    unpacker = _msgpack.Unpacker(max_buffer_size=0, raw=False, ext_hook=_extension)
    unpacker.feed(data)
    try:
        fields = unpacker.read_array_header()
        number, columns = unpacker.unpack(), unpacker.read_array_header()
        rows = len(unpacker.unpack()) if columns else 0
        for _ in range(columns - 1):
            unpacker.skip()
        reset = unpacker.unpack()
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise SnapshotDamaged(f"A frame holds no valid msgpack ({error}). {_HELP}") from error
    if fields != 3 or unpacker.tell() != len(data):
        raise ValueError("a rows frame of another shape")
    return number, columns, rows, bool(reset)


def payload(frame: Frame) -> bytes:
    """A frame's payload, decompressed. Raises `SnapshotDamaged` as `content`, `KeyMissing`."""
    if frame.key_id is not None:
        raise KeyMissing.named(frame.key_id)
    if frame.codec == "raw":
        return frame.payload
    try:
        size = zstandard.frame_content_size(frame.payload)
        if not 0 <= size <= FRAME_LIMIT_BYTES:
            raise SnapshotDamaged(f"A frame unpacks to {size} bytes, over the limit. {_HELP}")
        return zstandard.ZstdDecompressor().decompress(frame.payload, max_output_size=size)
    except zstandard.ZstdError as error:
        raise SnapshotDamaged(f"A frame cannot be decompressed ({error}). {_HELP}") from error


def content_bytes(frame: Frame) -> int:
    """How many bytes a frame's payload has when it is not compressed. ``content`` was read."""
    return (
        len(frame.payload) if frame.codec == "raw" else zstandard.frame_content_size(frame.payload)
    )


def pack(value: Any) -> bytes:
    """msgpack, with text that is not valid UTF-8 as extension type 1."""
    try:
        return _packb(value)
    except UnicodeEncodeError:
        return _packb(_escaped(value))


def unpack(data: bytes, *, lists: bool = True) -> Any:
    """The inverse of `pack`; arrays become tuples where ``lists`` is false.

    Raises `SnapshotDamaged` on anything that is not one msgpack value, or that would take a
    multiple of its own size in memory.
    """
    limits: dict[str, Any] = {"max_map_len": MAP_LIMIT}
    if len(data) > BULKY_BYTES:
        limits |= {"max_array_len": BULKY_VALUES, "list_hook": _Budget(BULKY_VALUES).spend}
    try:
        return _msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            use_list=lists,
            ext_hook=_extension,
            **limits,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise SnapshotDamaged(f"A frame holds no valid msgpack ({error}). {_HELP}") from error


class _Budget:
    """Counts the values of all lists as they are read."""

    def __init__(self, values: int) -> None:
        self._left = values

    def spend(self, found: list[Any]) -> list[Any]:
        self._left -= 1 + len(found)
        if self._left < 0:
            raise ValueError("too many values for one frame")
        return found


def _readable(payload: bytes) -> None:
    try:
        unpack(payload)
    except SnapshotDamaged as error:
        raise ValueError(str(error)) from error


def _packb(value: Any) -> bytes:
    return cast(bytes, _msgpack.packb(value, use_bin_type=True))


def _bin_header(size: int) -> bytes:
    """msgpack's own, in the shortest form."""
    for marker, width in ((b"\xc4", 1), (b"\xc5", 2)):
        if size < 1 << 8 * width:
            return marker + size.to_bytes(width, "big")
    return b"\xc6" + size.to_bytes(4, "big")


def _check(fields: bytes) -> bytes:
    return hashlib.blake2b(fields, digest_size=8).digest()


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return msgpack.ExtType(RAW_TEXT, value.encode("utf-8", "surrogateescape"))
        return value
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs: list[Any] = list(value.items())  # pyright: ignore[reportUnknownArgumentType]
        return {_escaped(key): _escaped(item) for key, item in pairs}
    return value


def _extension(code: int, data: bytes) -> Value:
    if code != RAW_TEXT:
        raise ValueError(f"unknown extension type {code}")
    return data.decode("utf-8", "surrogateescape")
