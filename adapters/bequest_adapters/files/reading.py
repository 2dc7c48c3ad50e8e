"""Reading files in another process (see `child` for why).

One look at the folders has one `Reader`, whose process is started when there is something to read
and is gone when the look ends. Its failure is that of a file that cannot be read: it is named, and
the database is published all the same.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from bequest.errors import Unreachable
from bequest.recorded import PIECE_BYTES

from . import child

OWN_NAMES: Final = ("python3", "python")


class Unsettled(Exception):
    """A file changed while it was read, or is gone."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What `os.stat` says of a path, as far as it is recorded or compared."""

    mode: int
    uid: int
    gid: int
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """From what the system says."""
        return cls(*child.facts_of(found))

    @property
    def stamp(self) -> tuple[int, ...]:
        """Equal as long as nobody has written to the file, but for the grain of the clock."""
        return self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read. ``pieces`` are to be taken before the next file is asked for."""

    facts: Facts
    digest: str
    pieces: Iterator[bytes]


class Reader:
    """Opens files for this process. One thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # It holds nothing that could be lost, and a fork of ours may keep its input open.
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                _closed(stream)
        process.wait()

    def digest(self, folder: str, path: bytes, limit_bytes: int) -> Content:
        """Facts and digest of the file at ``path`` below ``folder``, without its content.

        Raises `Unsettled`, `OSError`.
        """
        return self._ask(folder, path, limit_bytes, copy=False)

    def copy(self, folder: str, path: bytes, limit_bytes: int) -> Content:
        """The same with its content, which does not change any more. Raises as `digest`."""
        return self._ask(folder, path, limit_bytes, copy=True)

    def _ask(self, folder: str, path: bytes, limit_bytes: int, *, copy: bool) -> Content:
        request = {
            "folder": os.fsencode(folder).decode("latin-1"),
            "names": path.decode("latin-1").split("/"),
            "limit": limit_bytes,
            "copy": copy,
        }
        answer = self._exchange(json.dumps(request).encode() + b"\n")
        if answer.get("unsettled"):
            raise Unsettled
        number = answer.get("errno")
        if number is not None:
            raise OSError(number, os.strerror(number))
        size = answer["size"]
        pieces = self._pieces(size) if copy else iter(())
        return Content(Facts(*answer["facts"]), answer["digest"], pieces)

    def _exchange(self, request: bytes) -> dict[str, Any]:
        if self._process is None:
            self._process = _started()
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            if stdin is None or stdout is None:
                raise _ended()
            stdin.write(request)
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            self.__exit__()
            raise _ended() from error
        return answer

    def _pieces(self, size: int) -> Iterator[bytes]:
        stream = None if self._process is None else self._process.stdout
        while size:
            data = b"" if stream is None else stream.read(min(PIECE_BYTES, size))
            if not data:
                self.__exit__()
                raise Unreachable(
                    "The process that reads configuration files ended in the middle of one. The "
                    "object is as it was; the next publish tries again. If this stays, look in the "
                    "system's log for who ends it, such as a limit of memory."
                )
            size -= len(data)
            yield data


def _started() -> subprocess.Popen[bytes]:
    """The process. Raises `OSError`, which never looks like that of a missing file."""
    try:
        return subprocess.Popen(
            [_interpreter(), "-I", "-S", child.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise OSError(
            errno.EIO, f"no process could be started to read it ({error.strerror})"
        ) from error


def _interpreter() -> str:
    """This Python: under a server that embeds it, ``sys.executable`` is the server."""
    if os.path.basename(sys.executable or "").startswith("python"):
        return sys.executable
    for name in OWN_NAMES:
        path = os.path.join(sys.base_exec_prefix, "bin", name)
        if os.path.exists(path):
            return path
    return sys.executable or OWN_NAMES[0]


def _ended() -> OSError:
    return OSError(errno.EIO, "the process that reads files has ended")


def _closed(stream: Any) -> None:
    with suppress(BrokenPipeError):
        stream.close()
