"""Whatever writes to a table, the fold at the next cut equals the table. Promises 1 and 2."""

from __future__ import annotations

import pytest

from .controller import Make, controller

__all__ = ["controller"]

DEVICES = "CREATE TABLE devices (id int PRIMARY KEY, name text UNIQUE, state int DEFAULT 0);"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO devices VALUES (4, 'd')",
        "INSERT INTO devices SELECT i, 'n' || i FROM generate_series(10, 500) i",
        "UPDATE devices SET state = 1 WHERE id = 2",
        "UPDATE devices SET id = id + 10, name = id::text || name",
        "UPDATE devices SET id = -id",
        "DELETE FROM devices WHERE id = 2",
        "DELETE FROM devices",
        "TRUNCATE devices",
        "INSERT INTO devices VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET state = 9",
        "INSERT INTO devices VALUES (1, 'x'), (7, 'y') ON CONFLICT DO NOTHING",
        "WITH gone AS (DELETE FROM devices RETURNING *) INSERT INTO devices"
        " SELECT id + 100, name || '!' FROM gone",
        "MERGE INTO devices d USING (VALUES (1, 'm'), (8, 'n')) v(id, name)"
        " ON d.id = v.id WHEN MATCHED THEN UPDATE SET state = 3"
        " WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.name)",
        "UPDATE devices SET state = 1 WHERE false",
        "BEGIN; SAVEPOINT a; INSERT INTO devices VALUES (20, 's'); ROLLBACK TO a;"
        " INSERT INTO devices VALUES (21, 't'); SAVEPOINT b; DELETE FROM devices WHERE id = 1;"
        " RELEASE b; COMMIT",
        "BEGIN; DELETE FROM devices; ROLLBACK",
        "DO $$ BEGIN INSERT INTO devices VALUES (30, 'do'); COMMIT;"
        " DELETE FROM devices WHERE id = 1; ROLLBACK; DELETE FROM devices WHERE id = 2; END $$",
    ],
)
def test_every_way_to_write_is_seen(controller: Make, sql: str) -> None:
    c = controller(DEVICES + "INSERT INTO devices VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    c(sql)
    c.check()
