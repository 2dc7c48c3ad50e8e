"""From COMMIT to stored, change by change, against a bare conditional write of the same bytes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

import bequest

from .. import litestream
from ..bench import Bench, forget, url
from ..measure import Figure, percentile
from ..servers import BUCKET, S3Server, s3

TITLE = "per-change publish: lag from COMMIT to stored"
PEERS = ("litestream", "boto3", "ministack")


class Follower:
    """A controller with Bequest embedded, and the moments at which changes were stored."""

    def __init__(self, database: Path, store: str) -> None:
        self.engine = create_engine(url(database))
        self._rows = 1
        self._stored = threading.Event()
        self._at = 0.0
        self.sent: list[int] = []
        self.backup = bequest.Backup(self.engine, store, on_event=self._heard)
        with self.engine.begin() as connection:
            connection.execute(text("PRAGMA synchronous = NORMAL"))
            self._rows = connection.execute(text("SELECT max(id) FROM device")).scalar_one()

    def _heard(self, name: str, facts: dict[str, Any]) -> None:
        if name == "published" and facts["bytes_sent"]:
            self._at = time.perf_counter()
            self.sent.append(facts["bytes_sent"])
            self._stored.set()

    def change(self, number: int) -> float:
        """Commit one change; seconds until it was stored."""
        self._stored.clear()
        with self.engine.connect() as connection:
            sql = text("UPDATE device SET state = state + 1, seen = :seen WHERE id = :id")
            row = 1 + number * 7919 % self._rows
            connection.execute(sql, {"seen": f"2026-11-23 {number:08}", "id": row})
            connection.commit()
        committed = time.perf_counter()
        if not self._stored.wait(30):
            raise RuntimeError(f"change {number} was not stored: {self.backup.status()}")
        return max(0.0, self._at - committed)

    def close(self) -> None:
        self.backup.stop()
        self.engine.dispose()


def followed(database: Path, store: str, bare: Callable[[int], object], changes: int) -> Lags:
    """Changes and bare writes in turns."""
    follower = Follower(database, store)
    lags = Lags()
    try:
        follower.backup.start()
        follower.backup.flush()
        for number in range(10):
            follower.change(number)
        follower.sent.clear()
        for number in range(changes):
            lags.mine.append(follower.change(10 + number))
            begin = time.perf_counter()
            bare(follower.sent[-1])
            lags.bare.append(time.perf_counter() - begin)
        lags.sent = follower.sent
    finally:
        follower.close()
    return lags


class Lags:
    """Seconds, change by change."""

    def __init__(self) -> None:
        self.mine: list[float] = []
        self.bare: list[float] = []
        self.sent: list[int] = []


def run(bench: Bench) -> Iterator[Figure]:
    changes = bench.times(500, 100)
    database, store = bench.controller(bench.small), bench.fresh("store")
    lags = followed(database, str(store), FileWriter(bench.fresh("bare")), changes)
    yield from _figures("file", lags, 5.0)
    forget(database, store)
    with s3(bench.fresh("s3")) as server:
        database = bench.controller(bench.small)
        bare = S3Writer(server)
        lags = followed(database, server.url(server.new_key()), bare, changes // 5)
        bare.close()
        yield from _figures("S3", lags, None)
        forget(database)
    for interval in ("", "10ms"):
        seconds = _litestream(bench, interval, bench.times(15, 5))
        what = f"sync interval {interval or 'default'}"
        yield Figure("p50, file", f"Litestream, {what}", _ms(seconds, 0.5), "ms")


def _figures(where: str, lags: Lags, most_ms: float | None) -> Iterator[Figure]:
    peer = "bare write" if where == "S3" else "bare append + 2 fsyncs"
    # A publish to a file syncs the commits and the intent as well: 1.3 would be below the floor.
    for share, limit in ((0.5, 1.3 if where == "S3" else 2.5), (0.99, 2.0)):
        mine, bare = percentile(lags.mine, share), percentile(lags.bare, share)
        yield Figure(f"p{share * 100:.0f}, {where}", peer, (mine / bare,), limit=limit)
    yield Figure(f"p50, {where}", "-", _ms(lags.mine, 0.5), "ms", most_ms)
    yield Figure(f"p99, {where}", "-", _ms(lags.mine, 0.99), "ms")
    yield Figure(f"p50, {where}", "bare write alone", _ms(lags.bare, 0.5), "ms")


def _ms(seconds: list[float], share: float) -> tuple[float, ...]:
    return (1000 * percentile(seconds, share),)


class FileWriter:
    """What a durable append to a file costs at least: bytes, sync, the preamble, sync."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(bytes(4096))

    def __call__(self, size: int) -> None:
        handle = os.open(self._path, os.O_RDWR)
        try:
            os.pwrite(handle, os.urandom(size), os.fstat(handle).st_size)
            os.fsync(handle)
            os.pwrite(handle, bytes(34), 0)
            os.fsync(handle)
        finally:
            os.close(handle)


class S3Writer:
    """A conditional PUT of the whole small object, which is what an append to S3 comes down to."""

    def __init__(self, server: S3Server) -> None:
        self._client = server.client()
        self._key = server.new_key()
        self._body = os.urandom(300_000)
        self._etag = self._client.put_object(Bucket=BUCKET, Key=self._key, Body=b"")["ETag"]

    def __call__(self, size: int) -> None:
        self._body += os.urandom(size)
        found = self._client.put_object(
            Bucket=BUCKET, Key=self._key, Body=self._body, IfMatch=self._etag
        )
        self._etag = found["ETag"]

    def close(self) -> None:
        self._client.close()


def _litestream(bench: Bench, interval: str, changes: int) -> list[float]:
    database, replica = bench.controller(bench.small), bench.fresh("replica")
    db = sqlite3.connect(database, isolation_level=None)
    seconds: list[float] = []
    with litestream.replicating(
        database, litestream.to_file(replica, interval), bench.fresh("litestream.yml"), interval
    ):
        litestream.settled(replica)
        for number in range(changes):
            before = set(_level_0(replica))
            db.execute("UPDATE device SET state = state + 1 WHERE id = ?", (1 + number,))
            begin = time.perf_counter()
            while set(_level_0(replica)) == before:
                if time.perf_counter() - begin > 30:
                    raise RuntimeError("Litestream stored nothing within 30 s")
                time.sleep(0.0005)
            seconds.append(time.perf_counter() - begin)
            time.sleep(0.13 * (number % 7))
    db.close()
    forget(database, replica)
    return seconds


def _level_0(replica: Path) -> list[str]:
    folder = replica / "ltx" / "0"
    return [name for name in os.listdir(folder) if name.endswith(".ltx")]
