"""Whether two things that a caller names are one file: asked before anything is touched.

A store's address may lead to the live database, to its log, to a key. Written there, the backup
destroys what it protects. Names do not tell: there are relative paths, symbolic links, hard links
and folders that are mounted twice. So files are compared by device and inode, and files that do not
exist yet by their folder, compared so, and their name.

Which files belong to a database or a store only its adapter knows: `bequest.ports.Occupying`.
Invariant: nothing is opened, made or changed here, and whatever cannot be judged here is left to
the verb itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, cast

from .errors import BequestError, UsageError
from .model import Place
from .ports import Occupying

DATABASES: Final = ("database", "into")
STORES: Final = ("store", "other")
FOLDERS: Final = {
    "files_to": "the folder for the files",
    "keep": "the folder for the drilled database",
}
KEY_FILE: Final = "BEQUEST_KEY_FILE"
READ_ONLY: Final[frozenset[str]] = frozenset(STORES)
"""Two objects are only compared with each other: they may be one."""

_others: dict[str, str] = {}


def protect(path: str | os.PathLike[str], what: str) -> None:
    """Have ``path`` compared as well from now on, such as a program's configuration file."""
    _others[os.path.abspath(path)] = what


def check(named: Mapping[str, Any]) -> None:
    """Raise `UsageError` when two of the arguments ``named`` are, or belong to, one file.

    The names are those of the verbs' parameters: database, into, store, other, key_file, files_to,
    keep. The files of `protect` and of the key that the environment names are compared with all.
    """
    if not any(named.get(name) is not None for name in (*DATABASES, *STORES)):
        return
    groups = dict(_groups(named))
    for (first, ours), (second, theirs) in combinations(groups.items(), 2):
        if {first, second} <= READ_ONLY:
            continue
        _compare(ours, theirs)


def _groups(named: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Place]]]:
    for name, value in named.items():
        if value is None:
            continue
        if name in DATABASES:
            yield name, _of_database(value)
        elif name in STORES:
            yield name, _of_store(value)
        elif name in FOLDERS:
            folder = cast("str | os.PathLike[str]", value)
            yield name, [Place(os.fspath(folder), FOLDERS[name])]
    # One file may hold the keys of several stores: it is one thing.
    keys: set[str | None] = {_text(named.get("key_file")), os.environ.get(KEY_FILE)}
    keys |= {getattr(named.get(name), "key_file", None) for name in STORES}
    yield "keys", [Place(path, "the key file") for path in keys if path]
    yield "others", [Place(path, what) for path, what in _others.items()]


def _of_database(database: Any) -> Sequence[Place]:
    from . import registry

    try:
        source: object = registry.open_source(database)
    except (BequestError, ImportError):
        return ()  # the verb says so, in its own words
    return source.places() if isinstance(source, Occupying) else ()


def _of_store(store: Any) -> Sequence[Place]:
    from . import registry

    try:
        opened: object = registry.local_store(store)
    except BequestError:
        return ()
    return opened.places() if isinstance(opened, Occupying) else ()


def _text(path: Any) -> str | None:
    return os.fspath(path) if isinstance(path, str | os.PathLike) else None


def _compare(ours: Sequence[Place], theirs: Sequence[Place]) -> None:
    known: dict[object, Place] = {}
    for place in ours:
        for identity in _identities(place.path):
            known.setdefault(identity, place)
    for place in theirs:
        for identity in _identities(place.path):
            if identity in known:
                raise _one_file(known[identity], place)


def _identities(path: str) -> Iterator[object]:
    """What two paths to one file have in common."""
    real = os.path.realpath(path)
    yield real
    file = _inode(real)
    if file is not None:
        yield file
        return
    folder, name = os.path.split(real)
    yield _inode(folder), name


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _one_file(first: Place, second: Place) -> UsageError:
    return UsageError(
        f"{first.path} is {first.what}, and {second.path}, which is {second.what}, leads to the "
        "same file. Nothing was done: the one would destroy the other. Give each a file of its "
        "own; a backup belongs on another disk or in a bucket."
    )
