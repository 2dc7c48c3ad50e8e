"""The process that opens files for a controller: a script that needs the standard library only.

Closing any descriptor of a file gives up all locks that a process holds on it (POSIX), also when it
was opened under another name. A controller may hold such locks, with SQLite for one, on whatever
lies in its folders. So its process never opens a regular file there; this one does.

Requests and answers are lines of JSON; paths travel byte by byte, as Latin-1. The content of a
`copy` follows its answer: the file as a whole, which was the same before and after it was read.
"""

from __future__ import annotations

import errno
import io
import json
import os
import select
import stat
import sys
from collections.abc import Callable
from hashlib import blake2b
from typing import IO, Any, Final

READ_BYTES: Final = 1 << 20
MEMORY_BYTES: Final = 8 * 1024 * 1024
"""Content of one file that is held in memory."""
LOOK_SECONDS: Final = 5.0
"""How often to see whether the parent is still there: a fork of it may hold our input open."""
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe for reading would wait for its writer.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE: Final = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)

Answer = dict[str, Any]


def main() -> None:
    """Answer until the input ends."""
    source, sink, parent = sys.stdin.buffer, sys.stdout.buffer, os.getppid()
    while True:
        ready, _, _ = select.select([source], [], [], LOOK_SECONDS)
        line = source.readline() if ready else b""
        if line:
            _answer(json.loads(line), sink)
        elif ready or os.getppid() != parent:
            return


def _answer(request: dict[str, Any], sink: IO[bytes]) -> None:
    held = _Held()
    answer = read(
        request["folder"].encode("latin-1"),
        [name.encode("latin-1") for name in request["names"]],
        request["limit"],
        held.take if request["copy"] else _ignored,
    )
    sink.write(json.dumps(answer).encode() + b"\n")
    if "digest" in answer:
        held.give(sink)
    sink.flush()


def _ignored(_: bytes) -> object:
    return None


class _Held:
    """The content of one file: in memory while small, then in a temporary file without a name."""

    def __init__(self) -> None:
        self._file: IO[bytes] = io.BytesIO()

    def take(self, data: bytes) -> None:
        if isinstance(self._file, io.BytesIO) and self._file.tell() + len(data) > MEMORY_BYTES:
            # Half of what this process takes to start, and seldom wanted.
            from tempfile import TemporaryFile

            larger = TemporaryFile()  # noqa: SIM115  # gone with this process at the latest
            larger.write(self._file.getbuffer())
            self._file = larger
        self._file.write(data)

    def give(self, sink: IO[bytes]) -> None:
        self._file.seek(0)
        while data := self._file.read(READ_BYTES):
            sink.write(data)


def read(
    folder: bytes, names: list[bytes], limit_bytes: int, take: Callable[[bytes], object]
) -> Answer:
    """Facts and digest of the file that ``names`` lead to from ``folder``, following no link.

    Its content goes to ``take``. An answer without a digest says ``unsettled`` for a file that
    changed while it was read, or ``errno``.
    """
    handle = -1
    try:
        handle = os.open(folder, FOLDER_FLAGS)
        for name in names[:-1]:
            inner = os.open(name, FOLDER_FLAGS, dir_fd=handle)
            os.close(handle)
            handle = inner
        return _read(names[-1], handle, limit_bytes, take)
    except OSError as error:
        return {"unsettled": True} if error.errno in _GONE else {"errno": error.errno}
    finally:
        if handle >= 0:
            os.close(handle)


def _read(name: bytes, folder: int, limit_bytes: int, take: Callable[[bytes], object]) -> Answer:
    file = os.open(name, _FILE_FLAGS, dir_fd=folder)
    try:
        before = os.fstat(file)
        if not stat.S_ISREG(before.st_mode):
            return {"unsettled": True}
        builder, size = blake2b(digest_size=32), 0
        while data := os.read(file, READ_BYTES):
            builder.update(data)
            take(data)
            size += len(data)
            if size > limit_bytes:
                return {"unsettled": True}
        after = os.fstat(file)
        if _stamp(before) != _stamp(after) or size != after.st_size:
            return {"unsettled": True}
        return {"facts": facts_of(after), "digest": builder.hexdigest(), "size": size}
    finally:
        os.close(file)


def facts_of(found: os.stat_result) -> list[int]:
    """What `bequest_adapters.files.scanning.Facts` holds, in its order."""
    return [
        found.st_mode, found.st_uid, found.st_gid, found.st_dev, found.st_ino, found.st_size,
        found.st_mtime_ns, found.st_ctime_ns,
    ]  # fmt: skip


def _stamp(found: os.stat_result) -> list[int]:
    return facts_of(found)[3:]


if __name__ == "__main__":
    main()
