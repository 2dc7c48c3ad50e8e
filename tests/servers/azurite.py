"""Azurite: Microsoft's emulator of Azure Blob Storage. It enforces conditions and decides races.

It is an npm package, installed once into the user's cache by the Node that a wheel brings; every
later run, of any clone, takes it from there. A conditional create answers 409, not 412, as Azure.
"""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from azure.storage.blob import BlobServiceClient
from filelock import FileLock

from .process import answers, free_ports, running, script

VERSION: Final = "3.37.0"
CONTAINER: Final = "bequest-tests"
ACCOUNT: Final = "bequesttests"
KEY: Final = base64.b64encode(b"not a secret of anybody").decode()
INSTALL_TIMEOUT_SECONDS: Final = 240


@dataclass(frozen=True, slots=True)
class AzureServer:
    """One running server with one container. ``port`` may be that of a proxy before it."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.endpoint};"
        )

    def through(self, port: int) -> AzureServer:
        """The same server, reached by another port."""
        return replace(self, port=port)

    def new_blob(self) -> str:
        return f"{uuid.uuid4().hex}/snapshot"

    def url(self, blob: str, **options: object) -> str:
        """The store address of a blob, with options of the Azure store."""
        return f"az://{CONTAINER}/{blob}?{urlencode({'endpoint': self.endpoint, **options})}"

    def client(self) -> Any:
        """A bare client, to look behind the store's back. The caller closes it."""
        return BlobServiceClient.from_connection_string(self.connection_string, retry_total=0)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Generator[AzureServer, None, None]:
    folder = tmp_path_factory.mktemp("azurite")
    (port,) = free_ports(1)
    command = [
        script("node"),
        str(_installed() / "dist" / "src" / "blob" / "main.js"),
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--silent",
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
    ]
    with running(
        command,
        ready=lambda: answers(port),
        log=folder / "log",
        environment={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        folder=folder,
    ):
        server = AzureServer(port)
        client = server.client()
        client.create_container(CONTAINER)
        client.close()
        yield server


def _installed() -> Path:
    """The folder of the npm package. Raises `RuntimeError` when it cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "bequest-tests" / f"azurite-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    whole = home / "installed"
    # One installs, be there ever so many workers; the mark says that npm came to its end.
    with FileLock(home / "lock", timeout=INSTALL_TIMEOUT_SECONDS):
        if not whole.exists():
            _install(home)
            whole.touch()
    return home / "node_modules" / "azurite"


def _install(home: Path) -> None:
    command = [script("npm"), "install", f"azurite@{VERSION}", "--prefix", str(home)]
    command += ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"Azurite {VERSION} could not be installed from npm, so the Azure store cannot be "
            f"tested:\n{done.stdout}{done.stderr}"
        )
