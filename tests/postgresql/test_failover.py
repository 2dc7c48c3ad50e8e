"""A failover to a standby that lost the last transactions: what such a database is like."""

from __future__ import annotations

from tests.servers.postgresql_pair import PostgresqlPair


def test_a_promoted_standby_has_what_reached_it_and_lacks_what_came_later(
    postgresql_pair: PostgresqlPair,
) -> None:
    pair = postgresql_pair
    identity = "SELECT system_identifier FROM pg_control_system()"
    with pair.primary.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        pair.catch_up()
        pair.cut_off()
        db.execute("INSERT INTO t VALUES (2)")
        before = db.execute(identity).fetchone()
    with pair.fail_over().connect() as db:
        assert db.execute("SELECT id FROM t").fetchall() == [(1,)]
        assert db.execute(identity).fetchone() == before
        db.execute("INSERT INTO t VALUES (3)")
