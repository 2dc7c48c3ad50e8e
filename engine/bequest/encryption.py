"""Which key an object is under, and who has it. The cipher itself is an adapter.

Keys belong to a store as it is opened: every verb opens its store, so every verb has them. An
object is under one key, or under none. Whoever cannot open it may not publish onto it, whatever
the store allows: else a controller that lost its settings would put plain text in its place.
"""

from __future__ import annotations

import os
from typing import Self, cast

from .errors import KeyMissing, Refused, UsageError
from .ports import Cipher, Keyed, Store
from .snapshot.frame import Lock


class KeyedAddress(str):
    """A store's address, and the file that holds its keys. Everywhere else it is the address."""

    key_file: str

    def __new__(cls, address: str, key_file: str) -> Self:
        """Both as texts."""
        made = super().__new__(cls, address)
        made.key_file = key_file
        return made


def keyed(store: str | os.PathLike[str], *, key_file: str | os.PathLike[str]) -> KeyedAddress:
    """The address ``store``, whose object is encrypted with the keys in ``key_file``.

    Give it to any verb in place of the address. The file is read when the store is opened, and goes
    before the variables ``BEQUEST_KEY_FILE`` and ``BEQUEST_KEY``. Raises `UsageError`.
    """
    path = os.fspath(key_file)
    if not path:
        raise UsageError(
            "The key file has no name, so nothing would be encrypted. Nothing was done. Give the "
            "path of a file that `bequest key` made, or the address alone."
        )
    return KeyedAddress(os.fspath(store), path)


def cipher_of(store: Store) -> Cipher | None:
    """The keys with which ``store`` was opened."""
    # Not by isinstance: that overlooks what a wrapper passes on, from Python 3.12 on.
    return cast("Cipher | None", getattr(store, "cipher", None))


def give(store: Store, cipher: Cipher | None) -> Store:
    """``store``, which has ``cipher`` from now on. Raises `UsageError` where it takes none."""
    if cipher is None:
        return store
    try:
        cast(Keyed, store).cipher = cipher
    except AttributeError as error:
        raise UsageError(
            f"The store of the type {type(store).__name__} cannot be given a key, so nothing would "
            "be encrypted. Nothing was done. Let it have an attribute named cipher."
        ) from error
    return store


def lock_of(store: Store, key_id: str) -> Lock | None:
    """What goes on with an object under ``key_id``; ``None`` for a plain one.

    Raises `KeyMissing`.
    """
    if not key_id:
        return None
    cipher = cipher_of(store)
    if cipher is None or not cipher.holds(key_id):
        raise KeyMissing.named(key_id)
    return Lock(cipher, key_id)


def writing_lock(store: Store) -> Lock | None:
    """What a new object goes under: the store's current key, or none."""
    cipher = cipher_of(store)
    return None if cipher is None else Lock(cipher, cipher.current)


def check_allowed(store: Store, key_id: str) -> None:
    """Raise `Refused` unless the object under ``key_id``, empty for none, can be opened here."""
    cipher = cipher_of(store)
    if not key_id or (cipher is not None and cipher.holds(key_id)):
        return
    given = "no key was given" if cipher is None else f"only {', '.join(cipher.ids)} was given"
    raise Refused(
        f"The backup at {store.name} is encrypted under the key {key_id}, and here {given}. It was "
        "left as it is and nothing was backed up, for encryption is never switched off silently. "
        "Give that key (BEQUEST_KEY_FILE, --key-file, or key_file in bequest.toml); a new one goes "
        "on a line before it. If the key is lost, replace the object once with `bequest backup "
        "--replace LINEAGE/SERIAL`, as `bequest inspect` shows them; a copy of it is kept."
    )


def told(key_id: str) -> str | None:
    """A key's id as reports tell it: ``None`` for a plain object."""
    return key_id or None
