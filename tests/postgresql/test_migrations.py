"""A controller's own Alembic migrations run under capture: none fails, and nothing escapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import URL

import bequest

TABLES = """
CREATE TABLE site (id int PRIMARY KEY, name text, old text);
CREATE TABLE port (a int, b int, v text, PRIMARY KEY (a, b));
INSERT INTO site SELECT i, 'site ' || i, 'x' FROM generate_series(1, 20) i;
INSERT INTO port SELECT i, mod(i, 3), 'v' FROM generate_series(1, 20) i
"""


def _type(op: Operations) -> None:
    op.alter_column("site", "id", type_=sa.BigInteger(), existing_type=sa.Integer())
    op.execute("UPDATE site SET name = 'wide' WHERE id < 5")


def _key(op: Operations) -> None:
    op.drop_constraint("port_pkey", "port")
    op.execute("UPDATE port SET v = 'without a key'")
    op.drop_column("port", "b")
    op.execute("DELETE FROM port WHERE a > 15")
    op.create_primary_key("port_pkey", "port", ["a"])
    op.execute("INSERT INTO port VALUES (99, 'new')")


def _names(op: Operations) -> None:
    op.alter_column("site", "id", new_column_name="number")
    op.execute("UPDATE site SET name = 'renamed' WHERE number = 3")
    op.rename_table("site", "place")
    op.execute("INSERT INTO place (number, name) VALUES (50, 'later')")


def _batch(op: Operations) -> None:
    with op.batch_alter_table("site", recreate="always") as batch:
        batch.drop_column("old")
        batch.add_column(sa.Column("added", sa.Integer(), server_default="7"))
    op.execute("UPDATE site SET added = 8 WHERE id = 2")


@pytest.mark.parametrize("lifted", [False, True], ids=["under capture", "lifted"])
@pytest.mark.parametrize("upgrade", [_type, _key, _names, _batch])
def test_a_migration_neither_fails_nor_escapes(
    postgresql_database: URL, tmp_path: Path, upgrade: Callable[[Operations], None], lifted: bool
) -> None:
    store = str(tmp_path / "object")
    engine = sa.create_engine(postgresql_database)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(TABLES)
        bequest.backup(engine, store)
        with engine.begin() as connection:
            op = Operations(MigrationContext.configure(connection))
            if lifted:
                with bequest.migration(connection):
                    upgrade(op)
            else:
                upgrade(op)
        assert bequest.backup(engine, store).action == "rewrite"
        assert bequest.verify(store, engine).differences == ()
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM port WHERE a = 4")
        assert bequest.backup(engine, store).action == "append"
        assert bequest.verify(store, engine).differences == ()
    finally:
        engine.dispose()
