"""How one value crosses between SQLite and a PostgreSQL type, and when both sides are equal.

A *bond* belongs to a PostgreSQL type; PostgreSQL is the strict side, so its type alone says what
equal means. The canonical form of a value is its PostgreSQL form (see schema/FORMAT.md) with the
few spellings that PostgreSQL itself calls equal made one. An SQLite value is brought to that form
first; one that cannot be is marked, and so equals nothing that PostgreSQL could hold.

No function here is given None: NULL is NULL on both sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from . import documents, moments
from .moments import Unfit

Change: TypeAlias = Callable[[Any], Any]
_UUID: Final = re.compile(r"[0-9a-f]{12}[0-9a-f][0-9a-f]{3}[0-9a-f][0-9a-f]{15}")
_RFC_UUID: Final = re.compile(r"[0-9a-f]{12}[1-8][0-9a-f]{3}[89ab][0-9a-f]{15}|0{32}|f{32}")
_NUMERIC: Final = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_ODD_NUMERIC: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_INTEGER: Final = range(-(1 << 63), 1 << 63)


class Unstorable(Unfit):
    """Text that PostgreSQL's text cannot hold."""


@dataclass(frozen=True, slots=True)
class Bond:
    """The functions of one PostgreSQL type; ``None`` leaves a value as it is.

    ``to_postgresql`` raises `Unfit`. ``strays`` says of a PostgreSQL value why SQLite would not
    keep it under the type ``declared``: such a column is declared ``fallback`` instead. ``note``
    says of a value that it arrives, but otherwise than a reader might expect.
    """

    form: str
    declared: str
    to_postgresql: Change
    to_sqlite: Change | None = None
    canonical: Change | None = None
    strays: Callable[[Any], str] | None = None
    note: Callable[[Any], str] | None = None
    from_sqlite: Change | None = None
    """Brings an SQLite value to the canonical form where that is not PostgreSQL's own."""
    fallback: str = "TEXT"
    sure: bool = True
    """Whether ``declared`` may be taken without having looked at the values."""

    def canonical_sqlite(self, value: Any) -> Any:
        """An SQLite value under the canonical form."""
        try:
            if self.from_sqlite is not None:
                return self.from_sqlite(value)
            found = self.to_postgresql(value)
        except Unfit:
            return ("sqlite", value)
        return found if self.canonical is None else self.canonical(found)


def integer(value: Any) -> int:
    """A whole number of 64 bits."""
    if type(value) is not int or value not in _INTEGER:
        raise Unfit("no integer")
    return value


def within(limit: int) -> Change:
    """A whole number from -limit to limit - 1."""

    def change(value: Any) -> int:
        if type(value) is not int or not -limit <= value < limit:
            raise Unfit("no integer of that size")
        return value

    return change


def boolean(value: Any) -> int:
    """0 or 1."""
    if type(value) is not int or value not in (0, 1):
        raise Unfit("neither 0 nor 1")
    return value


def floating(value: Any) -> float:
    """A float; a whole number when a float holds it exactly; the text NaN."""
    if type(value) is float:
        return value
    if type(value) is int and abs(value) <= 1 << 53:
        return float(value)
    if value == "NaN":
        return math.nan
    raise Unfit("no float")


def plain_float(value: float) -> float | str:
    """-0.0 and 0.0 are one value, and so are all NaN: SQLite keeps no sign of zero, and no NaN."""
    return "NaN" if value != value else value + 0.0


def text(value: Any) -> str:
    """Text, or the text of a number. Raises `Unstorable` for NUL and for what is not Unicode."""
    if isinstance(value, str):
        if "\0" in value:
            raise Unstorable("a NUL character in text")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise Unstorable("text that is not valid UTF-8") from error
        return value
    if isinstance(value, bytes):
        raise Unfit("a blob")
    return str(value) if type(value) is int else repr(value)


def foreign_text(value: Any) -> str:
    """Text as it is, for the comparison with a database of another encoding."""
    return value if isinstance(value, str) else text(value)


def short_text(length: int) -> Change:
    """Text of at most ``length`` characters."""

    def change(value: Any) -> str:
        found = text(value)
        if len(found) > length:
            raise Unfit(f"longer than {length} characters")
        return found

    return change


def octets(value: Any) -> bytes:
    """Bytes; text as its UTF-8."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return text(value).encode()


def uuid(value: Any) -> bytes:
    """32 hexadecimal digits, as SQLAlchemy's Uuid keeps them in SQLite."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Unfit("no UUID of 32 digits")
    return bytes.fromhex(value)


def rfc_uuid(value: Any) -> bytes:
    """The same, but only with the version and variant bits of a UUID: an MD5 sum is none."""
    if not isinstance(value, str) or not _RFC_UUID.fullmatch(value):
        raise Unfit("no UUID")
    return bytes.fromhex(value)


def numeric(precision: int | None, scale: int | None) -> Change:
    """A number as PostgreSQL's text for it, with exactly ``scale`` digits behind the point.

    A float is taken for the decimal that SQLAlchemy reads back from it: rounded to the scale, when
    that gives the same float again; without a scale, the shortest that does.
    """

    def change(value: Any) -> str:
        found = _decimal_text(value, scale)
        if found not in _ODD_NUMERIC and precision is not None and scale is not None:
            whole, _, _ = found.lstrip("-").partition(".")
            if len(whole.lstrip("0")) > precision - scale:
                raise Unfit("more digits than the type has")
        elif found in ("Infinity", "-Infinity") and precision is not None:
            raise Unfit("infinity in a numeric of limited digits")
        return found

    return change


def _decimal_text(value: Any, scale: int | None) -> str:
    if isinstance(value, bytes):
        raise Unfit("a blob")
    if isinstance(value, str):
        behind = len(value.partition(".")[2])
        if value in _ODD_NUMERIC or (
            _NUMERIC.fullmatch(value) and (scale is None or behind == max(scale, 0))
        ):
            return value
        raise Unfit("no number")
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if scale is None or (isinstance(value, int) and scale <= 0):
        return str(value) if isinstance(value, int) else _shortest(value)
    if isinstance(value, int):
        return f"{value}.{'0' * scale}"
    found = f"{value:.{max(scale, 0)}f}"
    if float(found) != value:
        raise Unfit("more digits behind the point than the type has")
    return found.removeprefix("-") if not value else found


def _shortest(value: float) -> str:
    found = format(Decimal(repr(value + 0.0)), "f")
    return found.removesuffix(".0")


def numeric_to_sqlite(value: str) -> int | float | str:
    """The number that SQLite would make of the text, made here so that nothing depends on it."""
    if value in _ODD_NUMERIC:
        return value
    if "." not in value and int(value) in _INTEGER:
        return int(value)
    kept = float(value)
    # SQLite makes a REAL of whole value an INTEGER under this affinity.
    return int(kept) if kept.is_integer() and abs(kept) < 1 << 62 else kept


def numeric_strays(precision: int | None, scale: int | None) -> Callable[[str], str]:
    """Whether a numeric would not come back from a number in SQLite as it went."""
    back = numeric(precision, scale)

    def strays(value: str) -> str:
        try:
            kept = numeric_to_sqlite(value)
            same = not isinstance(kept, str) and back(kept) == value
        except (Unfit, ValueError, OverflowError, InvalidOperation):
            same = False
        return "" if same else "a number in SQLite would lose digits of it"

    return strays


def jsonb(value: Any) -> str:
    """JSON text that jsonb takes."""
    found = documents.of_number(value) if type(value) in (int, float) else value
    if not isinstance(found, str):
        raise Unfit("no JSON")
    return documents.canonical(found)


def json_strays(value: str) -> str:
    """Whether JSON's affinity in SQLite would make another number of a bare number."""
    if not documents.BARE_NUMBER.fullmatch(value):
        return ""
    try:
        same = str(int(value)) == value and int(value) in _INTEGER
    except ValueError:
        same = False
    return "" if same else "a bare number that SQLite would round"


def stamp_note(value: int) -> str:
    """Timestamps that Python has no datetime for."""
    return "" if moments.is_ordinary_stamp(value) else "beyond Python's datetime: kept as text"


def date_note(value: int) -> str:
    """Dates that Python has no date for."""
    return "" if moments.is_ordinary_date(value) else "beyond Python's date: kept as text"


def float_note(value: float) -> str:
    """Floats that SQLite does not have."""
    if value != value:
        return "NaN, which SQLite has not: kept as the text NaN"
    if value == 0 and math.copysign(1, value) < 0:
        return "-0.0 becomes 0.0"
    return ""


def float_to_sqlite(value: float) -> float | str:
    """SQLite would make NULL of NaN, and keeps no sign of zero."""
    return "NaN" if value != value else value + 0.0


def json_to_sqlite(value: str) -> int | str:
    """JSON has the affinity of numbers in SQLite, so a bare number becomes one."""
    if documents.BARE_NUMBER.fullmatch(value) and not json_strays(value):
        return int(value)
    return value
