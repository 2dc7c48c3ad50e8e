"""The options that several verbs share, and where their values come from.

click applies the order argument, variable, file, default: the file's content becomes the context's
``default_map`` before the other options are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import click
from click.core import ParameterSource

from bequest import separate
from bequest.errors import UsageError
from bequest_adapters import config

from . import accounts

SETTINGS: Final = "bequest.settings"
F = TypeVar("F", bound=Callable[..., Any])


def settings(context: click.Context) -> config.Settings:
    """The configuration that this call of the program goes by."""
    found = context.find_root().meta.get(SETTINGS)
    if found is None:
        found = context.find_root().meta[SETTINGS] = config.load(None)
    return found if isinstance(found, config.Settings) else config.Settings()


def show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and end."""
    if value:
        from bequest import __version__

        click.echo(f"bequest {__version__}")
        context.exit()


def _load(context: click.Context, _: click.Parameter, value: str | None) -> None:
    root = context.find_root()
    if value is not None:
        root.meta[SETTINGS] = config.load(config.expand(value))
    if (path := settings(context).path) is not None:
        separate.protect(path, "the configuration file")
    if context is not root:
        options = dict(settings(context).options)
        if "json" in options:
            options["as_json"] = options.pop("json")
        context.default_map = options


class Seconds(click.FloatRange):
    """A duration: a number that is one, and finite."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number of seconds.", param, ctx)
        return number


class ExpandedChoice(click.Choice[str]):
    """One of a few words, also by way of ``${NAME}``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(config.expand(str(value)), param, ctx)


def _expanded(_: click.Context, __: click.Parameter, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(config.expand(str(item)) for item in cast("tuple[object, ...]", value))
    return None if value is None else config.expand(value)


def checked_database(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Expand a database's URL. Raises `UsageError` for a password that others can read."""
    if value is None:
        return None
    if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
        config.check_database_argument(value)
    return config.expand_database(value)


def named_store(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """The store as an address, or as an account names it by its parts. Raises `UsageError`.

    An address on the command line or in a variable wins over parts in the file.
    """
    if value is not None and accounts.given(context):
        raise UsageError(
            "A store is given twice, by its address and by its parts. Nothing was done. Give one."
        )
    source = context.get_parameter_source(parameter.name or "")
    from_file = source in (ParameterSource.DEFAULT_MAP, ParameterSource.DEFAULT)
    if value is None or from_file:
        chosen = settings(context)
        if value is not None and any(part in chosen.options for part in accounts.PARTS):
            raise UsageError(
                "The configuration gives the store twice, by its address and by its parts. "
                "Nothing was done. Remove one of them."
            )
        found = accounts.store_of(context, chosen)
        if found is not None:
            return found
    url = checked_store(context, parameter, value)
    return None if url is None else _with_keys(context, url)


def _needed_store(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    found = named_store(context, parameter, value)
    if found is None:
        raise click.MissingParameter(ctx=context, param=parameter)
    return found


def keyed_store(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """The store at an address, with its keys. Raises `UsageError`."""
    url = checked_store(context, parameter, value)
    return None if url is None else _with_keys(context, url)


def _with_keys(context: click.Context, url: str) -> Any:
    key_file = accounts.key_file_of(context, settings(context))
    return accounts.with_keys(context, url, key_file=key_file)


def checked_store(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Expand a store's address. Raises `UsageError` for one that bears a credential."""
    if value is None:
        return None
    config.check_store(value)
    expanded = config.expand(value)
    config.check_store(expanded)
    return expanded


config_option = click.option(
    "--config",
    metavar="FILE",
    envvar="BEQUEST_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=_load,
    help="Read options from FILE instead of ./bequest.toml.  [variable: BEQUEST_CONFIG]",
)

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="BEQUEST_JSON",
    help="Answer with one JSON document on stdout.",
)


def database_option(
    *, required: bool = True, text: str = "The controller's database."
) -> Callable[[F], F]:
    """``--database URL``."""
    return click.option(
        "--database",
        metavar="URL",
        required=required,
        envvar="BEQUEST_DATABASE",
        callback=checked_database,
        help=f"{text} An SQLAlchemy URL such as sqlite:////var/lib/ctl/ctl.db (four slashes for an "
        "absolute path) or postgresql+psycopg://bequest@db/ctl. A URL with a password belongs into "
        "the variable.  "
        "[variable: BEQUEST_DATABASE]",
    )


def store_option(*, required: bool = True) -> Callable[[F], F]:
    """``--store URL``."""
    return click.option(
        "--store",
        metavar="URL",
        envvar="BEQUEST_STORE",
        callback=_needed_store if required else named_store,
        help="Where the object lives: s3://bucket/name, file:///path/name or a plain path.  "
        "[variable: BEQUEST_STORE]",
    )


store_argument = click.argument(
    "store", metavar="STORE", required=False, envvar="BEQUEST_STORE", callback=_needed_store
)


version_option = click.option(
    "--version",
    metavar="ID",
    callback=_expanded,
    help="Take this version of the object instead of the present one; `bequest history` lists "
    "them.",
)


def selection_options(function: F) -> F:
    """``--include GLOB`` and ``--exclude GLOB``."""
    exclude = click.option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        envvar="BEQUEST_EXCLUDE",
        callback=_expanded,
        help="Leave out tables whose name matches, such as 'session_*'. Repeatable.  "
        "[variable: BEQUEST_EXCLUDE]",
    )
    include = click.option(
        "--include",
        metavar="GLOB",
        multiple=True,
        envvar="BEQUEST_INCLUDE",
        callback=_expanded,
        help="Back up only tables whose name matches. Repeatable; all tables by default.  "
        "[variable: BEQUEST_INCLUDE]",
    )
    return include(exclude(function))


def files_options(function: F) -> F:
    """``--files DIR``, ``--files-ignore GLOB`` and ``--files-limit BYTES``."""
    folders = click.option(
        "--files",
        metavar="DIR",
        multiple=True,
        envvar="BEQUEST_FILES",
        callback=_expanded,
        help="Record this folder's files, too, with the tables. DIR or NAME=DIR; repeatable.  "
        "[variable: BEQUEST_FILES]",
    )
    ignore = click.option(
        "--files-ignore",
        metavar="GLOB",
        multiple=True,
        envvar="BEQUEST_FILES_IGNORE",
        callback=_expanded,
        help="Leave out files whose name matches, instead of those that editors leave behind. "
        "Repeatable.  [variable: BEQUEST_FILES_IGNORE]",
    )
    limit = click.option(
        "--files-limit",
        metavar="BYTES",
        type=click.IntRange(min=0),
        envvar="BEQUEST_FILES_LIMIT",
        help="Do not record a larger file, but name it; 64 MiB by default.  "
        "[variable: BEQUEST_FILES_LIMIT]",
    )
    return folders(ignore(limit(function)))


def recorded(
    files: tuple[str, ...], files_ignore: tuple[str, ...], files_limit: int | None
) -> dict[str, Any]:
    """The keyword arguments that the three options mean."""
    return {"files": files, "files_ignore": files_ignore or None, "files_limit": files_limit}


def placing_options(function: F) -> F:
    """``--files-to DIR`` and ``--files-in-place``."""
    to = click.option(
        "--files-to",
        metavar="DIR",
        help="Write the recorded files below DIR, each recorded folder under its name.",
    )
    in_place = click.option(
        "--files-in-place",
        is_flag=True,
        help="Write the recorded files to where they were recorded.",
    )
    return to(in_place(function))


replace_option = click.option(
    "--replace",
    metavar="LINEAGE/SERIAL",
    help="Replace this one object although it is not an earlier state of the database, or although "
    "the configuration shrank. A refusal shows the name to give. A copy of the object is kept.",
)

accept_files_option = click.option(
    "--accept-files",
    is_flag=True,
    help="Confirm changes of recorded files that are held back, such as a folder that is empty.",
)


def text_option(
    name: str, *, default: str | None = None, metavar: str, help: str
) -> Callable[[F], F]:
    """An option that holds a text and expands ``${NAME}``."""
    variable = f"BEQUEST_{name.upper().replace('-', '_')}"
    return click.option(
        f"--{name}",
        default=default,
        metavar=metavar,
        envvar=variable,
        callback=_expanded,
        help=f"{help}  [variable: {variable}]",
    )


def selection(include: tuple[str, ...], exclude: tuple[str, ...]) -> dict[str, Any]:
    """The keyword arguments that mean "as given, else as at the last time"."""
    return {"include": include or None, "exclude": exclude or None}
