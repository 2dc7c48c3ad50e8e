"""PostgreSQL's types by the names that format_type writes, each with its bond."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bequest.model import SchemaObject

from . import bonds, composed, documents, moments
from .bonds import Bond
from .composed import Element, Json
from .moments import Unfit
from .sql import Reader, Token, split, text_of, tokens

_SIZED: Final = re.compile(r"(.*?)\s*\((-?\d+)(?:,\s*(-?\d+))?\)(.*)", re.DOTALL)
_RANGES: Final = {
    "int4range": "integer",
    "int8range": "bigint",
    "numrange": "numeric",
    "tsrange": "timestamp without time zone",
    "tstzrange": "timestamp with time zone",
    "daterange": "date",
}
_WHOLE: Final = {"smallint": 1 << 15, "integer": 1 << 31, "bigint": 1 << 63}
_STRUCTURED_NATIVE_DEPTH: Final = 100


@dataclass(frozen=True)
class Types:
    """The types that a database made for itself, by their qualified names."""

    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    composites: Mapping[str, tuple[tuple[str, str], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, str], ...]]
    )
    domains: Mapping[str, str] = field(default_factory=dict[str, str])
    ranges: Mapping[str, str] = field(default_factory=dict[str, str])

    def base(self, name: str) -> str:
        """The type below all domains."""
        for _ in range(_STRUCTURED_NATIVE_DEPTH):
            found = self.domains.get(plain(name))
            if found is None:
                return name
            name = found
        return name


def plain(name: str) -> str:
    """A type's name without quotes, sizes and the default schema, to look it up by."""
    reader = Reader(tokens(name))
    words: list[str] = []
    while token := reader.take().text:
        if token == "(":
            break
        words.append(Token("quoted" if token[0] == '"' else "word", token).name or token)
    joined = re.sub(r" ?\. ?", ".", " ".join(words))
    return joined.removeprefix("public.").removeprefix("pg_catalog.")


def read_types(objects: Sequence[SchemaObject]) -> Types:
    """What the CREATE TYPE and CREATE DOMAIN of a catalog say."""
    enums: dict[str, tuple[str, ...]] = {}
    composites: dict[str, tuple[tuple[str, str], ...]] = {}
    domains: dict[str, str] = {}
    ranges: dict[str, str] = {}
    for item in objects:
        reader = Reader(tokens(item.sql))
        reader.accept("CREATE")
        if reader.accept("DOMAIN"):
            name = ".".join(reader.path()).removeprefix("public.")
            reader.accept("AS")
            domains[name] = _type_ahead(reader)
        elif reader.accept("TYPE"):
            name = ".".join(reader.path()).removeprefix("public.")
            reader.accept("AS")
            if reader.accept("ENUM"):
                enums[name] = tuple(part[0].value for part in split(reader.group()))
            elif reader.accept("RANGE"):
                ranges[name] = _subtype(reader)
            elif reader.next.text == "(":
                composites[name] = tuple(
                    (part[0].name, _type_ahead(Reader(part[1:]))) for part in split(reader.group())
                )
    return Types(enums, composites, domains, ranges)


def _subtype(reader: Reader) -> str:
    for part in split(reader.group()):
        if part[0].word == "SUBTYPE":
            return text_of(part[2:])
    return "text"


def _type_ahead(reader: Reader) -> str:
    stop = ("COLLATE", "DEFAULT", "NOT", "NULL", "CONSTRAINT", "CHECK")
    found: list[Token] = []
    while (token := reader.next).text and token.word not in stop and token.text != ";":
        found.append(reader.take())
    return text_of(found)


def bond_of(declared: str, types: Types, form: str = "") -> Bond:
    """The bond of the PostgreSQL type ``declared``; ``form`` is the contract's word for it."""
    name = types.base(declared)
    if _reader(name, types) is not None:
        return _structured(name, types)
    found = _SIZED.fullmatch(name)
    base = plain(found[1] + found[4]) if found else plain(name)
    first = int(found[2]) if found else None
    second = int(found[3]) if found and found[3] else None
    if base in _WHOLE:
        return Bond("int", base.upper(), bonds.within(_WHOLE[base]))
    if base in ("character varying", "character"):
        short = "VARCHAR" if base != "character" else "CHAR"
        size = first or (1 if base == "character" and first is None else None)
        return _text(f"{short}({size})" if size else short)
    if base == "numeric":
        return _numeric(first, second)
    if base in types.enums:
        longest = max(map(len, types.enums[base]), default=1)
        return _text(f"VARCHAR({longest})")
    fixed = _FIXED.get(base)
    if fixed is not None:
        return fixed
    return _structured(name, types) if form == "output" else _text("TEXT")


def _text(declared: str) -> Bond:
    return Bond("text", declared, bonds.foreign_text)


def _numeric(precision: int | None, scale: int | None) -> Bond:
    scale = 0 if precision is not None and scale is None else scale
    size = f"({precision}, {scale})" if precision is not None else ""
    return Bond(
        "numeric",
        f"NUMERIC{size}",
        bonds.numeric(precision, scale),
        to_sqlite=bonds.numeric_to_sqlite,
        strays=bonds.numeric_strays(precision, scale),
        sure=precision is not None and precision <= 15,
    )


def _json_canonical(value: str) -> Any:
    try:
        return documents.canonical(value)
    except Unfit:
        return ("json", value)


def _plain_json(value: Any) -> str:
    if type(value) in (int, float):
        return documents.of_number(value)
    if not isinstance(value, str):
        raise Unfit("no JSON")
    return value


_FIXED: Final = {
    "oid": Bond("int", "BIGINT", bonds.within(1 << 32)),
    "boolean": Bond("bool", "BOOLEAN", bonds.boolean),
    "real": Bond("float", "FLOAT", bonds.floating, bonds.float_to_sqlite, bonds.plain_float,
                 note=bonds.float_note),
    "double precision": Bond("float", "FLOAT", bonds.floating, bonds.float_to_sqlite,
                             bonds.plain_float, note=bonds.float_note),
    "citext": _text("TEXT COLLATE NOCASE"),
    "bytea": Bond("bytes", "BLOB", bonds.octets),
    "uuid": Bond("uuid", "CHAR(32)", bonds.uuid, bytes.hex),
    "date": Bond("date", "DATE", moments.date_days, moments.date_text, note=bonds.date_note),
    "time without time zone": Bond("time", "TIME", moments.time_us, moments.time_text),
    "timestamp without time zone": Bond(
        "timestamp", "DATETIME", moments.stamp_us, moments.stamp_text, note=bonds.stamp_note
    ),
    "timestamp with time zone": Bond(
        "timestamptz", "DATETIME", moments.stamp_utc_us, moments.stamp_text, note=bonds.stamp_note
    ),
    "jsonb": Bond("json", "JSON", bonds.jsonb, bonds.json_to_sqlite, _json_canonical,
                  strays=bonds.json_strays, from_sqlite=bonds.jsonb),
    "json": Bond("text", "JSON", _plain_json, bonds.json_to_sqlite, strays=bonds.json_strays),
}  # fmt: skip


def _structured(name: str, types: Types) -> Bond:
    read = _reader(name, types)
    if read is None:
        return Bond("output", "TEXT", bonds.foreign_text)

    def change(value: str) -> str:
        try:
            return composed.dumps(read(value))
        except (composed.Unreadable, ValueError):
            return value  # as PostgreSQL writes it: nothing is lost, and both sides agree

    def same(value: Any) -> str:
        if not isinstance(value, str):
            raise Unfit("no text")
        return value

    return Bond("output", "JSON", same, to_sqlite=change, canonical=change, from_sqlite=same)


def _reader(name: str, types: Types) -> Element | None:
    """What takes the text of an array, composite, range or hstore apart; ``None`` for others."""
    name = types.base(name)
    if name.endswith("]"):
        inside = re.sub(r"(\s*\[\s*\d*\s*\])+$", "", name)
        element = _element(inside, types)
        delimiter = ";" if plain(inside) == "box" else ","
        return lambda text: composed.array(text, element, delimiter)
    base = plain(name)
    subtypes = {**_RANGES, **types.ranges}
    if base in subtypes:
        return _partial(composed.range_, _element(subtypes[base], types))
    whole = re.sub(r"multirange$", "range", base)
    if whole != base and whole in subtypes:
        return _partial(composed.multirange, _element(subtypes[whole], types))
    if base.rpartition(".")[2] == "hstore":
        return composed.hstore
    if base in types.composites:
        parts = types.composites[base]
        names = [part for part, _ in parts]
        elements = [_element(kind, types) for _, kind in parts]
        return lambda text: composed.composite(text, names, elements)
    return None


def _partial(change: Callable[[str, Element], Json], element: Element) -> Element:
    return lambda text: change(text, element)


def _element(name: str, types: Types) -> Element:
    """What one element's text becomes in JSON."""
    read = _reader(name, types)
    if read is not None:
        return read
    base = plain(types.base(name))
    if base in (*_WHOLE, "oid"):
        return int
    if base == "boolean":
        return lambda text: text == "t"
    if base in ("real", "double precision"):
        return _float
    return lambda text: text


def _float(text: str) -> Json:
    value = float(text)
    return value if value - value == 0 else text
