"""Keeping a copy of the object before something else takes its place: what a store may add."""

from __future__ import annotations

import re
from typing import Final

from .errors import UsageError
from .model import Stat
from .ports import Keeping, Store

_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,99}")


def keep(store: Store, onto: Stat, label: str) -> str:
    """Copy the object beside itself, if it is still ``onto``; the copy's address.

    ``label`` becomes part of its name: letters, digits, dots and dashes, a letter first. Raises
    `UsageError` for a store that cannot, or another label; `Conflict`, `AccessError`.
    """
    if not _LABEL.fullmatch(label):
        raise UsageError(
            f"{label!r} cannot be part of the name of a copy. Nothing was done. Use letters, "
            "digits, dots and dashes, and begin with a letter."
        )
    if not isinstance(store, Keeping):
        raise UsageError(
            f"The store of {store.name} cannot keep a copy beside the object, so what would be "
            "replaced would be lost. Nothing was done. Copy the object with the store's own tools "
            "and publish to another name."
        )
    return store.keep(onto, label)
