"""``bequest history``: the earlier versions of the object that the store keeps."""

from __future__ import annotations

import click

from bequest.versions import LIMIT

from .options import config_option, json_option, store_argument
from .output import print_json, print_table, size


@click.command("history")
@store_argument
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=LIMIT,
    show_default=True,
    help="List no more than so many. On S3 each of them is one request.",
)
@json_option
@config_option
def command(store: str, limit: int, as_json: bool) -> None:
    """List the versions of the object at STORE that the store still has, the newest first.

    A cloud keeps them on a bucket with versioning, a file store with ?keep=N in its address. The
    first column is what --version of restore, verify and inspect takes.

    \b
    Example:
      bequest history s3://acme-ha/ctl.bequest
    """
    import bequest

    entries = bequest.history(store, limit=limit)
    if as_json:
        print_json([dict(entry) for entry in entries])
        return
    if not entries:
        click.echo("There is no object, and no earlier version of one.", err=True)
        return
    print_table(
        ("version", "serial", "epoch", "written", "size", ""),
        [
            (
                entry.version,
                _known(entry.serial),
                _known(entry.epoch),
                entry.at,
                size(entry.bytes),
                _remark(entry.current, entry.serial),
            )
            for entry in entries
        ],
    )


def _known(number: int | None) -> str:
    return "-" if number is None else str(number)


def _remark(current: bool, serial: int | None) -> str:
    words = ["present"] if current else []
    if serial is None:
        words.append("not a Bequest snapshot")
    return ", ".join(words)
