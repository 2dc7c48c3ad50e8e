"""An S3 server of this machine, and a proxy before it that counts what clients send."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import answers, free_ports, running
from tests.servers.proxy import FaultProxy, fault_proxy
from tests.servers.s3_server import BUCKET, REGION, S3Server

from .peers import program

__all__ = ["BUCKET", "REGION", "FaultProxy", "S3Server", "counted", "s3"]


@contextmanager
def s3(folder: Path) -> Generator[S3Server]:
    """ministack, which enforces every condition, with one empty bucket."""
    folder.mkdir()
    with _credentials():
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
            [program("ministack")],
            ready=lambda: answers(port),
            log=folder / "log",
            environment=environment,
            folder=folder,
        ):
            server = S3Server(port)
            server.make_bucket()
            yield server


@contextmanager
def counted(server: S3Server) -> Generator[tuple[S3Server, FaultProxy]]:
    """The same server through a proxy that remembers every request."""
    with fault_proxy(server.port) as proxy:
        yield server.through(proxy.port), proxy


@contextmanager
def _credentials() -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="bequest-bench",
        AWS_SECRET_ACCESS_KEY="not-a-secret-of-anybody",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        NO_PROXY="127.0.0.1,localhost",
        no_proxy="127.0.0.1,localhost",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
