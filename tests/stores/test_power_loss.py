"""Whatever a power cut leaves of a file publish is the old object or the new one.

The store's calls to the disk are recorded, and replayed into every state that a file system may
leave after a cut between any two of them. The fault model: what was not synced may be on the disk
or not, each write by itself, whole, or torn at a boundary of 512 bytes; names not yet synced by
their folder may be the old ones or the new ones; after a sync all of that file (or folder) is
there. Files that grew without their data reaching the disk read as zeros there.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from bequest.errors import SnapshotDamaged
from bequest.model import Stat
from bequest.snapshot.frame import PREAMBLE_BYTES, preamble
from bequest.testing.objects import Sample, sample, whole
from bequest_adapters.stores.disk import Disk
from bequest_adapters.stores.file import FileStore

SECTOR_BYTES: Final = 512
OBJECT: Final = "snapshot"


@dataclass(frozen=True, slots=True)
class Change:
    """A change to one file's content: a write, or a truncation when there is no data."""

    offset: int
    data: bytes | None

    def outcomes(self) -> Iterator[Change | None]:
        """What a cut may leave of it: nothing, all, or one side of a sector boundary."""
        yield None
        yield self
        if self.data is None:
            return
        first = SECTOR_BYTES - self.offset % SECTOR_BYTES
        cuts = list(range(first, len(self.data), SECTOR_BYTES))
        for cut in {*cuts[:1], *cuts[-1:]}:
            yield Change(self.offset, self.data[:cut])
            yield Change(self.offset + cut, self.data[cut:])

    def apply(self, content: bytes) -> bytes:
        if self.data is None:
            return content[: self.offset]
        padded = content.ljust(self.offset, b"\0")
        return padded[: self.offset] + self.data + padded[self.offset + len(self.data) :]


@dataclass(slots=True)
class File:
    """Content that is on the disk for certain, and the changes that may be."""

    durable: bytes = b""
    pending: list[Change] = field(default_factory=list[Change])

    def possible(self) -> Iterator[bytes]:
        for chosen in itertools.product(*(change.outcomes() for change in self.pending)):
            content = self.durable
            for change in chosen:
                content = content if change is None else change.apply(content)
            yield content


class Recorder(Disk):
    """The real disk, which also keeps what a cut may leave. Asks ``check`` after every call."""

    def __init__(self, path: Path, check: Callable[[Recorder], None]) -> None:
        self._check = check
        self._opened: dict[int, str] = {}
        existing = {OBJECT: File(path.read_bytes())} if path.exists() else {}
        self._names: dict[str, File] = dict(existing)
        self._durable_names: list[dict[str, File]] = [dict(existing)]
        self.calls: list[str] = []

    def objects(self) -> Iterator[bytes | None]:
        """Every content that the object's name may lead to after a cut now."""
        for names in [*self._durable_names, self._names]:
            file = names.get(OBJECT)
            if file is None:
                yield None
            else:
                yield from file.possible()

    def create(self, path: str) -> int:
        opened = super().create(path)
        self._named(path, File())
        self._opened[opened] = path
        return self._done("create", opened)

    def open(self, path: str) -> int:
        opened = super().open(path)
        self._opened[opened] = path
        return self._done("open", opened)

    def write(self, file: int, data: bytes, offset: int) -> None:
        super().write(file, data, offset)
        self._file(file).pending.append(Change(offset, data))
        self._done("write")

    def truncate(self, file: int, size_bytes: int) -> None:
        super().truncate(file, size_bytes)
        self._file(file).pending.append(Change(size_bytes, None))
        self._done("truncate")

    def sync(self, file: int) -> None:
        super().sync(file)
        synced = self._file(file)
        for change in synced.pending:
            synced.durable = change.apply(synced.durable)
        synced.pending.clear()
        self._done("sync")

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        file = self._names[Path(old).name]
        self._named(new, file)
        del self._names[Path(old).name]
        self._done("rename")

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._durable_names.append(dict(self._names))
        del self._names[Path(path).name]
        self._done("unlink")

    def link(self, old: str, new: str) -> None:
        super().link(old, new)
        self._named(new, self._names[Path(old).name])
        self._done("link")

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        self._durable_names = [dict(self._names)]
        self._done("sync_folder")

    def _named(self, path: str, file: File) -> None:
        self._durable_names.append(dict(self._names))
        self._names[Path(path).name] = file

    def _file(self, opened: int) -> File:
        return self._names[Path(self._opened[opened]).name]

    def _done(self, call: str, result: int = 0) -> int:
        self.calls.append(call)
        self._check(self)
        return result


def _chain(content: bytes | None) -> bytes | None:
    return None if content is None else whole(io.BytesIO(content)).chain


def _only(*allowed: bytes | None) -> Callable[[Recorder], None]:
    def check(disk: Recorder) -> None:
        for content in disk.objects():
            assert _chain(content) in allowed, f"after {disk.calls}"

    return check


def _certainly(disk: Recorder, chain: bytes) -> None:
    assert {_chain(content) for content in disk.objects()} == {chain}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / OBJECT


def _present(path: Path) -> Stat:
    stat = FileStore(path).head()
    assert stat is not None
    return stat


@pytest.fixture
def base(path: Path) -> Sample:
    base = sample(size_bytes=2_000)
    path.write_bytes(base.data)
    return base


# Frames of several sectors, so that they can be torn.
CONTENT: Final = list(range(1_500))


def test_an_append(path: Path, base: Sample) -> None:
    frame, mark, chain = base.next_frame(CONTENT)
    disk = Recorder(path, _only(base.chain, chain))
    FileStore(path, disk=disk).append(frame, onto=_present(path), mark=mark)
    _certainly(disk, chain)


def test_an_append_over_an_unfinished_one(path: Path, base: Sample) -> None:
    path.write_bytes(base.data + b"unfinished" * 500)
    frame, mark, chain = base.next_frame(CONTENT)
    disk = Recorder(path, _only(base.chain, chain))
    FileStore(path, disk=disk).append(frame, onto=_present(path), mark=mark)
    assert "truncate" in disk.calls
    _certainly(disk, chain)


def test_an_append_to_an_object_with_a_floor(path: Path, base: Sample) -> None:
    rest = base.data[PREAMBLE_BYTES:]
    path.write_bytes(preamble(PREAMBLE_BYTES, floor=True) + rest)
    frame, mark, chain = base.next_frame(CONTENT)
    disk = Recorder(path, _only(base.chain, chain))
    FileStore(path, disk=disk).append(frame, onto=_present(path), mark=mark)
    _certainly(disk, chain)


@pytest.mark.parametrize("keep", [0, 1])
def test_a_rewrite(path: Path, base: Sample, keep: int) -> None:
    new = sample(9, size_bytes=3_000)
    disk = Recorder(path, _only(base.chain, new.chain))
    store = FileStore(path, disk=disk, keep=keep)
    store.rewrite(new.body(), len(new.data), onto=_present(path), mark=new.mark)
    _certainly(disk, new.chain)


def test_a_creation(path: Path) -> None:
    new = sample(size_bytes=3_000)
    disk = Recorder(path, _only(None, new.chain))
    FileStore(path, disk=disk).rewrite(new.body(), len(new.data), onto=None, mark=new.mark)
    _certainly(disk, new.chain)


def test_the_check_would_see_a_store_that_does_not_sync(path: Path, base: Sample) -> None:
    class Careless(Recorder):
        def sync(self, file: int) -> None:
            """Forgets to."""

    frame, mark, chain = base.next_frame(CONTENT)
    disk = Careless(path, _only(base.chain, chain))
    with pytest.raises((AssertionError, SnapshotDamaged)):
        FileStore(path, disk=disk).append(frame, onto=_present(path), mark=mark)
