"""Controllers that fork, each a process of its own: python -m tests.forks.controller STORY ARGS.

What they saw is printed as one JSON object. pytest's own process never forks: it has threads of
other tests.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Engine

import bequest
from bequest import registry
from bequest.model import Memory

CHILDREN: Final = 60
ROWS: Final = 3
WORKERS: Final = 4
BUSY_SECONDS: Final = 2.0
LIFE_SECONDS: Final = 60
PAUSE_SECONDS: Final = 0.004
"""Between two transactions: SQLite's busy handler is not fair, and a writer without one starves."""
TABLE: Final = "CREATE TABLE IF NOT EXISTS sites (id {} PRIMARY KEY, name TEXT)"


def child(work: Callable[[], object]) -> int:
    """Fork, and do ``work`` in the child: its process id. A child that hangs ends as a failure."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        threading.Timer(LIFE_SECONDS, lambda: os._exit(3)).start()
        work()
        code = 0
    except Exception:
        logging.exception("a child failed")
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(number: int) -> int:
    """How a child ended."""
    _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)


def engine_of(database: str, mode: str = "wal") -> Engine:
    """As a controller makes it, with a connection for each use; ``mode`` is SQLite's journal's."""
    engine = create_engine(database, poolclass=NullPool)
    with engine.begin() as connection:
        if database.startswith("sqlite"):
            connection.exec_driver_sql(f"PRAGMA journal_mode = {mode}")
            connection.exec_driver_sql(TABLE.format("INTEGER"))
        else:
            connection.exec_driver_sql(TABLE.format("SERIAL"))
    return engine


def insert(database: str, rows: int) -> None:
    """Commit ``rows`` rows, one by one, through connections of the caller's own."""
    if not database.startswith("sqlite"):
        engine = create_engine(database, poolclass=NullPool)
        for _ in range(rows):
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO sites (name) VALUES ('child')"))
        return
    path = database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        for _ in range(rows):
            connection.execute("INSERT INTO sites (name) VALUES ('child')")


def commit(engine: Engine, name: str) -> None:
    """One transaction of the parent's."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO sites (name) VALUES (:name)"), {"name": name})


def under_load(database: str, store: str, with_bequest: str, mode: str) -> dict[str, Any]:
    """Fork children that commit, while another process commits and Bequest publishes."""
    engine_of(database, mode).dispose()
    backup = bequest.Backup(create_engine(database, poolclass=NullPool), store)
    if with_bequest == "with":
        backup.start()
        backup.flush()
    writer = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "write", database],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    chosen = random.Random(5)
    codes: list[int] = []
    for _ in range(CHILDREN // 4):
        children = []
        for _ in range(4):
            time.sleep(chosen.uniform(0, 0.02))
            children.append(child(lambda: insert(database, ROWS)))
        codes += [ended(number) for number in children]
    written, _ = writer.communicate("enough\n")
    seen: dict[str, Any] = {"failed": sum(1 for code in codes if code)}
    if with_bequest == "with":
        seen["stored"] = backup.stop()
    return seen | {"written": json.loads(written)}


def while_read(database: str, mode: str) -> dict[str, Any]:
    """Fork children that commit, while a thread has a cut open nearly all the time."""
    engine_of(database, mode).dispose()
    insert(database, 500)
    source = registry.open_source(database)
    source.install()
    with source.cut(Memory()) as cut:
        memory = Memory(position=cut.position)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with suppress(bequest.Unreachable), source.cut(memory) as cut:
                for table in cut.catalog().tables:
                    sum(len(block) for block in cut.scan(table))

    reader = threading.Thread(target=read)
    reader.start()
    codes = [ended(child(lambda: insert(database, ROWS))) for _ in range(CHILDREN)]
    done.set()
    reader.join()
    source.close()
    return {"failed": sum(1 for code in codes if code)}


def preload(database: str, store: str) -> dict[str, Any]:
    """A server imports the application, which starts the backup, and forks its workers."""
    engine = engine_of(database)
    backup = bequest.Backup(engine, store)
    backup.start()
    backup.flush()
    heard, said = os.pipe()

    def work() -> None:
        engine.dispose(close=False)
        for _ in range(ROWS):
            commit(engine, "worker")
        threads = [thread.name for thread in threading.enumerate() if "bequest" in thread.name]
        facts = {"threads": threads, "handles": handles(database)}
        os.write(said, json.dumps(facts).encode() + b"\n")

    codes = [ended(child(work)) for _ in range(WORKERS)]
    os.close(said)
    with os.fdopen(heard) as lines:
        facts = [json.loads(line) for line in lines]
    wait_for(lambda: rows_in(store) == WORKERS * ROWS)
    return {"codes": codes, "workers": facts, "stored": backup.stop(), "rows": rows_in(store)}


def daemonise(database: str, store: str, events: str) -> None:
    """Start, fork twice, and go on in the grandchild."""
    engine = engine_of(database)
    backup = bequest.Backup(engine, store, on_event=logged(events))
    backup.start()
    commit(engine, "before")
    backup.flush()
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    engine.dispose(close=False)
    backup.flush()  # works although this process has not started
    backup.start()
    wait_for(lambda: "leading" in read(events).split()[1:])
    commit(engine, "after")
    wait_for(lambda: rows_in(store) == 2)
    logged(events)("done", {"stored": backup.stop(), "again": restarted(backup)})


def restarted(backup: bequest.Backup) -> bool:
    """Whether `start` after `stop` starts."""
    backup.start()
    backup.start()
    return backup.stop()


def orphan(database: str, store: str, events: str) -> None:
    """The process that published ends; one that it forked goes on and does not start."""
    engine = engine_of(database)
    backup = bequest.Backup(engine, store, on_event=logged(events))
    backup.start()
    backup.flush()
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    engine.dispose(close=False)
    wait_for(lambda: os.getppid() != parent)

    def said_so() -> bool:
        commit(engine, "unheard of")
        return "failed" in read(events)

    wait_for(said_so)  # the process that has ended keeps its number until somebody asks how
    logged(events)("done", {})


def succession(database: str, store: str, events: str) -> None:
    """A forked child starts beside its parent, waits, and leads when the parent is killed."""
    engine = engine_of(database)
    backup = bequest.Backup(engine, store)
    backup.start()
    backup.flush()
    wait_for(lambda: backup._watcher.leading)
    parent = os.getpid()
    if os.fork():
        time.sleep(LIFE_SECONDS)
    engine.dispose(close=False)
    backup._on_event = logged(events)
    backup.start()
    wait_for(lambda: "waiting" in read(events))
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: "leading" in read(events))
    commit(engine, "inherited")
    wait_for(lambda: rows_in(store) == 1)
    logged(events)("done", {"stored": backup.stop()})


def lock_is_kept(database: str) -> dict[str, Any]:
    """A child of the process that publishes and leads ends, by itself and by `Source.close`."""
    engine_of(database).dispose()
    source = registry.open_source(database)
    source.install()
    taken = []
    with source.exclusive(0):
        source.lead()
        for work in (lambda: None, source.close):
            ended(child(work))
            taken.append(in_another(database))
    source.close()
    return {"while_held": taken, "afterwards": in_another(database)}


def in_another(database: str) -> list[bool]:
    """Whether another process can lead, and publish."""
    run = [sys.executable, "-m", __spec__.name, "take", database]
    return list(json.loads(subprocess.run(run, capture_output=True, check=True).stdout))


def take(database: str) -> list[bool]:
    """See `in_another`."""
    with closing(registry.open_source(database)) as source:
        try:
            with source.exclusive(0):
                return [source.lead(), True]
        except bequest.Unreachable:
            return [source.lead(), False]


def all_ways(database: str, store: str) -> dict[str, Any]:
    """Every way in which Python forks, from every thread, under a backup that publishes."""
    engine = engine_of(database)
    codes: list[int] = []

    def heard(name: str, _: dict[str, Any]) -> None:
        if name == "published" and len(codes) < 3:
            codes.append(ended(child(lambda: insert(database, 1))))

    with bequest.Backup(engine, store, on_event=heard):
        for _ in range(3):
            insert(database, 1)
            time.sleep(0.2)
        for method in ("fork", "forkserver", "spawn"):
            process = multiprocessing.get_context(method).Process(target=insert, args=(database, 1))
            process.start()
            process.join()
            codes.append(process.exitcode or 0)
        threads = [
            threading.Thread(target=lambda: codes.append(ended(child(lambda: insert(database, 1)))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes.append(subprocess.run(["true"], preexec_fn=os.getpid, check=False).returncode)
    return {"codes": codes, "rows": rows_in(store)}


def handles(database: str) -> list[str]:
    """What of Bequest's this process has open: the database, its locks, an inotify instance."""
    name = os.path.basename(database)
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{number}")
            if name in target or "inotify" in target:
                found.append(target)
    return found


def logged(path: str) -> Callable[[str, dict[str, Any]], None]:
    """An ``on_event`` that writes names, and the facts of the last one, to a file."""

    def listener(name: str, facts: dict[str, Any]) -> None:
        with open(path, "a") as file:
            file.write(f"{name} {json.dumps(facts) if name == 'done' else ''}\n")

    open(path, "a").close()
    return listener


def read(events: str) -> str:
    """What `logged` has written so far."""
    return Path(events).read_text()


def rows_in(store: str) -> int:
    """How many rows of ours the object holds."""
    (table,) = bequest.verify(store).tables.values()
    return int(table["rows"])


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when it holds; the test's own time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.02)


def write(database: str) -> int:
    """Commit until there is a word from the standard input; how many rows."""
    enough = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), enough.set()), daemon=True).start()
    rows = 0
    while not enough.is_set():
        insert(database, 1)
        rows += 1
        time.sleep(PAUSE_SECONDS)
    return rows


STORIES: Final[dict[str, Callable[..., Any]]] = {
    story.__name__: story
    for story in (
        under_load, while_read, preload, daemonise, orphan, succession, lock_is_kept, take,
        all_ways, write,
    )
}  # fmt: skip


def main() -> None:
    """Run a story."""
    story, *arguments = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR)
    print(json.dumps(STORIES[story](*arguments)), flush=True)


if __name__ == "__main__":
    main()
