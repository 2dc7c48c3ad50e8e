"""An S3 server that ignores conditions: a proxy that takes them out of every request.

Many S3-compatible servers are like that, and answer as if nothing had been asked of them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .proxy import FaultProxy, fault_proxy

CONDITIONS = frozenset({"if-match", "if-none-match", "x-amz-copy-source-if-match"})


@contextmanager
def heedless(upstream_port: int, *, only: str = "") -> Generator[FaultProxy, None, None]:
    """A running proxy; ``only`` limits it to requests whose method and path contain that."""
    with fault_proxy(upstream_port) as proxy:
        proxy.dropped = CONDITIONS
        proxy.dropped_only = only
        yield proxy
