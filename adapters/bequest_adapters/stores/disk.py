"""Every change the file store makes to a disk goes through here.

One seam, so that a test can record the calls and check what is left of them after a power cut
(`tests/stores/test_power_loss.py`). What the file store relies on, and nothing more:

* after `sync` has returned, what was written to that file before survives a power cut;
* after `sync_folder` has returned, the names given and taken before survive one;
* `rename` is atomic; a write that stays within one 512-byte sector is not torn.
"""

from __future__ import annotations

import os
from typing import Final

NEW_FILE_MODE: Final = 0o600
"""A snapshot holds whatever secrets the configuration holds."""


class Disk:
    """The real disk. Every method raises `OSError`."""

    def create(self, path: str) -> int:
        """Open a file for writing that must not be there yet."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, NEW_FILE_MODE)

    def open(self, path: str) -> int:
        """Open a file that is there, for reading and writing."""
        return os.open(path, os.O_RDWR | _FLAGS)

    def write(self, file: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""
        view = memoryview(data)
        while view:
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, file: int, size_bytes: int) -> None:
        """Cut off what is behind ``size_bytes``."""
        os.ftruncate(file, size_bytes)

    def sync(self, file: int) -> None:
        """Return when everything written to the file is on the disk."""
        os.fsync(file)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; whatever bore that name loses it."""
        os.replace(old, new)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name."""
        os.link(old, new)

    def unlink(self, path: str) -> None:
        """Take a name away."""
        os.unlink(path)

    def sync_folder(self, path: str) -> None:
        """Return when the names in the folder are on the disk."""
        folder = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_FLAGS: Final = getattr(os, "O_CLOEXEC", 0)
