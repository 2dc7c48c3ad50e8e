"""Proves before it matters that a store, and a database, will work: what `bequest doctor` does.

Invariant: the real object is never changed. What has to be written to find something out is written
to a scratch object beside it, which is removed again.
"""

from __future__ import annotations

from .examination import examine_database, examine_store
from .policies import policy

__all__ = ["examine_database", "examine_store", "policy"]
