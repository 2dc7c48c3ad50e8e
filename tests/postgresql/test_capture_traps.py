"""Traps of PostgreSQL, each found by running it. Promises 1 and 2."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from .controller import Controller, Make, controller

__all__ = ["controller"]

PLAIN = (
    "CREATE TABLE t (id int PRIMARY KEY, v int);"
    " INSERT INTO t SELECT i, i FROM generate_series(1, 5) i;"
)


def test_a_statement_that_touches_very_many_rows_is_one_journal_row(controller: Make) -> None:
    c = controller(PLAIN)
    c("INSERT INTO t SELECT i, i FROM generate_series(100, 60000) i")
    assert c.touched() == [("t", "t", ())]
    c.check()
    c("UPDATE t SET v = 0")
    c("DELETE FROM t WHERE id > 50")
    assert [key for _, _, key in c.touched()] == [(), ()]
    c.check()


def test_an_update_of_a_key_names_the_old_and_the_new(controller: Make) -> None:
    c = controller(PLAIN)
    c("UPDATE t SET id = 50 WHERE id = 5")
    assert sorted(c.touched()) == [("t", "t", (5,)), ("u", "t", (50,))]
    c("BEGIN; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; COMMIT")
    c.check()


def test_keys_that_are_equal_but_not_the_same_are_told_apart(controller: Make) -> None:
    c = controller("CREATE TABLE n (k numeric PRIMARY KEY); INSERT INTO n VALUES (1.0), (2)")
    with contextlib.suppress(psycopg.errors.FeatureNotSupported):  # the server may lack ICU
        c(
            "CREATE COLLATION blind"
            " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        c("CREATE TABLE t (k text COLLATE blind PRIMARY KEY); INSERT INTO t VALUES ('a'), ('b')")
        c.mend()
        c("UPDATE t SET k = 'A' WHERE k = 'a'")
    c("UPDATE n SET k = 1.000 WHERE k = 1")
    c.check()


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("timestamptz", "'2024-03-31 01:30:00+00', '0044-03-15 12:00 BC', 'infinity'"),
        ("timestamp(3)", "'2024-01-02 03:04:05.678', '294276-12-31 23:59:59', '-infinity'"),
        ("date", "'2024-02-29', '0001-01-01 BC', 'infinity'"),
        ("time", "'23:59:59.999999', '00:00', '24:00'"),
        ("timetz", "'23:59:59.999999+13', '00:00-5', '12:00'"),
        ("interval", "'1 year 2 mons -3 days 04:05:06.7', '0', '-1 day'"),
        ("bytea", r"'\x00ff', '\x', 'abc'"),
        ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', gen_random_uuid(), gen_random_uuid()"),
        ("boolean", "true, false, NULL"),
        ("numeric", "1.50, 'NaN', '1e500'"),
        ("bigint", "-9223372036854775808, 9223372036854775807, 0"),
        ("char(5)", "'a', 'b ', ''"),
        ('"char"', "'a', 'b', ''"),
        ("name", "'a', 'B', 'ü'"),
        ("money", "12.34, -1, 1000000"),
        ("int[]", "'{1,NULL,2}', '[5:6]={1,2}', '{}'"),
        ("timestamptz[]", "'{2024-03-31 01:30:00+00}', '{infinity}', '{}'"),
        ("tsrange", "'[2024-01-01,2024-01-02)', 'empty', '(,)'"),
        ("inet", "'10.0.0.1/8', '::1', '10.0.0.1'"),
        ("bit varying", "B'101', B'', B'1'"),
        ("jsonb", """'{"a": 1}', '[]', '1.50'"""),
        ("pair", "(1, 'x'), (NULL, NULL), (3, ' \"')"),
        ("mood", "'sad', 'ok', 'happy'"),
        ("later", "'2024-01-01', '2025-01-01', '2026-01-01'"),
        ("oid", "1, 4294967295, 0"),
        ("pg_lsn", "'0/1', '16/B374D848', '0/0'"),
    ],
)
def test_a_key_of_any_type_is_the_row_s_under_any_settings(
    controller: Make, type_: str, values: str
) -> None:
    c = controller(
        "CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');"
        "CREATE DOMAIN later AS date CHECK (VALUE > '2000-01-01');"
        f"CREATE TABLE t (k {type_} PRIMARY KEY, v int); CREATE TABLE nokey (k {type_}, v int)"
    )
    strange = c.another(
        options="-cDateStyle=SQL,DMY -cIntervalStyle=sql_standard -cTimeZone=Asia/Tokyo"
        " -cextra_float_digits=-3 -cbytea_output=escape -cclient_encoding=LATIN1"
    )
    with strange:
        for value in (f"({each})" for each in _split(values)):
            if value != "(NULL)":
                strange.execute(f"INSERT INTO t SELECT {value}::{type_}, 1")
            strange.execute(f"INSERT INTO nokey SELECT {value}::{type_}, 1")
        assert all(mutation.row is not None for mutation in c.mutations() if not mutation.key)
        c.check()
        strange.execute("UPDATE t SET v = 2; UPDATE nokey SET v = 2")
        assert all(mutation.key or mutation.row for mutation in c.mutations())
        c.check()
        strange.execute("DELETE FROM t; DELETE FROM nokey")
        c.check()
    strange.close()


def _split(values: str) -> list[str]:
    found, depth, quoted = [""], 0, False
    for letter in values:
        quoted ^= letter == "'"
        depth += (letter in "({") - (letter in ")}") if not quoted else 0
        if letter == "," and not depth and not quoted:
            found.append("")
        else:
            found[-1] += letter
    return [each.strip() for each in found]


def test_rows_without_a_key_are_journalled_whole(controller: Make) -> None:
    c = controller(
        "CREATE TABLE t (a int, b text, c float4, d float8, g int GENERATED ALWAYS AS (a) STORED)"
    )
    c("INSERT INTO t VALUES (1, 'x', 0.1, 'NaN'), (1, 'x', 0.1, 'NaN'), (NULL, NULL, '-0', '-inf')")
    assert len(c.mutations()) == 3
    c.check()
    c("UPDATE t SET b = b")
    assert not c.mutations()
    c("UPDATE t SET b = b || '!' WHERE a = 1")
    c("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)")
    c.check()
    c("INSERT INTO t SELECT i FROM generate_series(1, 20001) i")
    c.check()


@pytest.mark.parametrize("key", ["", "PRIMARY KEY (a, id)"])
def test_partitions_are_captured_whichever_way_they_are_written(controller: Make, key: str) -> None:
    c = controller(
        f"CREATE TABLE p (id int, a int, note text{',' if key else ''} {key})"
        " PARTITION BY RANGE (a);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (100) PARTITION BY LIST (id);"
        # In another order of columns, and with one that was dropped.
        "CREATE TABLE p2x (gone int, note text, a int NOT NULL, id int NOT NULL);"
        "ALTER TABLE p2x DROP gone;"
        "ALTER TABLE p2 ATTACH PARTITION p2x FOR VALUES IN (1, 2, 3);"
        "CREATE TABLE p2d PARTITION OF p2 DEFAULT"
    )
    c("INSERT INTO p SELECT i % 6, i, 'n' FROM generate_series(0, 50) i")
    c.check()
    c("INSERT INTO p1 VALUES (1, 3, 'direct'), (7, 3, 'direct'); UPDATE p2x SET note = 'x'")
    c("INSERT INTO p2 VALUES (1, 99, 'middle')")
    c.check()
    c("UPDATE p SET a = a + 8 WHERE a < 5")
    c.check()
    c("DELETE FROM p2d WHERE a > 20; TRUNCATE p1")
    c.check()
    c("TRUNCATE p")
    c.check()


def test_attaching_and_detaching_a_partition_is_seen(controller: Make) -> None:
    c = controller(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); INSERT INTO p VALUES (1)"
    )
    c("ALTER TABLE p DETACH PARTITION p1")
    assert c.fault() == "the schema changed"
    c.mend()
    c("INSERT INTO p1 VALUES (2)")
    c.check()
    c("ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10)")
    assert c.fault()
    c.mend()
    c("INSERT INTO p1 VALUES (3); INSERT INTO p VALUES (4); UPDATE p SET id = 9 WHERE id = 4")
    c.check()
    c("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p2 VALUES (11)")
    assert c.fault()


def test_a_parent_s_writes_find_the_children_they_touch(controller: Make) -> None:
    c = controller(
        "CREATE TABLE base (id int PRIMARY KEY, v int);"
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (base);"
        "CREATE TABLE grandchild (w int) INHERITS (child);"
        "INSERT INTO base VALUES (1, 1); INSERT INTO child VALUES (1, 1), (2, 2);"
        "INSERT INTO grandchild VALUES (1, 1, 1)"
    )
    c("UPDATE base SET v = v + 1")
    c.check()
    c("DELETE FROM base WHERE id = 1")
    c.check()
    c("INSERT INTO child VALUES (5, 5); UPDATE ONLY child SET id = 6 WHERE id = 5; TRUNCATE base")
    c.check()


def test_cascades_and_deferred_constraints_are_seen(controller: Make) -> None:
    c = controller(
        "CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (id int PRIMARY KEY, a int"
        " REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE,"
        " up int REFERENCES b ON DELETE SET NULL);"
        "CREATE TABLE log (n int PRIMARY KEY, said text);"
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO log SELECT count(*) + 1, 'at commit' FROM log; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON b"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();"
        "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 1)"
    )
    c("UPDATE a SET id = 10 WHERE id = 1")
    c.check()
    c("DELETE FROM b WHERE id = 1")
    c.check()
    c("DELETE FROM a")
    c.check()


def test_the_application_s_own_triggers_on_the_same_rows_do_not_mislead(controller: Make) -> None:
    c = controller(
        PLAIN + "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF TG_WHEN = 'BEFORE' THEN NEW.id := NEW.id + 1000; RETURN NEW; END IF;"
        " UPDATE t SET v = v + 1 WHERE id = NEW.id AND v < 3; DELETE FROM t WHERE id = 4;"
        " RETURN NULL; END $$;"
        "CREATE TRIGGER a_before BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE TRIGGER z_after AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    c("INSERT INTO t VALUES (1, 0)")
    c.check()
    c("UPDATE t SET v = 1 WHERE id < 4")
    c.check()


def test_copy_is_seen(controller: Make) -> None:
    c = controller(PLAIN)
    with c.db.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("10\t10\n11\t11\n")
    assert [key for _, _, key in c.touched()] == [(10,), (11,)]
    c.check()


def test_a_prepared_transaction_counts_when_it_is_committed(controller: Make) -> None:
    c = controller(PLAIN)
    c("BEGIN; INSERT INTO t VALUES (9, 9); PREPARE TRANSACTION 'bequest'")
    c.check()
    c("UPDATE t SET v = 7 WHERE id = 1")
    c.check()
    assert c.touched() == []
    c("COMMIT PREPARED 'bequest'")
    assert c.touched() == [("i", "t", (9,))]
    c.check()


def test_what_began_before_a_cut_and_ends_after_it_is_in_the_next(controller: Make) -> None:
    c = controller(PLAIN)
    with c.another() as late:
        late.execute("BEGIN; SAVEPOINT s; INSERT INTO t VALUES (9, 9); RELEASE s")
        c("INSERT INTO t VALUES (10, 10)")
        c.check()
        late.execute("COMMIT")
    assert c.touched() == [("i", "t", (9,))]
    c.check()


def test_a_session_that_replicates_is_captured_too(controller: Make) -> None:
    c = controller(PLAIN)
    c(
        "SET session_replication_role = replica; DELETE FROM t WHERE id = 1;"
        "RESET session_replication_role"
    )
    c.check()


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t DISABLE TRIGGER bequest_i",
        "ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL",
        "ALTER TABLE t ENABLE TRIGGER ALL",
        "ALTER TABLE t DISABLE TRIGGER USER",
        "DROP TRIGGER bequest_u ON t",
        "ALTER TABLE t ALTER v TYPE bigint",
        "ALTER TABLE t ALTER v TYPE text USING 'x' || v",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int)",
        "ALTER TABLE t RENAME TO s",
        "ALTER TABLE t RENAME v TO w",
        "ALTER TABLE t RENAME id TO ident",
        "ALTER TABLE t DROP id",
        "ALTER TABLE t ADD w int DEFAULT 5",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "CREATE TABLE s (id int)",
        "DROP TABLE t",
        "CREATE OR REPLACE FUNCTION bequest.bequest_1_i() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END'",
        "DROP FUNCTION bequest.bequest_1_i() CASCADE",
    ],
)
def test_what_a_trigger_cannot_see_is_detected_and_healed(controller: Make, sql: str) -> None:
    c = controller(PLAIN)
    c(sql)
    assert c.fault()
    c.mend()
    for table in c.catalog().tables:
        c(f"INSERT INTO {table.name} VALUES (77)")
    assert len(c.mutations()) == len(c.catalog().tables)
    c.check()


@pytest.mark.parametrize(
    "sql",
    [
        "ANALYZE",
        "VACUUM",
        "VACUUM FREEZE",
        "VACUUM FULL t",
        "REINDEX TABLE t",
        "CREATE TEMP TABLE s (id serial PRIMARY KEY, t text)",
        "CREATE TEMP TABLE bequest_journal (id int); INSERT INTO t VALUES (8, 8)",
        "TRUNCATE t; INSERT INTO t VALUES (6, 6)",
    ],
)
def test_upkeep_is_no_fault(controller: Make, sql: str) -> None:
    c = controller(PLAIN)
    for part in sql.split("; "):
        c(part)
    c.check()


def test_no_ddl_makes_the_writes_after_it_fail(controller: Make) -> None:
    c = controller(PLAIN + "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t)")
    with c.another() as other:
        other.execute("UPDATE t SET v = 0")  # its functions are compiled now
        c("ALTER TABLE t RENAME id TO ident")
        for db in (c.db, other):
            db.execute("INSERT INTO t VALUES ((SELECT max(ident) + 1 FROM t), 1)")
            db.execute("UPDATE t SET v = 1")
            db.execute("DELETE FROM t WHERE ident = 1")
        c("ALTER TABLE t DROP ident CASCADE")
        for db in (c.db, other):
            db.execute("INSERT INTO t VALUES (1)")
            db.execute("UPDATE t SET v = 1")
            db.execute("INSERT INTO child VALUES (3)")
            db.execute("DELETE FROM t")
    c.mend()
    c("INSERT INTO t VALUES (8)")
    c.check()


def test_the_application_sees_nothing_of_it(controller: Make) -> None:
    c = controller("CREATE TABLE t (id serial PRIMARY KEY, v int)")
    assert c("INSERT INTO t (v) VALUES (1), (2) RETURNING id") == [(1,), (2,)]
    assert c("SELECT lastval(), currval('t_id_seq')") == [(2, 2)]
    assert c.db.execute("UPDATE t SET v = 3 WHERE id = 1").rowcount == 1
    assert c.db.execute("DELETE FROM t").statusmessage == "DELETE 2"


def test_an_application_without_rights_on_the_journal_commits(
    controller: Make, request: pytest.FixtureRequest
) -> None:
    c = controller(
        PLAIN + "DROP ROLE IF EXISTS humble; CREATE ROLE humble LOGIN; GRANT ALL ON t TO humble"
    )
    with c.another(user="humble") as humble:
        humble.execute("CREATE TEMP TABLE n (id int); CREATE TEMP TABLE bequest_journal (id int)")
        humble.execute("SET search_path = pg_temp, public")
        humble.execute(
            "INSERT INTO t VALUES (6, 6); UPDATE t SET v = 0; DELETE FROM t WHERE id = 1"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            humble.execute("SELECT * FROM bequest.bequest_journal")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            humble.execute("INSERT INTO bequest.bequest_journal SELECT")
    c.check()
    c("REVOKE ALL ON t FROM humble; DROP ROLE humble")


def test_operators_and_casts_of_the_application_s_own_are_not_taken(controller: Make) -> None:
    c = controller(
        "CREATE TYPE odd AS ENUM ('a', 'b'); CREATE TABLE t (k odd PRIMARY KEY);"
        "CREATE FUNCTION boom(odd) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'taken'; END $$; CREATE CAST (odd AS text) WITH FUNCTION boom(odd);"
        "CREATE FUNCTION public.format(text, odd) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'taken'; END $$;"
        "CREATE FUNCTION eq(text[], text[]) RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'taken'; END $$;"
        "CREATE OPERATOR public.<> (LEFTARG = text[], RIGHTARG = text[], FUNCTION = eq)"
    )
    c("SET search_path = public, pg_catalog")
    c("INSERT INTO t VALUES ('a'); UPDATE t SET k = 'b'")
    c("RESET search_path")
    c.check()


def test_quoted_names_in_schemas_of_their_own(controller: Make) -> None:
    c = controller(
        'CREATE SCHEMA "my "" schema";'
        ' CREATE TABLE "my "" schema"."se\'lect" ("or""der" int PRIMARY KEY,'
        ' touched int, before text, n int, o int, r int, "%s" int);'
        'CREATE TABLE public."se\'lect" (n int PRIMARY KEY); SET search_path = "my "" schema"'
    )
    c(
        'INSERT INTO "se\'lect" VALUES (1, 2, 3, 4, 5, 6, 7);'
        'UPDATE "se\'lect" SET "or""der" = 2, o = 1'
    )
    c('INSERT INTO public."se\'lect" VALUES (1)')
    assert len(c.mutations()) == 4
    c.check()


def test_sequences_are_read_at_every_cut(controller: Make) -> None:
    c = controller(
        "CREATE TABLE t (id serial PRIMARY KEY); CREATE SCHEMA s; CREATE SEQUENCE s.q START 5"
    )
    with c.source.cut(c.memory) as cut:
        before = {"sequence public.t_id_seq": "1 false", "sequence s.q": "5 false"}
        assert cut.attributes() == before
    c("INSERT INTO t DEFAULT VALUES; SELECT setval('s.q', 40, false)")
    with c.source.cut(c.memory) as cut:
        assert cut.attributes() == {
            "sequence public.t_id_seq": "1 true",
            "sequence s.q": "40 false",
        }


def test_trimming_forgets_what_was_seen_and_nothing_else(
    controller: Make,
) -> None:
    c = controller(PLAIN)
    with c.another() as late:
        late.execute("BEGIN; INSERT INTO t VALUES (9, 9)")
        c("UPDATE t SET v = 4")
        c("UPDATE t SET v = 5 WHERE id = 1")
        c.check()
        late.execute("COMMIT")
    c("UPDATE t SET v = 6 WHERE id = 2")
    c.source.trim(c.memory.position)
    assert sorted(c("SELECT op::text, keys FROM bequest.bequest_journal")) == [
        ("i", ["9"]),
        ("u", ["2"]),
    ]
    c.check()


def test_history_that_weighs_too_much_is_dropped(controller: Make) -> None:
    c: Controller = controller(
        "CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t SELECT string_agg(md5(i || ' '"
        " || j), ''), 0 FROM generate_series(1, 200) i, generate_series(1, 40) j GROUP BY i",
        journal_limit=3000,
    )
    # 200 keys of 1,280 bytes in each of 40 rows, then many light ones.
    loop = "DO $$ BEGIN FOR i IN 1..{} LOOP UPDATE t SET v = i {}; COMMIT; END LOOP; END $$"
    c(loop.format(40, ""))
    c(loop.format(2100, "WHERE k = (SELECT min(k) FROM t)"))
    ((size, rows),) = c("SELECT sum(pg_column_size(keys)), count(*) FROM bequest.bequest_journal")
    assert rows < 2100
    assert size < 4_000_000
    assert "history dropped" in c.fault()
    c.rebase()
    c.check()


def test_history_is_dropped_when_nobody_publishes(controller: Make) -> None:
    c: Controller = controller(PLAIN, journal_limit=2000)
    c("DO $$ BEGIN FOR i IN 1..6000 LOOP UPDATE t SET v = i WHERE id = 1; COMMIT; END LOOP; END $$")
    ((rows,),) = c("SELECT count(*) FROM bequest.bequest_journal")
    assert rows < 5000
    assert "history dropped" in c.fault()
    c.rebase()
    c.check()
