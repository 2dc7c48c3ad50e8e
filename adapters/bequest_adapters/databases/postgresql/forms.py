"""How a value of each PostgreSQL type travels: its *form*, and the way in and out.

Invariants: a value is read the same in every session (all settings that output depends on are
pinned), and what is read puts back the same value. Types whose wire format is a plain number, text
or bytes are read in it, so that psycopg's C code does all the work; everything else travels as the
server's own output text.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql as quoting
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.types.numeric import Int4BinaryLoader, Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader, TextBinaryLoader

OUTPUT: Final = "output"

# By the object identifiers of the built-in types, which PostgreSQL never changes (pg_type.dat).
_FORMS: Final = {
    16: "bool",
    17: "bytes",
    19: "text",
    20: "int",
    21: "int",
    23: "int",
    25: "text",
    26: "int",
    114: "text",
    700: "float",
    701: "float",
    1042: "text",
    1043: "text",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1700: "numeric",
    2950: "uuid",
    3802: "json",
}

PINS: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "search_path": "",
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "0",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",
    "default_transaction_read_only": "off",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "transform_null_equals": "off",
}
"""Settings of every connection of ours; any user may set them."""
_PINS_SINCE: Final = {170000: {"transaction_timeout": "0"}}
"""Further ones, by the first version of the server that knows them."""

_DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ, _UUID, _CSTRING = 1082, 1083, 1114, 1184, 2950, 2275
_TEXTS: Final = ("text", "varchar", "bpchar", "name", "json")


class _TolerantBinary(Loader):
    """Text of a database without an encoding: bytes that are not UTF-8 become surrogate escapes."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


class _TolerantText(_TolerantBinary):
    format = Format.TEXT


class _TolerantDumper(Dumper):
    """The way back, for names that are parameters."""

    def dump(self, obj: str) -> bytes:
        return obj.encode("utf-8", "surrogateescape")


def form_of(base: int) -> str:
    """The form of a type, by the identifier of the type beneath all domains (`pg_type.oid`)."""
    return _FORMS.get(base, OUTPUT)


def expression(form: str, quoted: str) -> str:
    """What to select for a column so that a binary cursor of a prepared connection yields its form.

    ``quoted`` is the column's name as SQL.
    """
    if form == "bool":
        return f"pg_catalog.int4({quoted})"
    if form in ("numeric", "json"):
        return f"{quoted}::pg_catalog.text"
    if form == OUTPUT:
        # A cast to text may be the user's own; `format` always takes the type's output function.
        # IS NULL would also hold for a composite value whose fields are all NULL.
        return (
            f"CASE WHEN {quoted} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {quoted}) END"
        )
    return quoted


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Pin the settings for the session and let numbers of the wire be read as such.

    Call it outside a transaction, or a rollback takes the settings back. Raises psycopg's errors.
    """
    tolerant = connection.info.parameter_status("server_encoding") == "SQL_ASCII"
    # Asked for UTF-8, a server without an encoding refuses to send what is none.
    pins = PINS | ({"client_encoding": "SQL_ASCII"} if tolerant else {})
    for version, more in _PINS_SINCE.items():
        if connection.info.server_version >= version:
            pins |= more
    chosen = quoting.SQL(", ").join(
        quoting.SQL("pg_catalog.set_config({}, {}, false)").format(name, value)
        for name, value in pins.items()
    )
    connection.execute(quoting.SQL("SELECT {}").format(chosen))
    for number in (_TIME, _TIMESTAMP, _TIMESTAMPTZ):
        connection.adapters.register_loader(number, Int8BinaryLoader)
    connection.adapters.register_loader(_DATE, Int4BinaryLoader)
    connection.adapters.register_loader(_UUID, ByteaBinaryLoader)
    for name in (*_TEXTS, _CSTRING):
        connection.adapters.register_loader(name, _TolerantBinary if tolerant else TextBinaryLoader)
    if tolerant:
        connection.adapters.register_dumper(str, _TolerantDumper)
        for name in _TEXTS[:-1]:
            connection.adapters.register_loader(name, _TolerantText)
