"""Rows that are loaded or read behind the caller's back: a fault surfaces, and nothing stays."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import psycopg
import pytest
from sqlalchemy import URL

from bequest.errors import BequestError, Refused, Unreachable
from bequest.model import Catalog, Row, Table
from bequest_adapters.databases.postgresql import behind, reading
from bequest_adapters.databases.postgresql.behind import Behind
from bequest_adapters.databases.postgresql.target import PostgresTarget, open_target
from tests.servers.postgresql import PostgresqlServer, connect

from .controller import Make, controller

__all__ = ["controller"]

GOOD = [(number, f"row {number}") for number in range(1000)]
BAD = [*GOOD, (1000, "no \x00 in a text"), *GOOD]
LARGE_BYTES = 5 * 1024 * 1024


@pytest.fixture
def catalog(controller: Make) -> Catalog:
    """Two tables, as a controller's database describes them."""
    c = controller("CREATE TABLE one (id int8, v text); CREATE TABLE two (id int8, v text)")
    with c.source.cut(c.memory) as cut:
        return cut.catalog()


@pytest.fixture
def target(postgresql: PostgresqlServer) -> Iterator[PostgresTarget]:
    """An empty database; nothing of a restore is left in it, and no thread."""
    with postgresql.database() as url:
        made = open_target(url)
        assert isinstance(made, PostgresTarget)
        yield made
        made.close()
        assert not [each.name for each in threading.enumerate() if "bequest" in each.name]


def table_of(catalog: Catalog, name: str) -> Table:
    return next(table for table in catalog.tables if table.name == name)


def load(target: PostgresTarget, catalog: Catalog, *blocks: tuple[int, Iterable[Row]]) -> None:
    """A restore that ends before its end."""
    with target.replace(force=False) as loading:
        loading.create(catalog, {})
        for index, rows in blocks:
            loading.load(catalog.tables[index], rows)


def fill(target: PostgresTarget, catalog: Catalog, *blocks: tuple[int, Sequence[Row]]) -> None:
    with target.replace(force=False) as loading:
        loading.create(catalog, {})
        for index, rows in blocks:
            loading.load(catalog.tables[index], rows)
        loading.finish()
        for index, table in enumerate(catalog.tables):
            found = [row for block in loading.scan(table) for row in block]
            assert found == [row for at, rows in blocks for row in rows if at == index]


def test_blocks_of_several_tables_come_in_the_order_they_were_given(
    target: PostgresTarget, catalog: Catalog
) -> None:
    fill(target, catalog, (0, GOOD), (1, GOOD), (1, []), (0, GOOD), (1, GOOD))
    assert not target.vacant()


def test_tables_without_rows_and_rows_of_five_megabytes_pass(
    target: PostgresTarget, catalog: Catalog
) -> None:
    fill(target, catalog, (0, []))
    large = [(number, chr(97 + number) * LARGE_BYTES) for number in range(4)]
    assert target.vacant()
    with target.replace(force=True) as loading:
        loading.create(catalog, {})
        loading.load(catalog.tables[1], large[:2])
        loading.load(catalog.tables[1], large[2:])
        loading.finish()
        assert [row for block in loading.scan(catalog.tables[1]) for row in block] == large


@pytest.mark.parametrize(
    "blocks",
    [
        [(0, GOOD), (0, BAD), (0, GOOD)],
        [(0, BAD), (1, GOOD)],
        [(1, GOOD), (0, BAD)],
    ],
    ids=["middle", "before another table", "last"],
)
def test_a_row_that_the_server_refuses_undoes_the_restore_and_its_table_is_named(
    target: PostgresTarget, catalog: Catalog, blocks: list[tuple[int, Sequence[Row]]]
) -> None:
    with pytest.raises(Refused, match=r"^Loading table 'one' failed .*0x00.* is as it was"):
        fill(target, catalog, *blocks)
    assert target.vacant()
    fill(target, catalog, (0, GOOD))


class Interrupted:
    """Rows in whose middle something happens to the session that loads them."""

    def __init__(self, target: PostgresTarget, postgresql: PostgresqlServer, what: str) -> None:
        self._server = postgresql
        self._name = target.name.rpartition("/")[2]
        self._what = what

    def rows(self) -> Iterator[Row]:
        yield from GOOD
        with self._server.connect() as db:
            found = db.execute(
                f"SELECT {self._what}(pid) FROM pg_stat_activity WHERE datname = %s AND"
                " query LIKE 'COPY%%'".encode(),
                [self._name],
            ).fetchall()
        assert found == [(True,)]
        # As many as do not fit into any buffer.
        yield from ((number, "x" * 10_000) for number in range(10_000))


@pytest.mark.parametrize("what", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_session_that_ends_amid_the_rows_undoes_the_restore(
    target: PostgresTarget, catalog: Catalog, postgresql: PostgresqlServer, what: str
) -> None:
    interrupted = Interrupted(target, postgresql, what)
    with pytest.raises(Unreachable, match=r"^Loading table 'one' failed"):
        load(target, catalog, (0, interrupted.rows()), (1, GOOD))
    assert target.vacant()


@pytest.mark.parametrize("fault", [KeyboardInterrupt, BequestError])
def test_an_end_while_rows_are_under_way_leaves_no_thread_and_no_half_of_them(
    target: PostgresTarget, catalog: Catalog, fault: type[BaseException]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def rows() -> Iterator[Row]:
        yield from GOOD
        begun.set()
        assert go_on.wait(30)
        yield from GOOD

    def restore() -> None:
        with target.replace(force=False) as loading:
            loading.create(catalog, {})
            loading.load(catalog.tables[0], rows())
            assert begun.wait(30)
            threading.Timer(0.05, go_on.set).start()
            raise fault

    with pytest.raises(fault):
        restore()
    assert target.vacant()


def test_a_restore_that_is_not_finished_is_not_committed(
    target: PostgresTarget, catalog: Catalog
) -> None:
    with pytest.raises(BequestError, match="before everything was loaded"):
        load(target, catalog, (0, GOOD))
    assert target.vacant()


def test_one_piece_is_in_flight_at_most_and_all_come_in_turn(postgresql_database: URL) -> None:
    seen: list[tuple[int, str]] = []

    def piece(number: int) -> None:
        seen.append((number, "begins"))
        seen.append((number, "ends"))

    with connect(postgresql_database) as db:
        work = Behind(db)
        for number in range(200):
            work.begin(lambda number=number: piece(number))
        work.settle()
        work.close()
    assert seen == [(number, what) for number in range(200) for what in ("begins", "ends")]


def test_a_server_that_does_not_come_to_an_end_is_told_to_and_then_left(
    postgresql: PostgresqlServer, postgresql_database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "PATIENCE_SECONDS", 0.05)
    faults: list[psycopg.Error] = []
    with connect(postgresql_database) as db:
        process = db.info.backend_pid

        def sleep() -> None:
            try:
                db.execute("SELECT pg_sleep(3600)")
            except psycopg.Error as error:
                faults.append(error)
                raise

        work = Behind(db)
        work.begin(sleep)
        work.close()
    assert faults
    assert not [each for each in threading.enumerate() if each.name.startswith("bequest")]
    with postgresql.connect() as other:
        gone = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid = %s"
        assert other.execute(gone, [process]).fetchall() in ([], [(True,)])


def test_a_session_that_ends_while_it_is_read_is_told_as_one(controller: Make) -> None:
    c = controller("CREATE TABLE t AS SELECT n AS id, repeat('x', 10000) AS v"
                   " FROM generate_series(1, 3000) n")  # fmt: skip

    def read() -> None:
        with c.source.cut(c.memory) as cut:
            blocks = cut.scan(table_of(cut.catalog(), "t"))
            next(blocks)
            next(blocks)
            c("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
              " WHERE query LIKE '%SAVEPOINT%' AND datname = current_database()")  # fmt: skip
            assert list(blocks)

    with pytest.raises(Unreachable):
        read()
    c.check()


def test_every_size_of_table_is_read_whole(controller: Make) -> None:
    edges = (0, 1, 63, 64, 65, 575, 576, 577, reading.BLOCK_ROWS + 600)
    c = controller("; ".join(
        f"CREATE TABLE t{rows} AS SELECT n FROM generate_series(1, {rows}) n" for rows in edges
    ))  # fmt: skip
    with c.source.cut(c.memory) as cut:
        for rows in edges:
            found = [
                row for block in cut.scan(table_of(cut.catalog(), f"t{rows}")) for row in block
            ]
            assert found == [(number,) for number in range(1, rows + 1)]


def test_a_reading_that_is_given_up_is_over_before_the_cut_is(
    controller: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = controller("CREATE TABLE t AS SELECT n, repeat('x', 1000) AS v"
                   " FROM generate_series(1, 5000) n")  # fmt: skip
    go_on, order, fetch = threading.Event(), list[str](), reading.fetch

    def slowly(*arguments: object) -> object:
        if threading.current_thread().name.startswith("bequest-fetch"):
            threading.Timer(0.2, go_on.set).start()
            go_on.wait()
            order.append("read")
        return fetch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "fetch", slowly)

    def read() -> None:
        with c.source.cut(c.memory) as cut:
            blocks = cut.scan(table_of(cut.catalog(), "t"))
            next(blocks)
            next(blocks)
            raise ValueError("given up")

    with pytest.raises(ValueError, match="given up"):
        read()
    assert set(order) == {"read"}
    assert not [each for each in threading.enumerate() if each.name.startswith("bequest-fetch")]
    c.check()


def test_a_reading_that_is_given_up_is_over_before_the_next_one_begins(controller: Make) -> None:
    c = controller("CREATE TABLE t AS SELECT n, repeat('x', 1000) AS v"
                   " FROM generate_series(1, 5000) n")  # fmt: skip
    with c.source.cut(c.memory) as cut:
        table = table_of(cut.catalog(), "t")
        for _ in range(20):
            blocks = cut.scan(table)
            next(blocks)
            next(blocks)
            assert cut.count(table) == 5000
