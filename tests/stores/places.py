"""The places that a promise about every store is tried in: real servers, options for large objects.

An object of `LARGE_BYTES` is written in parts, in blocks or by composing, as an object of many MiB
would be by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from tests.servers.azurite import KEY, AzureServer
from tests.servers.gcs_server import GcsServer
from tests.servers.s3_server import S3Server

LARGE_BYTES: Final = 300_000
SERVERS: Final = ("ministack", "azurite", "gcs_server")
OPTIONS: Final[dict[str, dict[str, int]]] = {
    "ministack": {"multipart_threshold": 200_000, "part_size": 100_000},
    "azurite": {"block_size": 100_000},
    "gcs_server": {"compose_threshold": 200_000},
}


@dataclass(frozen=True, slots=True)
class Place:
    """An address where no object is yet. ``through`` reaches it by the port of a proxy."""

    url: str
    port: int
    through: Callable[[int], str]


def place_on(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A fresh place on a server."""
    server: S3Server | AzureServer | GcsServer = request.getfixturevalue(kind)
    if isinstance(server, AzureServer):
        monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
        name = server.new_blob()
    else:
        name = server.new_key()
    options = OPTIONS[kind]
    return Place(
        server.url(name, **options),
        server.port,
        lambda port: server.through(port).url(name, **options),
    )
