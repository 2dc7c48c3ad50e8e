"""Which PostgreSQL types an SQLite column may become, best first, and which of them its values fit.

SQLite holds any class of value in any column, so the declared type is a wish and the values
decide. The names are those that SQLAlchemy's sqlite dialect writes, and SQLite's rule of affinity
for all others (https://www.sqlite.org/datatype3.html, 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import bonds, moments
from .bonds import Bond, Change, Unstorable
from .moments import Unfit
from .postgresql_types import Types, bond_of

_SIZE: Final = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_SIZED: Final = frozenset({"VARCHAR", "NUMERIC", "DECIMAL"})
_MOST_CHARACTERS: Final = 10_485_760
_MOST_DIGITS: Final = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A PostgreSQL type and what a value must pass to be put in a column of it."""

    type: str
    change: Change
    wish: bool = True
    """Whether this is what the declared type asks for."""

    @property
    def bond(self) -> Bond:
        """How values of it are compared."""
        return bond_of(self.type, Types())


TEXT: Final = Candidate("text", bonds.text)
BYTES: Final = Candidate("bytea", bonds.octets, wish=False)
BIGINT: Final = Candidate("bigint", bonds.integer)
STAMP: Final = Candidate("timestamp without time zone", moments.stamp_us)


def _with_offset(value: Any) -> int:
    if not moments.has_offset(value):
        raise Unfit("some have an offset from UTC and some have none")
    return moments.stamp_utc_us(value)


def _only_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise Unfit("no blob")
    return value


def _real(value: Any) -> float:
    if value == "NaN":
        raise Unfit("no float")
    return bonds.floating(value)


def _any_number(value: Any) -> str:
    if isinstance(value, str):
        raise Unfit("text among numbers")
    found: str = bonds.numeric(None, None)(value)
    return found


STAMP_UTC: Final = Candidate("timestamp with time zone", _with_offset)
DOUBLE: Final = Candidate("double precision", _real)


def _loose(candidate: Candidate) -> Candidate:
    return Candidate(candidate.type, candidate.change, wish=False)


_ANY: Final = tuple(
    _loose(each) for each in (BIGINT, DOUBLE, Candidate("numeric", _any_number), TEXT)
)


def affinity(declared: str) -> str:
    """INTEGER, TEXT, BLOB, REAL or NUMERIC."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "BLOB"
    return "REAL" if any(word in upper for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def candidates(declared: str) -> tuple[Candidate, ...]:
    """What a column of that declared type may become; the last takes everything."""
    return (*_wished(declared), *_ANY, BYTES)


def _wished(declared: str) -> tuple[Candidate, ...]:
    name = re.sub(r"\s*\(.*?\)", "", declared.upper()).strip()
    found = _SIZE.search(declared)
    first, second = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    if name in _NAMED and not (found and name in _SIZED):
        return _NAMED[name]
    if name == "CHAR" and first == 32:
        return (Candidate("uuid", bonds.rfc_uuid), _varchar(32))
    if name in ("NUMERIC", "DECIMAL") and 0 < first <= _MOST_DIGITS and second <= first:
        return (
            Candidate(f"numeric({first},{second})", bonds.numeric(first, second)),
            Candidate("numeric", bonds.numeric(None, None), wish=False),
        )
    kind = affinity(declared)
    if kind == "TEXT" and 0 < first <= _MOST_CHARACTERS:
        return (_varchar(first), _loose(TEXT))
    return {
        "TEXT": (TEXT,),
        "INTEGER": (BIGINT,),
        "REAL": (DOUBLE,),
        "BLOB": (Candidate("bytea", _only_bytes),) if declared else (),
        "NUMERIC": (),
    }[kind]


def _varchar(length: int) -> Candidate:
    return Candidate(f"character varying({length})", bonds.short_text(length))


_NAMED: Final[dict[str, tuple[Candidate, ...]]] = {
    "BOOLEAN": (Candidate("boolean", bonds.boolean),),
    "BOOL": (Candidate("boolean", bonds.boolean),),
    "DATETIME": (STAMP, STAMP_UTC),
    "TIMESTAMP": (STAMP, STAMP_UTC),
    "TIMESTAMP WITH TIME ZONE": (STAMP_UTC, STAMP),
    "TIMESTAMPTZ": (STAMP_UTC, STAMP),
    "DATE": (Candidate("date", moments.date_days), _loose(STAMP)),
    "TIME": (Candidate("time without time zone", moments.time_us),),
    "JSON": (Candidate("jsonb", bonds.jsonb),),
    "JSONB": (Candidate("jsonb", bonds.jsonb),),
    "UUID": (Candidate("uuid", bonds.uuid),),
    "NUMERIC": (Candidate("numeric", bonds.numeric(None, None)),),
    "DECIMAL": (Candidate("numeric", bonds.numeric(None, None)),),
    "VARCHAR": (TEXT,),
    "INTERVAL": (TEXT,),
}


def misfit(candidate: Candidate, column: Sequence[Any]) -> tuple[int, Unfit] | None:
    """The first value that ``candidate`` cannot take, by its index."""
    kinds = set(map(type, column))
    kinds.discard(type(None))
    if not kinds or (candidate.type == "bigint" and kinds == {int}):
        return None
    if kinds == {float} and candidate.type == "double precision":
        return None
    if candidate.type == "text" and kinds == {str} and _all_storable(column):
        return None
    change = candidate.change
    for index, value in enumerate(column):
        if value is not None:
            try:
                change(value)
            except Unfit as error:
                return index, error
    return None


def _all_storable(column: Sequence[Any]) -> bool:
    joined = "".join(filter(None, column))
    try:
        bonds.text(joined)
    except Unstorable:
        return False
    return True
