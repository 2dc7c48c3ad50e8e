"""The fuzz target, for the tests: hypothesis mutates the seeds, without looking at coverage.

`python -m tests.fuzz` guides the same target by coverage, and goes on for as long as it is told.
"""

from __future__ import annotations

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from .reader import KINDS, read, seeds

SEEDS = list(seeds())
PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.sampled_from(["", "id", "tables", "u", "x"]),
        st.binary(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.sampled_from(["tables", "attributes", "id", "key"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(st.sampled_from(SEEDS), st.data())
def test_mutated_seeds_are_read_or_damaged(seed: bytes, data: st.DataObject) -> None:
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        mutated[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    read(bytes(mutated))


@settings(max_examples=300)
@given(st.integers(0, len(KINDS) - 1), PLAIN)
def test_any_content_under_a_right_digest_is_read_or_damaged(kind: int, content: object) -> None:
    read(bytes([kind]) + msgpack.packb(content))
