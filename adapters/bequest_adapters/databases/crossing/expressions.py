"""Expressions that mean the same in both dialects, written in the other one.

Only a small language crosses: columns, literals, comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL
and length(). Text is compared for equality only, because its order depends on the collation.
Whatever else an expression holds, it is not carried: `Uncarried` says what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .sql import END, Reader, Token, identifier, literal

_COMPARISONS: Final = {"=": "=", "==": "=", "<>": "<>", "!=": "<>"}
_ORDERINGS: Final = {"<", "<=", ">", ">="}
_TYPE_WORDS: Final = {
    "character", "varying", "double", "precision", "text", "varchar", "bpchar", "integer", "bigint",
    "smallint", "numeric", "boolean", "with", "without", "time", "zone", "timestamp", "date",
    "jsonb", "json",
}  # fmt: skip


class Uncarried(ValueError):
    """What an expression holds that does not cross."""


@dataclass(frozen=True, slots=True)
class Side:
    """The columns an expression may name: each one's class on both sides, and its name there.

    A class is number, text, bool or other.
    """

    target: str
    columns: Mapping[str, tuple[str, str]]
    """Lower-case name to name and class."""
    exact_case: bool = False

    def column(self, token: Token) -> tuple[str, str] | None:
        """Name and class of the column that ``token`` names."""
        return self.columns.get(token.name.lower()) if token.name else None


Term = tuple[str, str]
"""SQL and its class; a bare literal 0 or 1 has the class bit."""


def carried(found: Sequence[Token], side: Side) -> str:
    """The boolean expression ``found`` in the other dialect. Raises `Uncarried`."""
    reader = Reader(found)
    sql, kind = _or(reader, side)
    if reader.next is not END:
        raise Uncarried(f"{reader.next.text!r}")
    if kind != "bool":
        raise Uncarried("no condition")
    return sql


def _or(reader: Reader, side: Side) -> Term:
    return _chain(reader, side, "OR")


def _chain(reader: Reader, side: Side, word: str) -> Term:
    def part() -> Term:
        return _chain(reader, side, "AND") if word == "OR" else _not(reader, side)

    first = part()
    while reader.accept(word):
        second = part()
        if first[1] != "bool" or second[1] != "bool":
            raise Uncarried(f"{word} of what is no condition")
        first = (f"{first[0]} {word} {second[0]}", "bool")
        if word == "OR":
            first = (f"({first[0]})", "bool")
    return first


def _not(reader: Reader, side: Side) -> Term:
    if reader.accept("NOT"):
        sql, kind = _not(reader, side)
        if kind != "bool":
            raise Uncarried("NOT of what is no condition")
        return f"NOT ({sql})", "bool"
    return _comparison(reader, side)


def _comparison(reader: Reader, side: Side) -> Term:
    left = _primary(reader, side)
    if reader.accept("IS"):
        word = "IS NOT NULL" if reader.accept("NOT") else "IS NULL"
        if not reader.accept("NULL"):
            raise Uncarried("IS with a value")
        return f"{left[0]} {word}", "bool"
    negated = reader.ahead(1).word in ("IN", "BETWEEN") and reader.accept("NOT")
    if reader.accept("IN"):
        return _among(left, _list(reader.group(), side), negated, side)
    if reader.accept("BETWEEN"):
        low = _primary(reader, side)
        if not reader.accept("AND"):
            raise Uncarried("BETWEEN")
        high = _primary(reader, side)
        left, low, high = _ordered(left, low), _ordered(low, left), _ordered(high, left)
        return f"{left[0]} {'NOT ' * negated}BETWEEN {low[0]} AND {high[0]}", "bool"
    operator = reader.next.text
    if operator in _COMPARISONS or operator in _ORDERINGS:
        reader.take()
        return _compared(left, operator, reader, side)
    return left


def _compared(left: Term, operator: str, reader: Reader, side: Side) -> Term:
    # PostgreSQL writes IN (...) as = ANY (ARRAY[...]), and NOT IN as <> ALL.
    if operator in _COMPARISONS and reader.next.word in ("ANY", "ALL"):
        word = reader.take().word
        wanted = {"ANY": "=", "ALL": "<>"}[word]
        if operator != wanted:
            raise Uncarried(word)
        return _among(left, _list(_array(reader.group()), side), word == "ALL", side)
    right = _primary(reader, side)
    if operator in _ORDERINGS:
        left, right = _ordered(left, right), _ordered(right, left)
        return f"{left[0]} {operator} {right[0]}", "bool"
    left, right = _alike(left, right, side)
    return f"{left[0]} {_COMPARISONS[operator]} {right[0]}", "bool"


def _array(found: list[Token]) -> list[Token]:
    """What is between the brackets of ARRAY[...], whatever casts are around it."""
    texts = [token.text for token in found]
    if "[" not in texts or not any(token.word == "ARRAY" for token in found):
        raise Uncarried("ANY of no list")
    start, depth = texts.index("["), 0
    for index in range(start, len(texts)):
        depth += (texts[index] == "[") - (texts[index] == "]")
        if depth == 0:
            return found[start + 1 : index]
    raise Uncarried("ANY of no list")


def _list(found: list[Token], side: Side) -> list[Term]:
    reader = Reader(found)
    terms: list[Term] = []
    while reader.next is not END:
        terms.append(_primary(reader, side))
        if reader.next is not END and not reader.accept(","):
            raise Uncarried(f"{reader.next.text!r}")
    return terms


def _among(left: Term, terms: list[Term], negated: bool, side: Side) -> Term:
    if not terms:
        raise Uncarried("IN of nothing")
    pairs = [_alike(left, term, side) for term in terms]
    listed = ", ".join(right[0] for _, right in pairs)
    return f"{pairs[0][0][0]} {'NOT ' * negated}IN ({listed})", "bool"


def _ordered(term: Term, other: Term) -> Term:
    for _, kind in (term, other):
        if kind not in ("number", "bit"):
            raise Uncarried(f"an order of {kind} values")
    return term


def _alike(left: Term, right: Term, side: Side) -> tuple[Term, Term]:
    kinds = {left[1], right[1]}
    if kinds <= {"number", "bit"} or kinds == {"text"} or kinds == {"bool"}:
        return left, right
    if kinds == {"bool", "bit"}:
        return _as_bool(left, side), _as_bool(right, side)
    raise Uncarried(f"a comparison of {left[1]} with {right[1]}")


def _as_bool(term: Term, side: Side) -> Term:
    if term[1] != "bit" or side.target == "sqlite":
        return term
    return ("true" if term[0] == "1" else "false"), "bool"


def _primary(reader: Reader, side: Side) -> Term:
    if reader.next.text == "(":
        inside = Reader(reader.group())
        term = _or(inside, side)
        if inside.next is not END:
            raise Uncarried(f"{inside.next.text!r}")
        if term[1] == "bool":
            term = (f"({term[0]})", "bool")
    else:
        term = _atom(reader, side)
    while reader.accept("::"):
        term = _cast(reader, term)
    return term


def _cast(reader: Reader, term: Term) -> Term:
    """Casts that PostgreSQL adds for itself change nothing between texts or between numbers."""
    words: list[str] = []
    while reader.next.name and (reader.next.text.lower() in _TYPE_WORDS or not words):
        words.append(reader.take().name)
        if reader.accept("."):
            words = [reader.take().name]
    if reader.next.text == "(":
        reader.group()
    while reader.accept("["):
        reader.accept("]")
    cast = " ".join(words)
    kind = {
        "text": "text", "character varying": "text", "varchar": "text", "bpchar": "text",
        "integer": "number", "bigint": "number", "smallint": "number", "numeric": "number",
        "double precision": "number", "boolean": "bool",
    }.get(cast)  # fmt: skip
    if term[1] == "text" and term[0][:1] == "'" and kind is None:
        return term  # a literal of an enum or another type that is text on the other side
    if kind != ("number" if term[1] == "bit" else term[1]):
        raise Uncarried(f"a cast to {cast}")
    return term


def _atom(reader: Reader, side: Side) -> Term:
    token = reader.take()
    column = side.column(token)
    if column is not None and (token.kind == "quoted" or reader.next.text != "("):
        return identifier(column[0]), column[1]
    if token.kind == "string" or (token.kind == "quoted" and token.text[0] == '"'):
        # SQLite takes a double-quoted name that is no column for text.
        return literal(token.value if token.kind == "string" else token.name), "text"
    if token.text in ("-", "+") and reader.next.kind == "number":
        return f"{token.text}{reader.take().text}", "number"
    if token.kind == "number":
        return token.text, "bit" if token.text in ("0", "1") else "number"
    if token.word in ("TRUE", "FALSE"):
        if side.target == "sqlite":
            return ("1" if token.word == "TRUE" else "0"), "bool"
        return token.word.lower(), "bool"
    if token.word in ("LENGTH", "CHAR_LENGTH") and reader.next.text == "(":
        inside = Reader(reader.group())
        term = _primary(inside, side)
        if term[1] == "text" and inside.next is END:
            return f"length({term[0]})", "number"
    raise Uncarried(f"{token.text!r}")


_NOW_UTC: Final = "(pg_catalog.now() AT TIME ZONE 'UTC')"


def default_to_postgresql(
    found: Sequence[Token], form: str, fits: Callable[[object], object]
) -> str:
    """A DEFAULT of SQLite for a PostgreSQL column of ``form``. Raises `Uncarried`.

    ``fits`` raises ValueError for a text that the column's type would not take.
    """
    found = _bare(found)
    word = found[0].word if len(found) == 1 else ""
    if word == "NULL":
        return ""
    if word == "CURRENT_TIMESTAMP":
        return _moment(form, "YYYY-MM-DD HH24:MI:SS")
    if word == "CURRENT_DATE":
        return _moment(form, "YYYY-MM-DD")
    if word == "CURRENT_TIME":
        return _moment(form, "HH24:MI:SS")
    value, kind = _literal(found)
    if form == "bool" and value in ("0", "1", "FALSE", "TRUE"):
        return "true" if value in ("1", "TRUE") else "false"
    if form in ("int", "float", "numeric") and kind == "number":
        return value
    if form in ("text", "date", "time", "timestamp", "timestamptz", "json", "uuid"):
        try:
            fits(value)
        except ValueError as error:
            raise Uncarried(str(error)) from error
        return literal(value)
    if form == "bool" and kind == "word":
        return value.lower()
    raise Uncarried(f"a default of another kind than the column ({form})")


def _moment(form: str, picture: str) -> str:
    if form == "timestamptz":
        return "pg_catalog.now()"
    if form in ("timestamp", "date", "time"):
        kind = {"timestamp": "timestamp", "date": "date", "time": "time"}[form]
        return f"({_NOW_UTC})::{kind}"
    if form == "text":
        return f"pg_catalog.to_char({_NOW_UTC}, '{picture}')"
    raise Uncarried("the present time in a column of another kind")


_PRESENT: Final = {
    "timestamp": "CURRENT_TIMESTAMP",
    "timestamptz": "CURRENT_TIMESTAMP",
    "date": "CURRENT_DATE",
    "time": "CURRENT_TIME",
}
_NOW: Final = re.compile(
    r"pg_catalog\.|[()]|::(?:text|date|timestamp|time)(?:with(?:out)?timezone)?"
)
_NOWS: Final = frozenset(
    {"now", "nowattimezone'utc'", "current_timestamp", "localtimestamp", "current_date",
     "current_time", "localtime", "current_timestampattimezone'utc'"}
)  # fmt: skip


def default_to_sqlite(found: Sequence[Token], form: str) -> str:
    """A DEFAULT of PostgreSQL for SQLite. Raises `Uncarried`."""
    whole, found = found, _bare(_without_cast(_bare(found)))
    if len(found) == 1 and found[0].word == "NULL":
        return ""
    if form in _PRESENT and _NOW.sub("", "".join(t.text.lower() for t in whole)) in _NOWS:
        return _PRESENT[form]
    value, kind = _literal(found)
    if form == "bool":
        return "1" if value.upper() in ("TRUE", "T", "1") else "0"
    if kind == "number" and form in ("int", "float", "numeric"):
        return value
    if form in ("int", "float", "numeric") and kind == "text":
        return value if value.lstrip("-").replace(".", "", 1).isdigit() else literal(value)
    if form == "uuid":
        return literal(value.replace("-", "").lower())
    if form == "text" or (form == "json" and kind == "text"):
        return literal(value)
    raise Uncarried(f"a default of a kind that SQLite writes otherwise ({form})")


def _bare(found: Sequence[Token]) -> Sequence[Token]:
    while len(found) > 2 and found[0].text == "(" and found[-1].text == ")":
        reader = Reader(found)
        inside = reader.group()
        if reader.next is not END:
            break
        found = inside
    return found


def _without_cast(found: Sequence[Token]) -> Sequence[Token]:
    texts = [token.text for token in found]
    return found[: texts.index("::")] if "::" in texts and "(" not in texts[:1] else found


def _literal(found: Sequence[Token]) -> tuple[str, str]:
    if len(found) == 1 and found[0].kind == "string":
        return found[0].value, "text"
    if len(found) == 1 and found[0].kind == "quoted":
        return found[0].name, "text"
    if len(found) == 1 and found[0].word in ("TRUE", "FALSE"):
        return found[0].word, "word"
    if found and found[-1].kind == "number" and all(t.text in "+-" for t in found[:-1]):
        return "".join(token.text for token in found), "number"
    raise Uncarried("an expression")
