"""A controller as people write them, run as a program: it works, and lists what failed.

    python controller.py PLAN          (a JSON object, see `Plan` in tests/harmless/controllers.py)

It knows nothing of Bequest unless the plan names a store to embed it for. It makes its database,
says "ready", waits for a line, does its transactions, and prints one JSON object. A statement that
fails is rolled back and never tried again, so one BUSY too many shows in the list and in the rows.
Every 50th transaction fails by itself, on a unique name: the list is never empty, and what is
compared is which statements failed, not whether any did.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

DEVICES = 40
Failures = list[tuple[int, str, str]]
Step = Callable[["Work", int], None]


class Work:
    """What a controller does: which failed, and the choices that its seed makes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.path: str = plan["path"]
        self.mode: str = plan["journal"]
        self.timeout: float = plan["timeout"]
        self.count: int = plan["count"]
        self.first_event: int = plan["seed"] * 1_000_000
        self.random = random.Random(plan["seed"])
        self.failures: Failures = []

    def connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=self.timeout)
        db.execute("PRAGMA synchronous = OFF")
        return db

    def device(self) -> int:
        return self.random.randrange(DEVICES)

    def think(self) -> None:
        """What lies between a read and the write that it leads to: often short, sometimes a call
        to another service.
        """
        time.sleep(0.02 if self.random.random() < 0.04 else 0.0005)

    @contextmanager
    def noting(self, number: int) -> Iterator[Callable[[str], None]]:
        """Note the failure of what was announced last."""
        said = [""]
        try:
            yield lambda statement: said.__setitem__(0, statement)
        except Exception as error:
            cause = getattr(error, "orig", error)
            if not isinstance(cause, sqlite3.Error):
                raise
            self.failures.append((number, said[0], str(cause)))


def prepare(work: Work) -> None:
    """The controller's first start."""
    with work.connect() as db:
        (mode,) = db.execute(f"PRAGMA journal_mode = {work.mode}").fetchone()
        assert mode == work.mode.lower(), mode
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE device (id INTEGER PRIMARY KEY, name TEXT UNIQUE, state INTEGER)")
        db.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, what TEXT)")
        rows = [(number, f"device {number}") for number in range(DEVICES)]
        db.executemany("INSERT INTO device VALUES (?, ?, 0)", rows)
        db.execute("COMMIT")
    db.close()


def change(work: Work, number: int, run: Callable[[str, tuple[Any, ...]], Any]) -> None:
    """Write what a transaction is for."""
    run("UPDATE device SET state = state + 1 WHERE id = ?", (work.device(),))
    if number % 50 == 25:
        run("INSERT INTO device VALUES (?, 'device 1', 0)", (1000 + number,))
    event = work.first_event + number
    if number % 5 == 0:
        run("INSERT INTO event (id, what) VALUES (?, ?)", (event, "x" * (number % 90)))
    if number % 35 == 0:
        run("DELETE FROM event WHERE id BETWEEN ? AND ?", (work.first_event, event - 100))


def transaction(
    work: Work, db: sqlite3.Connection, number: int, begin: str, body: Callable[[Any], object]
) -> None:
    """``begin``, ``body``, COMMIT on a bare connection; any failure rolls back."""
    with work.noting(number) as announce:

        def run(sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
            announce(sql)
            return db.execute(sql, values).fetchall()

        try:
            run(begin)
            body(run)
            run("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def read_and_write(work: Work, number: int, run: Callable[..., Any]) -> None:
    run("SELECT state FROM device WHERE id = ?", (work.device(),))
    work.think()
    change(work, number, run)


def on_one_connection(step: Callable[[Work, sqlite3.Connection, int], None]) -> Step:
    """A controller that keeps its connection."""
    kept: list[sqlite3.Connection] = []

    def do(work: Work, number: int) -> None:
        if not kept:
            kept.append(work.connect())
        step(work, kept[0], number)

    return do


def deferred(work: Work, db: sqlite3.Connection, number: int) -> None:
    """BEGIN, read, think, write: what most frameworks emit."""
    transaction(work, db, number, "BEGIN", lambda run: read_and_write(work, number, run))


def immediate(work: Work, db: sqlite3.Connection, number: int) -> None:
    """BEGIN IMMEDIATE, read, think, write."""
    transaction(work, db, number, "BEGIN IMMEDIATE", lambda run: read_and_write(work, number, run))


def autocommit(work: Work, db: sqlite3.Connection, number: int) -> None:
    """Every statement is a transaction."""
    with work.noting(number) as announce:

        def run(sql: str, values: tuple[Any, ...]) -> list[Any]:
            announce(sql)
            return db.execute(sql, values).fetchall()

        run("SELECT state FROM device WHERE id = ?", (work.device(),))
        work.think()
        change(work, number, run)


def savepoints(work: Work, db: sqlite3.Connection, number: int) -> None:
    """SAVEPOINT as the outermost transaction, and a nested one that is sometimes taken back."""
    with work.noting(number) as announce:

        def run(sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
            announce(sql)
            return db.execute(sql, values).fetchall()

        try:
            run("SAVEPOINT outer_one")
            run("SELECT count(*) FROM event")
            work.think()
            change(work, number, run)
            run("SAVEPOINT inner_one")
            run("UPDATE device SET state = -1")
            if number % 3:
                run("ROLLBACK TO inner_one")
            run("RELEASE outer_one")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def long_readers() -> Step:
    """A report reads for twenty transactions; what it sees must not change meanwhile."""
    open_ones: list[sqlite3.Connection] = []
    seen: list[Any] = []

    def do(work: Work, number: int) -> None:
        if not open_ones:
            open_ones.extend([work.connect(), work.connect()])
        writer, reader = open_ones
        sql = "SELECT count(*), sum(state) FROM device"
        if number % 20 == 0:
            with work.noting(number) as announce:
                announce("BEGIN of a reader")
                reader.execute("BEGIN")
                seen[:] = reader.execute(sql).fetchall()
        autocommit(work, writer, number)
        if number % 20 == 19:
            with work.noting(number) as announce:
                announce("COMMIT of a reader")
                assert reader.execute(sql).fetchall() == seen
                reader.execute("COMMIT")

    return do


def starts(work: Work, number: int) -> None:
    """Every 250 transactions the controller starts again and brings its schema up to date."""
    if number % 250 == 0:
        db = work.connect()
        version = number // 250

        def create(run: Callable[..., Any]) -> None:
            run("SELECT name FROM sqlite_schema")
            work.think()
            run(f"CREATE TABLE IF NOT EXISTS feature_{version} (id INTEGER PRIMARY KEY, value)")
            run(f"CREATE INDEX IF NOT EXISTS by_{version} ON feature_{version} (value)")

        def alter(run: Callable[..., Any]) -> None:
            run("SELECT name FROM pragma_table_info('event')")
            work.think()
            run(f"ALTER TABLE event ADD COLUMN extra_{version}")

        transaction(work, db, number, "BEGIN", create)
        transaction(work, db, number, "BEGIN", alter)
        db.close()
    db = work.connect()
    deferred(work, db, number)
    db.close()


def like_django(work: Work, number: int) -> None:
    """A request: a new connection, `atomic()` as BEGIN, a nested one as SAVEPOINT, close."""

    def request(run: Callable[..., Any]) -> None:
        run("SELECT id, name, state FROM device WHERE id = ? LIMIT 21", (work.device(),))
        run('SAVEPOINT "s140_x1"')
        work.think()
        change(work, number, run)
        run('RELEASE SAVEPOINT "s140_x1"')

    db = work.connect()
    transaction(work, db, number, "BEGIN", request)
    db.close()


def with_orm(recipe: bool) -> Step:
    """SQLAlchemy's ORM with NullPool; ``recipe`` emits BEGIN itself, as its documentation says."""
    from sqlalchemy import Column, Integer, NullPool, String, create_engine, event, select, text
    from sqlalchemy.orm import Session, declarative_base

    class Device(declarative_base()):  # type: ignore[misc]
        __tablename__ = "device"
        id = Column(Integer, primary_key=True)
        name = Column(String)
        state = Column(Integer)

    made: list[Any] = []

    def engine_of(work: Work) -> Any:
        options = {"timeout": work.timeout}
        engine = create_engine(f"sqlite:///{work.path}", poolclass=NullPool, connect_args=options)
        if recipe:

            @event.listens_for(engine, "connect")
            def leave_begin_to_us(connection: Any, _: Any) -> None:
                connection.isolation_level = None

            @event.listens_for(engine, "begin")
            def begin(connection: Any) -> None:
                connection.exec_driver_sql("BEGIN")

        return engine

    def do(work: Work, number: int) -> None:
        if not made:
            made.append(engine_of(work))
        with work.noting(number) as announce, Session(made[0]) as session:
            announce("Session")
            device = session.scalars(select(Device).where(Device.id == work.device())).one()
            work.think()
            device.state += 1
            session.flush()

            def run(sql: str, values: tuple[Any, ...]) -> None:
                announce(sql)
                names = {f"v{index}": value for index, value in enumerate(values)}
                for name in names:
                    sql = sql.replace("?", f":{name}", 1)
                session.execute(text(sql), names)

            change(work, number, run)
            announce("COMMIT")
            session.commit()

    return do


def with_aiosqlite(work: Work) -> None:
    """One connection, in the event loop's own thread."""
    import aiosqlite

    async def main() -> None:
        async with aiosqlite.connect(work.path, isolation_level=None, timeout=work.timeout) as db:
            for number in range(work.count):
                with work.noting(number) as announce:
                    try:
                        for sql in ("BEGIN", "SELECT count(*) FROM device"):
                            announce(sql)
                            await db.execute_fetchall(sql)
                        work.think()
                        statements: list[tuple[str, tuple[Any, ...]]] = []
                        change(work, number, partial(collect, statements))
                        for sql, values in [*statements, ("COMMIT", ())]:
                            announce(sql)
                            await db.execute_fetchall(sql, values)
                    finally:
                        if db.in_transaction:
                            await db.rollback()

    asyncio.run(main())


def collect(into: list[Any], sql: str, values: tuple[Any, ...]) -> None:
    into.append((sql, values))


def taking_turns(work: Work, number: int) -> None:
    """Several processes that agree among themselves, by a lock of their own, who may write."""
    with open(f"{work.path}.turn", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        db = work.connect()
        deferred(work, db, number)
        db.close()


STEPS: dict[str, Callable[[], Step]] = {
    "deferred": lambda: on_one_connection(deferred),
    "immediate": lambda: on_one_connection(immediate),
    "autocommit": lambda: on_one_connection(autocommit),
    "savepoints": lambda: on_one_connection(savepoints),
    "long readers": long_readers,
    "schema at start": lambda: starts,
    "like Django": lambda: like_django,
    "ORM with NullPool": lambda: with_orm(recipe=False),
    "ORM with BEGIN": lambda: with_orm(recipe=True),
    "taking turns": lambda: taking_turns,
}


def mixed(work: Work) -> Step:
    """Every transaction another kind, as the seed has it; all on one connection or a new one."""
    kept = on_one_connection(lambda w, db, n: w.random.choice(MIXTURE)(w, db, n))
    return lambda w, n: like_django(w, n) if w.random.random() < 0.2 else kept(w, n)


MIXTURE = (deferred, immediate, autocommit, savepoints)


def do_all(work: Work, kind: str) -> None:
    """All transactions of a plan, one after the other."""
    if kind == "aiosqlite":
        with_aiosqlite(work)
        return
    step = mixed(work) if kind == "mixed" else STEPS[kind]()
    for number in range(work.count):
        step(work, number)


def do_in_processes(plan: dict[str, Any]) -> list[Failures]:
    """The plan's transactions shared among several processes."""
    share = {"count": plan["count"] // plan["processes"], "processes": 1, "share": True}
    shares = [plan | share | {"seed": plan["seed"] + n} for n in range(plan["processes"])]
    command = [sys.executable, __file__]
    started = [
        subprocess.Popen([*command, json.dumps(each)], stdout=subprocess.PIPE, text=True)
        for each in shares
    ]
    return [json.loads(process.communicate()[0])["failures"] for process in started]


@contextmanager
def embedded(plan: dict[str, Any], published: list[int]) -> Iterator[None]:
    """Bequest in this process, when the plan says so."""
    if not plan.get("embed"):
        yield
        return
    import bequest

    def hear(name: str, facts: dict[str, Any]) -> None:
        if name == "published":
            published.append(facts["serial"])

    backup = bequest.Backup(f"sqlite:///{plan['path']}", plan["embed"], on_event=hear)
    backup.start()
    backup.flush(None)
    print("published", flush=True)
    yield
    assert backup.stop(60), backup.status()


def main() -> None:
    """One plan."""
    plan = json.loads(sys.argv[1])
    work = Work(plan)
    published: list[int] = []
    if plan.get("share"):
        do_all(work, plan["kind"])
        print(json.dumps({"failures": work.failures}))
        return
    prepare(work)
    print("ready", flush=True)
    with embedded(plan, published):
        with suppress(EOFError):
            input()
        if plan["processes"] > 1:
            failures = [each for share in do_in_processes(plan) for each in share]
        else:
            do_all(work, plan["kind"])
            failures = work.failures
    print(json.dumps({"failures": failures, "published": len(published)}), flush=True)


if __name__ == "__main__":
    main()
