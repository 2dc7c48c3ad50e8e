"""``bequest log``: the mutations in the object's tail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import click
from click.core import ParameterSource

from .accounts import key_file_option
from .options import config_option, database_option, json_option, keyed_store
from .output import as_json as to_json
from .output import pairs

EMPTY: Final = "The tail is empty: the object was rewritten at its last publish."


@click.command("log")
@click.argument(
    "store",
    metavar="[STORE]",
    required=False,
    envvar="BEQUEST_STORE",
    callback=keyed_store,
)
@database_option(
    required=False, text="List what this database's journal holds and no object does yet."
)
@click.option("--lines", is_flag=True, help="One JSON document per line, in place of one array.")
@key_file_option
@json_option
@config_option
@click.pass_context
def command(
    context: click.Context, store: str | None, database: str | None, lines: bool, as_json: bool
) -> None:
    """List the mutations in the tail of the object at STORE, oldest first.

    The tail reaches back to the last rewrite. A line holds the serial of the publish, the time, the
    table, what happened, and the row's key; then the row, if that was its last change in the
    publish. With --json the answer is one array, and binary values are {"hex": "..."}.

    With --database in place of STORE: the mutations that were committed there and never published,
    each with its row as it is now. A controller that was superseded keeps them so. The exit code is
    6 if the journal may lack some.

    \b
    Examples:
      bequest log s3://acme-ha/ctl.bequest
      bequest log --database sqlite:////var/lib/ctl/ctl.db --lines > unpublished.jsonl
    """
    import bequest

    journal = _wants_journal(context, store, database)
    entries = iter(bequest.log(database=database) if journal else bequest.log(store))
    first = list(_take_one(entries))  # an object that cannot be read leaves stdout empty
    complete = chain(first, entries)
    if lines:
        for entry in complete:
            click.echo(to_json(dict(entry)))
        return
    if as_json:
        _print_array(dict(entry) for entry in complete)
        return
    for entry in complete:
        click.echo(_line(entry))
    if not first:
        empty = "Everything is published." if journal else EMPTY
        click.echo(empty, err=True)


def _wants_journal(context: click.Context, store: str | None, database: str | None) -> bool:
    """Whoever names one of the two means that one, whatever the configuration says of the other."""
    named = [
        name
        for name in ("store", "database")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if len(named) == 2 or (store is None and database is None):
        raise click.UsageError("Give STORE or --database, and not both.")
    return named == ["database"] or store is None


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
    serial = "-" if entry.serial is None else entry.serial
    return f"{serial:>6}  {entry.at}  {entry.table}  {entry.operation:<10}  {facts}".rstrip()
