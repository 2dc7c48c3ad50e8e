"""Bytes and requests per one-row change, counted by a proxy before an S3 server."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import bequest

from .. import litestream
from ..bench import Bench, forget, url
from ..measure import Figure
from ..servers import BUCKET, FaultProxy, S3Server, counted, s3

TITLE = "bytes and requests per one-row change (S3, changes spread over time)"
PEERS = ("litestream", "boto3", "ministack")


def run(bench: Bench) -> Iterator[Figure]:
    changes, seconds = bench.times(500, 100), bench.times(25, 5)
    with s3(bench.fresh("s3")) as server, counted(server) as (through, proxy):
        database = bench.controller(bench.small)
        sent: list[int] = []
        stored = url(database), through.url(through.new_key())
        with bequest.Backup(
            *stored, on_event=lambda _, facts: sent.append(facts.get("bytes_sent", 0))
        ) as backup:
            _settle(backup, database)
            proxy.clear()
            sent.clear()
            _work(database, changes, seconds)
            backup.flush()
            yield from _figures("Bequest, small object", proxy, changes)
            frames = sum(sent) / changes
            yield Figure("bytes of frames per change", "-", (frames,), "B", 700)
            publishes = sum(1 for each in sent if each)
            per = len(proxy.requests) / max(1, publishes)
            yield Figure("requests per publish, small object", "-", (per,), "", 1.0)
            proxy.clear()
            time.sleep(bench.times(5, 2))
            yield Figure("requests while idle", "-", (len(proxy.requests),), "", 0)
        forget(database)
        yield from _large(bench, through, proxy)
        database = bench.controller(bench.small)
        config = bench.fresh("litestream.yml")
        with litestream.replicating(database, litestream.to_s3(through, "ls"), config):
            _first_object(server)
            time.sleep(2.0)
            proxy.clear()
            _work(database, changes, seconds)
            time.sleep(2.0)
            yield from _figures("Litestream", proxy, changes)
        forget(database)


def _large(bench: Bench, server: S3Server, proxy: FaultProxy) -> Iterator[Figure]:
    """An object above S3's least size of a part: only what is new travels."""
    database, changes = bench.controller(bench.normal), bench.times(100, 20)
    sent: list[int] = []
    stored = url(database), server.url(server.new_key())
    with bequest.Backup(
        *stored, on_event=lambda _, facts: sent.append(facts.get("bytes_sent", 0))
    ) as backup:
        _settle(backup, database)
        proxy.clear()
        sent.clear()
        _work(database, changes, changes / 20)
        backup.flush()
        publishes = sum(1 for each in sent if each)
        per = len(proxy.requests) / max(1, publishes)
        yield Figure("requests per publish, large object", "-", (per,), "", 4.0)
        wire = proxy.sent_bytes / changes
        note = "request lines and headers included"
        yield Figure("bytes on the wire per change, large object", "-", (wire,), "B", note=note)
    forget(database)


def _settle(backup: bequest.Backup, database: Path) -> None:
    """Let pass what a process asks once: the watcher's first look, the first append's clearing up
    of uploads that were never ended.
    """
    backup.flush(None)
    _work(database, 1, 0.0)
    backup.flush()
    time.sleep(1.0)


def _first_object(server: S3Server) -> None:
    client = server.client()
    for _ in range(300):
        if client.list_objects_v2(Bucket=BUCKET, Prefix="ls/").get("KeyCount"):
            break
        time.sleep(0.1)
    else:
        raise RuntimeError("Litestream stored nothing within 30 s")
    client.close()


def _work(database: Path, changes: int, seconds: float) -> None:
    db = sqlite3.connect(database, isolation_level=None)
    begin = time.monotonic()
    for number in range(changes):
        db.execute("UPDATE device SET state = state + 1 WHERE id = ?", (1 + number % 900,))
        time.sleep(max(0.0, begin + (number + 1) * seconds / changes - time.monotonic()))
    db.close()


def _figures(who: str, proxy: FaultProxy, changes: int) -> Iterator[Figure]:
    kinds = Counter(request.method for request in proxy.requests)
    note = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    total = sum(kinds.values()) / changes
    yield Figure(f"requests per change, {who}", "-", (total,), "", note=note)
    wire = proxy.sent_bytes / changes
    yield Figure(f"bytes on the wire per change, {who}", "-", (wire,), "B")
