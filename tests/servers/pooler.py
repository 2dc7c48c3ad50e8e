"""A connection pool in front of PostgreSQL, as pgbouncer is: a session for each transaction.

It speaks as much of the protocol (version 3) as a client needs that the server trusts and that
copies nothing in. In session mode a client keeps its session until it leaves.
"""

from __future__ import annotations

import itertools
import socket
import socketserver
import struct
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import URL

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_IDLE: Final = b"I"
_invented = itertools.count(1_000_000)


@dataclass
class Pool:
    """Sessions of one server that no client uses; ``oldest_first`` is pgbouncer's round robin."""

    server: tuple[str, int]
    transactions: bool
    oldest_first: bool
    idle: deque[Session] = field(default_factory=deque["Session"])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, startup: bytes) -> Session:
        with self.lock:
            if self.idle:
                return self.idle.popleft() if self.oldest_first else self.idle.pop()
        return Session(self.server, startup)

    def give_back(self, session: Session) -> None:
        with self.lock:
            self.idle.append(session)

    def close(self) -> None:
        with self.lock:
            for session in self.idle:
                session.close()


class Session:
    """A connection to the server, past its login."""

    def __init__(self, server: tuple[str, int], startup: bytes) -> None:
        self._socket = socket.create_connection(server)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")
        self._socket.sendall(startup)
        self.greeting = b""
        while (kind := (message := read(self._reader))[:1]) != b"Z":
            if kind == b"E":
                raise ConnectionError(message)
            if kind in b"RS":
                self.greeting += message

    def send(self, message: bytes) -> None:
        self._socket.sendall(message)

    def answer(self) -> Generator[bytes, None, None]:
        """Messages up to the one that says that the server is ready."""
        while True:
            message = read(self._reader)
            yield message
            if message[:1] == b"Z":
                return

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


def read(stream: object) -> bytes:
    """One message with its head."""
    head = stream.read(5)  # type: ignore[attr-defined]
    if len(head) < 5:
        raise ConnectionError("the other side left")
    (size,) = struct.unpack("!I", head[1:])
    return bytes(head + stream.read(size - 4))  # type: ignore[attr-defined]


class _Client(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    @property
    def pool(self) -> Pool:
        return self.server.pool  # type: ignore[attr-defined,no-any-return]

    def handle(self) -> None:
        with suppress(ConnectionError, OSError):
            startup = self._startup()
            if startup:
                self._serve(startup)

    def _startup(self) -> bytes:
        while True:
            head = self.rfile.read(4)
            if len(head) < 4:
                return b""
            rest = self.rfile.read(struct.unpack("!I", head)[0] - 4)
            (code,) = struct.unpack("!I", rest[:4])
            if code in (_SSL, _GSS):
                self.wfile.write(b"N")
            else:
                return b"" if code == _CANCEL else head + rest

    def _serve(self, startup: bytes) -> None:
        session = self.pool.take(startup)
        key = b"K" + struct.pack("!III", 12, next(_invented), 0)
        self.wfile.write(session.greeting + key + b"Z\x00\x00\x00\x05I")
        held: Session | None = None if self.pool.transactions else session
        if held is None:
            self.pool.give_back(session)
        try:
            while (message := read(self.rfile))[:1] != b"X":
                held = held or self.pool.take(startup)
                held.send(message)
                if message[:1] in b"QS" and self._relay(held) and self.pool.transactions:
                    self.pool.give_back(held)
                    held = None
        finally:
            if held is not None:
                held.close()

    def _relay(self, session: Session) -> bool:
        """Pass the answer on; whether no transaction is open after it."""
        message = b""
        for message in session.answer():
            self.wfile.write(message)
        return message[-1:] == _IDLE


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    pool: Pool


@contextmanager
def pooled(
    url: URL, *, transactions: bool, oldest_first: bool = False
) -> Generator[URL, None, None]:
    """The URL of a pool before the database at ``url``."""
    with _Server(("127.0.0.1", 0), _Client) as server:
        server.pool = Pool((url.host or "", url.port or 0), transactions, oldest_first)
        thread = threading.Thread(target=server.serve_forever, name="pooler")
        thread.start()
        try:
            yield url.set(host="127.0.0.1", port=server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
            server.pool.close()
