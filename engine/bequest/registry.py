"""From an address to its adapter, found by name and loaded only when it is used.

Third parties add theirs through the entry points ``bequest.stores`` and ``bequest.databases``; each
names a function that takes the address and returns the port.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, cast

from .compactor import Limits
from .encryption import cipher_of, give
from .errors import UsageError
from .model import Author, Catalog
from .ports import Cipher, Clock, Following, Migrations, Pairing, Schedule, Source, Store, Target

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

    from .plan import Cross

STORES: Final = {
    "file": "bequest_adapters.stores.file",
    "s3": "bequest_adapters.stores.s3",
    "az": "bequest_adapters.stores.azure",
    "azure": "bequest_adapters.stores.azure",
    "abs": "bequest_adapters.stores.azure",
    "gs": "bequest_adapters.stores.gcs",
}
KEY_VARIABLES: Final = frozenset({"BEQUEST_KEY", "BEQUEST_KEY_FILE"})
CROSSING: Final = "bequest_adapters.databases.crossing"
DATABASES: Final = {
    "sqlite": "bequest_adapters.databases.sqlite",
    "postgresql": "bequest_adapters.databases.postgresql",
}


def open_store(store: str | Store, cipher: Cipher | None = None) -> Store:
    """The store at an address, with its keys: ``cipher``, else those of the address, else those of
    the environment. A store that is given open keeps the keys that it has. Raises `UsageError`.
    """
    opened = _open_store(store)
    if cipher is None and cipher_of(opened) is not None:
        return opened
    return give(opened, cipher or keys(getattr(store, "key_file", None)))


def keys(key_file: str | None = None) -> Cipher | None:
    """The keys in a file, else those that the environment names; ``None`` when it names none.

    Raises `UsageError` for keys that cannot be used: encryption is never off because of a slip.
    """
    if key_file is None and not os.environ.keys() & KEY_VARIABLES:
        return None
    return cast("Cipher", importlib.import_module("bequest_adapters.cipher").keys(key_file))


def _open_store(store: str | Store) -> Store:
    if isinstance(store, os.PathLike):
        store = str(os.fspath(cast("os.PathLike[str]", store)))
    if not isinstance(store, str):
        return _port(store)
    scheme = store.split("://", 1)[0].lower() if "://" in store else "file"
    opened: Store = _find("bequest.stores", STORES, scheme, "open_store")(store)
    if scheme == "file":
        return opened
    wrap = importlib.import_module("bequest_adapters.stores.retrying").retrying
    return cast(Store, wrap(opened))


def local_store(store: Any) -> Store | None:
    """The store at an address if it is of this machine, or one that is open, without any key.

    ``None`` for an address elsewhere, whose client may be slow to make. Raises `UsageError`.
    """
    if isinstance(store, str) and "://" in store and store.split("://", 1)[0].lower() != "file":
        return None
    return _open_store(store)


def _port(store: Any) -> Store:
    if all(callable(getattr(store, name, None)) for name in ("head", "read", "close")):
        return cast(Store, store)
    raise UsageError(
        f"The store is of the type {type(store).__name__}. Nothing was done. Give its address as a "
        "text, such as s3://bucket/name or a file's path."
    )


def open_source(database: Any) -> Source:
    """The source at an SQLAlchemy URL, or behind an engine. Raises `UsageError`."""
    url = database_url(database)
    return cast(Source, _database(url, "open_source")(url))


def open_target(database: Any) -> Target:
    """The target at an SQLAlchemy URL, or behind an engine. Raises `UsageError`."""
    url = database_url(database)
    return cast(Target, _database(url, "open_target")(url))


def open_following(database: Any) -> Following:
    """The followed database at an SQLAlchemy URL, or behind an engine. Raises `UsageError`."""
    url = database_url(database)
    try:
        return cast(Following, _database(url, "open_following")(url))
    except AttributeError as error:
        raise UsageError(
            f"A {url.get_backend_name()} database cannot follow an object in this release. Nothing "
            "was done. Use `bequest restore`."
        ) from error


def migration(connection: Connection) -> AbstractContextManager[None]:
    """What lifts capture on this connection's database while it migrates."""
    lift = _database(connection.engine.url, "migration")
    return cast("AbstractContextManager[None]", lift(connection))


def alembic_filter(own: Callable[..., bool] | None) -> Callable[..., bool]:
    """What hides Bequest's tables from Alembic's autogenerate."""
    module = importlib.import_module("bequest_adapters.autogenerate")
    return cast("Callable[..., bool]", module.alembic_filter(own))


def alembic_migrations(config: Any) -> Migrations:
    """The controller's migrations: an ``alembic.ini``, or an Alembic `Config`.

    Raises `UsageError`.
    """
    module = importlib.import_module("bequest_adapters.alembic_bridge")
    return cast(Migrations, module.open_migrations(config))


def rewriting(
    database: Any,
    store: str | Store,
    mode: str,
    limits: Limits,
    cipher: Cipher | None = None,
    files: dict[str, Any] | None = None,
) -> Any:
    """What rewrites in a process of its own; ``None`` for a store that has no address."""
    if not isinstance(store, str):
        return None
    url = database_url(database).render_as_string(hide_password=False)
    module = importlib.import_module("bequest_adapters.rewriting")
    return module.RewriteApart(url, store, mode, limits, cipher, files)


def drilling(address: str | Store, store: Store) -> Any:
    """What drills the object in a process of its own; ``None`` for a store without an address."""
    if not isinstance(address, str):
        return None
    module = importlib.import_module("bequest_adapters.drilling")
    return module.DrillApart(address, store)


def crossing() -> Cross:
    """What says a snapshot of one dialect in another."""
    return cast("Cross", importlib.import_module(CROSSING).cross)


def pair(first: Catalog, first_dialect: str, second: Catalog, second_dialect: str) -> Pairing:
    """Two databases of different kinds, table by table. Raises `Refused`."""
    module = importlib.import_module(CROSSING)
    return cast("Pairing", module.pair(first, first_dialect, second, second_dialect))


def this_process() -> Author:
    """Who publishes when this process does."""
    module = importlib.import_module("bequest_adapters.author")
    return cast("Author", module.this_process())


def system_clock() -> Clock:
    """The machine's clock."""
    return cast(Clock, importlib.import_module("bequest_adapters.clock").SystemClock())


def cron(expression: str, timezone: str | None) -> Schedule:
    """A cron schedule in a named time zone. Raises `UsageError`."""
    module = importlib.import_module("bequest_adapters.cron")
    return cast(Schedule, module.CronSchedule(expression, timezone))


def files() -> Any:
    """What records and restores configuration files."""
    return importlib.import_module("bequest_adapters.files")


def database_url(database: Any) -> URL:
    """The URL of an engine, an asynchronous engine, or a text. Raises `UsageError`."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    address = getattr(database, "url", database)
    try:
        return make_url(address)
    except ArgumentError as error:
        raise UsageError(
            "That is no database URL. Nothing was done. Give an SQLAlchemy URL such as "
            "sqlite:////var/lib/controller/controller.db (four slashes for an absolute path)."
        ) from error


def _database(url: URL, function: str) -> Any:
    return _find("bequest.databases", DATABASES, url.get_backend_name(), function)


def _find(group: str, built_in: dict[str, str], scheme: str, function: str) -> Any:
    if scheme in built_in:
        try:
            return getattr(importlib.import_module(built_in[scheme]), function)
        except ModuleNotFoundError as error:
            if error.name != built_in[scheme]:
                raise
            raise UsageError(
                f"This release of Bequest has no adapter for {scheme!r} yet."
            ) from error
    # A third of the time that `import bequest` would take, and wanted for foreign schemes only.
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=scheme):
        return getattr(point.load(), function)
    known = ", ".join(sorted(built_in))
    raise UsageError(f"Nothing here understands {scheme!r}. Nothing was done. Known are: {known}.")
