"""``bequest restore``: a new controller's database from the object."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from .accounts import account_options, key_file_option
from .options import (
    Seconds,
    config_option,
    database_option,
    json_option,
    placing_options,
    store_argument,
    version_option,
)
from .output import number, print_facts, print_json, print_not_covered, print_table, seconds, size
from .progress import progress

if TYPE_CHECKING:
    from bequest import OwnerAlive, PreflightReport, RestoreReport

ADOPT: Final = "adopt"
ALIVE_WITHIN_SECONDS: Final = 600.0
"""As in `bequest.owner`, which is not imported before a verb is run."""


@click.command("restore")
@store_argument
@database_option(text="The new controller's database.")
@click.option(
    "--at",
    metavar="SERIAL|TIME",
    help="An earlier state, as far back as the object's tail goes: a serial, or a time with its "
    "zone such as 2026-11-22T10:15:00+01:00 (the last publish at or before it).",
)
@click.option(
    "--table",
    "tables",
    metavar="GLOB",
    multiple=True,
    help="Only tables whose name matches, and those they refer to. Repeatable. Adopts nothing.",
)
@click.option(
    "--exclude",
    "without",  # not the capture's own setting of that name
    metavar="GLOB",
    multiple=True,
    help="Not the tables whose name matches, unless a chosen one refers to them. Repeatable. "
    "Adopts nothing.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace a database that holds data. What it held is kept, in a file beside it or in "
    "schemas of another name.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say everything that would be in the way, and change nothing. The exit code is that of "
    "the restore.",
)
@click.option(
    "--copy",
    "--no-adopt",
    "copy",
    is_flag=True,
    help="Make a copy only: the object's controller stays the one that may publish.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Take the object over even if its controller seems to be alive.",
)
@click.option(
    "--alive-within",
    metavar="SECONDS",
    type=Seconds(min=0),
    default=ALIVE_WITHIN_SECONDS,
    show_default=True,
    envvar="BEQUEST_ALIVE_WITHIN",
    help="Take the object's controller for alive when it has published within this time: then only "
    "--adopt, or a word at the terminal, takes the object over.  [variable: BEQUEST_ALIVE_WITHIN]",
)
@click.option(
    "--alembic",
    metavar="FILE",
    help="The new controller's alembic.ini: its migrations make the schema of the object's "
    "revision, then lead it and the rows to the newest. Without, the recorded schema is made.",
)
@click.option(
    "--if-empty", is_flag=True, help="Do nothing when a table of the database has a row already."
)
@click.option("--if-exists", is_flag=True, help="Do nothing when there is no object yet.")
@version_option
@placing_options
@account_options
@key_file_option
@json_option
@config_option
def command(
    store: str,
    database: str,
    at: str | None,
    tables: tuple[str, ...],
    without: tuple[str, ...],
    copy: bool,
    adopt: bool,
    alive_within: float,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Make a database from the object at STORE: exactly its state, or no change at all.

    Everything that could keep it from working is looked at first, and told at once. The rows are
    read back and compared before success is announced. The new database then carries the history
    on: the controller that published before is refused at its next publish. So while that one seems
    to be alive nothing is done without --adopt; at a terminal you are asked. For an exercise or a
    look use --copy, which leaves it alone.

    \b
    Examples:
      bequest restore s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db --dry-run
      bequest restore s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db
      bequest restore s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db \\
          --if-empty --if-exists
      bequest restore s3://acme-ha/ctl.bequest --database postgresql+psycopg://bequest@db/ctl

    A snapshot of SQLite can be restored into PostgreSQL, and one of PostgreSQL into SQLite; what
    will be different there is told first.
    """
    import bequest

    if copy and adopt:
        raise bequest.UsageError(
            "--copy and --adopt say the opposite of each other. Nothing was done. Give one."
        )
    chosen: dict[str, Any] = {
        "at": at,
        "tables": tables or None,
        "exclude": without or None,
        "adopt": False if copy else True if adopt else None,
        "alive_within_seconds": alive_within,
        **flags,
    }
    if dry_run:
        _answer_preflight(bequest.preflight(store, database, **chosen), as_json)
        return

    def restored(**more: Any) -> RestoreReport:
        with progress(quiet=as_json) as listener:
            return bequest.restore(store, database, progress=listener, **{**chosen, **more})

    try:
        report = restored()
    except bequest.OwnerAlive as error:
        if as_json or not _at_a_terminal():
            raise
        _ask_to_adopt(error)
        report = restored(adopt=True)
    if as_json:
        print_json(dict(report))
    else:
        _print(report)


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask_to_adopt(error: OwnerAlive) -> None:
    """Return when the operator says the word. Raises `OwnerAlive` for any other answer."""
    from bequest import OwnerAlive

    click.echo(f"{error}\n", err=True)
    question = f"Type {ADOPT} to take the backup over, anything else to leave it"
    try:
        typed = str(click.prompt(question, default="", show_default=False, err=True))
    except click.Abort:
        typed = ""
    if typed.strip() != ADOPT:
        raise OwnerAlive(
            "The backup was left to its controller, and nothing was changed. Take a copy with "
            "--copy, or restore again once that controller is stopped."
        )


def _answer_preflight(report: PreflightReport, as_json: bool) -> None:
    if as_json:
        print_json(dict(report))
    elif report.skipped:
        click.echo(f"Nothing would be done: {report.skipped}.")
    else:
        print_table(
            ("", "check", "finding"),
            [(check["level"], check["name"], check["text"]) for check in report.checks],
        )
    if report.fault is not None:
        raise report.fault
    if not as_json and not report.skipped:
        click.echo("The restore would work. Nothing was changed.")
        print_facts(
            {
                "would restore": number(report.tables, "table"),
                "would need": f"{size(report.needed_bytes)}, {seconds(report.estimated_s)}",
                "serial": report.serial,
                "state of": report.at,
            }
        )


def _print(report: RestoreReport) -> None:
    if report.skipped:
        click.echo(f"Nothing was done: {report.skipped}.")
        return
    print_facts(
        {
            "restored": f"{number(report.rows, 'row')} in {number(report.tables, 'table')}",
            "state of": report.at,
            "verified": "every row, by digest" if report.verified else None,
            "adopted": "yes: this database publishes from now on"
            if report.adopted
            else "no: this is a copy",
            "serial": report.serial,
            "epoch": report.epoch,
            "lineage": report.lineage,
            "kept": report.kept,
            "files": _files(report.files, report.files_in),
            "took": seconds(report.duration_s),
        }
    )
    for name, why in report.added:
        click.echo(f"added: {name} ({why})")
    for name, why in report.left_out:
        click.echo(f"left out: {name} ({why})")
    for name, why in report.converted:
        click.echo(f"converted: {name} ({why})")
    print_not_covered(report.not_covered)


def _files(count: int, places: tuple[str, ...]) -> str | None:
    if places:
        return f"{number(count, 'file')} written to {', '.join(places)}"
    if not count:
        return None
    return (
        f"{number(count, 'file')} recorded, not written: `bequest files STORE` puts them in place"
    )
