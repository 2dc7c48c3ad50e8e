"""Reading an object of S3: its present version, or an earlier one of a versioned bucket.

Invariants: a download comes in ranges, a few at once, and every range after the first is asked for
under ``If-Match`` with the ETag of the first; the first one also tells what the object is, so a
small object is one request, and so is one that has not changed since (``If-None-Match``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Final, cast

from bequest.errors import Conflict, Denied, SnapshotMissing, Unreachable
from bequest.model import Stat, Version

from .answers import age_seconds
from .marks import from_metadata
from .past import PastStore, no_such_version
from .ranged import RANGE_BYTES, ranged
from .s3_client import Client
from .s3_errors import calling, sdk

HEADS_AT_ONCE: Final = 4
JOINT: Final = "-"
"""Of the names of metadata, see `marks`."""
_FIRST: Final = f"bytes=0-{RANGE_BYTES - 1}"

Place = Mapping[str, Any]
"""Bucket and Key; VersionId too where an earlier version is meant."""


class S3Reading:
    """The reading half of an S3 store."""

    def __init__(
        self,
        client: Callable[[], Client],
        place: Place,
        name: str,
        sleep: Callable[[float], None],
    ) -> None:
        self._client = client
        self._place = place
        self._name = name
        self._sleep = sleep

    def stat(self) -> Stat:
        """What is there. Raises `SnapshotMissing`."""
        with calling(self._name):
            answer = self._client().head_object(**self._place)
        mark = from_metadata(answer["Metadata"], JOINT)
        date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        age = age_seconds(answer.get("LastModified"), date)
        return Stat(answer["ETag"], answer["ContentLength"], mark, age)

    def metadata(self, onto: Stat) -> Mapping[str, str]:
        """All user metadata of ``onto``. Raises `Conflict` when it is gone."""
        with calling(self._name, writing=True):
            answer = self._client().head_object(**self._place, IfMatch=onto.version)
        return cast("Mapping[str, str]", answer["Metadata"])

    @contextmanager
    def read_newer(self, version: str) -> Generator[tuple[Stat, BinaryIO] | None, None, None]:
        """What is there and its bytes, or ``None`` while it is still ``version``."""
        found = self._begin(version)
        if found is None:
            yield None
            return
        stat, first = found
        with self.from_version(stat, first, writing=False) as stream:
            yield stat, stream

    def from_version(self, onto: Stat, first: bytes = b"", *, writing: bool = True) -> BinaryIO:
        """All of ``onto``, whose ``first`` bytes are here.

        If it is gone, a writer meets `Conflict`, a reader `Unreachable`.
        """
        fetch = partial(self.part, onto)
        end = onto.size_bytes
        return ranged(fetch, 0, end, self._name, self._sleep, first=first, writing=writing)

    def part(self, onto: Stat, start: int, length: int) -> bytes:
        """Bytes of ``onto``. Raises `Conflict` when it is gone."""
        with calling(self._name, writing=True):
            answer = self._client().get_object(
                **self._place, IfMatch=onto.version, Range=f"bytes={start}-{start + length - 1}"
            )
            return cast(bytes, answer["Body"].read())

    def _begin(self, version: str) -> tuple[Stat, bytes] | None:
        condition = {"IfNoneMatch": version} if version else {}
        try:
            return self._first(Range=_FIRST, **condition)
        except _Unchanged:
            return None
        except _Empty:
            return self._first(**condition)

    def _first(self, **what: str) -> tuple[Stat, bytes]:
        with calling(self._name), _special():
            answer = self._client().get_object(**self._place, **what)
        data = b""
        with suppress(Unreachable), calling(self._name):  # then it is asked for like the others
            data = cast(bytes, answer["Body"].read())
        whole = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.get("ContentRange", ""))
        size_bytes = int(whole[1]) if whole is not None else int(answer["ContentLength"])
        return Stat(answer["ETag"], size_bytes, from_metadata(answer["Metadata"], JOINT)), data


def past(reading: S3Reading, name: str) -> PastStore:
    """An earlier version as a store."""

    @contextmanager
    def read() -> Generator[BinaryIO, None, None]:
        with _a_version(name), reading.read_newer("") as found:
            assert found is not None
            yield found[1]

    def stat() -> Stat:
        with _a_version(name):
            return reading.stat()

    # The connections are those of the store that this came from.
    return PastStore(name, stat, read, lambda: None)


@contextmanager
def _a_version(name: str) -> Generator[None, None, None]:
    """S3 answers 400 to what cannot be a version at all."""
    try:
        yield
    except Denied as error:
        answer = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
        if answer.get("HTTPStatusCode") == 400:
            raise no_such_version(name) from error
        raise


def history(client: Client, place: Place, name: str, limit: int) -> list[Version]:
    """The versions of one key, newest first. One listing, and one HEAD for each of them."""
    entries = list(islice(_listed(client, place, name), limit))

    def marked(entry: Mapping[str, Any]) -> Version:
        at = {**place, "VersionId": entry["VersionId"]}
        try:
            mark = S3Reading(lambda: client, at, name, lambda _: None).stat().mark
        except (SnapshotMissing, Conflict):
            mark = None  # its time was over in this very moment
        written = entry["LastModified"].timestamp()
        current = bool(entry["IsLatest"])
        return Version(entry["VersionId"], written, entry["Size"], mark, current)

    with ThreadPoolExecutor(HEADS_AT_ONCE, "bequest-s3") as pool:
        return list(pool.map(marked, entries))


def _listed(client: Client, place: Place, name: str) -> Iterator[Mapping[str, Any]]:
    pages = client.get_paginator("list_object_versions")
    with calling(name):
        for page in pages.paginate(Bucket=place["Bucket"], Prefix=place["Key"]):
            for entry in page.get("Versions", ()):
                # Keys come in order, so behind ours there are only longer ones.
                if entry["Key"] != place["Key"]:
                    return
                yield entry


class _Unchanged(Exception):
    """304: no newer version."""


class _Empty(Exception):
    """416: an empty object has no first range."""


@contextmanager
def _special() -> Generator[None, None, None]:
    try:
        yield
    except sdk("botocore.exceptions").ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 304:
            raise _Unchanged from error
        if status == 416:
            raise _Empty from error
        raise
