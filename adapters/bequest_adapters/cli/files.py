"""``bequest files``: the configuration files in the object, listed or written."""

from __future__ import annotations

import click

from .accounts import key_file_option
from .options import config_option, json_option, placing_options, store_argument
from .output import number, print_facts, print_json, print_not_covered, print_table, size


@click.command("files")
@store_argument
@placing_options
@click.option(
    "--force",
    is_flag=True,
    help="Write into a folder that is not empty. What is there is kept inside it.",
)
@key_file_option
@json_option
@config_option
def command(
    store: str, files_to: str | None, files_in_place: bool, force: bool, as_json: bool
) -> None:
    """List the configuration files in the object at STORE, or write them.

    Each recorded folder is built apart, checked by digest, and then moved into place. A folder that
    is not empty is refused unless --force; what was there is then kept in .bequest-before-TIME
    inside it.

    \b
    Examples:
      bequest files s3://acme-ha/ctl.bequest
      bequest files s3://acme-ha/ctl.bequest --files-to ./look
      bequest files s3://acme-ha/ctl.bequest --files-in-place
    """
    import bequest

    report = bequest.files(store, files_to=files_to, files_in_place=files_in_place, force=force)
    if as_json:
        print_json(dict(report))
        return
    print_facts(
        {
            "files": f"{number(report.files, 'file')}, {size(report.bytes)}",
            **{f"folder {name}": place for name, place in report.roots.items()},
            **{f"written {name}": place for name, place in report.places.items()},
            **{f"kept {name}": place for name, place in report.kept.items()},
        }
    )
    if not report.places:
        click.echo()
        print_table(
            ("mode", "owner", "bytes", "path"),
            [
                (
                    entry["mode"] or "",
                    f"{entry['owner'] or '?'}:{entry['group'] or '?'}",
                    "" if entry["size"] is None else entry["size"],
                    _path(entry["root"], entry["path"], entry["kind"], entry["note"]),
                )
                for entry in report.entries
            ],
        )
    print_not_covered(report.not_covered)


def _path(root: str, path: str, kind: str, note: str | None) -> str:
    shown = f"{root}/{path}" if path else root
    if kind == "link":
        return f"{shown} -> {note}"
    return f"{shown}/" if kind in ("folder", "root") else shown
