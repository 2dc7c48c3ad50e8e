"""An HTTP proxy on the loopback interface that does harm when told to.

The fault model: a request is refused before it reaches the server; a request is executed and its
answer is lost; an answer is replaced, with or without the request being executed; a body is cut in
the middle, or corrupted; a connection is reset, or stalls until it is released. Every other request
passes unchanged. All requests are recorded, with what they sent.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
UPSTREAM_TIMEOUT_SECONDS: Final = 60
_AT_ONCE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """What came in. ``sent_bytes`` counts request line, headers and body."""

    method: str
    path: str
    headers: dict[str, str]
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Fault:
    """``executed``: whether the server gets the request. ``answer``: instead of the server's;
    ``None`` drops the connection, unless ``body_bytes`` of the server's own shall still pass."""

    executed: bool
    answer: Answer | None = None
    body_bytes: int | None = None
    reset: bool = False
    corrupt: bool = False
    stall: threading.Event | None = None


LOSE_ANSWER: Final = Fault(executed=True)
REFUSE: Final = Fault(executed=False)
RESET: Final = Fault(executed=False, reset=True)
RESET_AFTERWARDS: Final = Fault(executed=True, reset=True)
CORRUPT: Final = Fault(executed=True, corrupt=True)


def throttled(seconds: int) -> Fault:
    """Ask to slow down, as S3 does."""
    body = b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
    return Fault(executed=False, answer=Answer(503, [("Retry-After", str(seconds))], body))


def stall(released: threading.Event, *, executed: bool) -> Fault:
    """Say nothing until ``released``, then hang up."""
    return Fault(executed, stall=released)


def cut_body(after_bytes: int) -> Fault:
    """Let the answer begin, and break the connection in its body."""
    return Fault(executed=True, body_bytes=after_bytes)


Match = Callable[[Request], bool]


class FaultProxy:
    """Records, and applies each planned fault to the next request that it matches."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.requests: list[Request] = []
        self.struck: list[Request] = []
        self._plan: list[tuple[Match, Fault, int]] = []
        self.received_bytes = 0
        self.dropped: frozenset[str] = frozenset()
        """Headers that the server does not get to see ..."""
        self.dropped_only = ""
        """... in requests whose method and path contain this. GET and HEAD keep them."""
        self._lock = threading.Lock()
        self._handled = 0
        self._idle = threading.Condition()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def plan(self, match: Match, fault: Fault, *, times: int = 1) -> None:
        """Apply ``fault`` to the next ``times`` requests that ``match``."""
        with self._lock:
            self._plan.append((match, fault, times))

    def clear(self) -> None:
        """Forget the requests seen and the faults planned."""
        with self._lock:
            self.requests.clear()
            self.received_bytes = 0
            self.struck.clear()
            self._plan.clear()

    @property
    def sent_bytes(self) -> int:
        """All that clients have sent since the last `clear`."""
        with self._lock:
            return sum(request.sent_bytes for request in self.requests)

    def take(self, request: Request) -> Fault | None:
        """Record a request; the fault that shall strike it."""
        with self._lock:
            self.requests.append(request)
            for index, (match, fault, times) in enumerate(self._plan):
                if match(request):
                    self._plan[index : index + 1] = [(match, fault, times - 1)] if times > 1 else []
                    self.struck.append(request)
                    return fault
            return None

    @contextmanager
    def handling(self) -> Generator[None, None, None]:
        """Count a request that is being handled."""
        with self._idle:
            self._handled += 1
        try:
            yield
        finally:
            with self._idle:
                self._handled -= 1
                self._idle.notify_all()

    def settle(self) -> None:
        """Return when no request is being handled, also none whose client is gone."""
        with self._idle:
            assert self._idle.wait_for(lambda: not self._handled, UPSTREAM_TIMEOUT_SECONDS)

    def received(self, count: int) -> None:
        """Count what goes back in bodies."""
        with self._lock:
            self.received_bytes += count

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def fault_proxy(upstream_port: int) -> Generator[FaultProxy, None, None]:
    """A running proxy before a server of this machine."""
    proxy = FaultProxy(upstream_port)
    thread = threading.Thread(target=proxy.serve, name="fault-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Idle keep-alive connections end with their clients; nobody waits for them here.
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is what this server is for."""


def _corrupted(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0x10]) + body[middle + 1 :] if body else body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def log_message(self, format: str, *args: object) -> None:
        """Requests are recorded, not printed."""

    def handle_request(self) -> None:
        with self.owner.handling():
            self._answer(self._body())

    def _answer(self, body: bytes) -> None:
        head_bytes = len(self.requestline) + len(self.headers.as_bytes()) + 2
        request = Request(
            self.command,
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            head_bytes + len(body),
        )
        fault = self.owner.take(request)
        answer = self._forward(body) if fault is None or fault.executed else None
        if fault is not None and fault.stall is not None:
            fault.stall.wait(UPSTREAM_TIMEOUT_SECONDS)
        if fault is not None and fault.answer is not None:
            answer = fault.answer
        elif fault is not None and fault.corrupt and answer is not None:
            answer = replace(answer, body=_corrupted(answer.body))
        elif fault is not None and fault.body_bytes is None:
            answer = None
        if answer is None:
            self._hang_up(reset=fault is not None and fault.reset)
        else:
            self._send(answer, None if fault is None else fault.body_bytes)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _dropped(self) -> frozenset[str]:
        writes = self.command in ("PUT", "POST", "DELETE")
        meant = self.owner.dropped_only in f"{self.command} {self.path}"
        return self.owner.dropped if writes and meant else frozenset()

    def _forward(self, body: bytes) -> Answer:
        port = self.owner.upstream_port
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=UPSTREAM_TIMEOUT_SECONDS)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP | {"expect"} | self._dropped():
                    server.putheader(name, value)
            server.putheader("Content-Length", str(len(body)))
            server.endheaders(body or None)
            response = server.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            server.close()

    def _send(self, answer: Answer, body_bytes: int | None) -> None:
        bodiless = self.command == "HEAD" or answer.status in (204, 304)
        length = str(len(answer.body))
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if bodiless and name.lower() == "content-length":
                length = value
            elif name.lower() not in _HOP:
                self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", length)
        self.end_headers()
        if not bodiless:
            self.owner.received(len(answer.body[:body_bytes]))
            self.wfile.write(answer.body[:body_bytes])
        if body_bytes is not None:
            self._hang_up()

    def _hang_up(self, *, reset: bool = False) -> None:
        self.wfile.flush()
        self.close_connection = True
        if reset:
            # No time to linger: the kernel sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_request
