"""A new installation, made without Alembic, is what the migrations lead to, to the last option."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from bequest_schema import HEAD, migrations
from bequest_schema.migrations import NewerInstallation, current, upgrade
from bequest_schema.tables import VERSION_TABLE, metadata_for
from tests.restore.kinds import Kind, kind

__all__ = ["kind"]

pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type")


def connected(url: str) -> Any:
    made = make_url(url)
    if made.get_backend_name() == "postgresql":
        made = made.set(drivername="postgresql+psycopg")
    return create_engine(made)


def migrated(connection: Connection) -> None:
    """All the revisions, from nothing."""
    scripts = ScriptDirectory(str(Path(str(migrations.__file__)).parent))
    operations = Operations(MigrationContext.configure(connection))
    for script in reversed(list(scripts.walk_revisions())):
        importlib.import_module(f"bequest_schema.migrations.versions.{Path(script.path).stem}")
        script.module.upgrade(operations)


def described(connection: Connection) -> dict[str, Any]:
    found = inspect(connection)
    tables = {
        name: (
            [(each["name"], str(each["type"]), each["nullable"], each["default"])
             for each in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
        )
        for name in found.get_table_names()
        if name != VERSION_TABLE
    }  # fmt: skip
    if connection.dialect.name == "postgresql":
        options = text("SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'bequest%'")
        tables["options"] = sorted(
            (name, sorted(said or ())) for name, said in connection.execute(options) if said
        )
    return tables


def test_both_ways_lead_to_the_same_tables(kind: Kind) -> None:
    made: list[dict[str, Any]] = []
    for name, make in (("fresh", upgrade), ("migrated", migrated)):
        engine = connected(kind.new(name))
        with engine.begin() as connection:
            make(connection)
            made.append(described(connection))
        engine.dispose()
    assert made[0] == made[1]
    assert len(made[0]) >= 3


def test_a_new_installation_knows_its_revision(kind: Kind) -> None:
    engine = connected(kind.new("controller"))
    with engine.begin() as connection:
        assert current(connection) == ""
        assert upgrade(connection)
        assert current(connection) == HEAD
        assert not upgrade(connection)
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        assert upgrade(connection)
        assert not upgrade(connection)
        assert set(metadata_for(engine.dialect.name).tables) == set(
            inspect(connection).get_table_names()
        )
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        with pytest.raises(NewerInstallation):
            upgrade(connection)
    engine.dispose()
