"""The object in S3, or in whatever speaks S3 and enforces its conditional writes.

A small object is replaced whole by one conditional PutObject. A large one is appended to without
sending it again: a multipart upload whose first part is the object itself, copied inside the store
(``CopySourceIfMatch``), and whose last part is the new data, completed under ``If-Match``.

Invariants:

* Every write is conditional on an ETag, or on the absence of the object, at the request that makes
  it visible. ETags come from content, and the content holds serial and token: none comes back.
* An object written in parts has a *floor* preamble, because its first bytes are never sent again;
  one written whole has an *exact* one.
* Each call is one attempt; `retrying` is the loop.
* At most `PARALLEL_PARTS` parts of a rewrite are in memory.

The mark travels in the object's metadata, so that one HeadObject tells it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, BinaryIO, Final, cast

from bequest.errors import (
    BequestError,
    Conflict,
    Refused,
    SnapshotMissing,
    Unreachable,
    UsageError,
)
from bequest.model import Mark, Stat, Version
from bequest.ports import Store
from bequest.snapshot.frame import PREAMBLE_BYTES

from .address import Address, parse, written
from .bodies import Chained, Floored, Readable, exactly, pinned, preamble_of
from .bodies import parts as parts_of
from .findings import Finding, Scratch
from .kept import keep
from .keys import Keys
from .marks import to_metadata
from .s3_client import Client, S3Settings, connect, settings
from .s3_errors import calling, no_bucket
from .s3_reading import JOINT, S3Reading, history, past
from .s3_survey import SMALLEST_PART_BYTES, remove, survey

logger = logging.getLogger("bequest")

MULTIPART_THRESHOLD_BYTES: Final = 8 * 1024 * 1024
"""From this size on, objects are written in parts. S3 takes no part but the last below 5 MiB."""
PART_BYTES: Final = 8 * 1024 * 1024
PARALLEL_PARTS: Final = 4
MOST_PARTS: Final = 10_000
LARGEST_COPY_BYTES: Final = 5 * 1024**3
ORPHAN_AGE_SECONDS: Final = 24 * 3600.0
"""An upload to our key that is older than this was left by a publisher that died."""

NO_VERSION: Final = '"00000000000000000000000000000000"'
"""Looks like an ETag and never was one."""

_RIGHTS: Final = (
    "Grant these credentials s3:GetObject, s3:PutObject and s3:AbortMultipartUpload on {} "
    "(`bequest doctor --print-policy` prints all that is needed)."
)

OPTIONS: Final = frozenset(
    {
        "endpoint",
        "region",
        "profile",
        "addressing",
        "storage_class",
        "sse",
        "sse_kms_key_id",
        "ca_bundle",
        "proxy",
        "multipart_threshold",
        "part_size",
        "accept_unconditional",
    }
)


def open_store(url: str, keys: Keys | None = None) -> S3Store:
    """The store at ``s3://bucket/key?option=value``. Raises `UsageError`. Sends nothing yet."""
    address = parse(url, OPTIONS)
    key = address.path.removeprefix("/")
    if not address.host or not key or key.endswith("/"):
        raise UsageError(
            "An S3 store's address needs a bucket and the name of one object, "
            "as in s3://bucket/folder/name."
        )
    return S3Store(
        address.host,
        key,
        settings(address, keys),
        limits=limits(address),
        accept_unconditional=address.flag("accept_unconditional"),
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes at which the way of writing changes."""

    threshold_bytes: int = MULTIPART_THRESHOLD_BYTES
    part_bytes: int = PART_BYTES
    copy_bytes: int = LARGEST_COPY_BYTES


def limits(address: Address) -> Limits:
    """The limits an address asks for. Raises `UsageError`."""
    return Limits(
        threshold_bytes=address.integer("multipart_threshold", MULTIPART_THRESHOLD_BYTES, least=1),
        part_bytes=address.integer("part_size", PART_BYTES, least=PREAMBLE_BYTES),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """The version written last: its bytes when it was written whole, ``None`` when in parts."""

    version: str
    data: bytes | None


class S3Store:
    """See the module; the contract is `bequest.ports.Store`."""

    def __init__(
        self,
        bucket: str,
        key: str,
        settings: S3Settings,
        *,
        limits: Limits | None = None,
        accept_unconditional: bool = False,
        probing: bool = False,
        orphan_age_seconds: float = ORPHAN_AGE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._settings = settings
        self._limits = limits if limits is not None else Limits()
        self.accepts_unconditional = accept_unconditional
        self._probing = probing
        self._orphan_age_seconds = orphan_age_seconds
        self._sleep = sleep
        self._lazy_client: Client | None = None
        self._client_lock = threading.Lock()
        self._known: _Known | None = None
        self._bucket_seen = False
        self._orphans_sought = False
        self._reading = S3Reading(lambda: self._client, self._place, self.name, sleep)

    @property
    def name(self) -> str:
        address = f"s3://{self._place['Bucket']}/{self._place['Key']}"
        endpoint = self._settings.endpoint
        return f"{address}?endpoint={endpoint}" if endpoint else address

    def head(self) -> Stat | None:
        try:
            return self._reading.stat()
        except SnapshotMissing:
            self._seek_bucket()
            return None

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        with self._reading.read_newer("") as found:
            assert found is not None, "no object has an empty version"
            yield found[1]

    def read_newer(self, version: str) -> AbstractContextManager[tuple[Stat, BinaryIO] | None]:
        return self._reading.read_newer(version)

    def history(self, limit: int) -> Sequence[Version]:
        with calling(self.name):
            client = self._client
        return history(client, self._place, self.name, limit)

    def at(self, version: str) -> Store:
        name = f"{self.name} (version {version})"
        place = {**self._place, "VersionId": version}
        return past(S3Reading(lambda: self._client, place, name, self._sleep), name)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        size_bytes = onto.size_bytes + len(data)
        if size_bytes < self._limits.threshold_bytes:
            whole = pinned(self._small(onto) + data, floor=False)
            return self._put(whole, onto, mark)
        if self._copyable(onto):
            return self._copy_and_add(data, onto, mark)
        # The object was written whole so far: once more, from now on in parts.
        with self._reading.from_version(onto) as body:
            return self._multipart(Chained(body, onto.size_bytes, data), size_bytes, onto, mark)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        if onto is None:
            self._challenge()
        if size_bytes < self._limits.threshold_bytes:
            return self._put(pinned(exactly(body, size_bytes), floor=False), onto, mark)
        return self._multipart(body, size_bytes, onto, mark)

    # A copy beside it

    def keep(self, onto: Stat, label: str) -> str:
        bucket, key = self._place["Bucket"], self._place["Key"]
        rights = _RIGHTS.format(f"arn:aws:s3:::{bucket}/{key}.{label}*")
        suffix = keep(self, onto, label, rights)
        return written("s3", bucket, key + suffix, self._settings.to_read())

    def beside(self, suffix: str) -> Stat | None:
        try:
            return self._sibling(suffix).stat()
        except SnapshotMissing:
            return None

    def copy(self, onto: Stat, suffix: str) -> None:
        # In parts, whatever its size: more servers make that on a condition than CopyObject.
        place = {**self._place, "Key": self._place["Key"] + suffix}
        ranges = _ranges(onto.size_bytes, self._limits.copy_bytes)
        with self._upload_to(place, None, self._reading.metadata(onto)) as upload:
            upload.complete(
                [
                    upload.copy(number, self._place, first, last, onto)
                    for number, (first, last) in enumerate(ranges, 1)
                ]
            )

    def _sibling(self, suffix: str) -> S3Reading:
        place = {**self._place, "Key": self._place["Key"] + suffix}
        return S3Reading(lambda: self._client, place, self.name, self._sleep)

    def close(self) -> None:
        if self._lazy_client is not None:
            self._lazy_client.close()
            self._lazy_client = None
        self._known = None

    @property
    def _client(self) -> Client:
        with self._client_lock:
            if self._lazy_client is None:
                self._lazy_client = connect(self._settings)
            return self._lazy_client

    # Reading

    def _small(self, onto: Stat) -> bytes:
        known = self._known
        if known is not None and known.version == onto.version and known.data is not None:
            return known.data
        with self._reading.from_version(onto) as stream:
            return stream.read()

    def _copyable(self, onto: Stat) -> bool:
        """Whether bytes behind the object's present end will be read as part of it."""
        known = self._known
        if known is not None and known.version == onto.version and known.data is None:
            return True
        found = preamble_of(self._reading.part(onto, 0, PREAMBLE_BYTES))
        return found is None or found.floor

    def _seek_bucket(self) -> None:
        """Tell a missing object from a missing bucket, which HeadObject does not. Once."""
        if self._bucket_seen:
            return
        try:
            with calling(self.name):
                self._client.head_bucket(Bucket=self._place["Bucket"])
        except SnapshotMissing as error:
            raise no_bucket(self.name) from error
        self._bucket_seen = True

    # Being examined

    def scratch(self, suffix: str) -> Scratch:
        place = {**self._place, "Key": f"{self._place['Key']}{suffix}"}
        part = max(SMALLEST_PART_BYTES, self._limits.part_bytes)
        limits = Limits(threshold_bytes=SMALLEST_PART_BYTES, part_bytes=part)
        store = S3Store(place["Bucket"], place["Key"], self._settings, limits=limits, probing=True)
        removal = partial(remove, self._client, place, self.name)
        return Scratch(store, SMALLEST_PART_BYTES, removal)

    def survey(self, suffix: str) -> Iterator[Finding]:
        return survey(self._client, self._settings, self._place, self.name, suffix)

    def _challenge(self) -> None:
        """Before the first publish, ask for what must be refused: one small request.

        Raises `Refused` when the endpoint grants it: it would grant a stale controller as much.
        """
        if self._probing:
            return
        if self.accepts_unconditional:
            logger.warning(
                "%s is written without asking whether its endpoint enforces conditions, as "
                "accept_unconditional demands: a stale controller may overwrite the backup.",
                self.name,
            )
            return
        try:
            with calling(self.name, writing=True):
                self._client.put_object(
                    **self._place,
                    **self._settings.for_new_objects(),
                    IfMatch=NO_VERSION,
                    Body=b"",
                    ContentMD5=_md5(b""),
                )
        except Conflict:
            return
        with suppress(BequestError), calling(self.name):
            self._client.delete_object(**self._place)
        raise Refused(
            f"The endpoint of {self.name} ignores If-Match: it accepted a write onto a version "
            "that never was, and so would accept those of a stale controller. Nothing was backed "
            "up. Take an endpoint that enforces conditional writes (`bequest doctor` tells), or "
            "accept the danger with ?accept_unconditional=true, after removing the empty object "
            "if it still stands there."
        )

    # Writing

    def _put(self, data: bytes, onto: Stat | None, mark: Mark) -> Stat:
        with calling(self.name, writing=True):
            answer = self._client.put_object(
                **self._place,
                **_condition(onto),
                **self._settings.for_new_objects(),
                Body=data,
                ContentMD5=_md5(data),
                Metadata=to_metadata(mark, JOINT),
            )
        self._known = _Known(answer["ETag"], data)
        return Stat(answer["ETag"], len(data), mark)

    def _copy_and_add(self, data: bytes, onto: Stat, mark: Mark) -> Stat:
        with self._upload(onto, mark) as upload:
            ranges = _ranges(onto.size_bytes, self._limits.copy_bytes)
            parts = [
                upload.copy(number, self._place, first, last, onto)
                for number, (first, last) in enumerate(ranges, 1)
            ]
            parts.append(upload.send(len(parts) + 1, data))
            version = upload.complete(parts)
        self._known = _Known(version, None)
        return Stat(version, onto.size_bytes + len(data), mark)

    def _multipart(self, body: Readable, size_bytes: int, onto: Stat | None, mark: Mark) -> Stat:
        part_bytes = max(self._limits.part_bytes, math.ceil(size_bytes / MOST_PARTS))
        with self._upload(onto, mark) as upload:
            parts = upload.send_all(parts_of(Floored(body, size_bytes), size_bytes, part_bytes))
            version = upload.complete(parts)
        self._known = _Known(version, None)
        return Stat(version, size_bytes, mark)

    @contextmanager
    def _upload(self, onto: Stat | None, mark: Mark) -> Generator[_Upload, None, None]:
        self._abort_orphans()
        with self._upload_to(self._place, onto, to_metadata(mark, JOINT)) as upload:
            yield upload

    @contextmanager
    def _upload_to(
        self, place: Mapping[str, Any], onto: Stat | None, metadata: Mapping[str, str]
    ) -> Generator[_Upload, None, None]:
        with calling(self.name, writing=True):
            answer = self._client.create_multipart_upload(
                **place, **self._settings.for_new_objects(), Metadata=metadata
            )
        upload = _Upload(self._client, self.name, place, answer["UploadId"], onto)
        try:
            yield upload
        except BaseException:
            upload.abort()
            raise

    def _abort_orphans(self) -> None:
        """Once per store: abort uploads to our key that dead publishers left. They are billed."""
        if self._orphans_sought:
            return
        # Without the permission to list them, the bucket's own lifecycle rule has to do it.
        self._orphans_sought = True
        try:
            with calling(self.name):
                answer = self._client.list_multipart_uploads(
                    Bucket=self._place["Bucket"], Prefix=self._place["Key"]
                )
        except BequestError:
            return
        now = _server_time(answer)
        for entry in answer.get("Uploads", ()):
            old = (now - entry["Initiated"]).total_seconds() >= self._orphan_age_seconds
            if old and entry["Key"] == self._place["Key"]:
                _Upload(self._client, self.name, self._place, entry["UploadId"], None).abort()


class _Upload:
    """One multipart upload. It ends in `complete` or in `abort`."""

    def __init__(
        self, client: Client, name: str, place: Mapping[str, Any], id: str, onto: Stat | None
    ) -> None:
        self._client = client
        self._name = name
        self._place = place
        self._upload = {**place, "UploadId": id}
        self._onto = onto

    def copy(
        self, number: int, place: Mapping[str, Any], first: int, last: int, onto: Stat
    ) -> dict[str, Any]:
        """Make bytes ``first`` to ``last`` of the object at ``place`` a part, inside the store."""
        with calling(self._name, writing=True):
            answer = self._client.upload_part_copy(
                **self._upload,
                PartNumber=number,
                CopySource=dict(place),
                CopySourceIfMatch=onto.version,
                CopySourceRange=f"bytes={first}-{last}",
            )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def send(self, number: int, data: bytes) -> dict[str, Any]:
        """Send one part."""
        with calling(self._name, writing=True):
            answer = self._client.upload_part(
                **self._upload, PartNumber=number, Body=data, ContentMD5=_md5(data)
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def send_all(self, bodies: Iterator[bytes]) -> list[dict[str, Any]]:
        """Send parts in parallel; no more are in memory than are being sent."""
        numbers = itertools.count(1)
        parts: list[dict[str, Any]] = []
        with ThreadPoolExecutor(PARALLEL_PARTS, "bequest-s3") as pool:
            while batch := list(itertools.islice(bodies, PARALLEL_PARTS)):
                sent = [pool.submit(self.send, next(numbers), body) for body in batch]
                del batch
                parts.extend(future.result() for future in sent)
        return parts

    def complete(self, parts: list[dict[str, Any]]) -> str:
        """Make the object of the parts, if the condition holds. Returns its ETag."""
        with calling(self._name, writing=True):
            answer = self._client.complete_multipart_upload(
                **self._upload, **_condition(self._onto), MultipartUpload={"Parts": parts}
            )
        if "ETag" not in answer:
            raise Unreachable(
                f"{self._name} accepted a publish but did not say what it became. Whether it took "
                "effect is found out at the next look."
            )
        return cast(str, answer["ETag"])

    def abort(self) -> None:
        """Drop the parts. Failing at it costs only storage until the next attempt."""
        with suppress(BequestError), calling(self._name):
            self._client.abort_multipart_upload(**self._upload)


def _ranges(size_bytes: int, most_bytes: int) -> list[tuple[int, int]]:
    """Split into even ranges, first and last byte each: an odd rest could be under 5 MiB."""
    count = math.ceil(size_bytes / most_bytes)
    bounds = [size_bytes * index // count for index in range(count + 1)]
    return [(first, end - 1) for first, end in itertools.pairwise(bounds)]


def _condition(onto: Stat | None) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if onto is None else {"IfMatch": onto.version}


def _md5(data: bytes) -> str:
    # Asked for by S3's own interface, which compares it on arrival; not for security.
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _server_time(answer: Mapping[str, Any]) -> datetime:
    """The server's clock, by which it also dates uploads; ours may have jumped."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
