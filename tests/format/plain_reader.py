"""Reads a Bequest snapshot with msgpack and zstandard alone, as schema/FORMAT.md says."""

import hashlib

import msgpack
import zstandard


def unpack(data):
    text = lambda code, raw: raw.decode("utf-8", "surrogateescape")  # noqa: E731
    return msgpack.unpackb(data, strict_map_key=False, ext_hook=text)


def frames(data, decrypt):
    assert data[2:10] == b"BEQUEST\x01"
    assert hashlib.blake2b(data[2:26], digest_size=8).digest() == data[26:34]
    length = int.from_bytes(data[18:26], "big")
    assert len(data) >= length, "truncated"
    stream = msgpack.Unpacker(max_buffer_size=0)
    stream.feed(data[34:] if data[10] else data[34:length])
    previous, seal = bytes(32), None
    for body, digest in stream:
        assert hashlib.blake2b(body, digest_size=32).digest() == digest
        kind, serial, before, seal, codec, key, payload = unpack(body)
        assert before == previous
        payload = decrypt(body[: -len(payload)], payload) if key else payload
        payload = zstandard.ZstdDecompressor().decompress(payload) if codec == "zstd" else payload
        yield kind, serial, seal, unpack(payload)
        previous = digest
    assert seal is not None, "ends in the middle of a publish"


def read(data, decrypt=None):
    """Returns {table name: {key: row}} and the attributes; see FORMAT.md for ``decrypt``."""
    tables, state, attributes = {}, {}, {}
    numbers = zip(range(1 << 60))  # of rows that have no key
    for kind, _, _, content in frames(data, decrypt):
        if kind == "schema":
            tables = {table["id"]: table for table in content["tables"]}
            state = {number: {} for number in tables}
            attributes = content["attributes"]
        elif kind == "rows":
            number, columns, reset = content
            state[number] = {} if reset else state[number]
            for row in zip(*columns, strict=True):
                state[number][tuple(row[i] for i in tables[number]["key"]) or next(numbers)] = row
        elif kind == "tail":
            for number, operation, key, row, _ in content[0]:
                rows, row = state[number], row and tuple(row)
                same = (item for item in rows if rows[item] == row)  # where there is no key
                key = tuple(key) or next(same if operation == "d" else numbers)
                rows.pop(key, None)
                rows |= {key: row} if row and operation != "d" else {}
            attributes.update(content[1])
    kept = {name: value for name, value in attributes.items() if value is not None}
    return {tables[number]["name"]: rows for number, rows in state.items()}, kept


if __name__ == "__main__":
    print(read(open(0, "rb").read()))  # noqa: SIM115
