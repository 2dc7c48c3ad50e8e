"""Fetching an object once, and opening it verified."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO, cast

from .ports import Store
from .snapshot.fold import Snapshot
from .spool import Spool


@contextmanager
def opened(store: Store) -> Generator[Snapshot]:
    """The store's object, downloaded once and verified. Raises `SnapshotError`, `AccessError`."""
    with Spool() as spool:
        with store.read() as stream:
            shutil.copyfileobj(stream, spool, 1 << 20)
        yield Snapshot.open(cast(BinaryIO, spool))
