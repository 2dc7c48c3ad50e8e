"""``bequest uninstall``: take all of Bequest out of a database."""

from __future__ import annotations

import click

from .options import config_option, database_option, json_option
from .output import print_json


@click.command("uninstall")
@database_option()
@json_option
@config_option
def command(database: str, as_json: bool) -> None:
    """Take all of Bequest out of a database; the object in the store stays as it is.

    The database then no longer knows that the object is its own: it
    cannot publish to the same place again, unless `bequest backup --replace` names the object.

    \b
    Example:
      bequest uninstall --database sqlite:////var/lib/ctl/ctl.db
    """
    import bequest

    bequest.uninstall(database)
    if as_json:
        print_json({"changed": True})
    else:
        click.echo("Nothing of Bequest is left in the database.")
