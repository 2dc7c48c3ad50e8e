"""A download in ranges, a few of them at once, that never mixes two versions.

Invariants: every range is asked for under the version that was current when the read began; a range
that fails is asked for again; at most `PARALLEL_RANGES` + 1 ranges are in memory.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Final, cast

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from bequest.errors import Conflict, Unreachable

RANGE_BYTES: Final = 4 * 1024 * 1024
PARALLEL_RANGES: Final = 4
ATTEMPTS: Final = 6
BUFFER_BYTES: Final = 1 << 20

Fetch = Callable[[int, int], bytes]
"""Takes offset and length in bytes; raises `Conflict` when the version is gone."""


def ranged(
    fetch: Fetch,
    start: int,
    end: int,
    name: str,
    sleep: Callable[[float], None],
    *,
    first: bytes = b"",
    writing: bool = False,
) -> BinaryIO:
    """Bytes ``start`` up to ``end`` of one version of the object ``name`` as a stream.

    ``first`` are those that are here already. A version that is gone is a `Conflict` to a writer;
    to a reader it is `Unreachable`: read again.
    """
    stream = _Ranged(fetch, start, end, name, sleep, first, writing)
    return cast(BinaryIO, io.BufferedReader(stream, BUFFER_BYTES))


class _Ranged(io.RawIOBase):
    def __init__(
        self,
        fetch: Fetch,
        start: int,
        end: int,
        name: str,
        sleep: Callable[[float], None],
        first: bytes,
        writing: bool,
    ) -> None:
        super().__init__()
        self._fetch = fetch
        self._start = start
        self._asked = start + len(first)
        self._at = 0
        self._end = end
        self._name = name
        self._sleep = sleep
        self._writing = writing
        self._data = memoryview(first)
        self._pool = ThreadPoolExecutor(PARALLEL_RANGES, "bequest-range")
        self._coming: deque[Future[bytes]] = deque()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._data:
            self._ask()
            if not self._coming:
                return 0
            self._data = memoryview(self._coming.popleft().result())
        data = self._data[: len(buffer)]
        buffer[: len(data)] = data
        self._data = self._data[len(data) :]
        self._at += len(data)
        return len(data)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end - self._start}
        place = base[whence] + offset
        if place != self._at:
            for future in self._coming:
                future.cancel()
            self._coming.clear()
            self._data = memoryview(b"")
            self._at, self._asked = place, self._start + place
        return place

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(cancel_futures=True)
        super().close()

    def _ask(self) -> None:
        while self._asked < self._end and len(self._coming) < PARALLEL_RANGES:
            length = min(RANGE_BYTES, self._end - self._asked)
            self._coming.append(self._pool.submit(self._range, self._asked, length))
            self._asked += length

    def _range(self, offset: int, length: int) -> bytes:
        again = Retrying(
            retry=retry_if_exception_type(Unreachable),
            wait=wait_random_exponential(multiplier=0.25, max=8),
            stop=stop_after_attempt(ATTEMPTS),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return again(self._once, offset, length)
        except Conflict as error:
            if self._writing:
                raise
            raise Unreachable(
                f"{self._name} was replaced while it was being read, so the rest of that version "
                "is gone. Nothing is lost: read again from the beginning."
            ) from error

    def _once(self, offset: int, length: int) -> bytes:
        data = self._fetch(offset, length)
        if len(data) != length:
            raise Unreachable(
                f"{self._name} sent {len(data)} of {length} bytes and stopped. Nothing is lost; "
                "they are asked for again."
            )
        return data
