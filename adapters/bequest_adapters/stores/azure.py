"""The object in Azure Blob Storage: a block blob, whose list of blocks is what gets replaced.

A rewrite stages new blocks and commits a list of them. An append stages one block and commits the
present list with it at the end, so nothing is sent again.

Invariants:

* Put Block List is the one request that changes the object, and it bears If-Match, or
  If-None-Match: * to create. Staged blocks nobody commits are invisible; the service drops them at
  the next commit, or after a week.
* Block names are random, so two publishers never overwrite each other's staged blocks.
* The preamble is a *floor*: the first block is never sent again.
* Each call is one attempt; `retrying` is the loop. At most `PARALLEL_BLOCKS` blocks are in memory.

A list names every block, and a blob has at most 50,000. So once `MOST_SMALL_BLOCKS` small ones have
gathered at the end, the next append sends their bytes again as one block. A tail of 64 MiB, the
engine's limit, then needs some 2,300 blocks at most, and small blocks are sent twice each, or a few
times if the publishes are tiny.
"""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from bequest.errors import SnapshotMissing, Unreachable, UsageError
from bequest.model import Mark, Stat, Version
from bequest.ports import Store
from bequest.snapshot.frame import PREAMBLE_BYTES

from .address import parse, written
from .answers import age_seconds
from .azure_client import (
    AzureSettings,
    Client,
    connect,
    connect_container,
    settings,
    source_url,
)
from .azure_errors import calling, sdk
from .azure_survey import survey
from .bodies import Chained, Floored, Readable, parts, preamble_of
from .findings import Finding, Scratch
from .kept import keep
from .keys import Keys
from .marks import from_metadata, to_metadata
from .past import PastStore, no_such_version
from .ranged import ranged

BLOCK_BYTES: Final = 8 * 1024 * 1024
PARALLEL_BLOCKS: Final = 4
SMALL_BLOCK_BYTES: Final = 64 * 1024
MOST_SMALL_BLOCKS: Final = 256
BLOCK_NAME_CHARACTERS: Final = 12

COPY_LOOKS: Final = 600
COPY_LOOK_SECONDS: Final = 1.0
_RIGHTS: Final = (
    "Grant these credentials read and write of blobs in the whole container: the role Storage Blob "
    "Data Contributor on the container, or a SAS of the container with read, create and write (a "
    "SAS of one blob is not enough)."
)

_SNAPSHOT: Final = "snapshot:"
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
"""The name of a version or snapshot: when it was made."""
_PRESENT: Final = "present"

OPTIONS: Final = frozenset({"account", "endpoint", "ca_bundle", "proxy", "block_size"})


def open_store(url: str, keys: Keys | None = None) -> AzureStore:
    """The store at ``az://container/blob?account=NAME``. Raises `UsageError`. Sends nothing yet.

    ``azure://`` and ``abs://`` mean the same.
    """
    address = parse(url, OPTIONS)
    blob = address.path.removeprefix("/")
    if not address.host or not blob or blob.endswith("/"):
        raise UsageError(
            "An Azure store's address needs a container and the name of one blob, "
            "as in az://container/folder/name?account=NAME."
        )
    block_bytes = address.integer("block_size", BLOCK_BYTES, least=PREAMBLE_BYTES)
    return AzureStore(address.host, blob, settings(address, keys=keys), block_bytes=block_bytes)


@dataclass(frozen=True, slots=True)
class Block:
    """A committed block."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Known:
    """The version written last, and its blocks."""

    version: str
    blocks: tuple[Block, ...]


class AzureStore:
    """See the module; the contract is `bequest.ports.Store`."""

    def __init__(
        self,
        container: str,
        blob: str,
        settings: AzureSettings,
        *,
        block_bytes: int = BLOCK_BYTES,
        sleep: Callable[[float], None] = time.sleep,
        which: Mapping[str, str | None] | None = None,
    ) -> None:
        self._container = container
        self._blob = blob
        self._settings = settings
        self._block_bytes = block_bytes
        self._sleep = sleep
        self._which = which or {}
        self._lazy_client: Client | None = None
        self._client_lock = threading.Lock()
        self._known: _Known | None = None

    @property
    def name(self) -> str:
        settings = self._settings
        where = f"endpoint={settings.endpoint}" if settings.endpoint else ""
        where = where or (f"account={settings.account}" if settings.account else "")
        return f"az://{self._container}/{self._blob}" + (f"?{where}" if where else "")

    def head(self) -> Stat | None:
        try:
            return self._stat()
        except SnapshotMissing:
            return None

    @contextmanager
    def read(self) -> Generator[BinaryIO, None, None]:
        with self._from(self._stat(), 0, writing=False) as stream:
            yield stream

    @contextmanager
    def read_newer(self, version: str) -> Generator[tuple[Stat, BinaryIO] | None, None, None]:
        stat = self._stat()
        if stat.version == version:
            yield None
            return
        with self._from(stat, 0, writing=False) as stream:
            yield stat, stream

    def history(self, limit: int) -> Sequence[Version]:
        with connect_container(self._settings, self._container) as client, calling(self.name):
            listed = client.list_blobs(self._blob, include=["metadata", "snapshots", "versions"])
            found = [_version(entry) for entry in listed if entry.name == self._blob]
        found.sort(key=_age, reverse=True)
        return found[:limit]

    def at(self, version: str) -> Store:
        shown = f"{self.name} (version {version})"
        kind, name = _version_parts(version)
        if name is not None and not _TIME.fullmatch(name):
            raise no_such_version(shown)
        past = AzureStore(
            self._container, self._blob, self._settings, sleep=self._sleep, which={kind: name}
        )
        return PastStore(shown, past.head, past.read, past.close)

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        blocks = self._blocks(onto)
        kept = blocks[: _settled(blocks)]
        again = onto.size_bytes - sum(block.size_bytes for block in kept)
        if not again:
            new = self._stage(iter(_cut(data, self._block_bytes)))
        else:
            with self._from(onto, onto.size_bytes - again) as stream:
                body: Readable = Chained(stream, again, data)
                if not kept:
                    body = Floored(body, again + len(data))
                new = self._stage(parts(body, again + len(data), self._block_bytes))
        return self._commit([*kept, *new], onto, mark)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        pieces = parts(Floored(body, size_bytes), size_bytes, self._block_bytes)
        return self._commit(self._stage(pieces), onto, mark)

    # A copy beside it

    def keep(self, onto: Stat, label: str) -> str:
        suffix = keep(self, onto, label, _RIGHTS)
        settings = self._settings
        options = {
            "account": settings.account,
            "endpoint": settings.endpoint,
            "ca_bundle": settings.ca_bundle,
            "proxy": settings.proxy,
        }
        return written("az", self._container, self._blob + suffix, options)

    def beside(self, suffix: str) -> Stat | None:
        with closing(self._sibling(suffix)) as copy:
            return self._settled_copy(copy)

    def copy(self, onto: Stat, suffix: str) -> None:
        unchanged = sdk("azure.core").MatchConditions.IfNotModified
        with closing(self._sibling(suffix)) as copy, calling(self.name, writing=True):
            copy.start_copy_from_url(
                source_url(self._client, self._settings),
                source_etag=onto.version,
                source_match_condition=unchanged,
                **_condition(None),
            )

    def _sibling(self, suffix: str) -> Client:
        return connect(self._settings, self._container, self._blob + suffix, {})

    def _settled_copy(self, copy: Client) -> Stat | None:
        """What a copy is once the service is through with it: within an account mostly at once."""
        for _ in range(COPY_LOOKS):
            try:
                with calling(self.name):
                    found = copy.get_blob_properties()
            except SnapshotMissing:
                return None
            if found.copy.status != "pending":
                return Stat(found.etag, found.size, from_metadata(found.metadata))
            self._sleep(COPY_LOOK_SECONDS)
        raise Unreachable(
            f"The copy of {self.name} is not ready after "
            f"{COPY_LOOKS * COPY_LOOK_SECONDS:.0f} s. The service goes on with it; the object is "
            "as it was, and nothing takes its place. Try again."
        )

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
                    self._settings, self._container, self._blob, self._which
                )
            return self._lazy_client

    # Being examined

    def scratch(self, suffix: str) -> Scratch:
        blob = f"{self._blob}{suffix}"
        store = AzureStore(self._container, blob, self._settings)
        return Scratch(store, SMALL_BLOCK_BYTES, store.remove)

    def remove(self) -> None:
        """Delete the blob and its snapshots. For scratch objects only. Raises `AccessError`."""
        with calling(self.name):
            self._client.delete_blob(delete_snapshots="include")

    def survey(self, suffix: str) -> Iterator[Finding]:
        return survey(self._client, self._settings, self._container, self._blob + suffix, self.name)

    # Reading

    def _stat(self) -> Stat:
        dates: list[str | None] = []

        def heard(response: Any) -> None:
            dates.append(response.http_response.headers.get("date"))

        with calling(self.name):
            found = self._client.get_blob_properties(raw_response_hook=heard)
        age = age_seconds(found.last_modified, dates[-1] if dates else None)
        return Stat(found.etag, found.size, from_metadata(found.metadata), age)

    def _from(self, stat: Stat, offset: int, *, writing: bool = True) -> BinaryIO:
        def fetch(start: int, length: int) -> bytes:
            with calling(self.name, writing=True):
                answer = self._client.download_blob(start, length, **_condition(stat))
                return cast(bytes, answer.readall())

        return ranged(fetch, offset, stat.size_bytes, self.name, self._sleep, writing=writing)

    def _blocks(self, onto: Stat) -> tuple[Block, ...]:
        """The blocks of ``onto`` that can be kept: none, if a foreign tool has written it."""
        known = self._known
        if known is not None and known.version == onto.version:
            return known.blocks
        with calling(self.name, writing=True):
            committed, _ = self._client.get_block_list("committed")
        blocks = tuple(Block(str(block.id), int(block.size)) for block in committed)
        ours = all(len(block.name) == BLOCK_NAME_CHARACTERS for block in blocks)
        if not ours or sum(block.size_bytes for block in blocks) != onto.size_bytes:
            return ()
        with self._from(Stat(onto.version, PREAMBLE_BYTES, None), 0) as stream:
            found = preamble_of(stream.read())
        return blocks if found is None or found.floor else ()

    # Writing

    def _stage(self, pieces: Iterator[bytes]) -> list[Block]:
        """Send blocks in parallel; no more are in memory than are being sent."""
        blocks: list[Block] = []
        with ThreadPoolExecutor(PARALLEL_BLOCKS, "bequest-azure") as pool:
            while batch := list(itertools.islice(pieces, PARALLEL_BLOCKS)):
                sent = [pool.submit(self._put, piece) for piece in batch]
                del batch
                blocks.extend(future.result() for future in sent)
        return blocks

    def _put(self, data: bytes) -> Block:
        block = Block(secrets.token_urlsafe(BLOCK_NAME_CHARACTERS * 6 // 8), len(data))
        with calling(self.name, writing=True):
            self._client.stage_block(block.name, data, len(data), validate_content=True)
        return block

    def _commit(self, blocks: Sequence[Block], onto: Stat | None, mark: Mark) -> Stat:
        blobs = sdk("azure.storage.blob")
        names = [blobs.BlobBlock(block.name) for block in blocks]
        with calling(self.name, writing=True):
            answer = self._client.commit_block_list(
                names, metadata=to_metadata(mark), **_condition(onto)
            )
        self._known = _Known(answer["etag"], tuple(blocks))
        return Stat(answer["etag"], sum(block.size_bytes for block in blocks), mark)


def _settled(blocks: Sequence[Block]) -> int:
    """How many blocks stay as they are: all but a long row of small ones at the end."""
    small = itertools.takewhile(lambda block: block.size_bytes < SMALL_BLOCK_BYTES, blocks[::-1])
    count = sum(1 for _ in small)
    return len(blocks) - (count if count >= MOST_SMALL_BLOCKS else 0)


def _cut(data: bytes, most_bytes: int) -> list[bytes]:
    return [data[start : start + most_bytes] for start in range(0, len(data), most_bytes)]


def _condition(onto: Stat | None) -> dict[str, Any]:
    conditions = sdk("azure.core").MatchConditions
    if onto is None:
        return {"match_condition": conditions.IfMissing}
    return {"etag": onto.version, "match_condition": conditions.IfNotModified}


def _version(entry: Any) -> Version:
    """A blob of a listing: the present one, a version, or a snapshot that somebody took."""
    mark = from_metadata(entry.metadata)
    written = entry.last_modified.timestamp()
    if entry.snapshot:
        return Version(f"{_SNAPSHOT}{entry.snapshot}", written, entry.size, mark, False)
    current = entry.is_current_version is not False
    # An account without versioning has no word for the present state.
    return Version(entry.version_id or _PRESENT, written, entry.size, mark, current)


def _age(version: Version) -> tuple[bool, str]:
    # The names are times to a fraction of a second; when it was written comes in whole ones.
    return version.current, version.id.removeprefix(_SNAPSHOT)


def _version_parts(version: str) -> tuple[str, str | None]:
    if version == _PRESENT:
        return "version_id", None
    if version.startswith(_SNAPSHOT):
        return "snapshot", version.removeprefix(_SNAPSHOT)
    return "version_id", version
