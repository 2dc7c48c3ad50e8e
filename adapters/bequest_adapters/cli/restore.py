"""``bequest restore``: a new controller's database from the object."""

from __future__ import annotations

import click

from .accounts import account_options
from .options import config_option, database_option, json_option, store_argument, version_option
from .output import number, print_facts, print_json, print_not_covered, seconds
from .progress import progress


@click.command("restore")
@store_argument
@database_option(text="The new controller's database.")
@click.option(
    "--force",
    is_flag=True,
    help="Replace a database that holds data. What it held is kept in a file beside it.",
)
@click.option("--dry-run", is_flag=True, help="Check that it would work, and change nothing.")
@click.option(
    "--no-adopt",
    is_flag=True,
    help="Make a copy only: the object's controller stays the one that may publish.",
)
@version_option
@account_options
@json_option
@config_option
def command(
    store: str,
    database: str,
    force: bool,
    dry_run: bool,
    no_adopt: bool,
    version: str | None,
    as_json: bool,
) -> None:
    """Make a database from the object at STORE: exactly its state, or no change at all.

    The object is checked before the first row is written, and the rows are read back and compared
    before success is announced. The new database then carries the history on: the controller that
    published before is refused at its next publish. For an exercise or a copy use --no-adopt.

    \b
    Examples:
      bequest restore s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db --dry-run
      bequest restore s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db
    """
    import bequest

    with progress(quiet=as_json) as listener:
        report = bequest.restore(
            store,
            database,
            force=force,
            dry_run=dry_run,
            adopt=not no_adopt,
            version=version,
            progress=listener,
        )
    if as_json:
        print_json(dict(report))
        return
    if report.dry_run:
        click.echo("The restore would work. Nothing was changed.")
    tables = number(report.tables, "table")
    print_facts(
        {
            "restored": None if report.dry_run else f"{number(report.rows, 'row')} in {tables}",
            "would restore": tables if report.dry_run else None,
            "verified": "every row, by digest" if report.verified else None,
            "adopted": _adopted(report.adopted, report.dry_run),
            "serial": report.serial,
            "epoch": report.epoch,
            "lineage": report.lineage,
            "kept": report.kept,
            "took": seconds(report.duration_s),
        }
    )
    print_not_covered(report.not_covered)


def _adopted(adopted: bool, dry_run: bool) -> str | None:
    if dry_run:
        return None
    return "yes: this database publishes from now on" if adopted else "no: this is a copy"
