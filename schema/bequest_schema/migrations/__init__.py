"""Lead an installation of any age to the newest shape, in place.

Alembic is loaded only when there is something to do: loading it takes longer than most publishes.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

from ..tables import HEAD, VERSION_TABLE, metadata


class NewerInstallation(Exception):
    """A revision stands in the database that this version of Bequest has never heard of."""


def current(connection: Connection) -> str:
    """The installed revision, empty when there is none. Writes nothing."""
    if not connection.dialect.has_table(connection, VERSION_TABLE):
        return ""
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return str(found or "")


def upgrade(connection: Connection) -> bool:
    """Bring Bequest's tables to `HEAD` inside the caller's transaction; True when it had to.

    The caller commits. Raises `NewerInstallation`, and SQLAlchemy's errors as they come.
    """
    if current(connection) == HEAD:
        return _complete(connection)
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # Alembic interpolates its options: a percent sign in the path must be doubled.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = current(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise NewerInstallation(found)
    command.upgrade(config, HEAD)
    return True


def _complete(connection: Connection) -> bool:
    """Make again what somebody dropped by hand, so that the triggers find their journal."""
    missing = set(metadata.tables) - set(connection.dialect.get_table_names(connection))
    metadata.create_all(connection)
    return bool(missing)


__all__ = ["NewerInstallation", "current", "upgrade"]
