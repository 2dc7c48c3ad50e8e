"""``bequest verify``: is the object whole, and does a database equal it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .accounts import key_file_option
from .options import config_option, database_option, json_option, store_argument, version_option
from .output import encrypted, number, print_facts, print_json, print_not_covered, print_table
from .progress import progress

if TYPE_CHECKING:
    from bequest import VerifyReport

DIGEST_CHARACTERS: Final = 16


@click.command("verify")
@store_argument
@database_option(required=False, text="Also compare this database with the object.")
@version_option
@key_file_option
@json_option
@config_option
def command(store: str, database: str | None, version: str | None, as_json: bool) -> None:
    """Check that the object at STORE is whole; with --database also that the database equals it.

    Reads all of the object and checks every frame. With a database every table is compared by its
    rows and its digest; the exit code is 6 if anything differs. Changes that a controller has made
    since the last publish count as differences.

    \b
    Examples:
      bequest verify s3://acme-ha/ctl.bequest
      bequest verify s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db
      bequest verify s3://acme-ha/ctl.bequest --database postgresql+psycopg://bequest@db/ctl
    """
    import bequest

    with progress(quiet=as_json) as listener:
        report = bequest.verify(store, database, version=version, progress=listener)
    if as_json:
        print_json(dict(report))
    else:
        _print(report, compared=database is not None)
    if not report.ok:
        places = len(report.differences)
        raise bequest.Different(
            f"The database and the object differ in {number(places, 'place')}. If "
            "the controller is at work, its newest changes may not be published yet: look at "
            "`bequest status`, then verify again. If they stay, publish everything anew with "
            "`bequest backup --rewrite`."
        )


def _print(report: VerifyReport, *, compared: bool) -> None:
    equal = "yes" if report.ok else "no"
    print_facts(
        {
            "object": "whole",
            "database equals it": equal if compared else None,
            "serial": report.serial,
            "epoch": report.epoch,
            "lineage": report.lineage,
            "encrypted": encrypted(dict(report)),
            "waiting": f"{number(report.pending_mutations, 'mutation')} not published yet"
            if report.pending_mutations
            else None,
            "unfinished": f"{report.unfinished_bytes} bytes of a publish that did not complete; "
            "they do no harm"
            if report.unfinished_bytes
            else None,
        }
    )
    click.echo()
    print_table(
        ("table", "rows", "digest"),
        [
            (name, f"{table['rows']:,}", table["digest"][:DIGEST_CHARACTERS])
            for name, table in report.tables.items()
        ],
    )
    print_not_covered(report.not_covered)
    for difference in report.differences:
        click.echo(f"differs: {difference}")
