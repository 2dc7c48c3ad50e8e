"""The machine's clock, for everything that is not a simulation."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `bequest.ports.Clock`. All times in seconds."""

    def time(self) -> float:
        """Wall clock: seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
