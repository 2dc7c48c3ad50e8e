"""A warm copy on PostgreSQL equals its object, though what could fire in it waits."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, text

import bequest
from tests.servers.postgresql import PostgresqlServer

SCHEMA = (
    "CREATE TABLE sites(id int PRIMARY KEY, name text)",
    "CREATE TABLE routers(id int PRIMARY KEY, site int REFERENCES sites ON DELETE CASCADE)",
    "CREATE RULE quiet AS ON DELETE TO sites WHERE old.id < 0 DO INSTEAD NOTHING",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
    "CREATE TRIGGER t BEFORE UPDATE ON routers FOR EACH ROW EXECUTE FUNCTION f()",
    "ALTER TABLE routers DISABLE TRIGGER t",
    "COMMENT ON TRIGGER t ON routers IS 'one'",
    "COMMENT ON RULE quiet ON sites IS 'another'",
    "COMMENT ON CONSTRAINT routers_site_fkey ON routers IS 'a third'",
    "CREATE POLICY own ON sites USING (true)",
    "ALTER TABLE sites ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE sites FORCE ROW LEVEL SECURITY",
    "INSERT INTO sites VALUES (1, 'a')",
    "INSERT INTO routers VALUES (1, 1)",
)


def test_verify_says_that_a_copy_equals_its_object(
    postgresql: PostgresqlServer, postgresql_database: URL, tmp_path: Path
) -> None:
    engine = create_engine(postgresql_database, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in SCHEMA:
            connection.execute(text(statement))
    store = str(tmp_path / "o")
    bequest.backup(postgresql_database, store)
    with postgresql.database() as copy:
        bequest.follow(store, copy, once=True)
        report = bequest.verify(store, copy)
        assert report.ok, report.differences
        assert bequest.diff(store, database=copy).equal
        bequest.promote(copy, store)
        assert bequest.verify(store, copy).ok
