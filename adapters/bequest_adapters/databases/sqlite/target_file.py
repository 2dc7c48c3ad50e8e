"""The file a restore builds, and how it takes the destination's place.

Invariants:

* the destination's name always leads to a whole database: the old one, or the new one;
* the new file never stands beside a write-ahead log or journal of the old one: those are worked
  into the old file, under an exclusive lock, before the names change;
* data that is replaced keeps a name of its own (``<name>.before-restore-<UTC time>``);
* a temporary file whose maker lives is locked (``flock``), and is never removed by another restore.
"""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from bequest.errors import Denied, Refused

from ...belonging import give, private_mode
from .connection import primary_code
from .target_content import has_definitions, has_rows
from .target_faults import UNREADABLE, in_use, said
from .target_users import COMPANIONS, users

NEW_FILE_MODE: Final = 0o600
"""A configuration holds secrets."""
_MAGIC: Final = b"SQLite format 3\0"


class WorkFile:
    """A new file beside the destination, locked while this process lives, removed on leaving."""

    def __init__(self, destination: str, name: str) -> None:
        self._destination = destination
        self._name = name
        self.path = ""
        self._file = -1

    def __enter__(self) -> Self:
        with said(self._name, "making the new file"):
            remove_strays(self._destination)
            while not self._make():
                pass
        return self

    def _make(self) -> bool:
        self.path = f"{_prefix(self._destination)}{secrets.token_hex(8)}"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
        if _locked(self._file, self.path):
            return True
        # Another restore took it for a stray before it was locked: that one removes it.
        os.close(self._file)
        return False

    def sync(self) -> None:
        """Give the file the destination's mode and owner, and see it onto the disk."""
        with said(self._name, "writing the restored file to the disk"):
            if os.path.exists(self._destination):
                self._resemble(os.stat(self._destination))
            else:
                folder = os.path.dirname(self._destination)
                give(self._file, folder)
                os.fchmod(self._file, private_mode(folder))
            os.fsync(self._file)

    def _resemble(self, like: os.stat_result) -> None:
        with suppress(PermissionError):  # only root may give a file away
            os.fchown(self._file, like.st_uid, like.st_gid)
        os.fchmod(self._file, stat.S_IMODE(like.st_mode))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After the swap the temporary name is gone and the file is the destination.
        _remove(self.path)
        os.close(self._file)


class Hold:
    """An existing destination under SQLite's exclusive lock, its logs worked into the file.

    Raises `Refused` when somebody uses it, `Denied` when it cannot be locked.
    ``readable`` is False when the file is no SQLite database; then there is no lock either.
    ``has_data`` tells of rows, ``worth_keeping`` of definitions, too.
    """

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._path = path
        self.was_wal = False
        self.has_data = self.worth_keeping = True
        with said(name, "opening the present database"):
            # SQLite would throw away the journal of an encrypted database that it cannot read.
            self.readable = _looks_like_sqlite(path)
            uri = f"file:{quote(path)}?mode=rw" if self.readable else "file::memory:"
            self._connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
        try:
            with said(name, "locking the present database"):
                if self.readable:
                    self._lock()
        except BaseException:
            self._connection.close()
            raise

    def _lock(self) -> None:
        try:
            # In exclusive mode even an idle connection to a database in WAL mode is in the way.
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE").close()
            self._connection.execute("BEGIN EXCLUSIVE")
            self.worth_keeping = has_definitions(self._connection)
            self.has_data = self.worth_keeping and has_rows(self._connection)
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in UNREADABLE:
                raise
            self.readable = False

    def _one(self, statement: str) -> object:
        return self._connection.execute(statement).fetchone()[0]

    def drain(self) -> None:
        """Work the write-ahead log into the file, and remove what could be applied to a new one."""
        if not self.readable:
            return
        with said(self._name, "writing the present database's log into it"):
            if self._one("PRAGMA journal_mode") == "wal":
                self.was_wal = True
                self._connection.execute("COMMIT")
                if self._one("PRAGMA journal_mode=DELETE") != "delete":
                    raise Refused(in_use(self._name))
                self._connection.execute("BEGIN EXCLUSIVE")
            # Locked, and any hot journal was rolled back when the lock was taken.
            for suffix in COMPANIONS:
                _unlink(self._path + suffix)

    def refuse_companions(self) -> None:
        """Raise `Refused` for logs that only the unreadable file's own program can work in."""
        if self.readable:
            return
        found = [self._path + end for end in COMPANIONS if os.path.exists(self._path + end)]
        if found:
            raise Refused(
                f"{self._name} cannot be read as an SQLite database, yet it has a log beside it "
                f"({', '.join(found)}) that may hold its last changes. Nothing was changed. "
                "Move these files away together by hand, then restore again."
            )

    def give_back(self) -> None:
        """Leave the old database in the journal mode it had."""
        if self.was_wal:
            with suppress(sqlite3.Error):
                self._connection.execute("COMMIT")
                self._connection.execute("PRAGMA journal_mode=WAL").close()

    def close(self) -> None:
        """Give the lock back."""
        self._connection.close()


def _looks_like_sqlite(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(len(_MAGIC))
    return start in (b"", _MAGIC)


def check_place(path: str, name: str) -> None:
    """Raise `Denied` when no file could be put at ``path``."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise Denied(f"The folder of {name} is not there. Nothing was changed. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Denied(
            f"The folder of {name} cannot be written. Nothing was changed. A restore builds the "
            "new file beside the old one: give this user write permission there."
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise Denied(f"{name} is no ordinary file. Nothing was changed. Give another path.")


def check_present(path: str, name: str, *, force: bool) -> None:
    """Raise `Refused` when what is at ``path`` is in use, or holds data and ``force`` is not set.

    Takes locks without waiting and gives them back. A database that its last user left without
    closing is recovered by this, as by any opening of it.
    """
    refuse_users(path, name)
    if os.path.exists(path):
        with closing(Hold(path, name)) as hold:
            refuse_data(hold, name, force=force)


def swap(work: str, path: str, name: str, *, force: bool) -> str | None:
    """Let the file ``work`` take the place of ``path``; the name of the data it replaced, if any.

    Raises `Refused` as `check_present` does: things may have changed since.
    """
    refuse_users(path, name)
    if not os.path.exists(path):
        with said(name, "putting the restored file in place"):
            _set_orphans_aside(path)
            _rename(work, path)
        return None
    with closing(Hold(path, name)) as hold:
        refuse_data(hold, name, force=force)
        hold.drain()
        try:
            kept = _replace_held(work, path, name, keep=hold.worth_keeping)
        except BaseException:
            hold.give_back()
            raise
    if kept is not None and hold.was_wal:
        _set_wal(kept)
    return kept


def _replace_held(work: str, path: str, name: str, *, keep: bool) -> str | None:
    others = [pid for pid in users(path) if pid != os.getpid()]
    if others:
        raise Refused(in_use(name, _numbered(others)))
    with said(name, "putting the restored file in place"):
        _forget_unfinished(path)
        kept = _keep(path) if keep else None
        _rename(work, path)
    return kept


def refuse_users(path: str, name: str) -> None:
    """Raise `Refused` when a process has ``path`` open, as far as that can be seen."""
    found = users(path)
    if found:
        raise Refused(in_use(name, _numbered(found)))


def _numbered(processes: list[int]) -> str:
    own = os.getpid()
    return ", ".join(f"process {pid}{' = this one' * (pid == own)}" for pid in processes)


def refuse_data(hold: Hold, name: str, *, force: bool) -> None:
    """Raise `Refused` when what is held must not be replaced."""
    if force or not hold.has_data:
        hold.refuse_companions()
        return
    what = "holds data" if hold.readable else "is there, but is no SQLite database"
    raise Refused(
        f"{name} {what}. Nothing was changed. A restore replaces everything: give a new database "
        "or one whose tables have no rows, or --force to replace this one (the old file is kept "
        "beside it)."
    )


def _keep(path: str) -> str:
    """Give the file at ``path`` a second, lasting name."""
    for kept in _lasting_names(path):
        try:
            os.link(path, kept)
        except FileExistsError:
            continue
        except OSError:
            _copy(path, kept)  # a file system without hard links
        _sync_folder(path)
        return kept
    raise AssertionError("the names have no end")


def keep_copy(uri: str, path: str) -> str:
    """Give what the database at ``uri`` holds now a lasting name beside ``path``.

    Of use where the file itself is written on. The caller keeps others from writing.
    """
    work = f"{_prefix(path)}{secrets.token_hex(8)}"
    file = os.open(work, os.O_RDWR | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
    try:
        give(file, path)
    finally:
        os.close(file)
    try:
        with closing(sqlite3.connect(uri, uri=True)) as old, closing(sqlite3.connect(work)) as copy:
            old.backup(copy)
        kept = next(_lasting_names(path))
        _rename(work, kept)
    finally:
        _remove(work)
    return kept


def _lasting_names(path: str) -> Iterator[str]:
    """Free names for what is replaced at ``path``, without an end."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in count(1):
        kept = f"{path}.before-restore-{stamp}" + (f"-{number}" if number > 1 else "")
        if not os.path.lexists(kept):
            yield kept


def _copy(path: str, kept: str) -> None:
    try:
        file = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
        try:
            give(file, path)
        finally:
            os.close(file)
        shutil.copy2(path, kept)
        with open(kept, "rb+") as copied:
            os.fsync(copied.fileno())
    except BaseException:
        _unlink(kept)
        raise


def _forget_unfinished(path: str) -> None:
    """Take away second names that a restore gave the present file before it was killed."""
    for kept in glob.glob(f"{glob.escape(path)}.before-restore-*"):
        if os.path.samefile(kept, path):
            os.unlink(kept)


def _set_orphans_aside(path: str) -> None:
    """Logs without their database must not be applied to the new one."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    for suffix in COMPANIONS:
        with suppress(FileNotFoundError):
            os.rename(path + suffix, f"{path}.before-restore-{stamp}{suffix}")


def _set_wal(kept: str) -> None:
    # The kept file is whole either way; the mode is a courtesy to whoever goes back to it.
    with suppress(sqlite3.Error), closing(sqlite3.connect(kept, timeout=0)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").close()


def remove_strays(destination: str) -> None:
    """Remove temporary files of restores that were killed. Raises `OSError`."""
    for path in glob.glob(f"{glob.escape(_prefix(destination))}*"):
        if path.endswith(COMPANIONS):
            continue
        with suppress(FileNotFoundError, PermissionError):
            file = os.open(path, os.O_RDWR)
            try:
                if _locked(file, path):
                    _remove(path)
            finally:
                os.close(file)


def _prefix(destination: str) -> str:
    folder, name = os.path.split(destination)
    return os.path.join(folder, f".{name}.bequest-restore-")


def _locked(file: int, path: str) -> bool:
    """Whether the lock was free and the file still bears its name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove(path: str) -> None:
    for suffix in ("", *COMPANIONS):
        _unlink(path + suffix)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _rename(work: str, path: str) -> None:
    os.replace(work, path)
    _sync_folder(path)


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
