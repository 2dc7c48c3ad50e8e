"""What a cut costs does not depend on the number of tables that nobody touched."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import make_url

from bequest.model import Memory
from bequest_adapters.databases.sqlite import open_source
from bequest_adapters.databases.sqlite.cut import Sequences
from bequest_adapters.databases.sqlite.source import SqliteSource

FEW: Final = 20
MANY: Final = 400


class Place:
    def __init__(self, folder: Path, tables: int, options: str = "") -> None:
        self.db = sqlite3.connect(folder / f"{tables}.db", isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = OFF")
        for number in range(tables):
            self.db.execute(f"CREATE TABLE t{number}(id INTEGER PRIMARY KEY {options}, a)")
            self.db.execute(f"INSERT INTO t{number} VALUES (1, 1)")
        source = open_source(make_url(f"sqlite:///{folder / f'{tables}.db'}"))
        assert isinstance(source, SqliteSource)
        self.source = source
        source.install()
        self.memory = Memory()
        for _ in range(3):
            self.publish()

    def publish(self) -> None:
        """What a publish asks of the database when one row was changed."""
        self.db.execute("UPDATE t3 SET a = a + 1")
        self.source.pending(self.memory)
        with self.source.cut(self.memory) as cut:
            assert not self.memory.position or not cut.fault
            cut.catalog()
            for mutation in cut.mutations():
                table = next(each for each in cut.catalog().tables if each.id == mutation.table)
                assert list(cut.lookup(table, [mutation.key]))
            cut.attributes()
            self.memory = Memory(position=cut.position)

    def instructions(self) -> int:
        """Steps of SQLite's machine in one more publish."""
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        with self.source._connections.use() as connection:
            connection.set_progress_handler(step, 1)
        self.publish()
        with self.source._connections.use() as connection:
            connection.set_progress_handler(None, 0)
        return steps

    def events(self) -> int:
        """Calls and lines of Python in one more publish."""
        count = 0

        def trace(frame: Any, _: str, __: Any) -> Any:
            nonlocal count
            count += "bequest_adapters" in frame.f_code.co_filename
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            self.publish()
        finally:
            sys.settrace(before)
        return count

    def close(self) -> None:
        self.source.close()
        self.db.close()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    made = [Place(tmp_path, tables) for tables in (FEW, MANY)]
    yield made
    for place in made:
        place.close()


def test_the_same_steps_in_sqlite(places: list[Place]) -> None:
    few, many = (place.instructions() for place in places)
    assert few > 0
    assert many == few


def test_the_same_steps_in_python(places: list[Place]) -> None:
    few, many = (place.events() for place in places)
    assert few > 0
    assert many == few


def test_a_change_of_the_schema_is_looked_into_once(places: list[Place]) -> None:
    place = places[1]
    calm = place.instructions()
    place.db.execute("ANALYZE")
    assert place.instructions() > 10 * calm
    assert place.instructions() < 2 * calm


def test_sequences_are_read_one_by_one_only_when_they_changed(tmp_path: Path) -> None:
    place = Place(tmp_path, MANY, "AUTOINCREMENT")
    with closing(sqlite3.connect(tmp_path / f"{MANY}.db", isolation_level=None)) as db:
        said: list[str] = []
        db.set_trace_callback(said.append)
        sequences = Sequences({f"t{number}" for number in range(MANY) if number != 5})

        def read() -> dict[str, Any]:
            del said[:]
            found = dict(sequences.read(db))
            rows = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
            rows.pop("t5", None)
            assert found == {f"sequence:{name}": value for name, value in rows.items()}
            return found

        assert len(read()) == MANY - 1
        assert len(said) == 3
        place.db.execute("INSERT INTO t3(a) VALUES (1)")
        assert read()["sequence:t3"] == 2
        assert len(said) == 2, "one changed value is taken from what was read anyway"
        for change in (
            "UPDATE sqlite_sequence SET seq = 77 WHERE name = 't9'",
            "UPDATE sqlite_sequence SET seq = 1 WHERE name = 't5'",
            "UPDATE sqlite_sequence SET seq = '8' WHERE name = 't9'",
            "UPDATE sqlite_sequence SET seq = NULL WHERE name = 't9'",
            "UPDATE sqlite_sequence SET seq = '1,2' WHERE name = 't9'",
            "UPDATE sqlite_sequence SET seq = -3 WHERE name = 't9'",
            "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 't9'",
            "DELETE FROM sqlite_sequence WHERE name = 't9'",
            "INSERT INTO sqlite_sequence VALUES ('t9', 4)",
            "UPDATE sqlite_sequence SET name = 't9x' WHERE name = 't9'",
            "DELETE FROM sqlite_sequence",
            "INSERT INTO t3(a) VALUES (1)",
        ):
            place.db.execute(change)
            before = sequences._seen.found
            found = sequences.read(db)
            rows = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
            captured = {f"t{number}" for number in range(MANY) if number != 5}
            want = {f"sequence:{name}": seq for name, seq in rows.items() if name in captured}
            if change.endswith("'8' WHERE name = 't9'"):
                want["sequence:t9"] = found["sequence:t9"]
                assert str(found["sequence:t9"]) == "8"
            assert found == want, change
            assert before is not found or before == found
    place.close()
