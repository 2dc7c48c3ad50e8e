"""A followed PostgreSQL database is the object's state at one cut always, and can take over."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

import bequest
from bequest import registry
from tests.restore.kinds import Postgresql
from tests.servers.postgresql import PostgresqlServer

LIMITS = bequest.Limits(tail_share=1000.0)
SCHEMA = """
CREATE TABLE site (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE);
CREATE TABLE router (id serial PRIMARY KEY, v numeric(10, 2), at timestamptz DEFAULT now(),
    site integer REFERENCES site ON DELETE CASCADE);
CREATE TABLE history (what text, amount numeric, about jsonb, at timestamp, tags text[]);
CREATE TABLE parts (id integer, v text, twice integer GENERATED ALWAYS AS (id * 2) STORED)
    PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO history (what) VALUES (new.name); RETURN new; END $$;
CREATE TRIGGER telling AFTER INSERT ON site FOR EACH ROW EXECUTE FUNCTION tell();
COMMENT ON TRIGGER telling ON site IS 'tells';
CREATE RULE kept AS ON DELETE TO history WHERE old.what = 'never' DO INSTEAD NOTHING;
ALTER TABLE router ENABLE ROW LEVEL SECURITY;
ALTER TABLE router FORCE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON router USING (true);
CREATE MATERIALIZED VIEW names AS SELECT name FROM site;
INSERT INTO site (name) VALUES ('a'), ('b');
INSERT INTO router (v, site) VALUES (1.5, 1), (2.5, 2);
INSERT INTO parts VALUES (1, 'one'), (101, 'two');
"""
TABLES = ("site", "router", "history", "parts")


class Pair:
    """A controller that publishes, and a warm copy that follows."""

    def __init__(self, server: PostgresqlServer, stack: ExitStack, folder: Path) -> None:
        self._kind = Postgresql(server, stack)
        self.source = self._kind.new("source")
        self.warm = self._kind.new("warm")
        self.store = str(folder / "o.bequest")
        self.events: list[str] = []
        self.write(SCHEMA)
        self.publish()

    def write(self, *statements: str, url: str = "") -> None:
        for statement in statements:
            self._kind.run(url or self.source, statement)

    def publish(self, *, rewrite: bool = False) -> Any:
        return bequest.backup(self.source, self.store, limits=LIMITS, rewrite=rewrite)

    def change(self, *statements: str) -> Any:
        self.write(*statements)
        return self.publish()

    def follow(self) -> Any:
        return bequest.follow(self.store, self.warm, once=True, on_event=self._hear)

    def _hear(self, name: str, _: dict[str, Any]) -> None:
        self.events.append(name)

    def run(self, url: str, sql: str) -> list[tuple[Any, ...]]:
        return self._kind.run(url, sql)

    def rows(self, url: str, table: str) -> list[str]:
        found = self._kind.run(url, f"SELECT {table}::text FROM {table}")
        return sorted(row[0] for row in found)

    def equal(self) -> bool:
        return all(self.rows(self.source, each) == self.rows(self.warm, each) for each in TABLES)

    def states(self) -> tuple[object, object]:
        return self._kind.state(self.source), self._kind.state(self.warm)


@pytest.fixture
def pair(postgresql: PostgresqlServer, tmp_path: Path) -> Generator[Pair, None, None]:
    with ExitStack() as stack:
        yield Pair(postgresql, stack, tmp_path)


def test_what_is_published_is_applied_without_reading_the_rest_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pair.follow().action == "reloaded"
    assert pair.equal()
    pair.change("INSERT INTO site (name) VALUES ('c')")
    pair.change("UPDATE router SET v = 3.50", "UPDATE site SET name = 'A' WHERE id = 1")
    pair.change("DELETE FROM site WHERE id = 2", "UPDATE parts SET id = 150 WHERE id = 1")
    monkeypatch.setattr(sys.modules["bequest.follow"], "opened", None)
    report = pair.follow()
    assert (report.action, report.publishes) == ("applied", 3)
    assert pair.equal()
    assert pair.follow().action == "unchanged"


def test_of_equal_rows_without_a_key_as_many_go_as_went(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "('x', {}, '{{\"a\": [1, null]}}', '2024-01-01 00:00:00.5', '{{a,\"b c\"}}')"
    insert = "INSERT INTO history VALUES " + ", ".join(
        row.format(amount) for amount in ("1.0", "1.0", "1.0", "1.00", "'NaN'", "NULL")
    )
    pair.write(insert)
    pair.follow()
    pair.publish()
    pair.follow()
    pair.change("DELETE FROM history WHERE ctid IN (SELECT ctid FROM history"
                " WHERE amount::text = '1.0' LIMIT 2)")  # fmt: skip
    pair.change("UPDATE history SET amount = 2 WHERE amount IS NULL OR amount = 'NaN'")
    pair.change("DELETE FROM history WHERE amount::text = '1.00'", "INSERT INTO history VALUES (1)")
    monkeypatch.setattr(sys.modules["bequest.follow"], "opened", None)
    assert pair.follow().action == "applied"
    assert pair.equal()


def test_rows_that_exchange_a_unique_value_are_no_conflict(pair: Pair) -> None:
    pair.follow()
    pair.write("UPDATE site SET name = 'x' WHERE id = 1", "UPDATE site SET name = 'a' WHERE id = 2")
    pair.change("UPDATE site SET name = 'b' WHERE id = 1")
    assert pair.follow().action == "applied"
    assert pair.equal()


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE site ADD COLUMN w int", "DROP TABLE parts", "CREATE INDEX i ON router (v)", ""],
    ids=["column added", "table dropped", "index made", "compacted"],
)
def test_a_rewritten_base_is_loaded_whole(pair: Pair, change: str) -> None:
    pair.follow()
    if change:
        pair.write(change)
    pair.write("INSERT INTO site (name) VALUES ('c')")
    pair.publish(rewrite=True)
    assert pair.follow().action == "reloaded"
    pair.change("INSERT INTO site (name) VALUES ('d')")
    assert pair.follow().action == "applied"
    assert pair.rows(pair.warm, "site") == pair.rows(pair.source, "site")


def test_whoever_writes_to_it_is_refused(pair: Pair) -> None:
    pair.follow()
    for statement in (
        "INSERT INTO site (name) VALUES ('own')",
        "UPDATE router SET v = 1",
        "DELETE FROM history",
        "TRUNCATE parts",
        "INSERT INTO parts_1 VALUES (2)",
        "SET session_replication_role = replica; DELETE FROM site",
    ):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="until it is promoted"):
            pair.write(statement, url=pair.warm)
    for refused in (bequest.install, bequest.uninstall):
        with pytest.raises(bequest.Refused, match="bequest promote"):
            refused(pair.warm)
    with pytest.raises(bequest.Refused, match="bequest promote"):
        bequest.backup(pair.warm, pair.store)
    assert bequest.status(pair.warm).state == "following"
    assert pair.follow().action == "unchanged"


def test_what_gets_round_the_guards_is_found_said_and_undone(pair: Pair) -> None:
    pair.follow()
    pair.write("ALTER TABLE site DISABLE TRIGGER ALL; DELETE FROM site;"
               " ALTER TABLE site ENABLE TRIGGER ALL", url=pair.warm)  # fmt: skip
    assert pair.follow().action == "reloaded"
    assert pair.events == ["altered"]
    assert pair.equal()


def test_a_database_that_holds_data_is_not_touched(pair: Pair) -> None:
    pair.write("CREATE TABLE own (x integer)", "INSERT INTO own VALUES (1)", url=pair.warm)
    with pytest.raises(bequest.Refused, match="holds data"):
        pair.follow()
    assert pair.rows(pair.warm, "own") == ["(1)"]


def test_tables_without_a_row_give_way_and_are_kept(pair: Pair) -> None:
    pair.write("CREATE TABLE site (of_another_release text)", url=pair.warm)
    report = pair.follow()
    assert (report.action, pair.equal()) == ("reloaded", True)
    kept = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'bequest\\_kept%'"
    ((schema,),) = pair.run(pair.warm, kept)
    assert schema.removesuffix("public") == report.kept.removeprefix("schemas ").removesuffix("*")
    assert pair.run(pair.warm, f'SELECT of_another_release FROM "{schema}".site') == []
    pair.publish(rewrite=True)
    report = pair.follow()
    assert (report.action, report.kept) == ("reloaded", None)
    assert pair.run(pair.warm, kept) == [(schema,)]
    assert bequest.verify(pair.store, pair.warm).ok
    assert bequest.promote(pair.warm).epoch == 2


def test_a_promoted_database_has_everything_and_publishes_on(pair: Pair) -> None:
    pair.follow()
    pair.change("INSERT INTO site (name) VALUES ('last moment')")
    pair.write("REFRESH MATERIALIZED VIEW names")
    report = bequest.promote(pair.warm)
    assert report.epoch == 2
    source, warm = pair.states()
    assert warm == source
    with pytest.raises(bequest.Superseded):
        pair.change("INSERT INTO site (name) VALUES ('too late')")
    pair.write("INSERT INTO site (name) VALUES ('new era')", url=pair.warm)
    assert any("new era" in row for row in pair.rows(pair.warm, "history"))
    published = bequest.backup(pair.warm, pair.store, limits=LIMITS)
    assert (published.action, published.epoch) == ("append", 2)
    assert bequest.verify(pair.store, pair.warm).ok
    with pytest.raises(bequest.Refused, match="does not follow"):
        bequest.promote(pair.warm)


@pytest.mark.parametrize("method", ["release", "released"])
def test_a_promotion_that_was_interrupted_is_completed_by_the_next(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    pair.follow()
    kind = type(registry.open_following(pair.warm))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kind, method, killed)
        with pytest.raises(KeyboardInterrupt):
            bequest.promote(pair.warm)
    if method == "released":
        with pytest.raises(bequest.Refused, match="bequest promote"):
            pair.follow()
    bequest.promote(pair.warm)
    assert bequest.verify(pair.store, pair.warm).ok
    assert bequest.backup(pair.warm, pair.store).epoch >= 2


FOLLOWER = "import sys, bequest; bequest.follow(*sys.argv[1:], poll=0.05)"


def test_a_follower_killed_at_any_moment_stands_at_a_cut(pair: Pair) -> None:
    for round_ in range(4):
        follower = subprocess.Popen([sys.executable, "-c", FOLLOWER, pair.store, pair.warm])
        try:
            for number in range(4):
                # The trigger writes the second row of each transaction.
                pair.change(f"INSERT INTO site (name) VALUES ('{round_}-{number}')")
        finally:
            follower.send_signal(signal.SIGKILL)
            follower.wait()
        with suppress(psycopg.errors.UndefinedTable):
            sites = pair.run(pair.warm, "SELECT count(*) FROM site UNION ALL"
                                   " SELECT count(*) FROM history")  # fmt: skip
            assert sites[0] == sites[1]
    pair.follow()
    assert pair.equal()
    assert bequest.promote(pair.warm).epoch == 2


CHANGES = [
    "INSERT INTO site (name) VALUES ({v}) ON CONFLICT (name) DO UPDATE SET name = {w}",
    "UPDATE site SET name = {v} WHERE id = {n}",
    "DELETE FROM site WHERE id = {n}",
    "INSERT INTO router (v, site) SELECT {n}, min(id) FROM site",
    "UPDATE router SET v = v + 1, site = NULL WHERE id > {n}",
    "INSERT INTO history (what, amount, tags) VALUES ({v}, {n}, ARRAY[{w}, NULL])",
    "UPDATE history SET amount = amount + 1 WHERE what = {v}",
    "DELETE FROM history WHERE amount < {n}",
    "INSERT INTO parts VALUES ({n} * 10, {v})",
    "UPDATE parts SET id = 199 - id WHERE v = {v}",
    "TRUNCATE parts",
    "UPDATE router SET id = DEFAULT WHERE id = {n}",
]


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 2))])
def test_the_copy_is_the_controller_after_each_look(pair: Pair, seed: int) -> None:
    dice = random.Random(seed)
    applied = 0
    for look in range(20):
        for _ in range(dice.randrange(1, 8)):
            v, w = (repr(dice.choice("abcdef")) for _ in range(2))
            with suppress(psycopg.errors.IntegrityError):
                pair.write(dice.choice(CHANGES).format(v=v, w=w, n=dice.randrange(1, 15)))
        if look % 12 == 11:
            pair.write(f"CREATE TABLE extra{look} (x integer)")
        pair.publish()
        if dice.random() < 0.3:  # the next look has several publishes to apply
            continue
        applied += pair.follow().action == "applied"
        assert pair.equal(), look
    assert applied > 6
    bequest.promote(pair.warm)
    assert bequest.verify(pair.store, pair.warm).differences == ()
