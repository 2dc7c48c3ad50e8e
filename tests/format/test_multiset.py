"""A table without a key is a multiset: rows come and go one by one, in whatever order."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bequest.errors import SnapshotDamaged
from bequest.model import Catalog, Column, Mark, Mutation, Operation, Row, Table
from bequest.snapshot.fold import Snapshot
from bequest.snapshot.frame import PREAMBLE_BYTES, pack, preamble
from bequest.snapshot.writer import write_base, write_tail
from tests.format import plain_reader

from .test_vectors import LINEAGE, FakeCut

NOTES = Table(1, "notes", (Column("a"), Column("b")), (), "CREATE ...")
OTHER = Table(2, "other", (Column("id"),), (0,), "CREATE ...")
VALUES = st.sampled_from([0, 1, 1.0, -0.0, math.nan, "", "1", b"1", None])
ROWS = st.tuples(VALUES, VALUES)


def built(base: Sequence[Row], tails: Sequence[Sequence[tuple[Operation, Row]]]) -> bytes:
    body = io.BytesIO()
    header = {"format": 1, "lineage": LINEAGE, "epoch": 1, "dialect": "postgresql"}
    cut = FakeCut({1: base, 2: [(1,), (2,)]})
    catalog = Catalog((NOTES, OTHER))
    mark = Mark(LINEAGE, 1, 1, "11" * 16)
    chain, _, _ = write_base(cut, header, catalog, {}, mark, 1.5, body)  # type: ignore[arg-type]
    data = body.getvalue()
    for serial, changes in enumerate(tails, start=2):
        mutations = [Mutation(1, operation, (), row, 2.0) for operation, row in changes]
        mark = Mark(LINEAGE, 1, serial, "22" * 16)
        more, chain = write_tail(mutations, {}, [], mark, 2.5, chain, 1 << 20)
        data = preamble(len(data) + len(more)) + data[PREAMBLE_BYTES:] + more
    return data


def folded(data: bytes) -> Counter[bytes]:
    snapshot = Snapshot.open(io.BytesIO(data))
    return Counter(pack(row) for table, rows in snapshot.rows() for row in rows if table.id == 1)


@given(st.lists(ROWS, max_size=8), st.lists(st.lists(st.tuples(st.booleans(), ROWS)), max_size=4))
def test_the_fold_is_the_sum_of_what_came_and_went(
    base: list[Row], wanted: list[list[tuple[bool, Row]]]
) -> None:
    model = Counter(pack(row) for row in base)
    tails: list[list[tuple[Operation, Row]]] = []
    for changes in wanted:
        tail: list[tuple[Operation, Row]] = []
        for comes, row in changes:
            if not comes and not model[pack(row)]:
                continue
            model[pack(row)] += 1 if comes else -1
            tail.append((Operation.INSERT if comes else Operation.DELETE, row))
        # Of one cut only the sum counts: commits come in another order than statements.
        tails.append(tail[::-1])
    assert folded(built(base, tails)) == +model


def test_the_plain_reader_agrees() -> None:
    base: list[Row] = [(1, "x"), (1, "x"), (2, "y")]
    changes = [
        (Operation.DELETE, base[0]),
        (Operation.INSERT, (3, "z")),
        (Operation.DELETE, base[2]),
    ]
    tables, _ = plain_reader.read(built(base, [changes]))
    assert sorted(tables["notes"].values()) == [(1, "x"), (3, "z")]
    assert sorted(tables["other"].values()) == [(1,), (2,)]


def test_a_tail_that_takes_away_what_is_not_there_is_refused() -> None:
    data = built([(1, "x")], [[(Operation.DELETE, (2, "y"))]])
    with pytest.raises(SnapshotDamaged, match="takes away rows of table 'notes'"):
        folded(data)


@pytest.mark.parametrize(
    ("operation", "row"), [(Operation.UPDATE, (1, "x")), (Operation.DELETE, None)]
)
def test_a_mutation_with_neither_key_nor_meaning_is_refused(
    operation: Operation, row: Row | None
) -> None:
    data = built([(1, "x")], [[(operation, row)]])  # type: ignore[list-item]
    with pytest.raises(SnapshotDamaged, match="neither key nor row"):
        Snapshot.open(io.BytesIO(data))
