"""SQL as text: quoting, and cutting a CREATE INDEX into its terms.

SQLite tells which columns an index has, but keeps its expressions and its WHERE clause only as the
text of the statement. Nothing here understands SQL beyond tokens and parentheses.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    | (?P<word>(?:[\w$]|[^\x00-\x7f])+)
    | (?P<mark>->>|->|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL; ``kind`` is string, quoted, word or mark, and ``end`` where it ends."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """What an identifier names, in lower case; empty for anything else."""
        if self.kind == "word":
            return fold(self.text)
        if self.kind != "quoted":
            return ""
        quote = self.text[-1]
        return fold(self.text[1:-1].replace(quote * 2, quote))


_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold(name: str) -> str:
    """``name`` in lower case as SQLite understands it: ASCII only, so É and é stay two names."""
    return name.translate(_FOLD)


def identifier(name: str) -> str:
    """``name`` quoted for use as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """``text`` quoted as a string."""
    return "'" + text.replace("'", "''") + "'"


def tokens(sql: str) -> list[Token]:
    """The tokens of ``sql`` without white space and comments."""
    return [
        Token(match.lastgroup or "", match.group(), match.start(), match.end())
        for match in _TOKEN.finditer(sql)
        if match.lastgroup != "space"
    ]


def without_comments(sql: str) -> str:
    """``sql`` with every run of white space and comments made one space."""
    return _TOKEN.sub(lambda found: " " if found.lastgroup == "space" else found.group(), sql)


@dataclass(frozen=True, slots=True)
class IndexText:
    """The terms of a CREATE INDEX (without collation and order) and its WHERE clause, or ``""``."""

    terms: tuple[str, ...]
    predicate: str


def index_text(sql: str) -> IndexText:
    """Cut a CREATE INDEX statement up."""
    sql = without_comments(sql)
    found = tokens(sql)
    opening = next(index for index, token in enumerate(found) if token.text == "(")
    terms: list[str] = []
    term: list[Token] = []
    depth = 0
    for index, token in enumerate(found[opening:], opening):
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 or (depth == 1 and token.text == ","):
            terms.append(_expression(sql, term))
            term = []
            if depth == 0:
                return IndexText(tuple(terms), _predicate(sql, found[index + 1 :]))
        elif index > opening:
            term.append(token)
    return IndexText(tuple(terms), "")


def _expression(sql: str, term: list[Token]) -> str:
    if term and term[-1].name in ("asc", "desc") and term[-1].kind == "word":
        term = term[:-1]
    if len(term) > 2 and term[-2].text.lower() == "collate":
        term = term[:-2]
    return sql[term[0].start : term[-1].end] if term else ""


def _predicate(sql: str, rest: list[Token]) -> str:
    if rest and rest[0].text.lower() == "where":
        return sql[rest[0].end :].strip()
    return ""


def named(sql: str) -> frozenset[str]:
    """Every identifier in an expression, in lower case, except the names of functions."""
    found = tokens(sql)
    calls = {
        index
        for index, token in enumerate(found[1:])
        if token.text == "(" and found[index].kind == "word"
    }
    return frozenset(
        token.name for index, token in enumerate(found) if token.name and index not in calls
    )


def generated_from(sql: str) -> frozenset[str]:
    """The identifiers that the generated columns of a CREATE TABLE are computed from."""
    return frozenset(name for group in _groups_after_as(sql) for name in named(group))


def _groups_after_as(sql: str) -> Iterator[str]:
    found = tokens(sql)
    for index, token in enumerate(found[:-1]):
        if token.text.lower() == "as" and found[index + 1].text == "(":
            yield sql[found[index + 1].start : _closing(found[index + 1 :])]


def _closing(found: Iterable[Token]) -> int:
    depth = 0
    end = 0
    for token in found:
        depth += (token.text == "(") - (token.text == ")")
        end = token.end
        if depth == 0:
            break
    return end
