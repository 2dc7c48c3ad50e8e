"""The object in Google Cloud Storage.

A small object is replaced whole by one conditional upload. A large one is appended to without
sending it again: the new data goes to a temporary object, which the store composes with the present
one onto its name.

Invariants:

* Every write bears ifGenerationMatch (0 to create) at the request that makes it visible; compose
  also names the generation of its source. A generation never comes back.
* An object that was composed, or will be, has a *floor* preamble, because its first bytes are never
  sent again; one sent whole has an *exact* one.
* A temporary object is named ``<object>.bequest-<random>`` and deleted by the append that made it.
  What a dead publisher left is deleted by the next rewrite, once it is an hour old by the
  server's own clock.
* Each call is one attempt; `retrying` is the loop. One chunk of a rewrite is in memory.

Google takes about one update per second of one object, and answers 429 beyond that: `Throttled`.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO, Final, cast

from bequest.errors import BequestError, Conflict, SnapshotMissing, UsageError
from bequest.model import Mark, Stat, Version
from bequest.ports import Store
from bequest.snapshot.frame import PREAMBLE_BYTES

from .address import parse, written
from .answers import age_seconds, conflict
from .bodies import Chained, Floored, Readable, exactly, pinned, preamble_of
from .findings import Finding, Scratch
from .gcs_client import TIMEOUT_SECONDS, Client, connect, endpoint
from .gcs_errors import calling, no_bucket, sdk
from .gcs_survey import survey
from .kept import keep
from .keys import Keys
from .marks import from_metadata, to_metadata
from .past import PastStore, no_such_version
from .ranged import ranged

COMPOSE_THRESHOLD_BYTES: Final = 8 * 1024 * 1024
"""From this size on, objects are composed."""
CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Of a resumable upload; a multiple of 256 KiB."""
LEFTOVER_AGE: Final = timedelta(hours=1)
SCRATCH_THRESHOLD_BYTES: Final = 64 * 1024
CONTENT_TYPE: Final = "application/octet-stream"

_RIGHTS: Final = (
    "Grant these credentials storage.objects.get and storage.objects.create on objects whose name "
    "begins with {} (`bequest doctor --print-policy` prints all that is needed)."
)

OPTIONS: Final = frozenset({"endpoint", "ca_bundle", "proxy", "compose_threshold"})


def open_store(url: str, keys: Keys | None = None) -> GcsStore:
    """The store at ``gs://bucket/object?option=value``. Raises `UsageError`. Sends nothing yet."""
    address = parse(url, OPTIONS)
    key = address.path.removeprefix("/")
    if not address.host or not key or key.endswith("/"):
        raise UsageError(
            "A Google Cloud store's address needs a bucket and the name of one object, "
            "as in gs://bucket/folder/name."
        )
    threshold_bytes = address.integer("compose_threshold", COMPOSE_THRESHOLD_BYTES, least=1)
    if keys is not None and not keys.google_file:
        raise UsageError(
            "The keys that were given are not those of Google, which is the JSON file of a service "
            "account. Nothing was done. Correct the file or the cloud type."
        )
    return GcsStore(
        address.host,
        key,
        endpoint(address),
        threshold_bytes=threshold_bytes,
        credentials_file=keys.google_file if keys is not None else "",
        ca_bundle=address.options.get("ca_bundle", ""),
        proxy=address.options.get("proxy", ""),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """The version written last: its bytes when it was sent whole, ``None`` when composable."""

    version: str
    data: bytes | None


class GcsStore:
    """See the module; the contract is `bequest.ports.Store`."""

    def __init__(
        self,
        bucket: str,
        key: str,
        endpoint: str = "",
        *,
        threshold_bytes: int = COMPOSE_THRESHOLD_BYTES,
        credentials_file: str = "",
        ca_bundle: str = "",
        proxy: str = "",
        leftover_age: timedelta = LEFTOVER_AGE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket_name = bucket
        self._key = key
        self._endpoint = endpoint
        self._threshold_bytes = threshold_bytes
        self._credentials_file = credentials_file
        self._ca_bundle, self._proxy = ca_bundle, proxy
        self._leftover_age = leftover_age
        self._sleep = sleep
        self._lazy_client: Client | None = None
        self._client_lock = threading.Lock()
        self._known: _Known | None = None
        self._bucket_seen = False

    @property
    def name(self) -> str:
        address = f"gs://{self._bucket_name}/{self._key}"
        return f"{address}?endpoint={self._endpoint}" if self._endpoint else address

    def head(self) -> Stat | None:
        try:
            return self._stat()
        except SnapshotMissing:
            return None

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        with self._from(self._stat(), writing=False) as stream:
            yield stream

    @contextmanager
    def read_newer(self, version: str) -> Generator[tuple[Stat, BinaryIO] | None, None, None]:
        stat = self._stat()
        if stat.version == version:
            yield None
            return
        with self._from(stat, writing=False) as stream:
            yield stat, stream

    def history(self, limit: int) -> Sequence[Version]:
        with calling(self.name):
            # True would be sent as "True", which an emulator need not know.
            listed = self._listed(self._key, versions="true")
            found = [blob for blob in listed if blob.name == self._key]
        found.sort(key=lambda blob: int(blob.generation), reverse=True)
        return [_version(blob) for blob in found[:limit]]

    def at(self, version: str) -> Store:
        name = f"{self.name} (version {version})"
        if not (version.isascii() and version.isdecimal()):  # it is an object's generation
            raise no_such_version(name)

        def stat() -> Stat:
            return self._stat(int(version))

        @contextmanager
        def read() -> Generator[BinaryIO, None, None]:
            with self._from(stat(), writing=False) as stream:
                yield stream

        # The connections are this store's own.
        return PastStore(name, stat, read, lambda: None)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        size_bytes = onto.size_bytes + len(data)
        if size_bytes < self._threshold_bytes:
            return self._put(pinned(self._small(onto) + data, floor=False), onto, mark)
        if self._composable(onto):
            return self._compose(data, onto, mark)
        # The object was sent whole so far: once more, from now on to be composed.
        with self._from(onto) as stream:
            return self._upload(Chained(stream, onto.size_bytes, data), size_bytes, onto, mark)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        if size_bytes < self._threshold_bytes:
            stat = self._put(pinned(exactly(body, size_bytes), floor=False), onto, mark)
        else:
            stat = self._upload(body, size_bytes, onto, mark)
        self._sweep()
        return stat

    # A copy beside it

    def keep(self, onto: Stat, label: str) -> str:
        suffix = keep(self, onto, label, _RIGHTS.format(self._key))
        options = {
            "endpoint": self._endpoint,
            "ca_bundle": self._ca_bundle,
            "proxy": self._proxy,
        }
        return written("gs", self._bucket_name, self._key + suffix, options)

    def beside(self, suffix: str) -> Stat | None:
        try:
            with calling(self.name):
                blob = self._blob(self._key + suffix)
                blob.reload(timeout=TIMEOUT_SECONDS, retry=None)
        except SnapshotMissing:
            return None
        return _stat_of(blob)

    def copy(self, onto: Stat, suffix: str) -> None:
        generation = self._generation(onto)
        with self._writing():
            source, copy = self._blob(self._key), self._blob(self._key + suffix)
            source.reload(if_generation_match=generation, timeout=TIMEOUT_SECONDS, retry=None)
            # What is not said here would not be copied: the request has a body.
            copy.metadata, copy.content_type = source.metadata, source.content_type
            token: str | None = None
            while True:
                token, _, _ = copy.rewrite(
                    source,
                    token=token,
                    if_generation_match=0,
                    if_source_generation_match=generation,
                    timeout=TIMEOUT_SECONDS,
                    retry=None,
                )
                if token is None:
                    return

    def close(self) -> None:
        if self._lazy_client is not None:
            self._lazy_client.close()
            self._lazy_client = None
        self._known = None

    @property
    def _client(self) -> Client:
        with self._client_lock:
            if self._lazy_client is None:
                self._lazy_client = connect(
                    self._endpoint,
                    self._credentials_file,
                    ca_bundle=self._ca_bundle,
                    proxy=self._proxy,
                )
            return self._lazy_client

    def _blob(self, key: str, **facts: Any) -> Any:
        return self._client.bucket(self._bucket_name).blob(key, **facts)

    # Being examined

    def scratch(self, suffix: str) -> Scratch:
        key = f"{self._key}{suffix}"
        store = GcsStore(
            self._bucket_name,
            key,
            self._endpoint,
            threshold_bytes=SCRATCH_THRESHOLD_BYTES,
            credentials_file=self._credentials_file,
            ca_bundle=self._ca_bundle,
            proxy=self._proxy,
        )
        return Scratch(store, SCRATCH_THRESHOLD_BYTES, store.remove)

    def remove(self) -> None:
        """Delete the object and its versions. For scratch objects only. Raises `AccessError`."""
        with calling(self.name):
            for blob in self._listed(self._key, versions="true"):
                if blob.name == self._key:
                    old = self._blob(self._key, generation=blob.generation)
                    old.delete(timeout=TIMEOUT_SECONDS, retry=None)

    def survey(self, suffix: str) -> Iterator[Finding]:
        return survey(
            self._client,
            self._bucket_name,
            self._key + suffix,
            self.name,
            endpoint=self._endpoint,
            ca_bundle=self._ca_bundle,
            proxy=self._proxy,
        )

    # Reading

    def _stat(self, generation: int | None = None) -> Stat:
        try:
            with calling(self.name):
                blob = self._blob(self._key, generation=generation)
                blob.reload(timeout=TIMEOUT_SECONDS, retry=None)
        except SnapshotMissing:
            self._seek_bucket()
            raise
        return _stat_of(blob)

    def _from(self, stat: Stat, *, writing: bool = True) -> BinaryIO:
        generation = self._generation(stat)

        def fetch(start: int, length: int) -> bytes:
            with calling(self.name, writing=True):
                data = self._blob(self._key, generation=generation).download_as_bytes(
                    start=start,
                    end=start + length - 1,
                    raw_download=True,
                    timeout=TIMEOUT_SECONDS,
                    retry=None,
                    checksum=None,
                )
            return cast(bytes, data)

        return ranged(fetch, 0, stat.size_bytes, self.name, self._sleep, writing=writing)

    def _small(self, onto: Stat) -> bytes:
        known = self._known
        if known is not None and known.version == onto.version and known.data is not None:
            return known.data
        with self._from(onto) as stream:
            return exactly(stream, onto.size_bytes)

    def _composable(self, onto: Stat) -> bool:
        """Whether bytes behind the object's present end will be read as part of it."""
        known = self._known
        if known is not None and known.version == onto.version:
            return known.data is None
        with self._from(Stat(onto.version, PREAMBLE_BYTES, None)) as stream:
            found = preamble_of(stream.read())
        return found is None or found.floor

    def _seek_bucket(self) -> None:
        """Tell a missing object from a missing bucket. Once."""
        if self._bucket_seen:
            return
        try:
            with calling(self.name):
                list(self._listed(self._key, most=1))
        except SnapshotMissing as error:
            raise no_bucket(self.name) from error
        self._bucket_seen = True

    def _listed(self, prefix: str, most: int | None = None, **what: Any) -> Any:
        return self._client.list_blobs(
            self._bucket_name,
            prefix=prefix,
            max_results=most,
            timeout=TIMEOUT_SECONDS,
            retry=None,
            **what,
        )

    def _generation(self, onto: Stat | None) -> int:
        if onto is None:
            return 0
        if not (onto.version.isascii() and onto.version.isdecimal()):
            raise conflict(self.name)
        return int(onto.version)

    # Writing

    def _put(self, data: bytes, onto: Stat | None, mark: Mark) -> Stat:
        with self._writing():
            blob = self._marked(mark)
            blob.upload_from_string(
                data,
                CONTENT_TYPE,
                if_generation_match=self._generation(onto),
                timeout=TIMEOUT_SECONDS,
                retry=None,
            )
        return self._written(blob, mark, len(data), data)

    def _upload(self, body: Readable, size_bytes: int, onto: Stat | None, mark: Mark) -> Stat:
        with self._writing():
            blob = self._marked(mark)
            blob.chunk_size = CHUNK_BYTES
            blob.upload_from_file(
                Floored(body, size_bytes),
                size=size_bytes,
                content_type=CONTENT_TYPE,
                if_generation_match=self._generation(onto),
                timeout=TIMEOUT_SECONDS,
                retry=None,
            )
        return self._written(blob, mark, size_bytes, None)

    def _compose(self, data: bytes, onto: Stat, mark: Mark) -> Stat:
        generation = self._generation(onto)
        with self._temporary(data) as added, self._writing():
            blob = self._marked(mark)
            blob.content_type = CONTENT_TYPE
            blob.compose(
                [self._blob(self._key, generation=generation), added],
                if_generation_match=generation,
                if_source_generation_match=[generation, None],
                timeout=TIMEOUT_SECONDS,
                retry=None,
            )
        return self._written(blob, mark, onto.size_bytes + len(data), None)

    @contextmanager
    def _temporary(self, data: bytes) -> Generator[Any, None, None]:
        blob = self._blob(f"{self._key}.bequest-{uuid.uuid4().hex}")
        try:
            with self._writing():
                blob.upload_from_string(
                    data,
                    CONTENT_TYPE,
                    if_generation_match=0,
                    timeout=TIMEOUT_SECONDS,
                    retry=None,
                )
            yield blob
        finally:
            self._delete(blob)

    def _delete(self, blob: Any) -> None:
        """Failing at it costs only storage, until the next rewrite sweeps."""
        with suppress(BequestError), calling(self.name):
            blob.delete(timeout=TIMEOUT_SECONDS, retry=None)

    def _sweep(self) -> None:
        """Delete what appends of dead publishers left."""
        ours = re.compile(re.escape(f"{self._key}.bequest-") + "[0-9a-f]{32}")
        with suppress(BequestError), calling(self.name):
            found = self._listed(f"{self._key}.bequest-")
            leftovers = [blob for blob in found if ours.fullmatch(blob.name)]
            if not leftovers:
                return
            now = self._blob(self._key)
            now.reload(timeout=TIMEOUT_SECONDS, retry=None)
            for blob in leftovers:
                if now.time_created - blob.time_created >= self._leftover_age:
                    self._delete(blob)

    @contextmanager
    def _writing(self) -> Generator[None, None, None]:
        try:
            with calling(self.name, writing=True):
                yield
        except Conflict as error:
            if isinstance(error.__cause__, sdk("google.api_core.exceptions").NotFound):
                self._seek_bucket()
            raise

    def _marked(self, mark: Mark) -> Any:
        blob = self._blob(self._key)
        blob.metadata = to_metadata(mark)
        return blob

    def _written(self, blob: Any, mark: Mark, size_bytes: int, data: bytes | None) -> Stat:
        self._known = _Known(str(blob.generation), data)
        return Stat(str(blob.generation), size_bytes, mark)


def _stat_of(blob: Any) -> Stat:
    # The SDK does not show what time the store says it is.
    age = age_seconds(blob.time_created, None)
    return Stat(str(blob.generation), int(blob.size), from_metadata(blob.metadata), age)


def _version(blob: Any) -> Version:
    written = blob.time_created.timestamp()
    mark = from_metadata(blob.metadata)
    return Version(str(blob.generation), written, int(blob.size), mark, blob.time_deleted is None)
