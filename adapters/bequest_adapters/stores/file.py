"""The object as one local file, published so that a crash at any moment leaves it old or new.

Invariants:

* Writers hold a lock beside the file; readers never wait for anybody.
* An append first brings its data to the disk behind the object's pinned length, where no reader
  looks, and only then moves the pin: 34 bytes within the first sector.
* A rewrite fills a file beside the object, brings it to the disk, and takes the object's name.

Addresses: a plain path up to its first question mark, or ``file:///path/name`` with ``~`` and ``.``
allowed as the first part; both take ``?keep=N``, which
holds back the last N objects that rewrites replaced, as ``<name>.<serial>``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from bequest.errors import (
    BequestError,
    Denied,
    SnapshotDamaged,
    SnapshotMissing,
    Unreachable,
    UsageError,
)
from bequest.model import Mark, Place, Stat, Version
from bequest.ports import Store
from bequest.snapshot.extent import extent
from bequest.snapshot.frame import PREAMBLE_BYTES, parse_preamble, preamble

from ..belonging import give, private_mode
from ..lockfile import LockFile
from .address import parse
from .answers import conflict
from .disk import Disk
from .findings import Finding, Scratch, ok, versions_kept, warning
from .kept import keep
from .past import PastStore, no_such_version
from .pinned import Pin, last_digest, look, pinned_stream

LOCK_TIMEOUT_SECONDS: Final = 10.0
LOCK_POLL_SECONDS: Final = 0.01
LOCK_MODE: Final = 0o644
COPY_BYTES: Final = 1 << 20
ENDS_BYTES: Final = 4096
PRESENT: Final = "present"
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_RIGHTS: Final = "Let this user make files in the folder {}."
DATABASE: Final = b"SQLite format 3\0"
"""How the file of a database begins."""


def open_store(url: str) -> FileStore:
    """The store at a plain path or ``file:`` URL. Raises `UsageError`."""
    if not url.lower().startswith("file:"):
        return _plain(url)
    address = parse(url, {"keep"})
    if address.host not in ("", "localhost", "~", ".", ".."):
        raise UsageError(
            "A file store's address names another machine; it can only be on this one. "
            "Write it as file:///folder/name."
        )
    host = "" if address.host == "localhost" else address.host
    return FileStore(host + address.path, keep=address.integer("keep", 0))


def _plain(text: str) -> FileStore:
    """A path is literal but for its options. Raises `UsageError`."""
    path, mark, query = text.partition("?")
    try:
        options = parse(f"file:///{mark}{quote(query, safe='=&')}", {"keep"})
    except UsageError as error:
        raise UsageError(
            f"{error} If the question mark belongs to the file's name, write the path as a file:// "
            "address with %3F in its place."
        ) from error
    return FileStore(path, keep=options.integer("keep", 0))


class FileStore:
    """See the module; the contract is `bequest.ports.Store`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: int = 0,
        disk: Disk | None = None,
        lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    ) -> None:
        text = os.fspath(path)
        if not os.path.basename(text) or os.path.basename(text) in (".", "..", "~"):
            raise UsageError(
                f"The file store's address {text!r} names a folder; a backup is one file. "
                "Add the file's name."
            )
        self._path = os.path.abspath(os.path.expanduser(text))
        self._uri = Path(self._path).as_uri()
        self._keep = keep
        self._disk = disk if disk is not None else Disk()
        self._lock_timeout_seconds = lock_timeout_seconds
        self._known: Stat | None = None

    @property
    def name(self) -> str:
        return self._uri

    def places(self) -> Sequence[Place]:
        target = os.path.realpath(self._path)
        return [Place(target, "the backup"), Place(f"{target}.lock", "the backup's lock")]

    def head(self) -> Stat | None:
        with self._told("looked at"):
            file = self._open_to_read()
            return None if file is None else self._stat(file)

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        with self._told("read"):
            file = self._open_to_read()
            if file is None:
                raise self._missing()
            stream = pinned_stream(file, look(file))
        with stream:
            yield stream

    @contextmanager
    def read_newer(self, version: str) -> Generator[tuple[Stat, BinaryIO] | None, None, None]:
        with self._told("looked at"):
            file = self._open_to_read()
            if file is None:
                raise self._missing()
            pin = look(file)
            stream = pinned_stream(file, pin)
            if _version(file, pin) == version:
                stream.close()
                yield None
                return
            stat = Stat(_version(file, pin), pin.end, _mark(stream))
            stream.seek(0)
        with stream:
            yield stat, stream

    def history(self, limit: int) -> Sequence[Version]:
        with self._told("looked at"):
            target = os.path.realpath(self._path)
            paths = [*_kept(target), *([target] if os.path.exists(target) else [])]
            return [_told_of(path, target) for path in paths[::-1][:limit]]

    def at(self, version: str) -> Store:
        target, name = os.path.realpath(self._path), f"{self.name} (version {version})"
        if version == PRESENT:
            past = FileStore(target)
        elif version.isascii() and version.isdecimal():
            past = FileStore(f"{target}.{version}")
        else:
            raise no_such_version(name)
        return PastStore(name, past.head, past.read, past.close)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        with self._told("written"), self._locked() as target:
            try:
                file = self._disk.open(target)
            except FileNotFoundError:
                raise conflict(self._path) from None
            try:
                pin = self._expect(file, onto)
                self._append(file, pin, data)
                return self._learn(file, mark)
            finally:
                os.close(file)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        with self._told("written"), self._locked() as target:
            self._check(target, onto)
            _remove_leftovers(self._disk, target)
            temporary = _temporary(target)
            file = self._disk.create(temporary)
            try:
                self._fill(file, body, size_bytes)
                _resemble(file, target)
                self._disk.sync(file)
                self._hold_back(target, onto)
                self._disk.rename(temporary, target)
                self._disk.sync_folder(os.path.dirname(target))
                return self._learn(file, mark)
            except BaseException:
                with suppress(OSError):
                    self._disk.unlink(temporary)
                raise
            finally:
                os.close(file)

    def keep(self, onto: Stat, label: str) -> str:
        with self._told("copied"), self._locked() as target:
            copies = _Copies(self, target)
            suffix = keep(copies, onto, label, _RIGHTS.format(os.path.dirname(target)))
            return Path(target + suffix).as_uri()

    def copy_to(self, target: str, onto: Stat, name: str) -> None:
        """Copy the file ``target``, whose lock is held. Raises `Conflict` as `Copying.copy`."""
        file = os.open(target, os.O_RDONLY)
        with pinned_stream(file, self._expect(file, onto)) as body:
            temporary = _temporary(target)
            copy = self._disk.create(temporary)
            try:
                self._fill(copy, body, onto.size_bytes)
                _resemble(copy, target)
                self._disk.sync(copy)
                self._name(temporary, name)
                self._disk.sync_folder(os.path.dirname(target))
            except FileExistsError:
                raise conflict(name) from None
            finally:
                os.close(copy)
                with suppress(OSError):
                    self._disk.unlink(temporary)

    def _name(self, temporary: str, name: str) -> None:
        """Give a file a name that nobody has. Raises `FileExistsError`."""
        try:
            self._disk.link(temporary, name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without hard links: the name is taken first, by an empty file.
            os.close(self._disk.create(name))
            self._disk.rename(temporary, name)

    def check_writable(self) -> None:
        """Raise `Denied` when this process may not change the object; writes nothing."""
        target = os.path.realpath(self._path)
        folder = os.path.dirname(target)
        if os.access(folder, os.W_OK | os.X_OK) and os.access(target, os.W_OK):
            return
        raise Denied(
            f"{self._path} can be read but not written by this user, so a restored controller "
            "could not take it over or publish to it. Nothing was changed. Give this user write "
            "permission for the file and its folder, or take a copy with --copy."
        )

    def close(self) -> None:
        self._known = None

    # Being examined

    def scratch(self, suffix: str) -> Scratch:
        store = FileStore(f"{self._path}{suffix}", disk=self._disk)
        return Scratch(store, 0, store.remove)

    def remove(self) -> None:
        """Delete the file and its lock. For scratch objects only. Raises `AccessError`."""
        with self._told("removed"):
            for path in (self._path, f"{self._path}.lock"):
                with suppress(FileNotFoundError):
                    self._disk.unlink(path)

    def survey(self, suffix: str) -> Iterator[Finding]:
        with self._told("looked at"):
            mode = os.stat(f"{self._path}{suffix}").st_mode
        if mode & 0o077:
            text, remedy = "Other users of this machine may read new objects.", "Check the umask."
            yield warning("public access", text, remedy)
        else:
            yield ok("public access", "Only this user may read new objects.")
        if self._keep:
            yield ok(
                "versioning", f"The last {self._keep} objects that rewrites replaced are kept."
            )
        else:
            yield versions_kept(False, "The folder", "Add ?keep=N to the address.")

    # Reading

    def _open_to_read(self) -> int | None:
        try:
            _refuse_special(self._path)
            # Not to be held up by what took the file's place meanwhile.
            file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            folder = os.path.dirname(os.path.realpath(self._path))
            if not os.path.isdir(folder):
                raise
            return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise IsADirectoryError(errno.EISDIR, "not a regular file", self._path)
        os.set_blocking(file, True)
        self._refuse_database(file)
        return file

    def _refuse_database(self, file: int) -> None:
        """Never replace a database, whatever a caller confirms. Closes the file then."""
        if os.pread(file, len(DATABASE), 0) == DATABASE:
            os.close(file)
            raise UsageError(
                f"{self._path} is an SQLite database, and no backup. Nothing was done: publishing "
                "there would destroy it. Give the backup an address of its own."
            )

    def _stat(self, file: int) -> Stat:
        """What an open file is; closes it. Reads it through once per version."""
        pin = look(file)
        version = _version(file, pin)
        # One clock: that of a disk elsewhere may differ by what file servers differ by.
        age_seconds = time.time() - os.fstat(file).st_mtime
        with pinned_stream(file, pin) as stream:
            if self._known is None or self._known.version != version:
                self._known = Stat(version, pin.end, _mark(stream))
        return replace(self._known, age_seconds=age_seconds)

    def _learn(self, file: int, mark: Mark) -> Stat:
        """What the object is after a write of our own, without reading it through."""
        pin = look(file)
        self._known = Stat(_version(file, pin), pin.end, mark)
        return self._known

    # Writing

    @contextmanager
    def _locked(self) -> Generator[str, None, None]:
        """Hold the lock of the file that the path leads to; a link's target, not the link."""
        target = os.path.realpath(self._path)
        with suppress(FileNotFoundError):
            _refuse_special(target)
        if not os.path.isdir(os.path.dirname(target)):
            # The lock would make the folder, and hide that a disk is not mounted.
            raise FileNotFoundError(errno.ENOENT, "no such folder", target)
        lock = LockFile(f"{target}.lock", mode=LOCK_MODE, beside=(target, os.path.dirname(target)))
        if not lock.acquire(self._lock_timeout_seconds, LOCK_POLL_SECONDS):
            raise Unreachable(
                f"Another process is writing {self._path} (its lock is {target}.lock). This "
                "publish was not made; it can be tried again as soon as the other is through."
            )
        try:
            yield target
        finally:
            lock.release()

    def _check(self, target: str, onto: Stat | None) -> None:
        try:
            file = os.open(target, os.O_RDONLY)
        except FileNotFoundError:
            if onto is None:
                return
            raise conflict(self._path) from None
        self._refuse_database(file)
        try:
            if onto is None:
                raise conflict(self._path)
            self._expect(file, onto)
        finally:
            os.close(file)

    def _expect(self, file: int, onto: Stat) -> Pin:
        pin = look(file)
        if _version(file, pin) != onto.version:
            raise conflict(self._path)
        return pin

    def _append(self, file: int, pin: Pin, data: bytes) -> None:
        if pin.preamble is None:
            raise SnapshotDamaged(
                f"{self._path} is not a Bequest snapshot, so nothing can be added to it. The "
                "backup is not current; publish a rewrite to another place, or overwrite it."
            )
        if pin.preamble.floor:
            # A floor hides no unfinished append: say the exact length before adding to it.
            self._disk.write(file, preamble(pin.end), 0)
            self._disk.sync(file)
        try:
            if pin.size_bytes > pin.end:
                self._disk.truncate(file, pin.end)
            self._disk.write(file, data, pin.end)
            self._disk.sync(file)
        except OSError:
            with suppress(OSError):
                self._disk.truncate(file, pin.end)
            raise
        try:
            self._disk.write(file, preamble(pin.end + len(data)), 0)
            self._disk.sync(file)
        except OSError:
            # The disk did not take the pin: what is not durable must not look published.
            with suppress(OSError):
                self._disk.write(file, preamble(pin.end), 0)
            raise

    def _fill(self, file: int, body: BinaryIO, size_bytes: int) -> None:
        offset = 0
        while offset < size_bytes:
            data = body.read(min(COPY_BYTES, size_bytes - offset))
            if not data:
                raise UsageError(
                    f"The body ended after {offset} of {size_bytes} bytes. Nothing was published."
                )
            if offset == 0:
                data = _exact(data, size_bytes)
            self._disk.write(file, data, offset)
            offset += len(data)

    def _hold_back(self, target: str, onto: Stat | None) -> None:
        """Give the object that is about to be replaced a second name, if it shall be kept."""
        if onto is None or self._keep == 0:
            return
        for kept in _kept(target):
            # Left by a rewrite that crashed before its rename: not an earlier object, but this one.
            if os.path.samefile(kept, target):
                self._disk.unlink(kept)
        serial = onto.mark.serial if onto.mark is not None else 0
        name = f"{target}.{serial}"
        with suppress(FileNotFoundError):
            self._disk.unlink(name)
        self._disk.link(target, name)
        for surplus in _kept(target)[: -self._keep]:
            self._disk.unlink(surplus)

    # Telling what went wrong

    def _missing(self) -> SnapshotMissing:
        return SnapshotMissing(
            f"There is no file {self._path}: nothing can be restored from here. "
            "Check the path; a first publish creates the file."
        )

    @contextmanager
    def _told(self, done: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, done) from error

    def _error(self, error: OSError, done: str) -> BequestError:
        reason = error.strerror or type(error).__name__
        folder = os.path.dirname(os.path.realpath(self._path))
        could_not = f"{self._path} could not be {done} ({reason})"
        match error.errno:
            case errno.EISDIR | errno.ENXIO:
                return UsageError(
                    f"{self._path} is not a file, and a backup is one file. Nothing was written. "
                    "Give the name of a file."
                )
            case errno.ENOENT | errno.ENOTDIR:
                if os.path.isdir(folder):
                    return Denied(
                        f"{could_not}: no file can be made in {folder}. Nothing was written. Give "
                        "another folder."
                    )
                return Denied(
                    f"{could_not}: the folder {folder} does not exist, so there is no backup. "
                    "Create it, or mount what should be there."
                )
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return Denied(
                    f"{could_not}. The object is as it was. Run Bequest as the user of the "
                    f"controller, and let that user use the folder {folder} and what is in it."
                )
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                return Unreachable(
                    f"{could_not}: the disk is full. The previous state of the backup is intact. "
                    "Make room; the next publish brings everything up to date."
                )
            case _:
                return Unreachable(
                    f"{could_not}. The previous state of the backup is intact. "
                    "Look at the disk, then try again."
                )


class _Copies:
    """Copies of the file ``target``, made while its lock is held."""

    def __init__(self, store: FileStore, target: str) -> None:
        self._store, self._target = store, target
        self.name = store.name

    def head(self) -> Stat | None:
        return self._store.head()

    def beside(self, suffix: str) -> Stat | None:
        return FileStore(self._target + suffix).head()

    def copy(self, onto: Stat, suffix: str) -> None:
        self._store.copy_to(self._target, onto, self._target + suffix)


def _refuse_special(path: str) -> None:
    """Raise for a folder, pipe, socket or device: opening one can wait for ever, or do things."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise IsADirectoryError(errno.EISDIR, "not a regular file", path)


def _version(file: int, pin: Pin) -> str:
    if pin.preamble is not None and pin.size_bytes >= pin.end:
        return f"{pin.end}:{last_digest(file, pin).hex()}"
    facts = os.fstat(file)
    ends = os.pread(file, ENDS_BYTES, 0) + os.pread(file, ENDS_BYTES, _last_part(facts.st_size))
    return f"foreign:{facts.st_size}:{facts.st_mtime_ns}:{_fingerprint(ends)}"


def _last_part(size_bytes: int) -> int:
    return max(0, size_bytes - ENDS_BYTES)


def _fingerprint(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _mark(stream: BinaryIO) -> Mark | None:
    try:
        found = extent(stream)
    except SnapshotDamaged:
        return None
    return None if found is None else found.mark


def _exact(data: bytes, size_bytes: int) -> bytes:
    """``data`` with a preamble, if it begins with one, that says ``size_bytes`` exactly."""
    try:
        parse_preamble(data[:PREAMBLE_BYTES])
    except SnapshotDamaged:
        return data
    return preamble(size_bytes) + data[PREAMBLE_BYTES:]


def _temporary(target: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{secrets.token_hex(8)}.part")


def _remove_leftovers(disk: Disk, target: str) -> None:
    """Remove what rewrites that were killed left behind: we hold the lock, so none is under way."""
    folder, name = os.path.split(target)
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.part")
    for entry in os.listdir(folder):
        if pattern.fullmatch(entry):
            disk.unlink(os.path.join(folder, entry))


def _resemble(file: int, target: str) -> None:
    """Give a new file mode and owner of the one it replaces; else as `belonging` says."""
    folder = os.path.dirname(target)
    try:
        old = os.stat(target)
    except FileNotFoundError:
        give(file, folder)
        os.fchmod(file, private_mode(folder))
        return
    with suppress(OSError):
        os.fchown(file, old.st_uid, old.st_gid)
    os.fchmod(file, stat.S_IMODE(old.st_mode))


def _kept(target: str) -> list[str]:
    """Earlier objects that were held back, the oldest first."""
    folder, name = os.path.split(target)
    pattern = re.compile(rf"{re.escape(name)}\.[0-9]+")
    paths = [os.path.join(folder, entry) for entry in os.listdir(folder)]
    kept = [path for path in paths if pattern.fullmatch(os.path.basename(path))]
    return sorted(kept, key=lambda path: (os.stat(path).st_mtime_ns, path))


def _told_of(path: str, target: str) -> Version:
    file = os.open(path, os.O_RDONLY)
    pin = look(file)
    written = os.fstat(file).st_mtime
    with pinned_stream(file, pin) as stream:
        mark = _mark(stream)
    current = path == target
    name = PRESENT if current else path.rpartition(".")[2]
    return Version(name, written, pin.end, mark, current)
