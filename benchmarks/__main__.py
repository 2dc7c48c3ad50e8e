"""The figures of the embedded default, beside their peers, in one run.

    python -m benchmarks [--rows 200000] [--changes 300]

Ratios, as median (minimum - maximum) over interleaved rounds: absolute times on a shared machine
mean little. A peer that is missing ends the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bequest

ROUNDS = 3


def controller(path: Path, rows: int) -> None:
    """A configuration of ``rows`` rows in three related tables, the same every time."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(
        "CREATE TABLE site (id INTEGER PRIMARY KEY, name TEXT UNIQUE, created TEXT);"
        "CREATE TABLE device (id INTEGER PRIMARY KEY, site_id INT REFERENCES site(id), name TEXT,"
        " address TEXT, config TEXT, weight REAL);"
        "CREATE INDEX device_site ON device (site_id);"
        "CREATE TABLE secret (id TEXT PRIMARY KEY NOT NULL, value BLOB) WITHOUT ROWID;"
    )
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    db.execute(
        f"INSERT INTO site {numbers} SELECT i, 'site ' || i, '2026-01-01T00:00:' || (i % 60)"
        " FROM n WHERE i % 50 = 0"
    )
    db.execute(
        f"INSERT INTO device {numbers} SELECT i, (i / 50) * 50, 'device ' || i,"
        " '10.' || (i % 200) || '.' || (i % 250) || '.' || (i * 7 % 250),"
        ' \'{"mtu": \' || (1400 + i % 100) || \', "tags": ["a", "b"]}\', i * 0.37 FROM n'
    )
    db.execute(
        f"INSERT INTO secret {numbers} SELECT 'key ' || i, randomblob(24) FROM n WHERE i % 20 = 0"
    )
    db.close()


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ratios(name: str, mine: list[float], peer: list[float], against: str) -> None:
    each = [a / b for a, b in zip(mine, peer, strict=True)]
    spread = f"{statistics.median(each):.2f}x ({min(each):.2f} - {max(each):.2f})"
    print(f"{name:44} {spread:24} of {against}")


def snapshot_and_restore(folder: Path, rows: int) -> None:
    """A full snapshot and its restore, beside ``sqlite3 .dump | zstd -3`` and back."""
    database, store = folder / "c.db", folder / "c.bequest"
    controller(database, rows)
    dump = folder / "dump.zst"
    made: list[float] = []
    dumped: list[float] = []
    restored: list[float] = []
    loaded: list[float] = []
    bequest.install(f"sqlite:///{database}")
    for number in range(ROUNDS):
        made.append(
            timed(lambda: bequest.backup(f"sqlite:///{database}", str(store), rewrite=True))
        )
        dumped.append(timed(lambda: shell(f"sqlite3 {database} .dump | zstd -3 -q -f -o {dump}")))
        new = folder / f"new{number}.db"
        restored.append(
            timed(lambda new=new: bequest.restore(str(store), f"sqlite:///{new}", adopt=False))
        )
        other = folder / f"other{number}.db"
        loaded.append(timed(lambda other=other: shell(f"zstd -dcq {dump} | sqlite3 {other}")))
    print(f"{rows} devices; object {store.stat().st_size:,} B, dump {dump.stat().st_size:,} B")
    ratios("full snapshot, time", made, dumped, "sqlite3 .dump | zstd -3")
    size = [store.stat().st_size / dump.stat().st_size]
    ratios("full snapshot, size", size, [1.0], "sqlite3 .dump | zstd -3")
    ratios("restore, verified, time", restored, loaded, "zstd -dc | sqlite3 (not verified)")


def per_change(folder: Path, rows: int, changes: int) -> list[float]:
    """Seconds from COMMIT to stored, for one-row changes, beside a bare durable append."""
    database, store = folder / f"p{rows}.db", folder / f"p{rows}.bequest"
    controller(database, rows)
    lags: list[float] = []
    sent: list[int] = []
    db = sqlite3.connect(database, isolation_level=None)
    with bequest.Backup(f"sqlite:///{database}", str(store)) as backup:
        backup.flush()
        for number in range(changes):
            db.execute("UPDATE device SET weight = ? WHERE id = ?", (number, 1 + number * 7 % rows))
            begin = time.perf_counter()
            report = backup.flush()
            lags.append(time.perf_counter() - begin)
            sent.append(report.bytes_sent)
    db.close()
    bare = [timed(lambda: durable_append(folder / "bare", b"x" * 200)) for _ in range(changes)]
    lags.sort()
    print(
        f"{f'one-row change, {rows} rows: lag to stored':44} "
        f"p50 {lags[len(lags) // 2] * 1000:.2f} ms, p99 {lags[len(lags) * 99 // 100] * 1000:.2f} ms"
        f" (bare append + fsync p50 {statistics.median(bare) * 1000:.2f} ms),"
        f" {statistics.median(sent):.0f} B sent"
    )
    return lags


def durable_append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def shell(command: str) -> None:
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--changes", type=int, default=300)
    arguments = parser.parse_args()
    for peer in ("sqlite3", "zstd"):
        if shutil.which(peer) is None:
            sys.exit(f"The peer {peer} is missing: install it, then run this again.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snapshot_and_restore(folder, arguments.rows)
        small = per_change(folder, arguments.rows // 100, arguments.changes)
        large = per_change(folder, arguments.rows, arguments.changes)
        medians = [statistics.median(large)], [statistics.median(small)]
        ratios("the same at 100 times the rows", *medians, "itself")


if __name__ == "__main__":
    main()
