"""PostgreSQL's text for arrays, composites, ranges, multiranges and hstore, as JSON text.

The grammar is that of PostgreSQL's output functions ("Array Input and Output Syntax", "Composite
Type Input and Output Syntax", "Range Input/Output", hstore). The JSON is written in one way only,
so two values are equal exactly when their JSON texts are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Element = Callable[[str], Json]
"""What one element's text becomes."""

_BOUNDS: Final = re.compile(r"((?:\[[+-]?\d+:[+-]?\d+\])+)=")
_ARRAY: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([{}])|([^",{}\\]+)|\\(.)|(,)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_PAIR: Final = re.compile(
    r'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|(NULL))(?:, ?|\Z)', re.DOTALL
)


class Unreadable(ValueError):
    """Text that PostgreSQL would not have written."""


def dumps(value: Json) -> str:
    """The one way in which JSON is written here."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def array(text: str, element: Element, delimiter: str = ",") -> Json:
    """An array; one whose bounds do not begin at 1 is a map of bounds and elements."""
    found = _BOUNDS.match(text)
    body = text[found.end() :] if found else text
    elements = _elements(body, element, delimiter)
    return {"bounds": found[1], "elements": elements} if found else elements


def _elements(text: str, element: Element, delimiter: str) -> list[Json]:
    stack: list[list[Json]] = []
    at, end = 0, len(text)
    plain: list[str] = []
    while at < end:
        mark = text[at]
        if mark == "{":
            inner: list[Json] = []
            if stack:
                stack[-1].append(inner)
            stack.append(inner)
            at += 1
            closed = False
        elif mark in ("}", delimiter):
            if not stack:
                break
            if plain:
                stack[-1].append(_plain("".join(plain), element))
                plain = []
            at += 1
            closed = mark == "}" and len(stack) == 1
            if closed:
                break
            if mark == "}":
                stack.pop()
        elif mark == '"':
            found = _ARRAY.match(text, at)
            if found is None or found[1] is None or not stack:
                raise Unreadable(f"no array at {at}")
            stack[-1].append(element(_ESCAPE.sub(r"\1", found[1])))
            at = found.end()
        else:
            plain.append(text[at])
            at += 1
    if len(stack) != 1 or at != end:
        raise Unreadable("an array that does not end")
    return stack[0]


def _plain(text: str, element: Element) -> Json:
    return None if text == "NULL" else element(text)


def fields(text: str) -> list[str | None]:
    """The fields of a composite; an empty one is NULL, a quoted empty one is text."""
    if len(text) < 2 or text[0] != "(" or text[-1] != ")":
        raise Unreadable("no composite")
    return _fields(text, 1, len(text) - 1)


def _fields(text: str, at: int, end: int) -> list[str | None]:
    found: list[str | None] = []
    current: list[str] = []
    quoted = said = False
    while at < end:
        mark = text[at]
        at += 1
        if mark == "\\" and at < end:
            current.append(text[at])
            at += 1
        elif mark == '"' and quoted and at < end and text[at] == '"':
            current.append('"')
            at += 1
        elif mark == '"':
            quoted, said = not quoted, True
        elif mark == "," and not quoted:
            found.append("".join(current) if current or said else None)
            current, said = [], False
        else:
            current.append(mark)
    if quoted:
        raise Unreadable("a quote that does not end")
    found.append("".join(current) if current or said else None)
    return found


def composite(text: str, names: Sequence[str], elements: Sequence[Element]) -> Json:
    """A composite as a map by field name, or as a list when its fields are not known."""
    found = fields(text) if text != "()" or len(names) == 1 else []
    if not names:
        return list(found)
    if len(found) != len(names):
        raise Unreadable("a composite with other fields")
    return {
        name: None if value is None else element(value)
        for name, element, value in zip(names, elements, found, strict=True)
    }


def range_(text: str, element: Element) -> Json:
    """A range: ``{"lower", "upper", "bounds"}``, or ``{"empty": true}``."""
    if text == "empty":
        return {"empty": True}
    if len(text) < 3 or text[0] not in "[(" or text[-1] not in "])":
        raise Unreadable("no range")
    ends = _fields(text, 1, len(text) - 1)
    if len(ends) != 2:
        raise Unreadable("a range has two ends")
    lower, upper = (None if end is None else element(end) for end in ends)
    return {"lower": lower, "upper": upper, "bounds": text[0] + text[-1]}


def multirange(text: str, element: Element) -> Json:
    """A multirange as a list of ranges."""
    if len(text) < 2 or text[0] != "{" or text[-1] != "}":
        raise Unreadable("no multirange")
    found: list[Json] = []
    start, quoted, at = -1, False, 1
    while at < len(text) - 1:
        mark = text[at]
        if mark == "\\":
            at += 1
        elif mark == '"':
            quoted = not quoted
        elif not quoted and start < 0 and mark in "[(":
            start = at
        elif not quoted and start >= 0 and mark in "])":
            found.append(range_(text[start : at + 1], element))
            start = -1
        at += 1
    if start >= 0 or quoted:
        raise Unreadable("a multirange that does not end")
    return list(found)


def hstore(text: str) -> Json:
    """An hstore as a map of text to text or null."""
    found: dict[str, Json] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise Unreadable("no hstore")
        value = None if pair[3] else _ESCAPE.sub(r"\1", pair[2])
        found[_ESCAPE.sub(r"\1", pair[1])] = value
        at = pair.end()
    return found
