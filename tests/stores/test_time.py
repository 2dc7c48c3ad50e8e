"""No call waits for ever, and a clock that jumps does no harm."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from contextlib import closing

import pytest

from bequest.errors import Unreachable
from bequest.model import Stat
from bequest.ports import Store
from bequest.registry import open_store
from bequest.testing.objects import sample, whole
from bequest_adapters.stores import azure, azure_client, gcs, ranged, s3, s3_client
from tests.servers.s3_server import BUCKET, S3Server
from tests.stores.places import LARGE_BYTES, SERVERS, place_on

YEARS_SECONDS = 10 * 365 * 86_400.0
SOON_SECONDS = 0.3


@pytest.fixture
def silent() -> Generator[int, None, None]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


@pytest.fixture(params=["s3", "az", "gs"])
def stalled(
    request: pytest.FixtureRequest, silent: int, monkeypatch: pytest.MonkeyPatch
) -> Generator[Store, None, None]:
    monkeypatch.setattr(ranged, "ATTEMPTS", 2)
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(azure_client, "READ_TIMEOUT_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(gcs, "TIMEOUT_SECONDS", (SOON_SECONDS, SOON_SECONDS))
    monkeypatch.setenv("AZURE_STORAGE_KEY", "bm90IGEgc2VjcmV0")
    endpoint = f"http://127.0.0.1:{silent}"
    stores: dict[str, Callable[[], Store]] = {
        "s3": lambda: s3.open_store(f"s3://bucket/key?endpoint={endpoint}"),
        "az": lambda: azure.open_store(f"az://container/key?endpoint={endpoint}/account"),
        "gs": lambda: gcs.open_store(f"gs://bucket/key?endpoint={endpoint}"),
    }
    with closing(stores[request.param]()) as store:
        yield store


VERSIONS = {"s3": '"0123456789abcdef0123456789abcdef"', "az": '"0x1"', "gs": "1"}


@pytest.mark.parametrize("call", ["head", "read", "append", "create", "rewrite", "large rewrite"])
def test_a_server_that_never_answers_is_unreachable(stalled: Store, call: str) -> None:
    size_bytes = 9 << 20 if call.startswith("large") else 0
    new = sample(size_bytes=size_bytes)
    onto = Stat(VERSIONS[stalled.name[:2]], len(new.data), None)
    with pytest.raises(Unreachable):  # noqa: PT012 - one of them
        if call == "head":
            stalled.head()
        elif call == "read":
            with stalled.read() as stream:
                stream.read()
        elif call == "append":
            stalled.append(b"x", onto=onto, mark=new.mark)
        elif call == "create":
            stalled.rewrite(new.body(), len(new.data), onto=None, mark=new.mark)
        else:
            stalled.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)


@pytest.mark.parametrize("jump_seconds", [YEARS_SECONDS, -YEARS_SECONDS])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_clock_that_jumps_does_no_harm(
    kind: str,
    jump_seconds: float,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The emulators do not look at a signature's time; a cloud refuses it, and says why."""
    place = place_on(kind, request, monkeypatch)
    with closing(open_store(place.url)) as store:
        base = sample(size_bytes=LARGE_BYTES)
        stat = store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        present = time.time
        monkeypatch.setattr(time, "time", lambda: present() + jump_seconds)
        frame, mark, chain = base.next_frame()
        stat = store.append(frame, onto=stat, mark=mark)
        with store.read() as stream:
            assert whole(stream).chain == chain
        new = sample(9, size_bytes=LARGE_BYTES)
        assert store.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark) == store.head()


def test_a_clock_that_jumps_ahead_aborts_no_upload_of_a_living_publisher(
    ministack: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_on("ministack", request, monkeypatch)
    key = place.url.partition("?")[0].partition(f"{BUCKET}/")[2]
    with closing(ministack.client()) as client, closing(open_store(place.url)) as store:
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
        present = time.time
        monkeypatch.setattr(time, "time", lambda: present() + YEARS_SECONDS)
        base = sample(size_bytes=LARGE_BYTES)
        store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        found = client.list_multipart_uploads(Bucket=BUCKET, Prefix=key)
    assert len(found.get("Uploads", [])) == 1
