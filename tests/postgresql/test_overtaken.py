"""DDL in the middle of a read: a cut gives the rows of its snapshot, or it is void. Promise 2.

The table is read in blocks of `SLOTS` rows, and the statement runs after the first of many blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from bequest.errors import Overtaken, Unreachable
from bequest.model import Memory, Table
from bequest.ports import Cut
from bequest_adapters.databases.postgresql import cut as cutting
from bequest_adapters.databases.postgresql import ranges

from .controller import Controller, Make, controller, packed

__all__ = ["controller"]

SLOTS = 8
SCHEMA = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE t (id int PRIMARY KEY, v int, w int, x text);
CREATE TABLE moody (id int PRIMARY KEY, m mood);
CREATE TABLE other (id int PRIMARY KEY, v int);
CREATE TABLE keyless (v int);
CREATE TABLE p (id int, v int, PRIMARY KEY (id, v)) PARTITION BY LIST (v);
CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (id);
CREATE TABLE p1d PARTITION OF p1 DEFAULT;
CREATE TABLE p2 (v int NOT NULL, id int NOT NULL);
INSERT INTO t SELECT i, i, -i, repeat('x', i % 50) FROM generate_series(1, 400) i;
INSERT INTO moody SELECT i, 'good' FROM generate_series(1, 400) i;
INSERT INTO other SELECT i, i FROM generate_series(1, 400) i;
INSERT INTO keyless SELECT i % 7 FROM generate_series(1, 400) i;
INSERT INTO p SELECT i, i % 2 FROM generate_series(1, 400) i;
INSERT INTO p2 SELECT 2, i FROM generate_series(1, 100) i;
"""

OVERTAKING = {
    "truncate": ("t", "TRUNCATE t"),
    "truncate and fill again": (
        "t",
        "CREATE TEMP TABLE kept AS SELECT * FROM t; TRUNCATE t; INSERT INTO t SELECT * FROM kept",
    ),
    "rewrite for another type": ("t", "ALTER TABLE t ALTER v TYPE bigint"),
    "another type without a rewrite": ("t", "ALTER TABLE t ALTER x TYPE varchar"),
    "add a column": ("t", "ALTER TABLE t ADD y int"),
    "drop a column": ("t", "ALTER TABLE t DROP w"),
    "drop a column and add one of that name": ("t", "ALTER TABLE t DROP w, ADD w int DEFAULT 7"),
    "let two columns change names": (
        "t",
        "ALTER TABLE t RENAME v TO o; ALTER TABLE t RENAME w TO v; ALTER TABLE t RENAME o TO w",
    ),
    "drop": ("t", "DROP TABLE t"),
    "drop and make one of that name": (
        "t",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int, w int, x text)",
    ),
    "put a copy in its place": (
        "t",
        "CREATE TABLE n (LIKE t INCLUDING ALL); INSERT INTO n SELECT * FROM t;"
        "ALTER TABLE t RENAME TO away; ALTER TABLE n RENAME TO t",
    ),
    "move to another schema": ("t", "CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s"),
    "cluster": ("t", "DELETE FROM t WHERE id % 3 = 0; CLUSTER t USING t_pkey"),
    "vacuum full": ("t", "DELETE FROM t WHERE id % 3 = 0", "VACUUM FULL t"),
    "another tablespace or log": ("t", "ALTER TABLE t SET UNLOGGED"),
    "rename a value of an enum": ("moody", "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'"),
    "truncate a partition": ("p", "TRUNCATE p1d"),
    "drop a partition": ("p", "DROP TABLE p1"),
    "truncate a table without a key": ("keyless", "TRUNCATE keyless"),
}

HARMLESS = {
    "update": ("t", "UPDATE t SET v = v + 1", "VACUUM t"),
    "update in the same page": ("other", "UPDATE other SET v = 0 WHERE id > 300", "VACUUM other"),
    "delete": ("t", "DELETE FROM t", "VACUUM t"),
    "insert": ("t", "INSERT INTO t SELECT i, 1, 1, 'new' FROM generate_series(1000, 3000) i"),
    "move between partitions": ("p", "UPDATE p SET v = 1 - v", "VACUUM p"),
    "attach a partition": ("p", "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)"),
    "detach a partition": ("p", "ALTER TABLE p DETACH PARTITION p0"),
    "make an index": ("t", "CREATE INDEX ON t (v)"),
    "make a constraint": ("t", "ALTER TABLE t ADD CHECK (id > 0)"),
    "change a default": ("t", "ALTER TABLE t ALTER v SET DEFAULT 3"),
    "grant": ("t", "GRANT SELECT ON t TO PUBLIC"),
    "alter another table": ("t", "ALTER TABLE other ADD y int, ALTER v TYPE bigint"),
    "drop another table": ("t", "DROP TABLE other"),
    "analyze": ("t", "ANALYZE t"),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "WHOLE_BYTES", 0)
    monkeypatch.setattr(ranges, "FIRST_SLOTS", SLOTS)
    monkeypatch.setattr(ranges, "GROWTH", 1)


def named(cut: Cut, name: str) -> Table:
    return next(table for table in cut.catalog().tables if table.name == name)


def run(c: Controller, statements: tuple[str, ...]) -> None:
    """With patience enough for one block, and no more than for a few seconds."""
    with c.another() as db:
        db.execute("SET lock_timeout = '10s'")
        for statement in statements:
            db.execute(statement)


def counted(blocks: Iterator[object]) -> Counter[bytes]:
    return Counter(packed(row) for block in blocks for row in block)  # type: ignore[attr-defined]


def read_across(c: Controller, name: str, statements: tuple[str, ...]) -> Counter[bytes]:
    with c.source.cut(Memory()) as cut:
        blocks = cut.scan(named(cut, name))
        first = next(blocks)
        assert len(first) <= SLOTS
        run(c, statements)
        return counted(iter([first, *blocks]))


@pytest.mark.parametrize("what", OVERTAKING)
def test_what_a_snapshot_does_not_protect_from_voids_the_cut(controller: Make, what: str) -> None:
    c = controller(SCHEMA)
    name, *statements = OVERTAKING[what]
    with pytest.raises(Overtaken, match="changed while it was read"):
        read_across(c, name, tuple(statements))
    c.mend()
    c.check()


@pytest.mark.parametrize("what", HARMLESS)
def test_what_a_snapshot_protects_from_changes_no_row_of_the_cut(
    controller: Make, what: str
) -> None:
    c = controller(SCHEMA)
    name, *statements = HARMLESS[what]
    before = c.base[f"public.{name}"]
    assert read_across(c, name, tuple(statements)) == before
    c.mend()
    c.check()


LOOKED_UP = (
    "truncate",
    "rewrite for another type",
    "let two columns change names",
    "drop and make one of that name",
    "put a copy in its place",
    "rename a value of an enum",
    "truncate a partition",
    "attach a partition",
    "detach a partition",
)


@pytest.mark.parametrize("what", LOOKED_UP)
def test_rows_are_not_looked_up_in_a_table_that_is_another(controller: Make, what: str) -> None:
    c = controller(SCHEMA)
    name, *statements = (OVERTAKING | HARMLESS)[what]
    with c.source.cut(Memory()) as cut:
        table = named(cut, name)
        run(c, tuple(statements))
        with pytest.raises(Overtaken):
            list(cut.lookup(table, [tuple([1] * len(table.key))]))


@pytest.mark.parametrize("what", ["truncate", "drop", "truncate a partition"])
def test_rows_are_not_counted_in_a_table_that_is_another(controller: Make, what: str) -> None:
    c = controller(SCHEMA)
    name, *statements = OVERTAKING[what]
    with c.source.cut(Memory()) as cut:
        table = named(cut, name)
        assert cut.count(table) == 400
        run(c, tuple(statements))
        with pytest.raises(Overtaken):
            cut.count(table)


def test_definitions_that_changed_while_they_were_read_void_the_cut(
    controller: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = controller(SCHEMA + "CREATE VIEW first AS SELECT id FROM t;")
    read = cutting.read_catalog

    def overtaken(*arguments: object) -> object:
        run(c, ("CREATE OR REPLACE VIEW first AS SELECT id FROM t WHERE v > 1",))
        return read(*arguments)  # type: ignore[arg-type]

    c("COMMENT ON TABLE t IS 'so that the catalog is read again'")
    c.source.install()
    monkeypatch.setattr(cutting, "read_catalog", overtaken)
    with pytest.raises(Overtaken), c.source.cut(Memory()) as cut:
        cut.catalog()
    monkeypatch.setattr(cutting, "read_catalog", read)
    c.mend()
    c.check()


def test_a_table_that_stays_locked_is_reported_and_the_cut_holds_nothing(controller: Make) -> None:
    c = controller(SCHEMA)
    with c.another() as holder, c.source.cut(Memory()) as cut:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        table = named(cut, "t")
        with pytest.raises(Unreachable, match="locked by another"):
            list(cut.scan(table))
        with pytest.raises(Unreachable, match="locked by another"):
            list(cut.lookup(table, [(1,)]))
        holder.execute("ROLLBACK")
        assert counted(cut.scan(table)) == c.base["public.t"]
        assert [row[0] for row in cut.lookup(table, [(1,)])] == [1]


def test_a_cut_that_is_open_locks_no_table_of_the_application_s(controller: Make) -> None:
    c = controller(SCHEMA + "CREATE SEQUENCE q; CREATE TABLE alembic_version (version_num text);"
                   "CREATE VIEW seen AS SELECT * FROM t;")  # fmt: skip
    c("UPDATE t SET v = 0 WHERE id < 3")
    with c.source.cut(c.memory) as cut:
        cut.catalog()
        cut.attributes()
        cut.revisions()
        blocks = cut.scan(named(cut, "t"))
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        mutations = list(cut.mutations())
        list(cut.lookup(named(cut, "t"), [each.key for each in mutations]))
        cut.count(named(cut, "p"))
        locked = c(
            "SELECT relation::regclass::text FROM pg_locks"
            " WHERE locktype = 'relation' AND relation >= 16384 AND pid <> pg_backend_pid()"
        )
    assert {name for (name,) in locked} <= {"bequest.bequest_journal"}


def test_rows_of_any_width_and_density_are_read_once_each(controller: Make) -> None:
    c = controller(
        "CREATE TABLE wide (id int PRIMARY KEY, v text);"
        "ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;"
        "INSERT INTO wide SELECT i, repeat('w', CASE i % 5 WHEN 0 THEN 100000 ELSE i END)"
        " FROM generate_series(1, 300) i;"
        "CREATE TABLE sparse AS SELECT i AS id, i AS v FROM generate_series(1, 20000) i;"
        "DELETE FROM sparse WHERE id % 4000 <> 7;"
        "CREATE TABLE gone AS SELECT i AS id FROM generate_series(1, 5000) i; DELETE FROM gone;"
        "CREATE TABLE empty (id int)"
    )
    with c.source.cut(Memory()) as cut:
        found = {table.name: [len(b) for b in cut.scan(table)] for table in cut.catalog().tables}
        counts = {table.name: cut.count(table) for table in cut.catalog().tables}
    assert counts == {"wide": 300, "sparse": 5, "gone": 0, "empty": 0}
    assert {name: sum(blocks) for name, blocks in found.items()} == counts


def test_a_relation_that_is_no_heap_is_read_at_once(controller: Make) -> None:
    c = controller(
        "CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;"
        "CREATE TABLE t (id int PRIMARY KEY, v int) USING other;"
        "INSERT INTO t SELECT i, i FROM generate_series(1, 400) i"
    )
    assert sum(c.base["public.t"].values()) == 400
    with c.source.cut(Memory()) as cut:
        blocks = cut.scan(named(cut, "t"))
        next(blocks)
        with c.another() as db, pytest.raises(Exception, match="lock timeout"):
            db.execute("SET lock_timeout = '50ms'; TRUNCATE t")
        assert sum(len(block) for block in blocks) > 300
