"""``bequest install``: put capture into a database."""

from __future__ import annotations

import click

from .options import config_option, database_option, json_option, selection, selection_options
from .output import print_json


@click.command("install")
@database_option()
@selection_options
@json_option
@config_option
def command(
    database: str, include: tuple[str, ...], exclude: tuple[str, ...], as_json: bool
) -> None:
    """Put capture into a database: a journal table and triggers, all named bequest_*.

    `run`, `backup` and the library do this by themselves. It is for whoever wants it done at a
    moment of their own choosing. Doing it twice does no harm.

    \b
    Example:
      bequest install --database sqlite:////var/lib/ctl/ctl.db --exclude 'session_*'
    """
    import bequest

    changed = bequest.install(database, **selection(include, exclude))
    if as_json:
        print_json({"changed": changed})
    else:
        click.echo("Capture is installed." if changed else "Capture was installed already.")
