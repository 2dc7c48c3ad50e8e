"""A download in ranges asks for nothing before the place that its reader goes to."""

from __future__ import annotations

import os
import random

from bequest_adapters.stores.ranged import ranged

DATA = random.Random(1).randbytes(20_000_000)


def test_what_was_skipped_is_not_asked_for() -> None:
    asked: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append(offset)
        return DATA[offset : offset + length]

    with ranged(fetch, 0, len(DATA), "o", lambda seconds: None) as stream:
        stream.seek(19_000_000)
        assert stream.read() == DATA[19_000_000:]
    assert min(asked) == 19_000_000


def test_a_reader_may_go_anywhere_at_any_time() -> None:
    start = 1000

    def fetch(offset: int, length: int) -> bytes:
        return DATA[offset : offset + length]

    places = random.Random(2)
    with ranged(fetch, start, len(DATA), "o", lambda seconds: None) as stream:
        for _ in range(30):
            place, length = places.randrange(len(DATA) - start), places.randrange(1 << 21)
            assert stream.seek(place) == place
            assert stream.read(length) == DATA[start + place :][:length]
        assert stream.seek(-7, os.SEEK_END) == len(DATA) - start - 7
        assert stream.read() == DATA[-7:]
