"""The sample controller's Alembic environment, in the styles that controllers use.

``-x style=`` is not there inside a restore, so the style is an attribute of the configuration.
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, create_engine, engine_from_config, pool
from sqlalchemy.ext.asyncio import async_engine_from_config

config = context.config
style = config.attributes.get("style", "url")


def migrate(connection: Connection | None, **options: object) -> None:
    context.configure(connection=connection, render_as_batch=True, **options)  # type: ignore[arg-type]
    with context.begin_transaction():
        context.run_migrations()


def section() -> dict[str, str]:
    return dict(config.get_section(config.config_ini_section) or {})


async def asynchronously() -> None:
    engine = async_engine_from_config(section(), prefix="sqlalchemy.", poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    migrate(None, url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
elif style == "attribute":
    migrate(config.attributes["connection"])
elif style == "async":
    asyncio.run(asynchronously())
elif style == "elsewhere":
    engine = create_engine(config.attributes["elsewhere"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate(connection)
elif style == "offline only":
    migrate(None, url="sqlite:///never.db", literal_binds=True)
elif style == "none":
    pass
else:
    engine = engine_from_config(section(), prefix="sqlalchemy.", poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate(connection)
