"""SQL as tokens, for both dialects: quoting, splitting, and a cursor over tokens.

Nothing is run and no driver is imported: a crossing is decided from the text that both catalogs
keep of their own definitions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<string>[eE]?'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[(?=[A-Za-z_])[^\]]*\])
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    | (?P<word>(?:[\w$]|[^\x00-\x7f])+)
    | (?P<mark>->>|->|::|<=|>=|<>|!=|==|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL; ``kind`` is string, quoted, number, word or mark."""

    kind: str
    text: str

    @property
    def word(self) -> str:
        """The keyword in upper case; empty for anything that is no bare word."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What an identifier names; empty for anything else."""
        if self.kind == "word":
            return self.text
        if self.kind != "quoted":
            return ""
        quote = self.text[-1]
        return self.text[1:-1].replace(quote * 2, quote)

    @property
    def value(self) -> str:
        """The text that a string literal stands for."""
        return self.text[self.text.index("'") + 1 : -1].replace("''", "'")


END = Token("end", "")


def tokens(sql: str) -> list[Token]:
    """The tokens of ``sql`` without white space and comments."""
    return [
        Token(match.lastgroup or "", match.group())
        for match in _TOKEN.finditer(sql)
        if match.lastgroup != "space"
    ]


def identifier(name: str) -> str:
    """``name`` quoted for use as an identifier, in either dialect."""
    return '"' + name.replace('"', '""') + '"'


def identifiers(names: Sequence[str]) -> str:
    """Quoted names with commas between."""
    return ", ".join(identifier(name) for name in names)


def literal(text: str) -> str:
    """``text`` quoted as a string, in either dialect."""
    return "'" + text.replace("'", "''") + "'"


class Reader:
    """Goes through tokens from left to right."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._found = found
        self._at = 0

    @property
    def next(self) -> Token:
        """The token ahead; `END` behind the last."""
        return self._found[self._at] if self._at < len(self._found) else END

    def ahead(self, distance: int) -> Token:
        """The token ``distance`` behind the next."""
        index = self._at + distance
        return self._found[index] if index < len(self._found) else END

    def take(self) -> Token:
        """Go over the next token."""
        token = self.next
        self._at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Go over these keywords or marks when all of them are ahead."""
        for distance, wanted in enumerate(words):
            token = self.ahead(distance)
            if (token.word or token.text) != wanted:
                return False
        self._at += len(words)
        return True

    def group(self) -> list[Token]:
        """Go over a group in parentheses; what is between them."""
        inside: list[Token] = []
        depth = 0
        while self.next is not END:
            token = self.take()
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return inside[1:]
            inside.append(token)
        return inside[1:]

    def names(self) -> tuple[str, ...]:
        """Go over a list of names in parentheses; what follows a name in it is ignored."""
        return tuple(part[0].name for part in split(self.group()) if part)

    def path(self) -> tuple[str, ...]:
        """Go over a name that may be qualified by others."""
        parts = [self.take().name]
        while self.accept("."):
            parts.append(self.take().name)
        return tuple(parts)


def split(found: Sequence[Token]) -> list[list[Token]]:
    """``found`` cut at its commas, but not inside parentheses or brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts if parts != [[]] else []


def text_of(found: Sequence[Token]) -> str:
    """Tokens as SQL again, close enough to read in a message."""
    joined = " ".join(token.text for token in found)
    return re.sub(r"\s*(::|\.)\s*", r"\1", re.sub(r"(?<=[(\[])\s+|\s+(?=[),(\[\]])", "", joined))
