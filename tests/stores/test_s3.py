"""What S3 asks of a store beyond the port's contract: cost, ambiguity, and its own failures."""

from __future__ import annotations

import io
import logging
import sys
import uuid
from collections.abc import Generator

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
from bequest.model import Mark, Stat
from bequest.testing.objects import Sample, sample, whole
from bequest_adapters.stores.ranged import RANGE_BYTES
from bequest_adapters.stores.retrying import retrying
from bequest_adapters.stores.s3 import NO_VERSION, PARALLEL_PARTS, Limits, S3Store, open_store
from bequest_adapters.stores.s3_client import S3Settings
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
from tests.servers.s3_server import BUCKET, REGION, S3Server

MIB = 1 << 20
SMALL_PARTS = {"multipart_threshold": 200_000, "part_size": 50_000}
LARGE_BYTES = 300_000


@pytest.fixture
def proxy(ministack: S3Server) -> Generator[FaultProxy, None, None]:
    with fault_proxy(ministack.port) as running:
        yield running


@pytest.fixture
def key(ministack: S3Server) -> str:
    return ministack.new_key()


@pytest.fixture
def store(ministack: S3Server, proxy: FaultProxy, key: str) -> Generator[S3Store, None, None]:
    opened = S3Store(
        BUCKET,
        key,
        S3Settings(endpoint=ministack.through(proxy.port).endpoint, region=REGION),
        limits=Limits(threshold_bytes=200_000, part_bytes=50_000),
        sleep=lambda _: None,
    )
    yield opened
    opened.close()


def _publish(store: S3Store, size_bytes: int = 0) -> tuple[Sample, Stat]:
    base = sample(size_bytes=size_bytes)
    return base, store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)


def _is(method: str, fragment: str = "") -> Match:
    return lambda request: request.method == method and fragment in request.path


def _puts(request: Request) -> bool:
    challenge = request.headers.get("if-match") == NO_VERSION
    return request.method == "PUT" and "uploadId" not in request.path and not challenge


def _completes(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.path


def _error(status: int, code: str, **headers: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
    names = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status, [("Content-Type", "application/xml"), *names], body)


def _pending_uploads(server: S3Server, key: str) -> list[str]:
    client = server.client()
    answer = client.list_multipart_uploads(Bucket=BUCKET, Prefix=key)
    client.close()
    return [upload["UploadId"] for upload in answer.get("Uploads", [])]


# A change costs the change


def test_one_row_into_64_mib_sends_under_16_kib(seaweedfs: S3Server) -> None:
    with fault_proxy(seaweedfs.port) as proxy:
        store = open_store(seaweedfs.through(proxy.port).url(seaweedfs.new_key()))
        base, stat = _publish(store, 64 * MIB)
        proxy.clear()
        frame, mark, chain = base.next_frame("one row")
        stat = store.append(frame, onto=stat, mark=mark)
        assert proxy.sent_bytes < 16 * 1024
        assert stat.size_bytes > 64 * MIB
        with store.read() as stream:
            assert whole(stream).chain == chain
        store.close()


def test_a_small_object_is_published_in_one_request_and_created_in_two(
    store: S3Store, proxy: FaultProxy
) -> None:
    base, stat = _publish(store)
    challenge, create = proxy.requests
    assert challenge.headers["if-match"] == NO_VERSION
    assert challenge.headers["content-length"] == "0"
    assert create.headers["if-none-match"] == "*"
    proxy.clear()
    frame, mark, _ = base.next_frame()
    store.append(frame, onto=stat, mark=mark)
    assert [request.method for request in proxy.requests] == ["PUT"]


def test_looking_at_the_object_is_one_request(store: S3Store, proxy: FaultProxy) -> None:
    _publish(store)
    proxy.clear()
    store.head()
    assert [request.method for request in proxy.requests] == ["HEAD"]


def test_an_object_beyond_the_copy_limit_is_copied_in_even_ranges(
    ministack: S3Server, key: str
) -> None:
    limits = Limits(threshold_bytes=200_000, part_bytes=50_000, copy_bytes=70_000)
    settings = S3Settings(endpoint=ministack.endpoint, region=REGION)
    store = S3Store(BUCKET, key, settings, limits=limits)
    base, stat = _publish(store, LARGE_BYTES)
    frame, mark, chain = base.next_frame()
    store.append(frame, onto=stat, mark=mark)
    with store.read() as stream:
        assert whole(stream).chain == chain
    store.close()


class _Metered(io.BytesIO):
    """Remembers the most that was ever taken out of it and had not yet reached the server."""

    def __init__(self, data: bytes, proxy: FaultProxy) -> None:
        super().__init__(data)
        self._proxy = proxy
        self.most_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.most_bytes = max(self.most_bytes, self.tell() - self._proxy.sent_bytes)
        return data


def test_a_rewrite_holds_a_few_parts_and_never_the_object(
    store: S3Store, proxy: FaultProxy
) -> None:
    base = sample(size_bytes=4 * MIB)
    body = _Metered(base.data, proxy)
    store.rewrite(body, len(base.data), onto=None, mark=base.mark)
    assert 0 < body.most_bytes <= PARALLEL_PARTS * SMALL_PARTS["part_size"]


# An answer that was lost


@pytest.mark.parametrize("size_bytes", [0, LARGE_BYTES], ids=["small", "large"])
@pytest.mark.parametrize("how", ["append", "rewrite", "create"])
def test_a_publish_whose_answer_was_lost_is_recognised(
    store: S3Store, proxy: FaultProxy, size_bytes: int, how: str
) -> None:
    makes_visible = _completes if size_bytes else _puts
    waits: list[float] = []
    patient = retrying(store, sleep=waits.append)
    if how == "create":
        proxy.plan(makes_visible, LOSE_ANSWER)
        base = sample(size_bytes=size_bytes)
        stat = patient.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)
        mark, chain = base.mark, base.chain
    else:
        base, onto = _publish(store, size_bytes)
        proxy.plan(makes_visible, LOSE_ANSWER)
        if how == "append":
            frame, mark, chain = base.next_frame()
            stat = patient.append(frame, onto=onto, mark=mark)
        else:
            new = sample(9, size_bytes=size_bytes)
            mark, chain = new.mark, new.chain
            stat = patient.rewrite(new.body(), len(new.data), onto=onto, mark=mark)
    assert len(proxy.struck) == 1
    assert len(waits) == 1
    assert stat == store.head()
    assert stat.mark == mark
    with store.read() as stream:
        assert whole(stream).chain == chain


@pytest.mark.parametrize("size_bytes", [0, LARGE_BYTES], ids=["small", "large"])
def test_somebody_elses_publish_is_not_taken_for_ours(
    store: S3Store, proxy: FaultProxy, size_bytes: int
) -> None:
    base, onto = _publish(store, size_bytes)
    frame, mark, _ = base.next_frame("theirs")
    theirs = store.append(frame, onto=onto, mark=mark)
    proxy.plan(_completes if size_bytes else _puts, REFUSE)
    frame, mark, _ = base.next_frame("ours")
    with pytest.raises(Conflict):
        retrying(store, sleep=lambda _: None).append(frame, onto=onto, mark=mark)
    assert store.head() == theirs


def test_a_lost_answer_without_retries_is_unreachable(store: S3Store, proxy: FaultProxy) -> None:
    base, onto = _publish(store)
    proxy.plan(_puts, LOSE_ANSWER)
    frame, mark, _ = base.next_frame()
    with pytest.raises(Unreachable):
        store.append(frame, onto=onto, mark=mark)
    assert _mark(store) == mark


def test_complete_answering_200_with_an_error_inside_is_an_error(
    store: S3Store, proxy: FaultProxy
) -> None:
    base, onto = _publish(store, LARGE_BYTES)
    inside = Answer(200, [], _error(200, "InternalError").body)
    proxy.plan(_completes, Fault(executed=False, answer=inside))
    frame, mark, _ = base.next_frame()
    with pytest.raises(Unreachable):
        store.append(frame, onto=onto, mark=mark)
    assert store.head() == onto


def test_a_passing_409_is_tried_again(store: S3Store, proxy: FaultProxy) -> None:
    base, onto = _publish(store)
    busy = _error(409, "ConditionalRequestConflict")
    proxy.plan(_puts, Fault(executed=False, answer=busy))
    frame, mark, _ = base.next_frame()
    stat = retrying(store, sleep=lambda _: None).append(frame, onto=onto, mark=mark)
    assert store.head() == stat
    assert stat.mark == mark


# Nothing is left behind


@pytest.mark.parametrize("fragment", ["partNumber=1", "partNumber=2", "uploadId"])
@pytest.mark.parametrize("how", ["append", "rewrite"])
def test_an_upload_that_fails_is_aborted(
    ministack: S3Server, store: S3Store, proxy: FaultProxy, key: str, fragment: str, how: str
) -> None:
    base, onto = _publish(store, LARGE_BYTES)
    method = "PUT" if "part" in fragment else "POST"
    proxy.plan(_is(method, fragment), Fault(executed=False, answer=_error(500, "InternalError")))
    frame, mark, _ = base.next_frame()
    new = sample(size_bytes=LARGE_BYTES)
    with pytest.raises(Unreachable):  # noqa: PT012 - one of the two
        if how == "append":
            store.append(frame, onto=onto, mark=mark)
        else:
            store.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)
    assert proxy.struck
    assert _pending_uploads(ministack, key) == []
    assert store.head() == onto


def test_uploads_of_dead_publishers_are_aborted_and_young_ones_left(
    ministack: S3Server, key: str
) -> None:
    client = ministack.client()
    for name in (key, f"{key}-of-another"):
        client.create_multipart_upload(Bucket=BUCKET, Key=name)
    client.close()
    settings = S3Settings(endpoint=ministack.endpoint, region=REGION)
    limits = Limits(threshold_bytes=1)
    patient = S3Store(BUCKET, key, settings, limits=limits)
    _, onto = _publish(patient)
    patient.close()
    assert len(_pending_uploads(ministack, key)) == 2
    # Below zero: the server's Date has whole seconds, and the uploads are of this very second.
    hasty = S3Store(BUCKET, key, settings, limits=limits, orphan_age_seconds=-60)
    new = sample()
    hasty.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)
    hasty.close()
    assert len(_pending_uploads(ministack, key)) == 1
    assert len(_pending_uploads(ministack, f"{key}-of-another")) == 1


def test_a_publisher_that_dies_in_an_upload_leaves_the_object(
    ministack: S3Server, store: S3Store, proxy: FaultProxy, key: str
) -> None:
    base, onto = _publish(store, LARGE_BYTES)
    proxy.plan(_is("PUT", "partNumber=2"), REFUSE)
    proxy.plan(_is("DELETE"), REFUSE)
    frame, mark, _ = base.next_frame()
    with pytest.raises(Unreachable):
        store.append(frame, onto=onto, mark=mark)
    assert len(_pending_uploads(ministack, key)) == 1
    assert store.head() == onto
    with store.read() as stream:
        assert whole(stream).chain == base.chain
    assert store.append(frame, onto=onto, mark=mark).mark == mark


# Reading


def test_a_broken_download_goes_on_where_it_broke(store: S3Store, proxy: FaultProxy) -> None:
    base, _ = _publish(store, 3 * MIB)
    proxy.plan(_is("GET"), cut_body(1_000_000))
    proxy.plan(_is("GET"), REFUSE)
    proxy.plan(_is("GET"), cut_body(1_000_000))
    with store.read() as stream:
        assert whole(stream).chain == base.chain
    ranges = [request.headers.get("range") for request in proxy.struck]
    assert len(set(ranges)) == 2
    assert None not in ranges
    assert all("if-match" in request.headers for request in proxy.struck[1:])


def test_a_download_comes_in_ranges_of_one_version_a_few_at_once(
    store: S3Store, proxy: FaultProxy
) -> None:
    base, stat = _publish(store, 2 * RANGE_BYTES + MIB)
    proxy.clear()
    with store.read() as stream:
        assert whole(stream).chain == base.chain
    first, *others = [request.headers for request in proxy.requests]
    assert first["range"] == f"bytes=0-{RANGE_BYTES - 1}"
    assert [request["if-match"] for request in others] == [stat.version] * 2


def test_a_small_object_is_read_in_one_request_and_an_unchanged_one_not_at_all(
    store: S3Store, proxy: FaultProxy
) -> None:
    base, stat = _publish(store)
    proxy.clear()
    with store.read_newer("") as found:
        assert found is not None
        assert found[0] == stat
        assert whole(found[1]).chain == base.chain
    assert [request.method for request in proxy.requests] == ["GET"]
    proxy.clear()
    with store.read_newer(stat.version) as found:
        assert found is None
    assert len(proxy.requests) == 1
    assert proxy.received_bytes == 0
    frame, mark, chain = base.next_frame()
    store.append(frame, onto=stat, mark=mark)
    with store.read_newer(stat.version) as found:
        assert found is not None
        assert found[0].mark == mark
        assert whole(found[1]).chain == chain


def test_a_broken_download_never_goes_on_with_another_version(
    store: S3Store, proxy: FaultProxy
) -> None:
    _, onto = _publish(store, 3 * MIB)
    proxy.plan(_is("GET"), cut_body(1_000_000))
    with store.read() as stream:
        new = sample(size_bytes=3 * MIB)
        store.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)
        with pytest.raises(Unreachable, match="replaced"):
            whole(stream)
    assert proxy.struck


def test_a_download_that_never_goes_on_ends(store: S3Store, proxy: FaultProxy) -> None:
    _publish(store, 3 * MIB)
    proxy.plan(_is("GET"), cut_body(0), times=100)
    with store.read() as stream, pytest.raises(Unreachable):
        stream.read()


# What a server says, told in our words


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (412, "PreconditionFailed", Conflict),
        (409, "ConditionalRequestConflict", Conflict),
        (404, "NoSuchKey", Conflict),
        (404, "NoSuchBucket", Denied),
        (404, "NoSuchUpload", Unreachable),
        (403, "AccessDenied", Denied),
        (403, "RequestTimeTooSkewed", Denied),
        (400, "ExpiredToken", Denied),
        (400, "RequestTimeout", Unreachable),
        (500, "InternalError", Unreachable),
        (503, "SlowDown", Throttled),
        (429, "TooManyRequests", Throttled),
    ],
)
def test_every_refusal_of_a_write_has_its_kind(
    store: S3Store, proxy: FaultProxy, status: int, code: str, expected: type[BequestError]
) -> None:
    proxy.plan(_puts, Fault(executed=False, answer=_error(status, code)))
    with pytest.raises(BequestError) as caught:
        _publish(store)
    assert type(caught.value) is expected
    assert len(list(filter(_puts, proxy.requests))) == 1, "one attempt per call"


def test_throttling_says_how_long_to_wait(store: S3Store, proxy: FaultProxy) -> None:
    slow = _error(503, "SlowDown", retry_after="7")
    proxy.plan(_is("HEAD"), Fault(executed=False, answer=Answer(503, slow.headers)))
    waits: list[float] = []
    assert retrying(store, sleep=waits.append).head() is None
    proxy.plan(_puts, Fault(executed=False, answer=slow))
    base = sample()
    retrying(store, sleep=waits.append).rewrite(
        base.body(), len(base.data), onto=None, mark=base.mark
    )
    assert waits[-1] >= 7


def test_a_missing_bucket_is_not_a_missing_object(ministack: S3Server) -> None:
    nowhere = open_store(f"s3://{uuid.uuid4().hex}/key?endpoint={ministack.endpoint}")
    with pytest.raises(Denied, match="bucket"):
        nowhere.head()
    with pytest.raises(Denied, match="bucket"), nowhere.read():
        pass
    with pytest.raises(Denied, match="bucket"):
        _publish(nowhere)
    nowhere.close()


def test_an_endpoint_that_is_not_there_is_unreachable(proxy: FaultProxy) -> None:
    proxy.plan(lambda _: True, REFUSE, times=10)
    store = open_store(f"s3://bucket/key?endpoint=http://127.0.0.1:{proxy.port}")
    with pytest.raises(Unreachable):
        store.head()
    store.close()


def test_an_object_without_our_metadata_bears_no_mark(
    ministack: S3Server, store: S3Store, key: str
) -> None:
    client = ministack.client()
    client.put_object(Bucket=BUCKET, Key=key, Body=b"not ours")
    client.close()
    stat = store.head()
    assert stat is not None
    assert stat.mark is None


# Addresses and secrets


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3://bucket/folder/",
        "s3://bucket/key?regoin=x",
        "s3://bucket/key?addressing=upwards",
        "s3://bucket/key?multipart_threshold=many",
        "s3://bucket/key?endpoint=ftp://host",
        "s3://bucket/key?region=a&region=b",
        "s3://AKIA:hush@bucket/key",
        "s3://bucket/key?endpoint=http://me:hush@host",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "hush" not in str(caught.value)


def test_a_key_is_percent_decoded_and_the_name_says_where() -> None:
    store = open_store("s3://bucket/a%20b/c%3Fd?endpoint=http://127.0.0.1:1&proxy=http://u:p@h")
    assert store.name == "s3://bucket/a b/c?d?endpoint=http://127.0.0.1:1"


def test_debug_logs_hold_no_credentials(
    store: S3Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-to-hush")
    with caplog.at_level(logging.DEBUG):
        _publish(store)
    assert "a-token-to-hush" not in caplog.text


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match=r"bequest\[s3\]"):
        open_store("s3://bucket/key").head()


def _mark(store: S3Store) -> Mark | None:
    stat = store.head()
    assert stat is not None
    return stat.mark


def test_storage_options_go_with_every_new_object(ministack: S3Server, proxy: FaultProxy) -> None:
    for size_bytes in (0, LARGE_BYTES):
        url = ministack.through(proxy.port).url(
            ministack.new_key(), sse="AES256", storage_class="STANDARD_IA", **SMALL_PARTS
        )
        store = open_store(url)
        _publish(store, size_bytes)
        store.close()
        first = next(request for request in proxy.requests if request.method in ("PUT", "POST"))
        assert first.headers["x-amz-server-side-encryption"] == "AES256"
        assert first.headers["x-amz-storage-class"] == "STANDARD_IA"
        proxy.clear()


def test_nothing_there_reads_as_missing(store: S3Store) -> None:
    with pytest.raises(SnapshotMissing), store.read():
        pass


def test_a_body_that_is_too_short_is_not_published(store: S3Store) -> None:
    for size_bytes in (1_000, LARGE_BYTES):
        with pytest.raises(UsageError):
            store.rewrite(io.BytesIO(b"short"), size_bytes, onto=None, mark=sample().mark)
        assert store.head() is None


def test_an_endpoint_that_does_not_answer_is_unreachable() -> None:
    store = open_store("s3://bucket/key?endpoint=http://127.0.0.1:9&region=us-east-1")
    with pytest.raises(Unreachable, match="could not be reached"):
        store.head()
    store.close()
