"""What Google Cloud Storage asks of a store: the port's contract, cost, ambiguity, its failures."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Generator
from datetime import timedelta

import pytest

from bequest.errors import (
    BequestError,
    Conflict,
    Denied,
    SnapshotMissing,
    Throttled,
    Unreachable,
    UsageError,
)
from bequest.model import Stat
from bequest.ports import Store
from bequest.testing.objects import Sample, sample, whole
from bequest.testing.store import OpenStore, StoreConformance
from bequest_adapters.stores.gcs import GcsStore, open_store
from bequest_adapters.stores.retrying import retrying
from tests.servers.gcs_server import BUCKET, GcsServer
from tests.servers.proxy import (
    LOSE_ANSWER,
    REFUSE,
    Answer,
    Fault,
    FaultProxy,
    Match,
    Request,
    cut_body,
    fault_proxy,
)

MIB = 1 << 20
THRESHOLD_BYTES = 200_000
LARGE_BYTES = 300_000


@pytest.fixture(autouse=True)
def _no_machine_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy(gcs_server: GcsServer) -> Generator[FaultProxy, None, None]:
    with fault_proxy(gcs_server.port) as running:
        yield running


@pytest.fixture
def key(gcs_server: GcsServer) -> str:
    return gcs_server.new_key()


@pytest.fixture
def store(gcs_server: GcsServer, proxy: FaultProxy, key: str) -> Generator[GcsStore, None, None]:
    opened = GcsStore(
        BUCKET,
        key,
        gcs_server.through(proxy.port).endpoint,
        threshold_bytes=THRESHOLD_BYTES,
        sleep=lambda _: None,
    )
    yield opened
    opened.close()


class _Gcs(StoreConformance):
    @pytest.fixture
    def open_store(self, gcs_server: GcsServer) -> Generator[OpenStore, None, None]:
        key = gcs_server.new_key()
        opened: list[Store] = []

        def open_one() -> Store:
            opened.append(open_store(gcs_server.url(key, compose_threshold=THRESHOLD_BYTES)))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


class TestSmallObjectsOnGcs(_Gcs):
    pass


class TestLargeObjectsOnGcs(_Gcs):
    large_bytes = LARGE_BYTES


def _publish(store: Store, size_bytes: int = 0) -> tuple[Sample, Stat]:
    base = sample(size_bytes=size_bytes)
    return base, store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)


def _is(method: str, fragment: str = "") -> Match:
    return lambda request: request.method == method and fragment in request.path


def _makes(request: Request) -> bool:
    """The request that makes a publish visible: never that of a temporary object."""
    if request.method != "POST":
        return False
    return "/compose" in request.path or "ifGenerationMatch=0" not in request.path


def _creates(request: Request) -> bool:
    return request.method == "POST" and "uploadType=" in request.path


def _error(status: int, **headers: str) -> Answer:
    body = json.dumps({"error": {"code": status, "message": "told so"}}).encode()
    names = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status, [("Content-Type", "application/json"), *names], body)


def _keys(server: GcsServer, prefix: str) -> list[str]:
    client = server.client()
    names = [blob.name for blob in client.list_blobs(BUCKET, prefix=prefix)]
    client.close()
    return names


def _upload(server: GcsServer, key: str, data: bytes) -> None:
    client = server.client()
    client.bucket(BUCKET).blob(key).upload_from_string(data)
    client.close()


# A change costs the change


def test_one_row_into_64_mib_sends_under_16_kib(gcs_server: GcsServer, key: str) -> None:
    with fault_proxy(gcs_server.port) as proxy:
        store = open_store(gcs_server.through(proxy.port).url(key))
        base, stat = _publish(store, 64 * MIB)
        assert len([request for request in proxy.requests if request.method == "PUT"]) > 1
        proxy.clear()
        frame, mark, chain = base.next_frame("one row")
        stat = store.append(frame, onto=stat, mark=mark)
        assert proxy.sent_bytes < 16 * 1024
        assert stat.size_bytes > 64 * MIB
        with store.read() as stream:
            assert whole(stream).chain == chain
        store.close()
    assert _keys(gcs_server, key) == [key]


def test_a_small_append_is_one_request_and_a_large_one_three(
    store: GcsStore, proxy: FaultProxy
) -> None:
    current, stat = _publish(store)
    proxy.clear()
    frame, mark, _ = current.next_frame()
    stat = store.append(frame, onto=stat, mark=mark)
    assert [request.method for request in proxy.requests] == ["POST"]
    current = sample(9, size_bytes=LARGE_BYTES)
    stat = store.rewrite(current.body(), len(current.data), onto=stat, mark=current.mark)
    proxy.clear()
    frame, mark, _ = current.next_frame()
    store.append(frame, onto=stat, mark=mark)
    assert [request.method for request in proxy.requests] == ["POST", "POST", "DELETE"]


def test_an_append_is_conditional_even_where_the_bucket_keeps_old_versions(
    store: GcsStore, proxy: FaultProxy
) -> None:
    # There the generation of the source exists for ever, so only the destination's tells.
    base, stat = _publish(store, LARGE_BYTES)
    frame, mark, _ = base.next_frame()
    store.append(frame, onto=stat, mark=mark)
    (compose,) = [request for request in proxy.requests if "/compose" in request.path]
    assert f"ifGenerationMatch={stat.version}" in compose.path


def test_an_object_that_another_tool_uploaded_can_be_appended_to(
    gcs_server: GcsServer, store: GcsStore, key: str
) -> None:
    current = sample(size_bytes=LARGE_BYTES)
    _upload(gcs_server, key, current.data)
    for _ in range(2):
        stat = store.head()
        assert stat is not None
        frame, mark, chain = current.next_frame()
        store.append(frame, onto=stat, mark=mark)
        current = current.appended(frame, mark, chain)
        with store.read() as stream:
            assert whole(stream).chain == chain


# A lost answer is not a conflict


@pytest.mark.parametrize("how", ["append", "rewrite", "create"])
@pytest.mark.parametrize("size_bytes", [0, LARGE_BYTES])
def test_a_publish_whose_answer_was_lost_is_recognised(
    gcs_server: GcsServer,
    store: GcsStore,
    proxy: FaultProxy,
    key: str,
    how: str,
    size_bytes: int,
) -> None:
    patient = retrying(store, sleep=lambda _: None)
    base, onto = _publish(store, size_bytes) if how != "create" else (sample(), None)
    proxy.plan(_creates if how == "create" else _makes, LOSE_ANSWER)
    if how == "append":
        assert onto is not None
        frame, mark, _ = base.next_frame()
        stat = patient.append(frame, onto=onto, mark=mark)
    else:
        new = sample(9, size_bytes=size_bytes)
        mark = new.mark
        stat = patient.rewrite(new.body(), len(new.data), onto=onto, mark=mark)
    assert len(proxy.struck) == 1
    assert stat.mark == mark
    assert stat == store.head()
    assert _keys(gcs_server, key) == [key]


def test_a_rewrite_in_chunks_whose_last_answer_was_lost_is_recognised(
    store: GcsStore, proxy: FaultProxy
) -> None:
    _, onto = _publish(store)
    new = sample(9, size_bytes=9 * MIB)
    proxy.plan(
        lambda request: request.headers.get("content-range", "").startswith("bytes 8388608-"),
        LOSE_ANSWER,
    )
    patient = retrying(store, sleep=lambda _: None)
    stat = patient.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)
    assert len(proxy.struck) == 1
    assert stat == store.head()
    assert stat.mark == new.mark


def test_another_publisher_in_the_gap_is_a_conflict_and_leaves_no_temporary(
    gcs_server: GcsServer, store: GcsStore, proxy: FaultProxy, key: str
) -> None:
    base, onto = _publish(store, LARGE_BYTES)
    rival = open_store(gcs_server.url(key))
    other = sample(9)
    rival.rewrite(other.body(), len(other.data), onto=onto, mark=other.mark)
    rival.close()
    proxy.plan(_makes, REFUSE)
    frame, mark, _ = base.next_frame()
    with pytest.raises(Conflict):
        retrying(store, sleep=lambda _: None).append(frame, onto=onto, mark=mark)
    assert len(proxy.struck) == 1
    assert _keys(gcs_server, key) == [key]


# Temporary objects


def test_a_publisher_that_dies_in_an_append_leaves_the_object_and_a_later_rewrite_cleans_up(
    gcs_server: GcsServer, store: GcsStore, proxy: FaultProxy, key: str
) -> None:
    base, onto = _publish(store, LARGE_BYTES)
    proxy.plan(_is("POST", "/compose"), REFUSE)
    proxy.plan(_is("DELETE"), REFUSE)
    frame, mark, _ = base.next_frame()
    with pytest.raises(Unreachable):
        store.append(frame, onto=onto, mark=mark)
    assert len(_keys(gcs_server, key)) == 2
    assert store.head() == onto
    _upload(gcs_server, f"{key}.bequest-of-another", b"not a temporary")
    base = sample(2)
    onto = store.rewrite(base.body(), len(base.data), onto=onto, mark=base.mark)
    assert len(_keys(gcs_server, key)) == 3, "it may belong to an append under way"
    hasty = GcsStore(BUCKET, key, gcs_server.endpoint, leftover_age=timedelta(0))
    base = sample(3)
    hasty.rewrite(base.body(), len(base.data), onto=onto, mark=base.mark)
    hasty.close()
    assert sorted(_keys(gcs_server, key)) == [key, f"{key}.bequest-of-another"]


# Reading


def test_a_broken_download_goes_on(store: GcsStore, proxy: FaultProxy) -> None:
    base, _ = _publish(store, 6 * MIB)
    proxy.plan(_is("GET", "alt=media"), REFUSE)
    proxy.plan(_is("GET", "alt=media"), cut_body(1_000))
    with store.read() as stream:
        assert whole(stream).chain == base.chain
    assert len(proxy.struck) == 2


def test_a_download_never_goes_on_with_another_version(store: GcsStore) -> None:
    _, onto = _publish(store, 40 * MIB)
    with store.read() as stream:
        new = sample(9, size_bytes=LARGE_BYTES)
        store.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)
        with pytest.raises(Unreachable, match="replaced"):
            whole(stream)


def test_a_download_that_never_goes_on_ends(store: GcsStore, proxy: FaultProxy) -> None:
    _publish(store)
    proxy.plan(_is("GET", "alt=media"), REFUSE, times=100)
    with store.read() as stream, pytest.raises(Unreachable):
        stream.read()


# What a server says, told in our words


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (412, Conflict),
        (409, Conflict),
        (404, Conflict),
        (403, Denied),
        (401, Denied),
        (400, Denied),
        (408, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
        (429, Throttled),
    ],
)
def test_every_refusal_of_a_write_has_its_kind(
    store: GcsStore, proxy: FaultProxy, status: int, expected: type[BequestError]
) -> None:
    proxy.plan(_creates, Fault(executed=False, answer=_error(status)))
    with pytest.raises(BequestError) as caught:
        _publish(store)
    assert type(caught.value) is expected
    assert len(list(filter(_creates, proxy.requests))) == 1, "one attempt per call"


@pytest.mark.parametrize("status", [429, 503])
def test_throttling_says_how_long_to_wait(store: GcsStore, proxy: FaultProxy, status: int) -> None:
    proxy.plan(_creates, Fault(executed=False, answer=_error(status, retry_after="7")))
    waits: list[float] = []
    base = sample()
    retrying(store, sleep=waits.append).rewrite(
        base.body(), len(base.data), onto=None, mark=base.mark
    )
    assert waits[-1] >= 7


def test_a_missing_bucket_is_not_a_missing_object(gcs_server: GcsServer) -> None:
    nowhere = open_store(f"gs://nowhere/key?endpoint={gcs_server.endpoint}")
    with pytest.raises(Denied, match="bucket"):
        nowhere.head()
    with pytest.raises(Denied, match="bucket"), nowhere.read():
        pass
    with pytest.raises(Denied, match="bucket"):
        _publish(nowhere)
    nowhere.close()


def test_an_endpoint_that_is_not_there_is_unreachable(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.plan(lambda _: True, REFUSE, times=10)
    with pytest.raises(Unreachable):
        store.head()
    assert len(proxy.requests) == 1


def test_no_credentials_are_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/credentials.json")
    store = open_store("gs://bucket/key")
    with pytest.raises(Denied, match="GOOGLE_APPLICATION_CREDENTIALS"):
        store.head()
    store.close()


def test_an_object_without_our_metadata_bears_no_mark(
    gcs_server: GcsServer, store: GcsStore, key: str
) -> None:
    _upload(gcs_server, key, b"not ours")
    stat = store.head()
    assert stat is not None
    assert stat.mark is None


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket",
        "gs://bucket/",
        "gs:///key",
        "gs://bucket/folder/",
        "gs://bucket/key?endpiont=http://host",
        "gs://bucket/key?compose_threshold=many",
        "gs://bucket/key?endpoint=ftp://host",
        "gs://me:hush@bucket/key",
        "gs://bucket/key?endpoint=http://me:hush@host",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "hush" not in str(caught.value)


def test_the_emulators_variable_is_obeyed(
    gcs_server: GcsServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.endpoint)
    store = open_store(f"gs://{BUCKET}/{key}")
    _, stat = _publish(store)
    assert store.head() == stat
    store.close()


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(UsageError, match=r"bequest\[gcs\]"):
        open_store("gs://bucket/key?endpoint=http://127.0.0.1:1").head()


def test_a_body_that_is_too_short_is_not_published(store: GcsStore) -> None:
    for size_bytes in (1_000, LARGE_BYTES, 9 * MIB):
        with pytest.raises(UsageError):
            store.rewrite(io.BytesIO(b"short"), size_bytes, onto=None, mark=sample().mark)
        assert store.head() is None
    with pytest.raises(SnapshotMissing), store.read():
        pass


def test_a_proxy_of_the_stores_own_is_used(proxy: FaultProxy, key: str) -> None:
    through = f"http://127.0.0.1:{proxy.port}"
    store = open_store(f"gs://{BUCKET}/{key}?endpoint=http://gcs.invalid&proxy={through}")
    proxy.plan(lambda _: True, REFUSE, times=9)
    with pytest.raises(Unreachable):
        store.head()
    store.close()
    assert proxy.requests[0].path.startswith("http://gcs.invalid/storage/v1/")


def test_an_authority_of_the_stores_own_is_used(key: str) -> None:
    store = open_store(f"gs://{BUCKET}/{key}?endpoint=http://127.0.0.1:1&ca_bundle=/acme.pem")
    assert store._client._http.verify == "/acme.pem"
    store.close()
