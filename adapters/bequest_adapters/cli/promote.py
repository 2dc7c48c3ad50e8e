"""``bequest promote``: a warm copy takes over."""

from __future__ import annotations

import click

from .accounts import key_file_of, key_file_option
from .options import checked_store, config_option, database_option, json_option, settings
from .output import print_facts, print_json, seconds


@click.command("promote")
@database_option(text="The database that follows.")
@click.option(
    "--store",
    "address",  # under a name of its own: the object that is followed is the one that is meant
    metavar="URL",
    callback=checked_store,
    help="The object that it follows, if it has another address from here.",
)
@key_file_option
@json_option
@config_option
@click.pass_context
def command(context: click.Context, database: str, address: str | None, as_json: bool) -> None:
    """Let a database that follows an object take over: it publishes from now on.

    What was published last is applied first. Then the object says that the history goes on here, so
    that the old controller is refused at its next publish. Interrupted, it can be run again. Stop
    `bequest follow` before.

    \b
    Example:
      bequest promote --database sqlite:////var/lib/ctl/warm.db
    """
    import bequest

    key_file = key_file_of(context, settings(context))
    report = bequest.promote(database, address, key_file=key_file or None)
    if as_json:
        print_json(dict(report))
        return
    print_facts(
        {
            "promoted": "yes: this database publishes from now on",
            "state of": report.at,
            "serial": report.serial,
            "epoch": report.epoch,
            "lineage": report.lineage,
            "took": seconds(report.duration_s),
        }
    )
