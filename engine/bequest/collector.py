"""Python's garbage collector while a whole state passes through the process.

A block is tens of thousands of tuples that hold only numbers and text. The collector goes over them
again and again for cycles that cannot be there: a tenth of the CPU time of a snapshot or restore.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

ALLOCATIONS: Final = 200_000
"""More containers than a few blocks in flight hold; cycles of other threads are still found."""
_lock = threading.Lock()
_within: list[tuple[int, int, int]] = []
"""What the thresholds were before each run that goes on now."""


@contextmanager
def seldom_collecting() -> Generator[None]:
    """Let the collector run less often, in the whole process, until all such contexts are left."""
    with _lock:
        before = _within[0] if _within else gc.get_threshold()
        _within.append(before)
        # 0 says that the application has turned it off; so it stays.
        if 0 < before[0] < ALLOCATIONS:
            gc.set_threshold(ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        with _lock:
            _within.pop()
            if not _within:
                gc.set_threshold(*before)
