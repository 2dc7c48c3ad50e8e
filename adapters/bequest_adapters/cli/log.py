"""``bequest log``: the mutations in the object's tail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import click

from .options import config_option, json_option, store_argument
from .output import as_json as to_json
from .output import pairs


@click.command("log")
@store_argument
@json_option
@config_option
def command(store: str, as_json: bool) -> None:
    """List the mutations in the tail of the object at STORE, oldest first.

    The tail reaches back to the last rewrite. A line holds the serial of the publish, the time, the
    table, what happened, and the row's key; then the row, if that was its last change in the
    publish. With --json the answer is one array, and binary values are {"hex": "..."}.

    \b
    Example:
      bequest log s3://acme-ha/ctl.bequest
    """
    import bequest

    entries = iter(bequest.log(store))
    first = list(_take_one(entries))  # an object that cannot be read leaves stdout empty
    complete = chain(first, entries)
    if as_json:
        _print_array(dict(entry) for entry in complete)
        return
    for entry in complete:
        click.echo(_line(entry))
    if not first:
        click.echo("The tail is empty: the object was rewritten at its last publish.", err=True)


def _take_one(entries: Iterator[Any]) -> Iterator[Any]:
    for entry in entries:
        yield entry
        return


def _print_array(documents: Iterator[dict[str, Any]]) -> None:
    separator = "["
    for document in documents:
        click.echo(separator, nl=separator == "[")
        click.echo(to_json(document), nl=False)
        separator = ",\n"
    click.echo("\n]" if separator != "[" else "[]")


def _line(entry: Any) -> str:
    facts = pairs(entry.key)
    if entry.row is not None:
        others = {name: value for name, value in entry.row.items() if name not in entry.key}
        facts = f"{facts}  {pairs(others)}"
    return f"{entry.serial:>6}  {entry.at}  {entry.table}  {entry.operation:<10}  {facts}".rstrip()
