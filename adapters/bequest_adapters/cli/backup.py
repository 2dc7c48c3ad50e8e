"""``bequest backup``: publish once, now."""

from __future__ import annotations

from typing import Any

import click

from .accounts import key_file_option
from .options import (
    accept_files_option,
    config_option,
    database_option,
    files_options,
    json_option,
    recorded,
    replace_option,
    selection,
    selection_options,
    settings,
    store_option,
)
from .output import encrypted, number, print_facts, print_json, print_not_covered, seconds, size
from .progress import progress

ACTIONS = {
    "create": "created the object",
    "append": "appended to the object",
    "rewrite": "rewrote the object",
    "unchanged": "nothing had changed",
}


@click.command("backup")
@database_option()
@store_option()
@selection_options
@files_options
@click.option(
    "--rewrite", is_flag=True, help="Write a new base even if appending the changes would do."
)
@replace_option
@accept_files_option
@key_file_option
@json_option
@config_option
@click.pass_context
def command(
    context: click.Context,
    database: str,
    store: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    files: tuple[str, ...],
    files_ignore: tuple[str, ...],
    files_limit: int | None,
    rewrite: bool,
    replace: str | None,
    accept_files: bool,
    as_json: bool,
) -> None:
    """Publish once, now: make the object equal to the database as it is.

    Installs capture at the first time. Without --include and --exclude the tables chosen at the
    last time are kept. If the object is not an earlier state of this database, it is left as it is
    (exit code 5).

    \b
    Examples:
      bequest backup --database sqlite:////var/lib/ctl/ctl.db --store s3://acme-ha/ctl.bequest
      bequest backup --database sqlite:///ctl.db --store /mnt/nas/ctl.bequest \\
          --replace 2f6c2b1e-8f5d-4c3a-9d0e-5b7a6c1d2e3f/42
    """
    import bequest

    with progress(quiet=as_json) as listener:
        report = bequest.backup(
            database,
            store,
            **selection(include, exclude),
            **recorded(files, files_ignore, files_limit),
            replace=replace,
            accept_files=accept_files,
            rewrite=rewrite,
            limits=settings(context).limits,
            progress=listener,
        )
    if as_json:
        print_json(dict(report))
    else:
        print_publish(dict(report))


def print_publish(report: dict[str, Any]) -> None:
    """A publish, for people."""
    print_facts(
        {
            "backup": ACTIONS.get(report["action"], report["action"]),
            "holds": f"{number(report['rows'], 'row')} in {number(report['tables'], 'table')}",
            "object": f"{size(report['bytes'])}, {size(report['bytes_sent'])} sent, "
            f"in {seconds(report['duration_s'])}",
            "serial": report["serial"],
            "epoch": report["epoch"],
            "lineage": report["lineage"],
            "encrypted": encrypted(report),
            **replaced_facts(report),
        }
    )
    print_not_covered(report["not_covered"], err=True)


def replaced_facts(report: dict[str, Any]) -> dict[str, Any]:
    """What a publish replaced, and where its copy is; empty when it replaced nothing."""
    there = report["replaced"]
    if there is None:
        return {}
    rows = "an unknown number of rows" if there["rows"] is None else number(there["rows"], "row")
    return {
        "replaced": f"{there['lineage']}/{there['serial']}, epoch {there['epoch']}: {rows}"
        + (f" of {there['at']}" if there["at"] else ""),
        "kept": report["kept"],
    }
