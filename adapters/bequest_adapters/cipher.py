"""Keys and the cipher: AES-256-GCM, a ring of keys from a file or from the environment.

A key is 32 random bytes, written as base64 or in hexadecimal on a line of its own. The first line
writes, all lines read: to change keys, put the new one on top. Invariants: no key, nor anything of
a file that was to hold one, is in a message, a ``repr``, a database or an object; what cannot be
used is an error, because a slip must not switch encryption off.

The nonce of 96 bits is random. By NIST SP 800-38D, 8.3, that is safe for 2^32 frames under one key:
one in a second for a hundred years.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from bequest.errors import KeyMissing, SnapshotDamaged, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
ID_BYTES: Final = 8
PERSON: Final = b"bequest-key-id"
TEXT_VARIABLE: Final = "BEQUEST_KEY"
FILE_VARIABLE: Final = "BEQUEST_KEY_FILE"
MOST_BYTES: Final = 1 << 16
"""No key file is larger: a wrong path may lead to anything."""
_UNSAFE: Final = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_ORDINARY: Final = str.maketrans("-_", "+/")
_WANTED: Final = (
    "Bequest wants one key on a line, as `bequest key FILE` makes it: 32 random bytes in base64 or "
    "hexadecimal. Nothing was done."
)


class KeyRing:
    """See the module; the contract is `bequest.ports.Cipher`."""

    def __init__(
        self, keys: Iterable[bytes], *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """``keys`` are of 32 bytes each, the current one first. Raises `UsageError`."""
        self._keys = {key_id(key): key for key in keys}
        self._ciphers = {name: _aes(key) for name, key in self._keys.items()}
        self._random = random

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"

    @property
    def current(self) -> str:
        return self.ids[0]

    @property
    def ids(self) -> Sequence[str]:
        return tuple(self._keys)

    def holds(self, key_id: str) -> bool:
        return key_id in self._keys

    def encrypt(self, key_id: str, data: bytes, bound_to: bytes) -> bytes:
        nonce = self._random(NONCE_BYTES)
        return nonce + self._cipher(key_id).encrypt(nonce, data, bound_to)

    def decrypt(self, key_id: str, data: bytes, bound_to: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        cipher = self._cipher(key_id)
        try:
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError) as error:
            raise SnapshotDamaged(
                f"A frame of the snapshot was not made under the key {key_id}, or not for its "
                "place: somebody changed the object. Nothing of it was used. Restore from another "
                "copy or an earlier version of the object; keep this one for analysis."
            ) from error

    def lines(self) -> list[str]:
        """The keys as text, for a process of ours, through a pipe. Never for a message."""
        return [encoded(key) for key in self._keys.values()]

    def _cipher(self, key_id: str) -> AESGCM:
        if key_id not in self._ciphers:
            raise KeyMissing.named(key_id)
        return self._ciphers[key_id]


def keys(key_file: str | None = None) -> KeyRing:
    """The keys in the file, else those that the environment names. Raises `UsageError`."""
    if key_file is not None:
        return parsed(_read(key_file), key_file)
    given = [name for name in (FILE_VARIABLE, TEXT_VARIABLE) if name in os.environ]
    if len(given) > 1:
        raise UsageError(
            f"Keys are given twice, by {FILE_VARIABLE} and by {TEXT_VARIABLE}. Nothing was done. "
            "Unset one of them."
        )
    text = os.environ[given[0]]
    if not text.strip():
        raise UsageError(
            f"The variable {given[0]} is set and empty, so nothing would be encrypted. Nothing was "
            "done. Give it a value, or unset it if the object is not to be encrypted."
        )
    if given[0] == TEXT_VARIABLE:
        return parsed(text, f"The variable {TEXT_VARIABLE}")
    return parsed(_read(text), text)


def parsed(text: str, place: str) -> KeyRing:
    """The keys in ``text``; ``place`` says where that came from. Raises `UsageError`."""
    lines = [line.strip() for line in text.splitlines()]
    found = [_key(line, place) for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"{place} holds no key. {_WANTED}")
    return KeyRing(found)


def key_id(key: bytes) -> str:
    """What a key is called: it reveals nothing of it, and no two keys share one by chance."""
    return hashlib.blake2b(key=key, digest_size=ID_BYTES, person=PERSON).hexdigest()


def encoded(key: bytes) -> str:
    """A key as a line of a key file."""
    return base64.b64encode(key).decode()


def make(path: str) -> str:
    """Make a new key in a new file that only its owner can read; returns the key's id.

    Raises `UsageError` when there is a file already, or none can be made.
    """
    key = os.urandom(KEY_BYTES)
    chosen = os.path.expanduser(path)
    try:
        file = os.open(chosen, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(f"{encoded(key)}\n")
            stream.flush()
            os.fsync(file)
    except FileExistsError as error:
        raise UsageError(
            f"There is a file {path} already, and a key that is overwritten is a backup that is "
            "lost. Nothing was done. Choose another name."
        ) from error
    except OSError as error:
        raise UsageError(
            f"The key file {path} cannot be made ({error.strerror}). No key was made. Choose a "
            "folder that this user may write to."
        ) from error
    return key_id(key)


def _read(path: str) -> str:
    chosen = os.path.expanduser(path)
    try:
        with open(chosen, "rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode) and facts.st_mode & _UNSAFE:
                raise UsageError(
                    f"Others than its owner can read or change the key file {path} (mode "
                    f"{stat.S_IMODE(facts.st_mode):o}): whoever reads it reads every backup. "
                    f"Nothing was done. Run `chmod 600 {path}`, or take a copy for which you can."
                )
            text = file.read(MOST_BYTES).decode("ascii")
    except OSError as error:
        raise UsageError(
            f"The key file {path} cannot be read ({error.strerror}), and without a key nothing is "
            "published or read. Nothing was done. Correct the path, or let this user read the file."
        ) from error
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text. {_WANTED}") from None  # it repeats the content
    return text


def _key(line: str, place: str) -> bytes:
    for decode in (bytes.fromhex, _from_base64):
        try:
            key = decode(line)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    raise UsageError(f"A line of {place} is no key. {_WANTED}")


def _from_base64(line: str) -> bytes:
    """Of either alphabet."""
    return base64.b64decode(line.translate(_ORDINARY), validate=True)


def _aes(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise UsageError(
            "Encryption needs a library that is not installed, so nothing was published or read. "
            "Install it with `pip install 'bequest[encryption]'`."
        ) from error
    if len(key) != KEY_BYTES:
        raise UsageError(f"A key has {len(key)} bytes. {_WANTED}")
    return AESGCM(key)
