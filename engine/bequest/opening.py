"""Fetching an object once, and opening it verified."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO, cast

from .encryption import cipher_of
from .ports import Store
from .snapshot.fold import Snapshot
from .spool import Spool


@contextmanager
def opened(store: Store) -> Generator[Snapshot]:
    """The store's object, downloaded once and verified. Raises `SnapshotError`, `AccessError`."""
    with fetched(store) as stream:
        yield Snapshot.open(stream, cipher_of(store))


@contextmanager
def fetched(store: Store) -> Generator[BinaryIO]:
    """The store's object as a seekable stream, downloaded once. Raises as `opened`."""
    with Spool() as spool:
        with store.read() as stream:
            shutil.copyfileobj(stream, spool, 1 << 20)
        spool.seek(0)
        yield cast(BinaryIO, spool)
