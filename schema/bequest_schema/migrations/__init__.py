"""Lead an installation of any age to the newest shape, in place.

A new installation gets the newest shape at once, and what somebody dropped is made again: neither
needs Alembic, which takes longer to load than most publishes last and has log lines of its own.

``alembic.op`` and ``alembic.context`` are global to the process. The controller may be migrating
its own tables in another thread at this very moment, so they are not used here: every script is
given its operations as an argument.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from ..tables import HEAD, VERSION_TABLE, metadata_for

_loading = threading.Lock()


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

    Tables without a version count as being of the newest shape: whoever dropped the one may have
    left the others. The caller commits. Raises `NewerInstallation`, and SQLAlchemy's errors as they
    come.
    """
    found = current(connection)
    if found in ("", HEAD):
        return _complete(connection, found)
    with _loading:
        return _upgrade(connection)


def _upgrade(connection: Connection) -> bool:
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    # Alembic interpolates its options: a percent sign in the path must be doubled.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    found = current(connection)
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise NewerInstallation(found)

    def steps(revision: Any, _: MigrationContext) -> Any:
        return scripts._upgrade_revs(HEAD, revision)  # pyright: ignore[reportPrivateUsage]

    options = {"version_table": VERSION_TABLE, "fn": steps}
    context = MigrationContext.configure(connection, opts=options)
    context.run_migrations(op=Operations(context))
    return True


def _complete(connection: Connection, found: str) -> bool:
    """Make what is missing, so that the triggers find their journal."""
    metadata = metadata_for(connection.dialect.name)
    missing = set(metadata.tables) - set(connection.dialect.get_table_names(connection))
    metadata.create_all(connection)
    if not found:
        connection.execute(metadata.tables[VERSION_TABLE].insert().values(version_num=HEAD))
    return bool(missing) or not found


__all__ = ["NewerInstallation", "current", "upgrade"]
