"""SeaweedFS: a real S3 server, with part sizes and checksums.

Two *simultaneous* CompleteMultipartUpload under one condition may both win in it, so races of large
appends are not asked of it.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .process import answers, free_ports, running, script
from .s3_server import S3Server

_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server, None, None]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    command = [
        script("weed"),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=20",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    port = ports["s3.port"]
    with running(
        command,
        ready=lambda: answers(port, "/healthz"),
        log=folder / "log",
        folder=folder,
    ):
        server = S3Server(port)
        server.make_bucket()
        yield server
