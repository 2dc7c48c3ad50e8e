"""ministack: an S3 emulator that enforces every condition and decides every race.

It does not enforce the 5 MiB minimum of parts, nor secrets.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .process import answers, free_ports, running, script
from .s3_server import S3Server


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server, None, None]:
    folder = tmp_path_factory.mktemp("ministack")
    (port,) = free_ports(1)
    environment = {
        "SERVICES": "s3",
        "IOT_MTLS_ENABLED": "0",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(folder),
        "DOCKER_HOST": "unix:///nonexistent",
    }
    with running(
        [script("ministack")],
        ready=lambda: answers(port),
        log=folder / "log",
        environment=environment,
        folder=folder,
    ):
        server = S3Server(port)
        server.make_bucket()
        yield server
