"""Why a goal is missed: said once, in a table of `docs/performance.md`, and read from there."""

from __future__ import annotations

import re
from pathlib import Path

from .measure import Figure

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
HEADING = "## Why a goal is missed"
_LINE = re.compile(r"^\| `(?P<row>[^`]+)` \| (?P<figure>[^|]+) \| (?P<why>[^|]+) \|$", re.MULTILINE)


def reasons() -> list[tuple[str, str, str]]:
    """Row of the benchmark, words that a figure's line holds, and why it misses its goal."""
    _, found, rest = DOCUMENT.read_text().partition(HEADING)
    section = rest.partition("\n## ")[0] if found else ""
    return [(m["row"], m["figure"].strip(), m["why"].strip()) for m in _LINE.finditer(section)]


def why(row: str, figure: Figure) -> str:
    """The reason for a missed ``figure``; says so where the document has none."""
    line = f"{figure.what}, of {figure.peer}".lower()
    for name, words, reason in reasons():
        if name == row and words.lower() in line:
            return reason.replace("`", "")
    return "not explained yet: docs/performance.md has no reason for it"
