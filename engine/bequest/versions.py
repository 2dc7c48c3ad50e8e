"""Earlier states of the object, and reading it only when it has changed: what a store may add."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from typing import BinaryIO, Final

from . import registry
from .encryption import cipher_of, give
from .errors import Refused, SnapshotMissing, UsageError
from .model import Stat, Version
from .ports import Historic, Rereading, Store

LIMIT: Final = 100
"""So many versions are told of unless more are asked for: each may cost a request."""


def history(store: Store, limit: int = LIMIT) -> Sequence[Version]:
    """The states that ``store`` keeps, the newest first. Raises `UsageError`, `AccessError`."""
    return _historic(store).history(limit)


def at(store: Store, version: str) -> Store:
    """One of those states, as a store that can only be read. Raises `UsageError`."""
    return give(_historic(store).at(version), cipher_of(store))


def check_present(store: Store, past: Store) -> None:
    """Raise `Refused` unless ``past`` is still what ``store`` holds: only that can be adopted."""
    then, now = past.head(), store.head()
    if then is None or now is None or then.mark is None or then.mark != now.mark:
        raise Refused(
            f"{past.name} is not the present object, and only that one can be adopted. Nothing was "
            "changed. Restore the earlier version with --copy; if its database shall then be "
            "the one that is backed up, publish it once with `bequest backup --overwrite`, which "
            "stops the controller that publishes now."
        )


@contextmanager
def read_newer(store: Store, version: str) -> Generator[tuple[Stat, BinaryIO] | None]:
    """The object and what it is, or ``None`` while it is still ``version``.

    One small request while nothing changes. Raises `SnapshotMissing`.
    """
    if isinstance(store, Rereading):
        with store.read_newer(version) as found:
            yield found
        return
    stat = store.head()
    if stat is None:
        raise SnapshotMissing(
            f"There is no object at {store.name}: nothing can be restored from here. Check the "
            "address; a first publish creates the object."
        )
    if stat.version == version:
        yield None
        return
    # A publish in between is told under the version before it, and read once more: no harm.
    with store.read() as stream:
        yield stat, stream


@contextmanager
def version_of(
    store: str | Store, version: str | None, *, to_adopt: bool = False
) -> Generator[Store]:
    """The store, or the version of its object that is meant."""
    with closing(registry.open_store(store)) as opened:
        if version is None:
            yield opened
            return
        with closing(at(opened, version)) as past:
            if not to_adopt:
                yield past
                return
            check_present(opened, past)
            yield opened


def _historic(store: Store) -> Historic:
    if not isinstance(store, Historic):
        raise UsageError(
            f"The store of {store.name} keeps no earlier versions that Bequest could tell of. The "
            "object itself is unaffected."
        )
    return store
