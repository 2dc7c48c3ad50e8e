"""Objects of every kind, whole; and objects made to do harm, with digests and chain in order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import zstandard

from bequest.model import Catalog, Column, Mark, Mutation, Operation, Row, Table
from bequest.snapshot.frame import HEADER, PREAMBLE_BYTES, ROWS, SCHEMA, SEAL, TAIL, preamble
from bequest.snapshot.writer import FrameWriter, seal_of, write_base, write_tail

LINEAGE = "00000000-0000-4000-8000-000000000001"
SITES = Table(
    1,
    "sites",
    (Column("id", "INTEGER"), Column("name", "TEXT")),
    (0,),
    "CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT)",
)
NOTES = Table(2, "notes", (Column("text", "TEXT"),), (), "CREATE TABLE notes (text TEXT)")


class Rows:
    """A cut over rows in memory."""

    def __init__(self, rows: dict[int, Sequence[Row]]) -> None:
        self._rows = rows

    def scan(self, table: Table):  # type: ignore[no-untyped-def]
        yield self._rows.get(table.id, [])


def _mark(serial: int, epoch: int = 1) -> Mark:
    return Mark(LINEAGE, epoch, serial, f"{serial:032x}")


def _base(rows: int) -> tuple[bytes, bytes]:
    body = io.BytesIO()
    header = {"format": 1, "lineage": LINEAGE, "epoch": 1, "dialect": "sqlite"}
    cut = Rows({1: [(number, f"site {number}") for number in range(rows)], 2: [("n",), (b"\xff",)]})
    catalog = Catalog((SITES, NOTES))
    chain, _, _ = write_base(cut, header, catalog, {"user_version": 7}, _mark(1), 1.5, body)  # type: ignore[arg-type]
    return body.getvalue(), chain


def grown(data: bytes, more: bytes, *, floor: bool = False) -> bytes:
    """An object after an append."""
    return preamble(len(data) + len(more), floor=floor) + data[PREAMBLE_BYTES:] + more


def base_only() -> bytes:
    return _base(3)[0]


def compressed_base() -> bytes:
    return _base(120)[0]


def with_tails() -> bytes:
    data, chain = _base(3)
    for serial in (2, 3):
        mutations = [
            Mutation(1, Operation.UPDATE, (1,), (1, f"again {serial}"), 2.0),
            Mutation(1, Operation.DELETE, (2,), None, 2.0),
        ]
        more, chain = write_tail(
            mutations, {"user_version": serial}, [], _mark(serial), 2.5, chain, 1 << 20
        )
        data = grown(data, more)
    return data


def with_a_reset() -> bytes:
    data, chain = _base(3)
    whole = [(SITES, [[(5, "five")], [(6, "six")]])]
    more, _ = write_tail([], {}, whole, _mark(2), 2.5, chain, 1 << 20)
    return grown(data, more)


def adopted() -> bytes:
    data, chain = _base(3)
    parts: list[bytes] = []
    writer = FrameWriter(2, chain, parts.append)
    writer.frame(SEAL, {"adopted": True}, seal_of(_mark(2, 2), 3.0))
    return grown(data, b"".join(parts))


def floor() -> bytes:
    data, chain = _base(3)
    more, _ = write_tail(
        [Mutation(1, Operation.DELETE, (2,), None, 2.0)], {}, [], _mark(2), 2.5, chain, 1 << 20
    )
    return preamble(len(data), floor=True) + data[PREAMBLE_BYTES:] + more


WHOLE: dict[str, Callable[[], bytes]] = {
    "a base": base_only,
    "a compressed base": compressed_base,
    "a base and two tails": with_tails,
    "a table published whole again": with_a_reset,
    "an adopted object": adopted,
    "a floor object": floor,
}

SCHEMA_CONTENT: dict[str, Any] = {
    "tables": [
        {
            "id": 1,
            "name": "sites",
            "schema": None,
            "columns": [["id", "INTEGER", ""], ["name", "TEXT", ""]],
            "key": [0],
            "sql": "CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT)",
            "options": {},
        }
    ],
    "objects": [],
    "not_covered": [],
    "attributes": {},
}
HEADER_CONTENT: dict[str, Any] = {
    "format": 1,
    "lineage": LINEAGE,
    "epoch": 1,
    "dialect": "sqlite",
    "server": "",
    "revisions": [],
}
GOOD_SEAL: dict[str, Any] = {"epoch": 1, "at": 1.5, "token": bytes(16)}


def frame(
    kind: str,
    serial: Any,
    previous: bytes,
    seal: Any,
    payload: bytes,
    codec: str = "raw",
) -> tuple[bytes, bytes]:
    """One frame with a right digest, whatever it holds."""
    body = msgpack.packb([kind, serial, previous, seal, codec, None, payload])
    digest = hashlib.blake2b(body, digest_size=32).digest()
    return b"\x92" + msgpack.packb(body) + msgpack.packb(digest), digest


def crafted(
    *,
    header: Any = None,
    schema: Any = None,
    rows: Any = None,
    rows_payload: tuple[str, bytes] | None = None,
    tail: Any = None,
    seal: Any = None,
    serial: Any = 1,
    payloads: dict[str, bytes] | None = None,
) -> bytes:
    """An object whose digests, chain and preamble are right, and whose content is as given."""
    given = payloads or {}
    content: list[tuple[str, str, bytes]] = []

    def add(kind: str, value: Any) -> None:
        content.append((kind, "raw", given.get(kind) or msgpack.packb(value)))

    add(HEADER, HEADER_CONTENT | (header or {}))
    add(SCHEMA, SCHEMA_CONTENT | schema if isinstance(schema, dict) else schema or SCHEMA_CONTENT)
    if rows_payload is not None:
        content.append((ROWS, *rows_payload))
    else:
        add(ROWS, rows if rows is not None else [1, [[1, 2], ["a", "b"]], False])
    if tail is not None or TAIL in given:
        add(TAIL, tail)
    add(SEAL, {"tables": {}})
    previous, frames = bytes(32), b""
    for index, (kind, codec, payload) in enumerate(content):
        last = index == len(content) - 1
        sealed = (GOOD_SEAL if seal is None else seal) if last else None
        data, previous = frame(kind, serial, previous, sealed, payload, codec)
        frames += data
    return preamble(PREAMBLE_BYTES + len(frames)) + frames


def table(**changes: Any) -> dict[str, Any]:
    """The schema with its one table changed."""
    return {"tables": [SCHEMA_CONTENT["tables"][0] | changes]}


def zstd(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(payload)


def bomb(fill: bytes, count: int, columns: int = 1) -> bytes:
    """A rows frame of ``count`` small values a column, packed small."""
    column = b"\xdd" + count.to_bytes(4, "big") + fill * count
    return b"\x93\x01" + bytes([0x90 | columns]) + column * columns + b"\xc2"


EVIL_NAME = 'x"; DROP TABLE other; --'
NESTED = b"\x91" * 100_000 + b"\xc0"
"""Deeper than any stack."""

HOSTILE: dict[str, Callable[[], bytes]] = {
    "a bomb of nils": lambda: crafted(rows_payload=("zstd", zstd(bomb(b"\xc0", 100_000_000, 2)))),
    "a bomb that is just small enough to be unpacked": lambda: crafted(
        schema=table(columns=[["id", "", ""]]),
        rows_payload=("zstd", zstd(bomb(b"\xc0", 8_388_500))),
        tail=5,
    ),
    "a bomb of empty lists": lambda: crafted(
        rows_payload=("zstd", zstd(bomb(b"\x90", 50_000_000)))
    ),
    "a bomb of many columns": lambda: crafted(
        rows_payload=(
            "zstd",
            zstd(b"\x93\x01\xdd\x00\x10\x00\x00" + b"\x91\xc0" * 0x100000 + b"\xc2"),
        )
    ),
    "a bomb of zero bytes": lambda: crafted(
        rows_payload=("zstd", zstd(b"\xc6\x0f\xff\xff\xf0" + bytes(0xFFFFFF0)))
    ),
    "a packed frame that unpacks to more than it says": lambda: crafted(
        rows_payload=("zstd", _lying(10))
    ),
    "a packed frame that says it is absurdly long": lambda: crafted(
        rows_payload=("zstd", _lying(1 << 60))
    ),
    "a packed frame that is not one": lambda: crafted(rows_payload=("zstd", b"garbage")),
    "a packed frame without a length": lambda: crafted(
        rows_payload=(
            "zstd",
            zstandard.ZstdCompressor(write_content_size=False).compress(bytes(99)),
        )
    ),
    "an unknown codec": lambda: crafted(rows_payload=("lzma", b"")),
    "an array that says it is absurdly long": lambda: crafted(
        rows_payload=("raw", b"\x93\x01\xdd\xff\xff\xff\xff")
    ),
    "a map that says it is absurdly long": lambda: crafted(
        payloads={SCHEMA: b"\xdf\xff\xff\xff\xff"}
    ),
    **{
        f"deep nesting in the {kind}": lambda kind=kind: crafted(payloads={kind: NESTED})
        for kind in (HEADER, SCHEMA, ROWS, TAIL)
    },
    "invalid UTF-8 in a name": lambda: crafted(
        payloads={SCHEMA: msgpack.packb(SCHEMA_CONTENT).replace(b"\xa5sites", b"\xa5s\xfftes")}
    ),
    "a time stamp extension": lambda: crafted(rows=[1, [[1], [msgpack.Timestamp(1)]], False]),
    "an unknown extension": lambda: crafted(rows=[1, [[1], [msgpack.ExtType(9, b"x")]], False]),
    "a list for a value": lambda: crafted(rows=[1, [[1], [[1, 2]]], False]),
    "a map for a value": lambda: crafted(rows=[1, [[1], [{"a": 1}]], False]),
    "a boolean for a value": lambda: crafted(rows=[1, [[1], [True]], False]),
    "an integer no database holds": lambda: crafted(rows=[1, [[1], [2**64 - 1]], False]),
    "a list for a key": lambda: crafted(tail=[[[1, "i", [[1]], [[1], "x"], 1.0]], {}]),
    "a list for a value in the tail": lambda: crafted(tail=[[[1, "i", [1], [1, ["x"]], 1.0]], {}]),
    "a huge integer in the tail": lambda: crafted(tail=[[[1, "i", [1], [1, 2**64 - 1], 1.0]], {}]),
    "columns of two lengths": lambda: crafted(rows=[1, [[1, 2], ["a"]], False]),
    "a column too few": lambda: crafted(rows=[1, [[1, 2]], False]),
    "rows of an unknown table": lambda: crafted(rows=[9, [[1], ["a"]], False]),
    "a table number that is a list": lambda: crafted(rows=[[1], [[1], ["a"]], False]),
    "a tail of an unknown table": lambda: crafted(tail=[[[9, "i", [1], [1, "x"], 1.0]], {}]),
    "an unknown operation": lambda: crafted(tail=[[[1, "z", [1], [1, "x"], 1.0]], {}]),
    "a key that is too long": lambda: crafted(tail=[[[1, "i", [1, 2], [1, "x"], 1.0]], {}]),
    "a row that is too short": lambda: crafted(tail=[[[1, "i", [1], [1], 1.0]], {}]),
    "a time that is none": lambda: crafted(tail=[[[1, "i", [1], [1, "x"], "noon"]], {}]),
    "attributes that are none": lambda: crafted(tail=[[], [1, 2]]),
    "a tail that is a number": lambda: crafted(tail=5),
    "no lineage": lambda: crafted(header={"lineage": ""}),
    "a lineage that is a number": lambda: crafted(header={"lineage": 5}),
    "tables that are a text": lambda: crafted(schema={"tables": "sites"}),
    "a table twice": lambda: crafted(schema={"tables": SCHEMA_CONTENT["tables"] * 2}),
    "a table number twice": lambda: crafted(
        schema={
            "tables": [
                SCHEMA_CONTENT["tables"][0],
                SCHEMA_CONTENT["tables"][0] | {"name": "b", "sql": "CREATE TABLE b (id, name)"},
            ]
        }
    ),
    "a key beyond the columns": lambda: crafted(schema=table(key=[7])),
    "a table without columns": lambda: crafted(schema=table(columns=[])),
    "a name that is a number": lambda: crafted(schema=table(name=5)),
    "a schema that is a list": lambda: crafted(schema=table(schema=[1])),
    "options that are a list": lambda: crafted(schema=table(options=[1])),
    "an object that is too short": lambda: crafted(schema={"objects": [["index", "i"]]}),
    "revisions that are a number": lambda: crafted(header={"revisions": 5}),
    "a dialect that is a list": lambda: crafted(header={"dialect": ["sqlite"]}),
    "an attribute that is a list": lambda: crafted(schema={"attributes": {"user_version": [1]}}),
    "an attribute whose name is a number": lambda: crafted(schema={"attributes": {5: 1}}),
    "an attribute that is SQL": lambda: crafted(
        schema={"attributes": {"user_version": "1; DROP TABLE other"}}
    ),
    "a reason that is a number": lambda: crafted(schema={"not_covered": [["x", 1]]}),
    "a virtual table that attaches": lambda: crafted(
        schema={"objects": [["virtual", "v", "v", "ATTACH DATABASE 'evil.db' AS evil"]]}
    ),
    "a token that is a text": lambda: crafted(seal=GOOD_SEAL | {"token": "x"}),
    "an epoch that is a text": lambda: crafted(seal=GOOD_SEAL | {"epoch": "1"}),
    "an epoch beyond all": lambda: crafted(seal=GOOD_SEAL | {"epoch": 2**64 - 1}),
    "an epoch below zero": lambda: crafted(seal=GOOD_SEAL | {"epoch": -5}),
    "a serial beyond all": lambda: crafted(serial=2**64 - 1),
    "a seal without a time": lambda: crafted(seal={"epoch": 1, "token": bytes(16)}),
    "a time beyond all": lambda: crafted(seal=GOOD_SEAL | {"at": 1e300}),
    "a time that is no number": lambda: crafted(seal=GOOD_SEAL | {"at": float("nan")}),
    "a time of a mutation beyond all": lambda: crafted(tail=[[[1, "i", [1], [1, "x"], 1e300]], {}]),
    "SQL for a table's definition": lambda: crafted(schema=table(sql="DROP TABLE other")),
    "two statements for a definition": lambda: crafted(
        schema=table(sql="CREATE TABLE sites (id, name); DROP TABLE other")
    ),
    "a definition that attaches": lambda: crafted(
        schema=table(sql="ATTACH DATABASE 'evil.db' AS evil")
    ),
    "a definition that selects": lambda: crafted(
        schema=table(sql="CREATE TABLE sites AS SELECT 1 AS id, 'x' AS name")
    ),
    "a definition of another table": lambda: crafted(
        schema=table(sql="CREATE TABLE another (id, name)")
    ),
    "a pragma for an index": lambda: crafted(
        schema={"objects": [["index", "i", "sites", "PRAGMA writable_schema = ON"]]}
    ),
    "an index that deletes": lambda: crafted(
        schema={"objects": [["index", "i", "sites", "DELETE FROM sites"]]}
    ),
}


def _lying(size: int) -> bytes:
    """A zstd frame whose header states ``size`` and whose content is longer."""
    packed = zstandard.ZstdCompressor(level=1).compress(bytes(1000))
    magic = packed[:4]
    return magic + b"\xe0" + size.to_bytes(8, "little") + packed[_header_bytes(packed) :]


def _header_bytes(packed: bytes) -> int:
    return int(zstandard.frame_header_size(packed))
