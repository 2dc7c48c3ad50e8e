"""No damaged or forged object passes, writes a row, runs a statement, or takes the memory."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import bequest
from bequest.errors import BequestError, SnapshotDamaged, SnapshotError
from bequest.snapshot.fold import Snapshot
from bequest_adapters.cli import main

from .objects import HOSTILE, SCHEMA_CONTENT, WHOLE, crafted, table

MEMORY_LIMIT_MIB: Final = 768
"""What any object may make a reader take, whatever it says of itself (measured: 551)."""
NOT_FOR_THIS_DATABASE: Final = {
    "an integer no database holds",
    "a huge integer in the tail",
    "two statements for a definition",
    "a definition that selects",
    "a definition of another table",
}
"""Well-formed, and refused by the target instead: exit code 5 or 6."""
_MEMORY: Final = """
import os, resource, sys
sys.path[:0] = sys.argv[2:]
from bequest.errors import SnapshotError
import bequest
from tests.hostile.objects import HOSTILE
for name in [name for name in HOSTILE if "bomb" in name or "absurd" in name]:
    # Each in a process of its own: what the heap keeps from one object is not the next one's.
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    with open(sys.argv[1], "wb") as file:
        file.write(HOSTILE[name]())
    def restore(path):
        bequest.restore(path, "sqlite:///" + path + ".db", adopt=True)
    for read in (bequest.inspect, restore):
        try:
            read(sys.argv[1])
        except SnapshotError:
            continue
        os._exit(1)
    os._exit(0)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def state(data: bytes) -> tuple[object, ...]:
    snapshot = Snapshot.open(io.BytesIO(data))
    rows = {repr(row) for _, block in snapshot.rows() for row in block}
    return snapshot.mark, tuple(sorted(rows)), tuple(sorted(snapshot.attributes.items()))


def detected(data: bytes) -> bool:
    try:
        state(data)
    except SnapshotDamaged:
        return True
    return False


@pytest.mark.parametrize("kind", WHOLE)
def test_every_flipped_bit_is_detected(kind: str) -> None:
    data = WHOLE[kind]()
    assert state(data)
    found = 0
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << (position % 8)
        found += detected(bytes(flipped))
    assert found == len(data) * 8, f"{len(data) * 8 - found} flips passed"


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind != "a floor object"])
def test_every_truncation_is_detected(kind: str) -> None:
    data = WHOLE[kind]()
    assert sum(detected(data[:length]) for length in range(len(data))) == len(data)


def test_a_floor_object_cut_behind_a_seal_is_an_older_state_and_nothing_else_passes() -> None:
    """Its bytes cannot tell; the mark beside it does, which the store's metadata holds."""
    data = WHOLE["a floor object"]()
    publishes = Snapshot.open(io.BytesIO(data)).publishes
    passed = [length for length in range(len(data)) if not detected(data[:length])]
    assert passed == [publish.end for publish in publishes[:-1]]


@pytest.mark.parametrize("kind", WHOLE)
def test_frames_of_another_object_do_not_fit(kind: str) -> None:
    data, others = WHOLE[kind](), [WHOLE[other]() for other in WHOLE if other != kind]
    ends = [publish.end for publish in Snapshot.open(io.BytesIO(data)).publishes]
    for other in others:
        for end in (publish.end for publish in Snapshot.open(io.BytesIO(other)).publishes):
            for begin in ends:
                spliced = data[:begin] + other[end:]
                if spliced not in (data, *others) and not other.startswith(spliced[34:50]):
                    assert detected(spliced) or state(spliced) in (
                        state(data),
                        *(state(each) for each in others),
                    )


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if "bomb" not in kind])
def test_a_forged_object_is_an_error_and_nothing_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "object"
    path.write_bytes(HOSTILE[kind]())
    expected = BequestError if kind in NOT_FOR_THIS_DATABASE else SnapshotError
    with pytest.raises(expected):
        bequest.restore(str(path), f"sqlite:///{tmp_path}/new.db", adopt=True)
    readings: list[Callable[[str], object]] = [
        bequest.inspect,
        bequest.verify,
        lambda store: list(bequest.log(store)),
    ]
    for reading in readings:
        try:
            reading(str(path))
        except SnapshotError:
            continue
    assert {each.name for each in tmp_path.iterdir()} <= {"object", "object.lock"}


def test_the_command_line_says_so_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "object"
    for kind in ("a list for a value", "a time beyond all", "a definition that attaches"):
        path.write_bytes(HOSTILE[kind]())
        new = f"sqlite:///{tmp_path}/new.db"
        assert main(["restore", str(path), "--database", new, "--adopt"]) == 3
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "Use another copy" in said


def test_no_object_takes_the_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path / "object"), *filter(None, sys.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MEMORY_LIMIT_MIB


@pytest.mark.parametrize("name", ['x"; DROP TABLE sites; --', "größe'", "select", "a b", "x\ny"])
def test_an_identifier_is_a_name_and_never_a_statement(name: str, tmp_path: Path) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    sql = f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, {quoted} TEXT)"
    evil = table(id=2, name=name, sql=sql, columns=[["id", "INTEGER", ""], [name, "TEXT", ""]])[
        "tables"
    ]
    path = tmp_path / "object"
    path.write_bytes(crafted(schema={"tables": SCHEMA_CONTENT["tables"] + evil}))
    report = bequest.restore(str(path), f"sqlite:///{tmp_path}/new.db", adopt=False)
    assert (report.rows, report.tables) == (2, 2)
