"""What Google Cloud Storage enforces and its emulator ignores: conditions on generations.

A proxy in front of the emulator. One lock is held around every request, so looking at the present
generation and forwarding the request are one step, as long as all traffic goes through here.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_NOT_FORWARDED: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "accept-encoding"}
)
_NOT_RETURNED: Final = frozenset({"connection", "transfer-encoding", "content-length", "date"})
_UPSTREAM_TIMEOUT_SECONDS: Final = 60
_UPLOAD: Final = re.compile(r"/(?:upload|resumable/upload)/storage/v1/b/([^/]+)/o/?")
_REWRITE: Final = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)")
_OBJECT: Final = re.compile(r"/(?:download/)?storage/v1/b/([^/]+)/o/(.+?)(/compose)?")


@dataclass(frozen=True, slots=True)
class _Condition:
    """What one query parameter demands: that ``field`` be, or not be, its value."""

    field: str
    equal: bool
    status: int


_CONDITIONS: Final = {
    "ifGenerationMatch": _Condition("generation", True, 412),
    "ifGenerationNotMatch": _Condition("generation", False, 304),
    "ifMetagenerationMatch": _Condition("metageneration", True, 412),
    "ifMetagenerationNotMatch": _Condition("metageneration", False, 304),
}


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Aim:
    """The object a request is about, and what it demands of it."""

    bucket: str
    key: str
    demands: Mapping[str, str]
    sources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class GcsConditions:
    """Checks conditions, then forwards. ``port`` is where it listens."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._uploads: dict[str, _Aim] = {}
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            conditions = owner

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: _Request) -> _Response:
        with self._lock:
            upload = request.query.get("upload_id", "")
            aim = self._uploads.get(upload) or _aim(request)
            status = self._failed(aim) if aim is not None else None
            if status is not None:
                return _refusal(status)
            response = self._forward(request)
            if aim is not None and request.query.get("uploadType") == "resumable" and not upload:
                self._begun(aim, response)
            return response

    def _begun(self, aim: _Aim, response: _Response) -> None:
        """Remember what a resumable upload demands: it counts again when the upload ends."""
        location = {name.lower(): value for name, value in response.headers}.get("location", "")
        upload = dict(parse_qsl(urlsplit(location).query)).get("upload_id")
        if upload is not None:
            self._uploads[upload] = aim

    def _failed(self, aim: _Aim) -> int | None:
        """The status of the first demand that does not hold."""
        status = self._unmet(aim.bucket, aim.key, aim.demands)
        for source in aim.sources:
            demands = dict(source.get("objectPreconditions") or {})
            if source.get("generation") is not None:
                demands["ifGenerationMatch"] = source["generation"]
            status = status or self._unmet(aim.bucket, source["name"], demands)
        return status

    def _unmet(self, bucket: str, key: str, demands: Mapping[str, object]) -> int | None:
        if not demands:
            return None
        path = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(key, safe='')}"
        found = self._forward(_Request("GET", path, {}, b""))
        present = json.loads(found.body) if found.status == 200 else {}
        for name, value in demands.items():
            condition = _CONDITIONS[name]
            if (str(present.get(condition.field, "0")) == str(value)) != condition.equal:
                return condition.status
        return None

    def _forward(self, request: _Request) -> _Response:
        server = http.client.HTTPConnection(
            "127.0.0.1", self._upstream_port, timeout=_UPSTREAM_TIMEOUT_SECONDS
        )
        kept = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _NOT_FORWARDED
        }
        # Locations that the emulator gives must lead back to where the client came in.
        kept["Host"] = request.headers.get("Host", f"127.0.0.1:{self.port}")
        kept["Content-Length"] = str(len(request.body))
        try:
            server.request(request.method, request.path, request.body, kept)
            response = server.getresponse()
            return _Response(response.status, response.getheaders(), response.read())
        finally:
            server.close()


@contextmanager
def gcs_conditions(upstream_port: int) -> Generator[GcsConditions, None, None]:
    """A running proxy before an emulator of this machine."""
    conditions = GcsConditions(upstream_port)
    thread = threading.Thread(target=conditions.serve, name="gcs-conditions")
    thread.start()
    try:
        yield conditions
    finally:
        conditions.stop()
        thread.join()


def _aim(request: _Request) -> _Aim | None:
    path = urlsplit(request.path).path
    demands = {name: value for name, value in request.query.items() if name in _CONDITIONS}
    if match := _UPLOAD.fullmatch(path):
        return _Aim(unquote(match[1]), _uploaded_key(request), demands)
    if match := _REWRITE.fullmatch(path):
        source: dict[str, Any] = {"name": unquote(match[2])}
        if "ifSourceGenerationMatch" in request.query:
            source["generation"] = request.query["ifSourceGenerationMatch"]
        return _Aim(unquote(match[3]), unquote(match[4]), demands, [source])
    if match := _OBJECT.fullmatch(path):
        sources = json.loads(request.body)["sourceObjects"] if match[3] else []
        # The emulator keeps one generation, so reading one is a demand like the others.
        if "generation" in request.query:
            demands["ifGenerationMatch"] = request.query["generation"]
        return _Aim(unquote(match[1]), unquote(match[2]), demands, sources)
    return None


def _uploaded_key(request: _Request) -> str:
    """The key is in the query, in the JSON body, or in the first part of a multipart body."""
    if "name" in request.query:
        return request.query["name"]
    if request.query.get("uploadType") == "resumable":
        return str(json.loads(request.body)["name"])
    first = request.body.split(b"\r\n\r\n", 2)[1]
    return str(json.loads(first.rsplit(b"\r\n--", 1)[0])["name"])


def _refusal(status: int) -> _Response:
    error = {"error": {"code": status, "message": "conditionNotMet"}}
    return _Response(status, [("Content-Type", "application/json")], json.dumps(error).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Tests break connections on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else every answer is two packets, and the second waits for the first to be acknowledged.
    wbufsize = -1
    disable_nagle_algorithm = True
    conditions: GcsConditions

    def log_message(self, format: str, *args: object) -> None:
        """A test's output is the test's."""

    def handle_request(self) -> None:
        request = _Request(self.command, self.path, dict(self.headers.items()), self._body())
        self._send(self.conditions.answer(request))

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, response: _Response) -> None:
        self.send_response_only(response.status)
        for name, value in response.headers:
            if name.lower() not in _NOT_RETURNED:
                self.send_header(name, value)
        bodiless = self.command == "HEAD" or response.status in (204, 304)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if not bodiless:
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_request
