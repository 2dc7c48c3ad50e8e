"""The side file: the last whole record counts, whatever a crash left behind it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bequest
from bequest_adapters.databases.sqlite import sidefile
from bequest_adapters.databases.sqlite.sidefile import SideFile

RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["here", "elsewhere"]),
        st.sampled_from(["memory", "note"]),
        st.dictionaries(
            st.text(max_size=3),
            st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40),
            max_size=4,
        ),
    ),
    max_size=8,
)


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "c.db"
    path.touch(mode=0o640)
    return str(path)


def test_the_last_record_of_a_kind_counts_for_every_reader(database: str) -> None:
    one, other = SideFile(database), SideFile(database)
    for number in range(3):
        one.append("x", {"memory": {"serial": number}}, durable=number % 2 == 0)
        assert other.read("x", "memory") == {"serial": number}
    other.append("x", {"note": "text"}, durable=False)
    assert one.read("x", "note") == "text"
    assert one.read("x", "memory") == {"serial": 2}
    assert one.read("y", "memory") is None


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.data())
def test_a_torn_or_damaged_record_is_not_there_and_the_next_one_takes_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str, dict[str, object]]],
    data: st.DataObject,
) -> None:
    database = str(tmp_path_factory.mktemp("torn") / "c.db")
    side = SideFile(database)
    side.append("x", {"first": 1}, durable=False)
    ends = [os.path.getsize(side.path)]
    for installation, kind, record in records:
        side.append(installation, {kind: record}, durable=False)
        ends.append(os.path.getsize(side.path))
    whole = Path(side.path).read_bytes()
    cut = data.draw(st.integers(ends[0], len(whole)))
    damage = data.draw(st.sampled_from([b"", b"\0" * 7, b"\xff" * 40]))
    with open(side.path, "r+b") as file:
        file.truncate(cut)
        file.seek(cut)
        file.write(damage)
    left = {}
    for end, (installation, kind, record) in zip(ends[1:], records, strict=True):
        if Path(side.path).read_bytes()[:end] == whole[:end]:
            left[installation, kind] = record
    found = SideFile(database)
    assert found.read("x", "first") == 1
    for installation in ("here", "elsewhere"):
        for kind in ("memory", "note"):
            assert found.read(installation, kind) == left.get((installation, kind))
    found.append("here", {"memory": {"after": 1}}, durable=True)
    assert SideFile(database).read("here", "memory") == {"after": 1}


def test_it_is_rewritten_before_it_grows_without_end(database: str) -> None:
    side = SideFile(database)
    side.append("x", {"note": "kept"}, durable=False)
    for number in range(2000):
        side.append("x", {"memory": {"serial": number, "text": "y" * 500}}, durable=False)
    assert os.path.getsize(side.path) < 2 * sidefile.COMPACT_BYTES
    again = SideFile(database)
    assert again.is_own()
    assert again.read("x", "memory")["serial"] == 1999
    assert again.read("x", "note") == "kept"


def test_writers_in_many_threads_and_rewrites_lose_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidefile, "COMPACT_BYTES", 2000)

    def write(name: str) -> None:
        side = SideFile(database)
        for number in range(100):
            side.append("x", {name: {"number": number, "text": "z" * 20}}, durable=False)

    threads = [threading.Thread(target=write, args=(f"kind {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    side = SideFile(database)
    assert [side.read("x", f"kind {n}")["number"] for n in range(6)] == [99] * 6


def test_a_writer_killed_at_any_moment_leaves_what_it_wrote_durably(database: str) -> None:
    program = (
        "import sys; from bequest_adapters.databases.sqlite import sidefile\n"
        "sidefile.COMPACT_BYTES = 3000\n"
        "side = sidefile.SideFile(sys.argv[1])\n"
        "number = (side.read('x', 'memory') or {'n': 0})['n']\n"
        "while True:\n"
        "    number += 1\n"
        "    side.append('x', {'memory': {'n': number, 't': 'q' * 100}}, durable=True)\n"
        "    print(number, flush=True)\n"
    )
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", program, database], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said = 0
            for _ in range(40):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            for line in process.stdout.read().split():
                said = int(line)
        side = SideFile(database)
        assert side.is_own()
        assert side.read("x", "memory")["n"] >= said


def test_a_copy_of_the_file_is_not_its_own_and_a_renamed_one_is(
    database: str, tmp_path: Path
) -> None:
    side = SideFile(database)
    side.append("x", {"memory": 1}, durable=True)
    assert side.is_own()
    shutil.copy2(side.path, tmp_path / "copy.db-bequest")
    (tmp_path / "copy.db").touch()
    copy = SideFile(str(tmp_path / "copy.db"))
    assert not copy.is_own()
    assert copy.read("x", "memory") == 1
    (tmp_path / "moved").mkdir()
    os.rename(side.path, tmp_path / "moved" / "c.db-bequest")
    assert SideFile(str(tmp_path / "moved" / "c.db")).is_own()
    assert not side.is_own()
    copy.own("x")
    assert copy.is_own()
    assert copy.read("x", "memory") == 1


def test_who_may_use_the_database_may_use_the_file(database: str) -> None:
    side = SideFile(database)
    side.append("x", {"memory": 1}, durable=False)
    assert os.stat(side.path).st_mode & 0o777 == 0o640


def test_a_link_in_its_place_is_not_followed(database: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    side = SideFile(database)
    os.symlink(precious, side.path)
    with pytest.raises(OSError, match="symbolic"):
        side.append("x", {"memory": 1}, durable=False)
    assert precious.read_text() == "keep"


@pytest.mark.parametrize("other", ["symlink", "folder", "pipe"])
def test_what_is_no_ordinary_file_is_an_error_that_names_it(tmp_path: Path, other: str) -> None:
    path, store = tmp_path / "c.db", tmp_path / "o.bequest"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    bequest.backup(f"sqlite:///{path}", str(store))
    side = Path(f"{path}-bequest")
    side.rename(tmp_path / "kept")
    if other == "symlink":
        side.symlink_to(tmp_path / "kept")
    elif other == "folder":
        side.mkdir()
    else:
        os.mkfifo(side)
    for verb in (bequest.backup, bequest.adopt):
        with pytest.raises(bequest.Unreachable, match=r"c\.db-bequest"):
            verb(f"sqlite:///{path}", str(store))


def test_what_a_killed_process_left_is_in_nobodys_way_and_goes_with_the_file(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    side = SideFile(database)
    with monkeypatch.context() as patched:
        patched.setattr(sidefile.os, "link", killed)
        patched.setattr(sidefile.os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            side.append("x", {"memory": {}}, durable=True)
    side.append("x", {"memory": {"serial": 1}}, durable=True)
    assert side.read("x", "memory") == {"serial": 1}
    side.remove()
    assert os.listdir(os.path.dirname(database)) == ["c.db"]
