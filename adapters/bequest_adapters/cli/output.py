"""How answers are written: JSON for programs, short aligned lines for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeGuard

import click

from bequest.model import PART_OF_VIRTUAL

VALUE_CHARACTERS: Final = 40
UNITS: Final = ("kB", "MB", "GB", "TB")


def plain(value: object) -> Any:
    """``value`` as JSON can hold it: ``{"hex": ...}`` for binary, ``{"float": ...}`` for inf."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if _is_mapping(value):
        return {str(key): plain(item) for key, item in value.items()}
    if _is_sequence(value):
        return [plain(item) for item in value]
    return value


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def as_json(document: Any) -> str:
    """One line. ASCII only, so that no terminal and no odd text can spoil it."""
    return json.dumps(plain(document), allow_nan=False, default=str)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(as_json(document))


def print_facts(facts: Mapping[str, object]) -> None:
    """Name and value, aligned; facts that are ``None`` are left out."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:<{width}}  {value}")


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], indent: str = "") -> None:
    """Columns, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    numeric = [
        all(row[index].replace(",", "").isdecimal() for row in cells)
        for index in range(len(header))
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for row in [list(header), *cells]:
        line = "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        click.echo(indent + line.rstrip())


def worth_telling(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """``pairs`` without the parts of what is named itself."""
    return [pair for pair in pairs if pair[1] != PART_OF_VIRTUAL]


def print_not_covered(pairs: Iterable[tuple[str, str]], *, err: bool = False) -> None:
    """A warning for each thing that the object does not hold."""
    for name, reason in worth_telling(pairs):
        click.echo(f"warning: not covered: {name} ({reason})", err=err)


def encrypted(report: Mapping[str, Any]) -> str:
    """Whether the object is encrypted, and under which key."""
    if not report["key_id"]:
        return "no"
    locked = "; it was not given, so what the object holds is not known here"
    return f"yes, under the key {report['key_id']}{locked if report.get('locked') else ''}"


def publisher(by: Mapping[str, Any] | None) -> str | None:
    """``host 'gate-1', process 4211``: who published, as the object says it."""
    return None if by is None else f"host {by['host']!r}, process {by['process']}"


def size(size_bytes: int) -> str:
    """``1.5 MB``: powers of 1000, as clouds bill them."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in UNITS:
        amount /= 1000
        if amount < 999.95 or unit == UNITS[-1]:
            return f"{amount:.1f} {unit}"
    raise AssertionError("unreachable")


def seconds(duration_seconds: float) -> str:
    """``0.004 s``, ``12.3 s``, ``3 min 20 s``, ``2 d 4 h``."""
    if duration_seconds < 60:
        return f"{duration_seconds:.3g} s" if duration_seconds >= 1 else f"{duration_seconds:.3f} s"
    whole = round(duration_seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def number(count: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``1,204 rows``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def abbreviated(value: object) -> str:
    """A row's value on one line: binary as hex, no more than ``VALUE_CHARACTERS``."""
    if isinstance(value, bytes):
        text, longer = f"x'{value[: VALUE_CHARACTERS // 2].hex()}'", len(value)
        return text if longer <= VALUE_CHARACTERS // 2 else f"{text[:-1]}…' ({longer} bytes)"
    if value is None:
        return "NULL"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


def pairs(values: Mapping[str, object]) -> str:
    """``id=3 name='Utrecht'``."""
    return " ".join(f"{name}={abbreviated(value)}" for name, value in values.items())
