"""A controller's own migrations never fail because of Bequest, and never escape capture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Engine, Integer, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

import bequest


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'controller.db'}")
    with engine.begin() as connection:
        make(connection)
    yield engine
    engine.dispose()


def make(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT)"))
    connection.execute(text("CREATE UNIQUE INDEX t_b ON t (b)"))
    connection.execute(text("INSERT INTO t VALUES (1, 'a', 'b', 'c')"))


def drop(connection: Connection) -> None:
    connection.execute(text("DROP INDEX t_b"))
    connection.execute(text("ALTER TABLE t DROP COLUMN b"))
    connection.execute(text("INSERT INTO t VALUES (2, 'a', 'c')"))


def test_the_context_manager_lets_an_indexed_column_go(engine: Engine, tmp_path: Path) -> None:
    store = str(tmp_path / "o.bequest")
    bequest.backup(engine, store)
    with engine.begin() as connection, bequest.migration(connection):
        drop(connection)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (3, 'a', 'c')"))
    assert bequest.status(engine).pending_mutations == 1, "capture is back at once"
    assert bequest.backup(engine, store).action == "rewrite"
    assert bequest.verify(store, engine).ok


def test_a_migration_that_fails_leaves_capture_as_it_was(engine: Engine, tmp_path: Path) -> None:
    store = str(tmp_path / "o.bequest")
    bequest.backup(engine, store)

    def fails() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            with bequest.migration(connection):
                drop(connection)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (3, 'a', 'b2', 'c')"))
    assert bequest.backup(engine, store).action == "append"
    assert bequest.verify(store, engine).ok


def test_without_capture_the_context_manager_does_nothing(engine: Engine) -> None:
    with engine.begin() as connection, bequest.migration(connection):
        drop(connection)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
    assert names == ["t"]


def test_an_embedded_engine_needs_no_context_manager(engine: Engine, tmp_path: Path) -> None:
    store = str(tmp_path / "o.bequest")
    with bequest.Backup(engine, store) as backup:
        backup.flush()
        with engine.begin() as connection:
            drop(connection)
        backup.flush()
        assert bequest.verify(store, engine).ok


def test_nor_does_an_asynchronous_one(tmp_path: Path) -> None:
    store = str(tmp_path / "o.bequest")

    async def controller() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'controller.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(make)
        with bequest.Backup(engine, store) as backup:
            await asyncio.to_thread(backup.flush)
            async with engine.begin() as connection:
                await connection.run_sync(drop)
            await asyncio.to_thread(backup.flush)
        await engine.dispose()

    asyncio.run(controller())
    assert bequest.verify(store, f"sqlite:///{tmp_path / 'controller.db'}").ok


@pytest.mark.parametrize("hooked", [True, False])
def test_alembic_with_and_without_batch_mode(engine: Engine, tmp_path: Path, hooked: bool) -> None:
    store = str(tmp_path / "o.bequest")
    bequest.backup(engine, store)

    def migrate(connection: Connection) -> None:
        operations = Operations(MigrationContext.configure(connection))
        operations.add_column("t", Column("d", Integer, server_default="4"))
        operations.drop_column("t", "a")
        with operations.batch_alter_table("t", recreate="always") as batch:
            batch.drop_index("t_b")
            batch.drop_column("b")
        operations.create_table("u", Column("id", Integer, primary_key=True))
        operations.execute("INSERT INTO u VALUES (5)")
        operations.rename_table("t", "tt")

    with engine.begin() as connection:
        if hooked:
            with bequest.migration(connection):
                migrate(connection)
        else:
            migrate(connection)
    assert bequest.backup(engine, store).action == "rewrite"
    assert bequest.verify(store, engine).ok
    with engine.begin() as connection:
        connection.execute(text("UPDATE tt SET d = 9"))
        connection.execute(text("INSERT INTO u VALUES (6)"))
    assert bequest.backup(engine, store).action == "append"
    assert bequest.verify(store, engine).ok
