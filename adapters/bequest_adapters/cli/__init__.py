"""The command line: a driving adapter around `bequest`'s Python face, one module per verb.

Invariants: stdout carries the answer and nothing else; whatever fails is one paragraph on stderr
and the exit code of its kind; a verb's module is loaded only when that verb is asked for.
"""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
