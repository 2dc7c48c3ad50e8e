"""A download that survives a broken connection and never mixes two versions.

Invariant: every byte comes from the version (ETag) of the first answer. After a failure the rest is
asked for under ``If-Match``; if the object has been replaced meanwhile, the read fails.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final, cast

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from bequest.errors import Conflict, Unreachable

from .s3_errors import calling

ATTEMPTS: Final = 5
"""In a row without a single byte."""
BUFFER_BYTES: Final = 1 << 20

Reopen = Callable[[str, int], Mapping[str, Any]]
"""Takes ETag and offset in bytes, gives a GetObject answer for the rest."""


def download(
    answer: Mapping[str, Any], reopen: Reopen, name: str, sleep: Callable[[float], None]
) -> BinaryIO:
    """The body of a GetObject answer as a stream that knows how to go on."""
    return cast(BinaryIO, io.BufferedReader(_Download(answer, reopen, name, sleep), BUFFER_BYTES))


class _Download(io.RawIOBase):
    def __init__(
        self, answer: Mapping[str, Any], reopen: Reopen, name: str, sleep: Callable[[float], None]
    ) -> None:
        super().__init__()
        self._body: Any = answer["Body"]
        self._version: str = answer["ETag"]
        self._end: int = answer["ContentLength"]
        self._at = 0
        self._reopen = reopen
        self._name = name
        self._again = Retrying(
            retry=retry_if_exception_type(Unreachable),
            wait=wait_random_exponential(multiplier=0.25, max=8),
            stop=stop_after_attempt(ATTEMPTS),
            sleep=sleep,
            reraise=True,
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._end - self._at)
        if wanted <= 0:
            return 0
        data = self._next(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}
        place = base[whence] + offset
        if place != self._at:
            # The rest is asked for from there, under the same version.
            self._drop()
            self._at = place
        return place

    def close(self) -> None:
        self._drop()
        super().close()

    def _next(self, wanted: int) -> bytes:
        try:
            return self._read(wanted)
        except Unreachable:
            pass
        try:
            return self._again(self._read, wanted)
        except Conflict as error:
            raise Unreachable(
                f"{self._name} was replaced while it was being read, so the rest of that version "
                "is gone. Nothing is lost: read again from the beginning."
            ) from error

    def _read(self, wanted: int) -> bytes:
        try:
            if self._body is None:
                self._body = self._reopen(self._version, self._at)["Body"]
            with calling(self._name):
                data = cast(bytes, self._body.read(wanted))
            if not data:
                raise Unreachable(
                    f"{self._name} sent {self._at} of {self._end} bytes and stopped. Nothing is "
                    "lost; the rest is asked for again."
                )
        except Unreachable:
            self._drop()
            raise
        return data

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
