"""The one tree of errors, and the exit code each branch stands for.

    BequestError            1  unexpected
    ├── UsageError          2  wrong usage or configuration
    ├── SnapshotError       3  the object is missing, damaged, or cannot be opened
    │   ├── SnapshotMissing
    │   ├── SnapshotDamaged
    │   └── KeyMissing          it is encrypted, and its key is not here
    ├── AccessError         4  a store or database is unreachable or denies access
    │   ├── Unreachable         may pass: try again
    │   │   ├── Overtaken       ... from a new cut, at once
    │   │   └── Throttled       ... after ``retry_after_seconds``
    │   └── Denied              will not pass until somebody changes something
    ├── Refused             5  refused, to protect data
    │   ├── Superseded          a newer epoch owns the object: never write again
    │   ├── OwnerAlive          who published last may still do so: nobody is silenced unasked
    │   └── Conflict            the object is not the one this publisher last saw
    └── Different           6  verification found differences

Every message says what happened, what it means for the backup, and what to do next. No message
holds a credential.
"""

from __future__ import annotations


class BequestError(Exception):
    """Root of every error that Bequest raises on purpose."""

    exit_code = 1


class UsageError(BequestError):
    """Wrong usage or configuration."""

    exit_code = 2


class SnapshotError(BequestError):
    """The object cannot be used."""

    exit_code = 3


class SnapshotMissing(SnapshotError):
    """There is no object at the store's address."""


class SnapshotDamaged(SnapshotError):
    """The object is not whole, not a Bequest snapshot, or of a version unknown here."""


class KeyMissing(SnapshotError):
    """The object is encrypted, and the key that it needs was not given."""

    @classmethod
    def named(cls, key_id: str) -> KeyMissing:
        """The error for an object under the key of that id."""
        return cls(
            f"The object is encrypted under the key {key_id}, and that key was not given, so what "
            "it holds cannot be read. Nothing was done, and nothing is wrong with the object. Give "
            "the key: BEQUEST_KEY_FILE, --key-file, or key_file in bequest.toml."
        )


class AccessError(BequestError):
    """A store or a database could not be used."""

    exit_code = 4


class Unreachable(AccessError):
    """No answer, a server-side fault, or a busy lock: the same call may succeed later."""


class Overtaken(Unreachable):
    """The schema changed under a cut so that its rows can no longer be read: take a new one."""


class Throttled(Unreachable):
    """The store asked to slow down."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Denied(AccessError):
    """Access denied, wrong credentials, no such bucket or database, or a read-only place."""


class Refused(BequestError):
    """Refused, to protect data."""

    exit_code = 5


class Superseded(Refused):
    """A restored controller has adopted this lineage: this one must never publish again."""


class OwnerAlive(Refused):
    """The object was published to so lately that taking it over needs an explicit word."""


class Conflict(Refused):
    """A conditional write found another object than the one expected."""


class Different(BequestError):
    """Verification found differences."""

    exit_code = 6
