"""What a local file asks of a store beyond the port's contract: names, owners, locks, disks."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from bequest.errors import Conflict, Denied, Unreachable, UsageError
from bequest.model import Stat
from bequest.snapshot.frame import PREAMBLE_BYTES, preamble
from bequest.testing.objects import Sample, sample, whole
from bequest_adapters.stores.disk import Disk
from bequest_adapters.stores.file import FileStore, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot"


def _publish(store: FileStore, size_bytes: int = 0) -> tuple[Sample, Stat]:
    base = sample(size_bytes=size_bytes)
    return base, store.rewrite(base.body(), len(base.data), onto=None, mark=base.mark)


def _rewrite(store: FileStore, onto: Stat, serial: int) -> tuple[Sample, Stat]:
    base = sample(serial)
    return base, store.rewrite(base.body(), len(base.data), onto=onto, mark=base.mark)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Names


def test_addresses_lead_to_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["a b", "./a b", "~/a b", f"{tmp_path}/a b", f"file://{tmp_path}/a%20b"]
    names += ["a b?keep=2", f"{tmp_path}/a b?keep=0", "a b?"]
    names += ["file://~/a%20b", "file://./a%20b", f"file://localhost{tmp_path}/a%20b?keep=3"]
    assert {open_store(name).name for name in names} == {(tmp_path / "a b").as_uri()}


@pytest.mark.parametrize(
    "url",
    [
        *("", ".", "~", "folder/", "file:///", "file://host/a", "file:///a?kepe=3"),
        *("file:///a?keep=-1", "a?kepe=3", "a?keep=x", "?keep=2", "a?b"),
    ],
)
def test_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        open_store(url)


def test_a_plain_path_takes_options_and_a_name_with_a_question_mark_an_address(
    tmp_path: Path,
) -> None:
    store = open_store(f"{tmp_path / 'o'}?keep=1")
    _, first = _publish(store)
    _rewrite(store, first, 2)
    assert sorted(path.name for path in tmp_path.glob("o*")) == ["o", "o.1", "o.lock"]
    with pytest.raises(UsageError, match="%3F"):
        open_store(f"{tmp_path}/what?now")
    assert open_store(f"file://{tmp_path}/what%3Fnow").name.endswith("/what%3Fnow")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(path: Path, tmp_path: Path, kind: str) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            bound.bind(str(path))
        elif kind == "folder":
            path.mkdir()
        store = open_store("/dev/null" if kind == "device" else str(path))
        with pytest.raises(UsageError, match="not a file"):
            store.head()
        with pytest.raises(UsageError, match="not a file"), store.read():
            pass
        with pytest.raises(UsageError, match="not a file"):
            _publish(store)
    assert list(tmp_path.glob("*.lock")) == []
    assert not Path("/dev/null.lock").exists()


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with pytest.raises(UsageError):
        store.head()
    with pytest.raises(UsageError):
        _publish(store)


def test_a_missing_folder_is_denied_with_a_hint(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "not mounted" / "snapshot")
    with pytest.raises(Denied, match="does not exist"):
        store.head()
    with pytest.raises(Denied, match="does not exist"):
        _publish(store)


def test_a_link_stays_and_its_target_is_replaced(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere / "object")
    store = FileStore(path)
    _, onto = _publish(store)
    base, stat = _rewrite(store, onto, 2)
    assert path.is_symlink()
    assert FileStore(elsewhere / "object").head() == stat
    assert (elsewhere / "object").read_bytes() == base.data


# Modes


def test_a_new_object_is_its_owners_alone(path: Path) -> None:
    _publish(FileStore(path))
    assert _mode(path) == 0o600


def test_a_rewrite_keeps_the_mode(path: Path) -> None:
    store = FileStore(path)
    _, onto = _publish(store)
    path.chmod(0o640)
    _rewrite(store, onto, 2)
    assert _mode(path) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_rewrite_keeps_the_owner(path: Path) -> None:
    store = FileStore(path)
    _, onto = _publish(store)
    os.chown(path, 1234, 2345)
    _rewrite(store, onto, 2)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


# What is not ours, or not whole


def test_a_foreign_file_bears_no_mark_and_is_not_appended_to(path: Path) -> None:
    path.write_bytes(b"somebody's diary")
    store = FileStore(path)
    found = store.head()
    assert found is not None
    assert found.mark is None
    with pytest.raises(Conflict):
        _publish(store)
    path.write_bytes(b"somebody's dairy")
    changed = FileStore(path).head()
    assert changed is not None
    assert changed.version != found.version
    _rewrite(store, changed, 1)


def test_a_truncated_object_bears_no_mark_and_another_version(path: Path) -> None:
    base, onto = _publish(FileStore(path), 10_000)
    path.write_bytes(base.data[:-1])
    found = FileStore(path).head()
    assert found is not None
    assert found.mark is None
    assert found.version != onto.version


def test_an_unfinished_append_is_invisible_and_then_overwritten(path: Path) -> None:
    store = FileStore(path)
    base, onto = _publish(store)
    with path.open("ab") as file:
        file.write(b"an append that was cut off, longer than the next frame" * 100)
    assert FileStore(path).head() == onto
    with store.read() as stream:
        assert stream.read() == base.data
    frame, mark, chain = base.next_frame()
    store.append(frame, onto=onto, mark=mark)
    assert path.read_bytes() == base.appended(frame, mark, chain).data


def test_an_object_fetched_from_a_store_with_floors_can_be_appended_to(path: Path) -> None:
    base = sample()
    first = preamble(len(base.data), floor=True) + base.data[PREAMBLE_BYTES:]
    frame, mark, chain = base.next_frame()
    path.write_bytes(first + frame)
    path.chmod(0o600)
    store = FileStore(path)
    onto = store.head()
    assert onto is not None
    assert onto.mark == mark
    assert onto.size_bytes == len(first + frame)
    current = base.appended(frame, mark, chain)
    frame, mark, chain = current.next_frame()
    store.append(frame, onto=onto, mark=mark)
    assert path.read_bytes() == current.appended(frame, mark, chain).data


# Locks and full disks


def test_a_busy_lock_is_unreachable_and_readers_do_not_care(path: Path) -> None:
    store = FileStore(path, lock_timeout_seconds=0)
    base, onto = _publish(store)
    with FileLock(f"{path}.lock"):
        with pytest.raises(Unreachable, match="Another process"):
            _rewrite(store, onto, 2)
        assert store.head() == onto
        with store.read() as stream:
            assert whole(stream).chain == base.chain


class _FullDisk(Disk):
    """Takes part of a write, then has no room."""

    full = False

    def write(self, file: int, data: bytes, offset: int) -> None:
        if self.full:
            super().write(file, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(file, data, offset)


def test_a_full_disk_leaves_the_object_and_no_rubbish(path: Path) -> None:
    disk = _FullDisk()
    store = FileStore(path, disk=disk)
    base, onto = _publish(store)
    disk.full = True
    frame, mark, _ = base.next_frame()
    with pytest.raises(Unreachable, match="disk is full"):
        store.append(frame, onto=onto, mark=mark)
    with pytest.raises(Unreachable, match="disk is full"):
        _rewrite(store, onto, 2)
    assert path.read_bytes() == base.data
    assert {entry.name for entry in path.parent.iterdir()} <= {"snapshot", "snapshot.lock"}
    disk.full = False
    store.append(frame, onto=onto, mark=mark)


class _RefusingDisk(Disk):
    """Refuses to open or make a file for writing."""

    error = 0

    def open(self, path: str) -> int:
        raise OSError(self.error, os.strerror(self.error))

    create = open


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errno.EACCES, Denied),
        (errno.EROFS, Denied),
        (errno.EPERM, Denied),
        (errno.EDQUOT, Unreachable),
        (errno.EIO, Unreachable),
    ],
)
def test_every_refusal_of_the_disk_has_its_kind(
    path: Path, error: int, expected: type[Exception]
) -> None:
    base, onto = _publish(FileStore(path))
    disk = _RefusingDisk()
    disk.error = error
    store = FileStore(path, disk=disk)
    frame, mark, _ = base.next_frame()
    with pytest.raises(expected, match=str(path)):
        store.append(frame, onto=onto, mark=mark)
    with pytest.raises(expected, match=str(path)):
        _rewrite(store, onto, 2)
    assert path.read_bytes() == base.data


class _FailingPin(Disk):
    """Takes the data of an append, then loses the disk while the pin is written."""

    syncs = 0

    def sync(self, file: int) -> None:
        self.syncs += 1
        if self.syncs == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(file)


def test_what_the_disk_did_not_confirm_does_not_look_published(path: Path) -> None:
    base, onto = _publish(FileStore(path))
    frame, mark, chain = base.next_frame()
    with pytest.raises(Unreachable):
        FileStore(path, disk=_FailingPin()).append(frame, onto=onto, mark=mark)
    assert FileStore(path).head() == onto
    FileStore(path).append(frame, onto=onto, mark=mark)
    assert path.read_bytes() == base.appended(frame, mark, chain).data


def test_a_rewrite_removes_what_killed_ones_left_of_this_object_only(path: Path) -> None:
    store = FileStore(path)
    _, onto = _publish(store)
    ours = path.parent / ".snapshot.0123456789abcdef.part"
    others = path.parent / ".snapshot.two.0123456789abcdef.part"
    ours.touch()
    others.touch()
    _rewrite(store, onto, 2)
    assert not ours.exists()
    assert others.exists()


# Keeping what rewrites replace


def test_keep_holds_back_the_last_rewrites(path: Path) -> None:
    store = open_store(f"file://{path}?keep=2")
    assert isinstance(store, FileStore)
    objects = [_publish(store)]
    for serial in (2, 3, 4):
        objects.append(_rewrite(store, objects[-1][1], serial))
    kept = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix != ".lock")
    assert kept == ["snapshot", "snapshot.2", "snapshot.3"]
    assert (path.parent / "snapshot.3").read_bytes() == objects[2][0].data


def test_without_keep_nothing_is_held_back(path: Path) -> None:
    store = FileStore(path)
    _, onto = _publish(store)
    _rewrite(store, onto, 2)
    assert {entry.name for entry in path.parent.iterdir()} <= {"snapshot", "snapshot.lock"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_folder_in_which_no_file_can_be_made_is_named_at_once() -> None:
    with pytest.raises(Denied, match="no file can be made"):
        _publish(open_store("/proc/no-such-file"))
