"""Every store keeps the port's contract: the shipped suite, on real parts."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import pytest

from bequest.ports import Store
from bequest.testing.store import OpenStore, StoreConformance
from bequest_adapters.stores import file, s3
from tests.servers.s3_server import S3Server

MIB = 1 << 20


class TestFileStore(StoreConformance):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        path = tmp_path / "snapshot"
        return lambda: file.open_store(str(path))


class _S3(StoreConformance):
    options: ClassVar[dict[str, int]] = {}

    @pytest.fixture
    def server(self) -> S3Server:
        raise NotImplementedError

    @pytest.fixture
    def open_store(self, server: S3Server) -> Generator[OpenStore, None, None]:
        key = server.new_key()
        opened: list[Store] = []

        def open_one() -> Store:
            opened.append(s3.open_store(server.url(key, **self.options)))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


class TestSmallObjectsOnMinistack(_S3):
    @pytest.fixture
    def server(self, ministack: S3Server) -> S3Server:
        return ministack


class TestLargeObjectsOnMinistack(TestSmallObjectsOnMinistack):
    # It does not mind small parts, which makes for many of them, quickly.
    large_bytes = 300_000
    options: ClassVar = {"multipart_threshold": 200_000, "part_size": 50_000}


class TestSmallObjectsOnSeaweedFS(_S3):
    @pytest.fixture
    def server(self, seaweedfs: S3Server) -> S3Server:
        return seaweedfs


class TestLargeObjectsOnSeaweedFS(TestSmallObjectsOnSeaweedFS):
    large_bytes = 6 * MIB
    options: ClassVar = {"multipart_threshold": 5 * MIB, "part_size": 5 * MIB}
    races_enforced = False
    appends = 2
