"""``bequest inspect``: what the object holds."""

from __future__ import annotations

from typing import Any

import click

from .accounts import key_file_option
from .options import config_option, json_option, store_argument, version_option
from .output import (
    encrypted,
    number,
    print_facts,
    print_json,
    print_not_covered,
    print_table,
    publisher,
    size,
)

PLURALS = {"index": "indexes"}


@click.command("inspect")
@store_argument
@version_option
@key_file_option
@json_option
@config_option
def command(store: str, version: str | None, as_json: bool) -> None:
    """Show what the object at STORE holds: its tables, its tail, when it was written and by what.

    \b
    Example:
      bequest inspect s3://acme-ha/ctl.bequest
    """
    import bequest

    report = dict(bequest.inspect(store, version=version))
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    tail = f"{size(report['tail_bytes'])}, "
    if not report["locked"]:
        tail += f"{number(report['tail_mutations'], 'mutation')} in "
    print_facts(
        {
            "object": report["store"],
            "state of": report["at"],
            "published by": publisher(report["published_by"]),
            "serial": report["serial"],
            "epoch": report["epoch"],
            "lineage": report["lineage"],
            "size": size(report["bytes"]),
            "base": f"{size(report['base_bytes'])}, serial {report['base_serial']}, "
            f"{report['base_at']}",
            "tail": tail + number(report["tail_publishes"], "publish", "publishes"),
            "unfinished": f"{report['unfinished_bytes']} bytes of a publish that did not complete"
            if report["unfinished_bytes"]
            else None,
            "database": " ".join(filter(None, (report["dialect"], report["server"]))),
            "files": number(report["files"], "file") if report["files"] else None,
            "revisions": ", ".join(report["revisions"]) or None,
            "encrypted": encrypted(report),
            "written by": f"{report['written_by']}, format {report['format']}",
            "also holds": ", ".join(
                number(count, kind, PLURALS.get(kind, ""))
                for kind, count in sorted(report["objects"].items())
            )
            or None,
        }
    )
    if report["locked"]:
        return
    click.echo()
    print_table(
        ("table", "rows", "columns", "bytes in base"),
        [
            (name, f"{table['rows']:,}", table["columns"], f"{table['bytes']:,}")
            for name, table in report["tables"].items()
        ],
    )
    print_not_covered(report["not_covered"])
