"""JSON under a canonical form: what jsonb calls equal has one text.

jsonb keeps neither white space nor the order of keys nor repeated keys, and compares numbers by
value. It holds no NUL character, no half of a surrogate pair, and no NaN.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

from .moments import Unfit

BARE_NUMBER: Final = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_LARGEST_EXPONENT: Final = 4000
_SMALLEST_EXPONENT: Final = -16_000
_NUMBER_MARK: Final = "\0"
_TAG: Final = re.compile(r'\{"\\u0000":"(-?[0-9.]+)"\}')
"""No document that jsonb holds has this key, so a number cannot be taken for a map."""


def canonical(text: str) -> str:
    """The one text for all JSON that jsonb calls equal. Raises `Unfit` when jsonb has no such."""
    try:
        found = _DECODER.decode(text)
        if "\\u0000" in text and _has_nul(found):
            raise Unfit("a NUL character")
        written = _ENCODER.encode(found)
        if "." in text or "e" in text or "E" in text:
            written = _TAG.sub(r"\1", written)
        written.encode()
    except (ValueError, RecursionError) as error:
        raise Unfit("no JSON that jsonb can hold") from error
    return written


def of_number(value: float) -> str:
    """JSON for a number that SQLite's affinity has made of JSON text."""
    return str(value) if isinstance(value, int) else repr(value)


def _fraction(text: str) -> int | Decimal:
    value = Decimal(text)
    if not value:
        return 0
    exponent = value.as_tuple().exponent
    if value.adjusted() > _LARGEST_EXPONENT or int(exponent) < _SMALLEST_EXPONENT:
        raise Unfit("a number that PostgreSQL may not hold")
    return int(value) if value == value.to_integral_value() else value


def _constant(text: str) -> NoReturn:
    raise Unfit(f"{text} is no JSON")


def _tagged(value: object) -> Any:
    if isinstance(value, Decimal):
        return {_NUMBER_MARK: format(value, "f").rstrip("0")}
    raise TypeError(type(value).__name__)


_DECODER: Final = json.JSONDecoder(parse_float=_fraction, parse_constant=_constant)
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_tagged
)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(each) for key, each in value.items())  # pyright: ignore
    return False
