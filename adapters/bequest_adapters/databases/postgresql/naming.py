"""Names as SQL, always quoted: whether a word is reserved depends on the server's version."""

from __future__ import annotations


def identifier(name: str) -> str:
    """One name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str | None, name: str) -> str:
    """A name in its schema; without one it is left to the search path."""
    return identifier(name) if schema is None else f"{identifier(schema)}.{identifier(name)}"


def literal(text: str) -> str:
    """A text constant under standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"
