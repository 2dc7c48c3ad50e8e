"""PostgreSQL: bulk capture, eight committers, snapshot, restore; against its own tools."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bequest

from .. import orm
from ..bench import Bench
from ..data import TABLES, rows_of
from ..measure import Figure, in_turns
from ..peers import program, shell

TITLE = "PostgreSQL: capture, eight committers, snapshot, restore"
PEERS = ("zstd", "pg_dump", "pg_restore")
_BULK = (
    "INSERT INTO bulk SELECT i, 'name ' || i, 'some text value', i, i * 0.5"
    " FROM generate_series(1, 100000) AS i",
    "UPDATE bulk SET c = c + 1",
)
_DURABLE = {"fsync": "on", "full_page_writes": "on"}
"""As a server is by default. The tests' own is not: it would let commits cost next to nothing."""
_COMMITTER = """\\set id random(1, 900)
UPDATE device SET state = state + 1 WHERE id = :id;
"""


def run(bench: Bench) -> Iterator[Figure]:
    from tests.servers.postgresql import _folder, _started

    with _folder() as folder, _started(folder, _DURABLE) as server:
        yield from _commits(bench, server)
        yield from _bulk(bench, server)
        yield from _committers(bench, server)
        with server.database() as url:
            _fill(server, url, bench.normal)
            yield from _snapshot_and_restore(bench, server, url)


def _commits(bench: Bench, server: Any) -> Iterator[Figure]:
    """Commits of one row, and of many, through the ORM: in turns on two databases."""
    rows = bench.times(20_000, 2_000)
    single: list[float] = []
    bulk: list[float] = []
    for _ in range(bench.few):
        with server.database() as one, server.database() as two:
            plain, mine = orm.on(one, captured=False), orm.on(two, captured=True)
            taken: dict[bool, list[float]] = {False: [], True: []}
            for number in range(bench.times(600, 200)):
                for each in (plain, mine) if number % 2 else (mine, plain):
                    taken[each is mine].append(each.commit_one(number))
            single.append(statistics.median(taken[True]) / statistics.median(taken[False]))
            bulk.append(mine.commit_many(rows) / plain.commit_many(rows))
            for each in (plain, mine):
                each.close()
    yield Figure("ORM single-row commit", "no capture", tuple(single), limit=1.06)
    yield Figure(f"ORM bulk of {rows}", "no capture", tuple(bulk), limit=1.25)


def _bulk(bench: Bench, server: Any) -> Iterator[Figure]:
    seconds: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(bench.rounds):
        for captured, found in seconds.items():
            with server.database() as url, server.connect(url.database) as db:
                db.execute(
                    "CREATE TABLE bulk (id BIGINT PRIMARY KEY, a TEXT, b TEXT, c INT, d REAL)"
                )
                if captured:
                    bequest.install(_text(url))
                found.append([_seconds(db, statement) for statement in _BULK])
    for index, what in enumerate(("raw INSERT of 100k", "raw UPDATE of 100k")):
        pairs = zip(seconds[True], seconds[False], strict=True)
        ratios = tuple(mine[index] / plain[index] for mine, plain in pairs)
        yield Figure(what, "no capture", ratios, limit=2.2)


def _seconds(db: Any, statement: str) -> float:
    begin = time.perf_counter()
    db.execute(statement)
    return time.perf_counter() - begin


def _committers(bench: Bench, server: Any) -> Iterator[Figure]:
    script = bench.fresh("committer.sql")
    script.write_text(_COMMITTER)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(bench.few):
        for captured, found in rates.items():
            with server.database() as url:
                _fill(server, url, bench.small)
                if captured:
                    with _sidecar(_text(url), bench.fresh("store")):
                        found.append(_pgbench(server, url, script, bench.times(4, 2)))
                else:
                    found.append(_pgbench(server, url, script, bench.times(4, 2)))
    pairs = zip(rates[True], rates[False], strict=True)
    shares = tuple(mine / none for mine, none in pairs)
    yield Figure(
        "eight committers beside a sidecar", "no capture", shares, limit=0.75, at_least=True
    )


def _pgbench(server: Any, url: Any, script: Path, seconds: int) -> float:
    command = [server.program("pgbench"), "-n", "-c", "8", "-j", "2", "-T", str(seconds)]
    command += ["-f", str(script), "-h", url.host, "-p", str(url.port), "-U", url.username]
    said = subprocess.run(
        [*command, url.database], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout.decode()
    found = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench said nothing of its rate: {said}")
    return float(found[1])


@contextmanager
def _sidecar(url: str, store: Path) -> Generator[None]:
    bequest.backup(url, str(store))
    command = [sys.executable, "-m", "bequest_adapters.cli", "run"]
    command += ["--database", url, "--store", str(store)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the sidecar ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def _snapshot_and_restore(bench: Bench, server: Any, url: Any) -> Iterator[Figure]:
    store, custom, plain = bench.fresh("store"), bench.fresh("c.dump"), bench.fresh("p.zst")
    dump = f"{server.program('pg_dump')} -h {url.host} -p {url.port} -U {url.username}"
    zstd = program("zstd")
    works = {
        "bequest": lambda _: bequest.backup(_text(url), str(store), rewrite=True),
        "-Fc": lambda _: shell(f"{dump} -Fc -f {custom} {url.database}"),
        "-Fp": lambda _: shell(f"{dump} -Fp {url.database} | {zstd} -3 -q -f -o {plain}"),
    }
    turns = in_turns(bench.rounds, works)
    faster = turns.ratios("-Fc", "bequest")
    yield Figure("snapshot, times as fast", "pg_dump -Fc", faster, limit=2.5, at_least=True)
    sizes = {path: path.stat().st_size for path in (store, custom, plain)}
    yield Figure("snapshot, size", "pg_dump -Fc", (sizes[store] / sizes[custom],), limit=1.0)
    against = "pg_dump -Fp | zstd -3"
    yield Figure("snapshot, time", against, turns.ratios("bequest", "-Fp"), limit=1.2)
    yield Figure("snapshot, size", against, (sizes[store] / sizes[plain],), limit=0.85)
    taken: dict[str, list[float]] = {"bequest": [], "-j1": [], "-j2": []}
    load = f"{server.program('pg_restore')} -h {url.host} -p {url.port} -U {url.username}"
    for _ in range(bench.rounds):
        for name, found in taken.items():
            with server.database() as new:
                begin = time.perf_counter()
                if name == "bequest":
                    bequest.restore(str(store), _text(new), adopt=False)
                else:
                    shell(f"{load} {name} -d {new.database} {custom}")
                found.append(time.perf_counter() - begin)
    for name in ("-j1", "-j2"):
        ratios = tuple(a / b for a, b in zip(taken["bequest"], taken[name], strict=True))
        yield Figure("restore, verified", f"pg_restore {name}", ratios, limit=1.0)


def _fill(server: Any, url: Any, rows: int) -> None:
    with server.connect(url.database) as db:
        for spec in TABLES:
            db.execute(f"CREATE TABLE {spec.name} {spec.postgresql}")
            with db.cursor().copy(f"COPY {spec.name} FROM STDIN") as copy:
                for row in rows_of(spec, rows):
                    copy.write_row(row)
        for spec in TABLES:
            for column in spec.indexes:
                db.execute(f"CREATE INDEX {spec.name}_{column} ON {spec.name} ({column})")


def _text(url: Any) -> str:
    text: str = url.render_as_string(hide_password=False)
    return text
