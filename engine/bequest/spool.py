"""The temporary file of one object or of rows set aside: in memory while small, then on the disk.

A temporary folder that is full or cannot be written is told as an error of Bequest's own, so that
`status`, `run` and a caller hear of it as of any other publish that failed.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from .check import Check, failed, passed
from .errors import Denied

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

SPOOL_BYTES: Final = 8 * 1024 * 1024
"""What one such file may hold in memory."""


class Spool(io.RawIOBase):
    """A seekable stream of bytes that is gone when it is closed. Its methods raise `Denied`."""

    def __init__(self) -> None:
        super().__init__()
        self._file: Any = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115  # closed by close

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """As a buffered file does: fewer than ``size`` bytes only at the end."""
        with temporary():
            found: bytes = self._file.read(-1 if size is None else size)
            return found

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As `read`."""
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def write(self, data: ReadableBuffer, /) -> int:
        """All of ``data``."""
        with temporary():
            count: int = self._file.write(data)
            return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Where the file then stands."""
        with temporary():
            self._file.seek(offset, whence)
            place: int = self._file.tell()
            return place

    def tell(self) -> int:
        """Where the file stands."""
        place: int = self._file.tell()
        return place

    def truncate(self, size: int | None = None, /) -> int:
        """The new size."""
        with temporary():
            self._file.truncate(self.tell() if size is None else size)
            return self.tell() if size is None else size

    def close(self) -> None:
        """Give the file up; what could not be written is not wanted any more."""
        if not self.closed:
            with suppress(OSError):
                self._file.close()
        super().close()


@contextmanager
def temporary() -> Generator[None]:
    """Tell a fault of the temporary folder as `Denied`."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
        raise Denied(
            f"The temporary folder {folder} cannot be used ({error.strerror or error}). An object "
            "passes through it when it is made or read, so nothing was published or restored, and "
            "nothing was lost. Make room there, or set the variable TMPDIR to a folder with room "
            "for a whole object."
        ) from error


def passage(size_bytes: int) -> Check:
    """Whether an object of ``size_bytes`` can pass through the temporary folder. Writes nothing."""
    name = "temporary folder"
    if size_bytes <= SPOOL_BYTES:
        return passed(name, "none needed: the object fits into memory")
    try:
        with temporary():
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
    except Denied as error:
        return failed(name, error)
    told = f"{size_bytes:,} bytes pass through {folder}, {free:,} are free there"
    if free >= size_bytes:
        return passed(name, told)
    return failed(
        name,
        Denied(
            f"There is not enough room in the temporary folder: {told}. The object was not read, "
            "and nothing was changed. Make room there, or set the variable TMPDIR to a folder with "
            "room for a whole object."
        ),
    )
