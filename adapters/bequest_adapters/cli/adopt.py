"""``bequest adopt``: a database becomes the owner of its lineage."""

from __future__ import annotations

from typing import Any

import click

from .accounts import key_file_option
from .options import (
    config_option,
    database_option,
    json_option,
    settings,
    store_option,
)
from .output import number, print_facts, print_json, seconds
from .progress import progress


@click.command("adopt")
@database_option()
@store_option(required=False)
@key_file_option
@json_option
@config_option
@click.pass_context
def command(context: click.Context, database: str, store: Any, as_json: bool) -> None:
    """Let a database be the owner of its lineage from now on, and publish it.

    For a database that was moved to another machine or copied, one that was rolled back or lost its
    last transactions in a failover, and a controller that was superseded by mistake. Any other
    database of the lineage is refused at its next publish. If the object is not an earlier state of
    this database, a copy of it is kept beside the new one, so neither history is lost. Without
    --store the object is the one to which this database published last.

    \b
    Example:
      bequest adopt --database sqlite:////var/lib/ctl/ctl.db --store s3://acme-ha/ctl.bequest
    """
    import bequest

    with progress(quiet=as_json) as listener:
        report = bequest.adopt(database, store, limits=settings(context).limits, progress=listener)
    if as_json:
        print_json(dict(report))
        return
    print_facts(
        {
            "adopted": "yes: this database publishes from now on"
            if report.adopted
            else "not needed: this database is the owner already",
            "holds": f"{number(report.rows, 'row')} in {number(report.tables, 'table')}",
            "serial": report.serial,
            "epoch": f"{report.epoch} (before: {report.epoch_before})",
            "lineage": report.lineage,
            "took": seconds(report.duration_s),
            **({} if report.kept is None else {"kept": f"the other history, at {report.kept}"}),
        }
    )
