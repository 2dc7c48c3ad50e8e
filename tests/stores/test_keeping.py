"""What is about to be replaced can be kept beside it: the shipped suite, and faults."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar, TypeAlias

import pytest

import bequest
from bequest.errors import Conflict, Denied, UsageError
from bequest.keeping import keep
from bequest.model import Stat
from bequest.ports import Store
from bequest.registry import open_store as open_address
from bequest.testing.objects import sample, whole
from bequest.testing.store import LABEL, KeepingConformance, OpenStore
from bequest_adapters.stores import azure, gcs, s3
from bequest_adapters.stores.disk import Disk
from bequest_adapters.stores.file import FileStore
from bequest_adapters.stores.retrying import retrying
from tests.servers.proxy import LOSE_ANSWER, Answer, Fault, FaultProxy, fault_proxy
from tests.servers.s3_server import S3Server
from tests.stores.places import LARGE_BYTES, SERVERS, Place, place_on

Opened: TypeAlias = s3.S3Store | azure.AzureStore | gcs.GcsStore
OPENERS: dict[str, Callable[[str], Opened]] = {
    "ministack": s3.open_store,
    "azurite": azure.open_store,
    "gcs_server": gcs.open_store,
}


class TestFileStore(KeepingConformance):
    large_bytes = 3_000_000

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda: FileStore(tmp_path / "snap shot#1")


class _OnServer(KeepingConformance):
    kind: ClassVar[str]
    large_bytes = LARGE_BYTES

    @pytest.fixture
    def open_store(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Generator[OpenStore, None, None]:
        url = place_on(self.kind, request, monkeypatch).url
        opened: list[Store] = []

        def open_one() -> Store:
            opened.append(OPENERS[self.kind](url))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


class TestS3(_OnServer):
    kind = "ministack"


class TestAzure(_OnServer):
    kind = "azurite"


class TestGcs(_OnServer):
    kind = "gcs_server"


class TestSeaweedFS(KeepingConformance):
    large_bytes = 6 << 20

    @pytest.fixture
    def open_store(self, seaweedfs: S3Server) -> OpenStore:
        url = seaweedfs.url(seaweedfs.new_key(), multipart_threshold=5 << 20, part_size=5 << 20)
        return lambda: s3.open_store(url)


# Faults on the way


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Place]:
    return request.param, place_on(request.param, request, monkeypatch)


@contextmanager
def _proxied(kind: str, where: Place) -> Generator[tuple[FaultProxy, Opened]]:
    with fault_proxy(where.port) as proxy:
        with closing(OPENERS[kind](where.through(proxy.port))) as store:
            yield proxy, store


def _published(store: Store) -> Stat:
    new = sample(size_bytes=LARGE_BYTES)
    return store.rewrite(new.body(), len(new.data), onto=None, mark=new.mark)


def _requests(proxy: FaultProxy, act: Callable[[], object]) -> int:
    proxy.clear()
    act()
    return len(proxy.requests)


def test_a_copy_whose_answer_was_lost_is_found(place: tuple[str, Place]) -> None:
    kind, where = place
    with (
        fault_proxy(where.port) as proxy,
        closing(OPENERS[kind](where.through(proxy.port))) as bare,
    ):
        store = retrying(bare, sleep=lambda _: None)
        stat = _published(store)
        count = _requests(proxy, lambda: keep(store, stat, "first"))
        for number in range(count):
            seen: list[object] = []

            def nth(request: object, number: int = number, seen: list[object] = seen) -> bool:
                seen.append(request)
                return len(seen) == number + 1

            proxy.clear()
            proxy.plan(nth, LOSE_ANSWER)
            address = keep(store, stat, f"lost-{number}")
            assert proxy.struck
            with closing(open_address(address)) as copy, copy.read() as stream:
                assert whole(stream).mark == stat.mark
            assert not address.partition("?")[0].endswith(".2")


def test_no_content_passes_through_this_machine(place: tuple[str, Place]) -> None:
    kind, where = place
    with (
        fault_proxy(where.port) as proxy,
        closing(OPENERS[kind](where.through(proxy.port))) as store,
    ):
        stat = _published(store)
        proxy.clear()
        keep(store, stat, LABEL)
        assert proxy.sent_bytes < 20_000
        assert not [each for each in proxy.requests if "alt=media" in each.path]


CONDITIONS: dict[str, tuple[str, ...]] = {
    "ministack": ("x-amz-copy-source-if-match: ", "if-none-match: *"),
    "azurite": ("x-ms-source-if-match: ", "if-none-match: *"),
    "gcs_server": ("ifSourceGenerationMatch=", "ifGenerationMatch=0"),
}


def test_the_requests_that_make_a_copy_bear_both_conditions(place: tuple[str, Place]) -> None:
    """Looking first would leave a moment in which the object or the name could be taken."""
    kind, where = place
    with _proxied(kind, where) as (proxy, store):
        stat = _published(store)
        proxy.clear()
        keep(store, stat, LABEL)
        sent = "\n".join(
            "\n".join(
                [each.path, *(f"{name.lower()}: {value}" for name, value in each.headers.items())]
            )
            for each in proxy.requests
            if each.method in ("PUT", "POST")
        )
    for condition in CONDITIONS[kind]:
        assert condition in sent


DENIALS = {
    "ministack": (
        b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
        [("Content-Type", "application/xml")],
        "s3:PutObject",
    ),
    "azurite": (
        b"",
        [("x-ms-error-code", "AuthorizationPermissionMismatch")],
        "Storage Blob Data Contributor",
    ),
    "gcs_server": (
        b'{"error": {"code": 403, "message": "no"}}',
        [("Content-Type", "application/json")],
        "storage.objects.create",
    ),
}


def test_a_copy_that_is_denied_names_what_to_grant(place: tuple[str, Place]) -> None:
    kind, where = place
    body, headers, right = DENIALS[kind]
    with (
        fault_proxy(where.port) as proxy,
        closing(OPENERS[kind](where.through(proxy.port))) as store,
    ):
        stat = _published(store)
        proxy.plan(
            lambda request: LABEL in request.path and request.method in ("PUT", "POST"),
            Fault(executed=False, answer=Answer(403, headers, body)),
            times=9,
        )
        with pytest.raises(Denied, match=LABEL) as refused:
            keep(store, stat, LABEL)
        assert right in str(refused.value)
        assert store.head() == stat


# Files


def test_a_copy_in_a_folder_that_may_not_be_written_names_the_folder(tmp_path: Path) -> None:
    class Sealed(Disk):
        def create(self, path: str) -> int:
            raise PermissionError(13, "Permission denied", path)

    _published(FileStore(tmp_path / "ctl"))
    store = FileStore(tmp_path / "ctl", disk=Sealed())
    stat = store.head()
    assert stat is not None
    with pytest.raises(Denied, match=str(tmp_path)):
        keep(store, stat, LABEL)


def test_a_copy_of_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    done: list[str] = []

    class Watched(Disk):
        def sync(self, file: int) -> None:
            done.append("sync")
            super().sync(file)

        def link(self, old: str, new: str) -> None:
            done.append("name")
            super().link(old, new)

        def sync_folder(self, path: str) -> None:
            done.append("sync folder")
            super().sync_folder(path)

    stat = _published(FileStore(tmp_path / "ctl"))
    os.chmod(tmp_path / "ctl", 0o640)
    keep(FileStore(tmp_path / "ctl", disk=Watched()), stat, LABEL)
    assert done == ["sync", "name", "sync folder"]
    assert os.stat(tmp_path / f"ctl.{LABEL}").st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["ctl", "ctl.lock", f"ctl.{LABEL}"]


def test_a_copy_is_made_where_a_file_has_one_name_only(tmp_path: Path) -> None:
    class Plain(Disk):
        def link(self, old: str, new: str) -> None:
            raise PermissionError(1, "Operation not permitted", old)

    stat = _published(FileStore(tmp_path / "ctl"))
    first = keep(FileStore(tmp_path / "ctl", disk=Plain()), stat, LABEL)
    assert keep(FileStore(tmp_path / "ctl", disk=Plain()), stat, LABEL) == first
    with closing(open_address(first)) as copy, copy.read() as stream:
        assert whole(stream).mark == stat.mark
    (tmp_path / "ctl.taken").write_bytes(b"")
    assert keep(FileStore(tmp_path / "ctl", disk=Plain()), stat, "taken").endswith(".taken.2")
    assert (tmp_path / "ctl.taken").read_bytes() == b""
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_a_copy_is_restored_like_any_object(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ctl.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO site VALUES (7)")
        database.commit()
    bequest.backup(f"sqlite:///{tmp_path / 'ctl.db'}", str(tmp_path / "ctl"))
    store = FileStore(tmp_path / "ctl")
    stat = store.head()
    assert stat is not None
    address = keep(store, stat, LABEL)
    report = bequest.restore(address, f"sqlite:///{tmp_path / 'new.db'}", adopt=False)
    assert (report.rows, report.lineage) == (1, bequest.inspect(str(tmp_path / "ctl")).lineage)


def test_a_store_that_cannot_keep_says_so() -> None:
    class Bare:
        name = "bare://x"

        def head(self) -> None: ...
        def read(self) -> None: ...
        def close(self) -> None: ...

    with pytest.raises(UsageError, match="cannot keep a copy"):
        keep(Bare(), Stat("1", 1, None), LABEL)  # type: ignore[arg-type]


def test_the_store_itself_refuses_a_copy_of_what_changed_or_onto_what_is_there(
    place: tuple[str, Place],
) -> None:
    kind, where = place
    with closing(OPENERS[kind](where.url)) as store:
        stat = _published(store)
        new = sample(4)
        after = store.rewrite(new.body(), len(new.data), onto=stat, mark=new.mark)
        with pytest.raises(Conflict):
            store.copy(stat, ".stale")
        assert store.beside(".stale") is None
        store.copy(after, ".taken")
        newer = sample(5)
        last = store.rewrite(newer.body(), len(newer.data), onto=after, mark=newer.mark)
        with pytest.raises(Conflict):
            store.copy(last, ".taken")
        there = store.beside(".taken")
        assert there is not None
        assert there.mark == new.mark
