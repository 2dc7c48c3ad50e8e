"""How a copy of the object is made beside it, whatever the store's own requests are.

Invariants: the copy is of the very version that was asked for, with its mark; no name that is taken
is ever written to; asked again after an answer was lost, the copy that is there is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, islice
from typing import Final, Protocol

from bequest.errors import Conflict, Denied, Refused, Unreachable
from bequest.model import Stat

from .answers import conflict

MOST_NAMES: Final = 100


class Copying(Protocol):
    """A store that can copy its object to a name that ends in ``suffix``."""

    @property
    def name(self) -> str:
        """`Store.name`."""
        ...

    def head(self) -> Stat | None:
        """`Store.head`."""
        ...

    def beside(self, suffix: str) -> Stat | None:
        """What is there under the name with ``suffix``."""
        ...

    def copy(self, onto: Stat, suffix: str) -> None:
        """Copy ``onto`` there. Raises `Conflict` when it is gone, or the name is taken."""
        ...


def keep(store: Copying, onto: Stat, label: str, rights: str) -> str:
    """The suffix under which a copy of ``onto`` now stands.

    ``rights``: what a copy takes, for the one who has to grant it. Raises `Conflict` when the
    object is not ``onto`` any more, `Denied`, `Unreachable`.
    """
    check(store, onto)
    try:
        return _first(store, onto, _suffixes(label))
    except Denied as error:
        raise Denied(
            f"The copy of {store.name} that is to be kept under the name with .{label} behind it "
            f"could not be made. The object is as it was, and nothing takes its place. {rights} "
            f"The store said: {error}"
        ) from error


def check(store: Copying, onto: Stat) -> None:
    """Raises `Conflict` unless the object is ``onto``."""
    found = store.head()
    if found is None or found.version != onto.version:
        raise conflict(store.name)


def _first(store: Copying, onto: Stat, suffixes: Iterator[str]) -> str:
    for suffix in suffixes:
        if _kept(store, onto, suffix):
            return suffix
    raise Refused(
        f"{MOST_NAMES} names for a copy of {store.name} are taken by other objects. Nothing was "
        "copied or replaced. Remove those that nobody needs."
    )


def _kept(store: Copying, onto: Stat, suffix: str) -> bool:
    """Whether a copy of ``onto`` stands there now; if not, the name is taken."""
    there = store.beside(suffix)
    if there is not None:
        return _same(there, onto)
    try:
        store.copy(onto, suffix)
    except Conflict:
        check(store, onto)
        there = store.beside(suffix)
        if there is None:
            raise _unseen(store) from None
        return _same(there, onto)
    there = store.beside(suffix)
    if there is None or (there.mark, there.size_bytes) != (onto.mark, onto.size_bytes):
        raise _unseen(store)
    return True


def _same(there: Stat, onto: Stat) -> bool:
    """Whether ``there`` is a copy of ``onto``: of what bears no mark nobody can tell."""
    return there.mark is not None and (there.mark, there.size_bytes) == (onto.mark, onto.size_bytes)


def _unseen(store: Copying) -> Unreachable:
    return Unreachable(
        f"Whether a copy of {store.name} was made could not be seen. The object is as it was, and "
        "nothing takes its place. Try again."
    )


def _suffixes(label: str) -> Iterator[str]:
    numbered = (f".{label}.{number}" for number in count(2))
    return islice(chain([f".{label}"], numbered), MOST_NAMES)
