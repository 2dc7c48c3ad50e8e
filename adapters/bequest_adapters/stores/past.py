"""A state of the object that was replaced: it can be read, and never written."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO, NoReturn

from bequest.errors import Refused, SnapshotMissing
from bequest.model import Mark, Stat


class PastStore:
    """The reading half of `bequest.ports.Store`, made of functions."""

    def __init__(
        self,
        name: str,
        head: Callable[[], Stat | None],
        read: Callable[[], AbstractContextManager[BinaryIO]],
        close: Callable[[], None],
    ) -> None:
        self._name = name
        self._head = head
        self._read = read
        self._close = close

    @property
    def name(self) -> str:
        return self._name

    def head(self) -> Stat | None:
        with self._told():
            found = self._head()
        if found is None:
            raise no_such_version(self._name)
        return found

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        with self._told(), self._read() as stream:
            yield stream

    @contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except SnapshotMissing as error:
            raise no_such_version(self._name) from error

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        self._refuse()

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        self._refuse()

    def close(self) -> None:
        self._close()

    def _refuse(self) -> NoReturn:
        raise Refused(
            f"{self._name} is an earlier version, and what is past cannot be added to. Nothing was "
            "written. Take a copy of it with --copy."
        )


def no_such_version(name: str) -> SnapshotMissing:
    """``name`` tells of the store and of the version that was asked for."""
    return SnapshotMissing(
        f"There is no {name}. Nothing was done. `bequest history` lists the versions that the "
        "store still keeps; take one of those."
    )
