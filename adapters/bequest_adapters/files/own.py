"""Which files are Bequest's or the database's: they lie beside configuration files at times.

The database is in the snapshot as tables. Recording its file, too, would never come to an end: each
record is a write to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from bequest.ports import Source, Store


class Own:
    """Tells by an absolute path."""

    def __init__(self, databases: Iterable[str] = (), objects: Iterable[str] = ()) -> None:
        """``databases`` are SQLite's files, ``objects`` those of a store on this machine."""
        self._databases = {os.path.realpath(path) for path in databases}
        self._objects = {os.path.realpath(path) for path in objects}
        self._folders = {os.path.dirname(path) for path in self._databases | self._objects}

    def __call__(self, path: str) -> bool:
        """Whether ``path`` is a database, an object, or something that belongs to one."""
        folder, name = os.path.split(path)
        if os.path.realpath(folder) not in self._folders:
            return False
        for known in self._databases:
            base = os.path.basename(known)
            beside = (f"{base}-", f".{base}-bequest-", f"{base}.before-restore-")
            if name == base or name.startswith(beside):
                return True
        for known in self._objects:
            base = os.path.basename(known)
            kept = name.removeprefix(f"{base}.")
            if name in (base, f"{base}.lock") or name.startswith(f".{base}."):
                return True
            if kept != name and kept.isdecimal():
                return True
        return False

    def is_folder(self, path: str) -> bool:
        """Whether one of them lies directly in the folder at ``path``."""
        return os.path.realpath(path) in self._folders


def own_files(source: Source, store: Store) -> Own:
    """The files that belong to a source and to a store, when they are files of this machine."""
    paths = getattr(source, "wake_paths", None)
    parts = urlsplit(store.name)
    objects = [unquote(parts.path)] if parts.scheme == "file" else []
    return Own(() if paths is None else paths(), objects)
