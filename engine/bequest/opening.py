"""Fetching an object once, and opening it verified."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from .ports import Store
from .snapshot.fold import Snapshot

SPOOL_BYTES: Final = 16 * 1024 * 1024


@contextmanager
def opened(store: Store) -> Generator[Snapshot]:
    """The store's object, downloaded once and verified. Raises `SnapshotError`, `AccessError`."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
        with store.read() as stream:
            shutil.copyfileobj(stream, spool, 1 << 20)
        yield Snapshot.open(cast(BinaryIO, spool))
