"""``bequest drill``: would a restore work today, and how long would it take?"""

from __future__ import annotations

import click

from .accounts import key_file_option
from .options import (
    checked_database,
    config_option,
    database_option,
    json_option,
    store_argument,
)
from .output import number, print_facts, print_json, seconds, size
from .progress import progress


@click.command("drill")
@store_argument
@database_option(required=False, text="Note the result in this controller's database, for status.")
@click.option(
    "--into",
    metavar="URL",
    callback=checked_database,
    help="An empty database to restore into, which stays. By default an SQLite object goes into a "
    "temporary file.",
)
@click.option("--keep", metavar="DIR", help="Leave the restored SQLite file in this folder.")
@key_file_option
@json_option
@config_option
def command(
    store: str, database: str | None, into: str | None, keep: str | None, as_json: bool
) -> None:
    """Restore the object at STORE into a throw-away database, verify every row, and measure.

    The object and its controller are not touched: a drill adopts nothing. With --database the
    result is noted there and shown by `bequest status`, a failure too. The exit code of a failure
    is the one that a restore would have had.

    \b
    Example:
      bequest drill s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db
    """
    import bequest

    with progress(quiet=as_json) as listener:
        report = bequest.drill(store, database, into=into, keep=keep, progress=listener)
    if as_json:
        print_json(dict(report))
    elif report.ok:
        print_facts(
            {
                "drill": "the object was restored, and every row verified by digest",
                "held": f"{number(report.rows, 'row')} in {number(report.tables, 'table')}",
                "serial": report.serial,
                "object": f"{size(report.object_bytes)}, downloaded in "
                f"{seconds(report.download_s)}",
                "restored in": seconds(report.restore_s),
                "took": seconds(report.duration_s),
                "kept": report.kept,
            }
        )
    if not as_json and not report.recorded:
        why = "it has no capture installed" if database is not None else "none was given"
        click.echo(f"Not noted in a controller's database: {why}.", err=True)
    if report.fault is not None:
        raise report.fault
