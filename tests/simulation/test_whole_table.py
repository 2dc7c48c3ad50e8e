"""A journal row without a key says that a whole table changed: its rows are published whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bequest.compactor import Limits
from bequest.errors import Refused
from bequest.model import Mutation
from bequest.publisher import Publisher

from .small_world import (
    Bucket,
    Clock,
    Database,
    SimulatedCut,
    SimulatedSource,
    SimulatedStore,
    state_of,
)

TRUNCATED = -1


@pytest.fixture(autouse=True)
def whole_table_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """In these tests the journalled key -1 stands for "the whole table"."""
    keyed = SimulatedCut.mutations

    def mutations(self: SimulatedCut) -> Iterator[Mutation]:
        for mutation in keyed(self):
            yield replace(mutation, key=()) if mutation.key == (TRUNCATED,) else mutation

    monkeypatch.setattr(SimulatedCut, "mutations", mutations)


def started(limits: Limits | None = None) -> tuple[Database, Bucket, Publisher]:
    database, bucket = Database(), Bucket()
    publisher = Publisher(
        SimulatedSource(database), SimulatedStore(bucket), Clock(), limits=limits or Limits()
    )
    database.write({key: f"v{key}" for key in range(50)}, 1.0)
    publisher.publish()
    return database, bucket, publisher


def whole(database: Database, rows: dict[int, str]) -> None:
    database.rows.clear()
    database.write({TRUNCATED: "x"}, 2.0)
    del database.rows[TRUNCATED]
    database.rows.update(rows)


def stored(bucket: Bucket) -> dict[int, str]:
    assert bucket.body is not None
    return state_of(bucket.body)


def test_an_emptied_table_is_appended_as_empty() -> None:
    database, bucket, publisher = started()
    whole(database, {})
    assert publisher.publish().action == "append"
    assert stored(bucket) == {}


def test_mutations_around_it_in_one_cut_and_in_later_ones_are_kept() -> None:
    database, bucket, publisher = started()
    database.write({3: "before", 7: None}, 2.0)
    publisher.publish()
    database.write({4: "between"}, 2.0)
    whole(database, {100: "new"})
    database.write({101: "after"}, 3.0)
    assert publisher.publish().action == "append"
    assert stored(bucket) == {100: "new", 101: "after"}
    database.write({100: "newer", 102: "last"}, 4.0)
    assert publisher.publish().action == "append"
    assert stored(bucket) == {100: "newer", 101: "after", 102: "last"}
    whole(database, {5: "again"})
    publisher.publish()
    assert stored(bucket) == {5: "again"}


def test_a_table_that_is_too_large_for_a_tail_makes_a_rewrite() -> None:
    database, bucket, publisher = started(Limits(tail_free_bytes=600))
    whole(database, {key: f"{key * 7919 % 1009}" for key in range(2000)})
    assert publisher.publish().action == "rewrite"
    assert stored(bucket) == database.rows


def test_an_emptied_configuration_holds_the_last_good_object() -> None:
    database, bucket, publisher = started(Limits(collapse_from_rows=10))
    good = bucket.body
    whole(database, {})
    with pytest.raises(Refused, match="shrank from 50 rows to 0"):
        publisher.publish()
    assert bucket.body == good
