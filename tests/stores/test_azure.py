"""What Azure Blob Storage asks of a store: the port's contract, cost, ambiguity, its failures."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Generator

import pytest
from azure.storage.blob import BlobBlock

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
from bequest.snapshot.frame import PREAMBLE_BYTES, preamble
from bequest.testing.objects import Sample, sample, whole
from bequest.testing.store import OpenStore, StoreConformance
from bequest_adapters.stores.azure import (
    BLOCK_NAME_CHARACTERS,
    MOST_SMALL_BLOCKS,
    AzureStore,
    open_store,
)
from bequest_adapters.stores.azure_client import AzureSettings
from bequest_adapters.stores.retrying import retrying
from tests.servers.azurite import ACCOUNT, CONTAINER, KEY, AzureServer
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
BLOCK_BYTES = 100_000
SECRETS = (
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)


@pytest.fixture
def proxy(azurite: AzureServer) -> Generator[FaultProxy, None, None]:
    with fault_proxy(azurite.port) as running:
        yield running


@pytest.fixture
def blob(azurite: AzureServer) -> str:
    return azurite.new_blob()


@pytest.fixture
def store(azurite: AzureServer, proxy: FaultProxy, blob: str) -> Generator[AzureStore, None, None]:
    opened = AzureStore(
        CONTAINER,
        blob,
        AzureSettings(account=ACCOUNT, endpoint=azurite.through(proxy.port).endpoint, key=KEY),
        block_bytes=BLOCK_BYTES,
        sleep=lambda _: None,
    )
    yield opened
    opened.close()


class _Azure(StoreConformance):
    @pytest.fixture
    def open_store(self, azurite: AzureServer) -> Generator[OpenStore, None, None]:
        blob = azurite.new_blob()
        opened: list[Store] = []

        def open_one() -> Store:
            opened.append(open_store(azurite.url(blob, block_size=BLOCK_BYTES)))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


class TestSmallObjectsOnAzurite(_Azure):
    pass


class TestLargeObjectsOnAzurite(_Azure):
    large_bytes = 600_000
    # Both sizes race for the same request.
    race_rounds = 10


def _publish(store: Store, size_bytes: int = 0) -> tuple[Sample, Stat]:
    base = sample(size_bytes=size_bytes)
    return base, store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)


def _is(method: str, fragment: str = "") -> Match:
    return lambda request: request.method == method and fragment in request.path


def _commits(request: Request) -> bool:
    return "comp=blocklist" in request.path and request.method == "PUT"


def _error(status: int, code: str, **headers: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so</Message></Error>".encode()
    names = [(name.replace("_", "-"), value) for name, value in headers.items()]
    said = [("Content-Type", "application/xml"), ("x-ms-error-code", code)]
    return Answer(status, [*said, *names], body)


# A change costs the change


def test_one_row_into_64_mib_sends_under_16_kib(azurite: AzureServer, blob: str) -> None:
    with fault_proxy(azurite.port) as proxy:
        store = open_store(azurite.through(proxy.port).url(blob))
        base, stat = _publish(store, 64 * MIB)
        proxy.clear()
        frame, mark, chain = base.next_frame("one row")
        stat = store.append(frame, onto=stat, mark=mark)
        assert proxy.sent_bytes < 16 * 1024
        assert stat.size_bytes > 64 * MIB
        with store.read() as stream:
            assert whole(stream).chain == chain
        store.close()


def test_an_append_is_two_requests(store: AzureStore, proxy: FaultProxy) -> None:
    base, stat = _publish(store)
    proxy.clear()
    frame, mark, _ = base.next_frame()
    store.append(frame, onto=stat, mark=mark)
    assert [request.method for request in proxy.requests] == ["PUT", "PUT"]


def test_small_blocks_are_gathered_before_there_are_too_many(
    azurite: AzureServer, store: AzureStore, blob: str
) -> None:
    current, stat = _publish(store, 2 * BLOCK_BYTES)
    counts: list[int] = []
    client = azurite.client().get_blob_client(CONTAINER, blob)
    for _ in range(MOST_SMALL_BLOCKS + 2):
        frame, mark, chain = current.next_frame()
        stat = store.append(frame, onto=stat, mark=mark)
        current = current.appended(frame, mark, chain)
    counts.append(len(client.get_block_list("committed")[0]))
    client.close()
    assert counts[0] < 10
    with store.read() as stream:
        assert whole(stream).chain == current.chain


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("name_characters", [0, 7, BLOCK_NAME_CHARACTERS])
def test_an_object_that_another_tool_uploaded_can_be_appended_to(
    azurite: AzureServer, store: AzureStore, blob: str, name_characters: int, floor: bool
) -> None:
    current = sample(size_bytes=2 * BLOCK_BYTES)
    first = preamble(len(current.data), floor=floor)
    client = azurite.client().get_blob_client(CONTAINER, blob)
    if name_characters:
        client.stage_block("b" * name_characters, first + current.data[PREAMBLE_BYTES:])
        client.commit_block_list([BlobBlock("b" * name_characters)])
    else:
        client.upload_blob(first + current.data[PREAMBLE_BYTES:])
    for _ in range(2):
        stat = store.head()
        assert stat is not None
        frame, mark, chain = current.next_frame()
        store.append(frame, onto=stat, mark=mark)
        current = current.appended(frame, mark, chain)
    with store.read() as stream:
        data = stream.read()
    assert data[PREAMBLE_BYTES:] == current.data[PREAMBLE_BYTES:]
    assert data[:PREAMBLE_BYTES] != preamble(len(current.data))
    assert whole(io.BytesIO(data)).chain == current.chain
    # Azure refuses names of different lengths in one list; its emulator takes them.
    committed, _ = client.get_block_list("committed")
    assert {len(block.id) for block in committed} == {BLOCK_NAME_CHARACTERS}
    client.close()


# A lost answer is not a conflict


@pytest.mark.parametrize("how", ["append", "rewrite", "create"])
@pytest.mark.parametrize("size_bytes", [0, 3 * BLOCK_BYTES])
def test_a_publish_whose_answer_was_lost_is_recognised(
    store: AzureStore, proxy: FaultProxy, how: str, size_bytes: int
) -> None:
    patient = retrying(store, sleep=lambda _: None)
    base, onto = _publish(store, size_bytes) if how != "create" else (sample(), None)
    proxy.plan(_commits, LOSE_ANSWER)
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


def test_another_publisher_in_the_gap_of_a_lost_answer_is_a_conflict(
    azurite: AzureServer, store: AzureStore, proxy: FaultProxy, blob: str
) -> None:
    base, onto = _publish(store)
    rival = open_store(azurite.url(blob))
    other = sample(9)
    rival.rewrite(other.body(), len(other.data), onto=onto, mark=other.mark)
    rival.close()
    proxy.plan(_commits, REFUSE)
    frame, mark, _ = base.next_frame()
    with pytest.raises(Conflict):
        retrying(store, sleep=lambda _: None).append(frame, onto=onto, mark=mark)
    assert len(proxy.struck) == 1


def test_a_publisher_that_dies_before_its_commit_leaves_the_object(
    store: AzureStore, proxy: FaultProxy
) -> None:
    base, onto = _publish(store, 3 * BLOCK_BYTES)
    proxy.plan(_commits, REFUSE, times=2)
    frame, mark, _ = base.next_frame()
    with pytest.raises(Unreachable):
        store.append(frame, onto=onto, mark=mark)
    new = sample(9, size_bytes=3 * BLOCK_BYTES)
    with pytest.raises(Unreachable):
        store.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)
    assert len(proxy.struck) == 2
    assert store.head() == onto
    assert store.append(frame, onto=onto, mark=mark).mark == mark


# Reading


def test_a_broken_download_goes_on(store: AzureStore, proxy: FaultProxy) -> None:
    base, _ = _publish(store, 6 * MIB)
    proxy.plan(_is("GET"), REFUSE)
    proxy.plan(_is("GET"), cut_body(1_000))
    with store.read() as stream:
        assert whole(stream).chain == base.chain
    assert len(proxy.struck) == 2


def test_a_download_that_never_goes_on_ends(store: AzureStore, proxy: FaultProxy) -> None:
    _publish(store)
    proxy.plan(_is("GET"), REFUSE, times=100)
    with store.read() as stream, pytest.raises(Unreachable):
        stream.read()


# What a server says, told in our words


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (412, "ConditionNotMet", Conflict),
        (409, "BlobAlreadyExists", Conflict),
        (400, "InvalidBlockList", Conflict),
        (404, "BlobNotFound", Conflict),
        (404, "ContainerNotFound", Denied),
        (409, "ContainerBeingDeleted", Denied),
        (412, "LeaseIdMissing", Denied),
        (403, "AuthorizationPermissionMismatch", Denied),
        (401, "InvalidAuthenticationInfo", Denied),
        (400, "Md5Mismatch", Unreachable),
        (500, "InternalError", Unreachable),
        (500, "OperationTimedOut", Unreachable),
        (503, "ServerBusy", Throttled),
        (429, "TooManyRequests", Throttled),
    ],
)
def test_every_refusal_of_a_write_has_its_kind(
    store: AzureStore, proxy: FaultProxy, status: int, code: str, expected: type[BequestError]
) -> None:
    proxy.plan(_commits, Fault(executed=False, answer=_error(status, code)))
    with pytest.raises(BequestError) as caught:
        _publish(store)
    assert type(caught.value) is expected
    assert len(proxy.requests) == 2, "one attempt per call"


def test_throttling_says_how_long_to_wait(store: AzureStore, proxy: FaultProxy) -> None:
    proxy.plan(_commits, Fault(executed=False, answer=_error(503, "ServerBusy", retry_after="7")))
    waits: list[float] = []
    base = sample()
    retrying(store, sleep=waits.append).rewrite(
        base.body(), len(base.data), onto=None, mark=base.mark
    )
    assert waits[-1] >= 7


def test_a_missing_container_is_not_a_missing_object(azurite: AzureServer) -> None:
    nowhere = open_store(f"az://nowhere/key?endpoint={azurite.endpoint}")
    with pytest.raises(Denied, match="container"):
        nowhere.head()
    with pytest.raises(Denied, match="container"), nowhere.read():
        pass
    with pytest.raises(Denied, match="container"):
        _publish(nowhere)
    nowhere.close()


def test_a_wrong_key_is_denied(azurite: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", "d3Jvbmc=")
    store = open_store(azurite.url("key"))
    with pytest.raises(Denied):
        store.head()
    store.close()


def test_an_endpoint_that_is_not_there_is_unreachable(store: AzureStore, proxy: FaultProxy) -> None:
    proxy.plan(lambda _: True, REFUSE, times=10)
    with pytest.raises(Unreachable):
        store.head()
    assert len(proxy.requests) == 1


# Addresses and secrets


def test_a_connection_string_is_enough(
    azurite: AzureServer, blob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    for url in (f"az://{CONTAINER}/{blob}", f"abs://{CONTAINER}/{blob}-2?account={ACCOUNT}"):
        store = open_store(url)
        base, _ = _publish(store)
        with store.read() as stream:
            assert whole(stream).chain == base.chain
        store.close()


def test_the_account_in_the_address_wins_over_a_connection_string(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=other;AccountKey=aHVzaA==")
    store = open_store("az://container/blob?account=mine")
    assert store.name == "az://container/blob?account=mine"
    assert "mine.blob.core.windows.net" in store._client.url


def test_no_credentials_for_an_emulator_is_said(
    azurite: AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    with pytest.raises(UsageError, match="AZURE_STORAGE_KEY"):
        open_store(azurite.url("key")).head()


@pytest.mark.parametrize(
    "url",
    [
        "az://container",
        "az://container/",
        "az:///blob?account=a",
        "az://container/folder/?account=a",
        "az://container/blob",
        "az://container/blob?account=a&acount=b",
        "az://container/blob?account=a&block_size=many",
        "az://container/blob?endpoint=ftp://host",
        "az://me:hush@container/blob?account=a",
        "az://container/blob?endpoint=https://a.example/%3Fsig=hush",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "hush" not in str(caught.value)


def test_logs_and_errors_hold_no_credentials(
    azurite: AzureServer,
    blob: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024-01-01&sig=a-token-to-hush")
    store = open_store(azurite.url(blob))
    with caplog.at_level(logging.DEBUG), pytest.raises(Denied) as caught:
        store.head()
    store.close()
    assert "a-token-to-hush" not in caplog.text + str(caught.value) + repr(store._settings)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(UsageError, match=r"bequest\[azure\]"):
        open_store("az://container/blob?account=a").head()


def test_an_object_without_our_metadata_bears_no_mark(
    azurite: AzureServer, store: AzureStore, blob: str
) -> None:
    client = azurite.client().get_blob_client(CONTAINER, blob)
    client.upload_blob(b"not ours")
    client.close()
    stat = store.head()
    assert stat is not None
    assert stat.mark is None


def test_a_body_that_is_too_short_is_not_published(store: AzureStore) -> None:
    with pytest.raises(UsageError):
        store.rewrite(io.BytesIO(b"short"), 1_000, onto=None, mark=sample().mark)
    assert store.head() is None
    with pytest.raises(SnapshotMissing), store.read():
        pass
