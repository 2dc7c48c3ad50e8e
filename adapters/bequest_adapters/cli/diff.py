"""``bequest diff``: what a restore would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from .accounts import key_file_option
from .options import config_option, database_option, json_option, keyed_store, store_argument
from .output import abbreviated, number, pairs, print_table
from .output import as_json as to_json

if TYPE_CHECKING:
    from bequest import DiffReport, RowChange

EXIT_DIFFERENT: Final = 6
SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


@click.command("diff")
@store_argument
@click.argument("other", metavar="[STORE]", required=False, callback=keyed_store)
@database_option(required=False, text="Compare with this database, instead of another object.")
@click.option(
    "--table",
    "tables",
    metavar="GLOB",
    multiple=True,
    help="Only tables whose name matches. Repeatable. Schema and attributes are not compared then.",
)
@click.option("--summary", is_flag=True, help="Count the rows that differ; do not list them.")
@key_file_option
@json_option
@config_option
@click.pass_context
def command(
    context: click.Context,
    store: str,
    other: str | None,
    database: str | None,
    tables: tuple[str, ...],
    summary: bool,
    as_json: bool,
) -> int:
    """Show what a restore of STORE into a database would change, or what differs in another STORE.

    With --database, lines say what would become of the database: "+" a row would come, "-" it would
    go, "~" it would change. With two objects they say what leads from the first to the second. The
    exit code is 0 when both are equal and 6 when they are not.

    \b
    Examples:
      bequest diff s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db --summary
      bequest diff /mnt/nas/monday.bequest /mnt/nas/tuesday.bequest --table 'router*'
    """
    import bequest

    if other is not None and database is not None:
        # A database from the configuration is not meant when a second object is named.
        source = context.get_parameter_source("database")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("Give a second object or --database, not both.")
        database = None
    printer = _Json() if as_json else _Text()
    report = bequest.diff(
        store,
        other,
        database=database,
        tables=tables or None,
        on_change=None if summary else printer.row,
    )
    printer.end(report)
    return 0 if report.equal else EXIT_DIFFERENT


class _Json:
    """One document; the rows come first, as they are found."""

    def __init__(self) -> None:
        self._separator = '{"rows": ['

    def row(self, change: RowChange) -> None:
        click.echo(f"{self._separator}\n{to_json(dict(change))}", nl=False)
        self._separator = ","

    def end(self, report: DiffReport) -> None:
        if self._separator == ",":
            click.echo(f"\n], {to_json(dict(report))[1:]}")
        else:
            click.echo(to_json({"rows": [], **dict(report)}))


class _Text:
    """A line for each row, grouped by table, and the counts at the end."""

    def __init__(self) -> None:
        self._table = ""

    def row(self, change: RowChange) -> None:
        if change.table != self._table:
            self._table = change.table
            click.echo(f"table {change.table}")
        facts = pairs(change.key)
        if change.columns is not None:
            facts += "  " + ", ".join(
                f"{name}: {_side(old)} -> {_side(new)}"
                for name, (old, new) in change.columns.items()
            )
        elif change.row is not None:
            others = {name: value for name, value in change.row.items() if name not in change.key}
            facts += f"  {pairs(others)}"
        click.echo(f"  {SIGNS[change.change]} {facts.strip()}")

    def end(self, report: DiffReport) -> None:
        if self._table:
            click.echo()
        if report.tables:
            print_table(
                ("table", "in", "added", "removed", "changed", "rows before", "rows after"),
                [_counts(name, facts) for name, facts in report.tables.items()],
            )
        for line in (*report.schema, *report.attributes):
            click.echo(f"differs: {line}")
        equal = number(report.tables_equal, "table")
        click.echo(f"{equal} equal" if report.tables else f"Equal: {equal}.")


def _side(value: list[Any]) -> str:
    return abbreviated(value[0]) if value else "(no such column)"


def _counts(name: str, facts: dict[str, Any]) -> tuple[object, ...]:
    counts = ("added", "removed", "changed", "rows_before", "rows_after")
    return (name, facts["in"], *(f"{facts[count]:,}" for count in counts))
