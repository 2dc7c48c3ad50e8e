"""``bequest key``: a new key for encrypting the object."""

from __future__ import annotations

import click

from .options import config_option, json_option
from .output import print_facts, print_json


@click.command("key")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=False))
@json_option
@config_option
def command(file: str, as_json: bool) -> None:
    """Make a new key in a new file, FILE, that only this user can read, and print the key's id.

    Give the file to every verb by --key-file, BEQUEST_KEY_FILE, or key_file in bequest.toml: the
    object is then encrypted before it leaves this machine. Keep a copy of the file apart from the
    machine and from the object: without the key there is no backup. A file that is there already is
    never overwritten. To change keys, put the new file's line above the old one's.

    \b
    Example:
      bequest key /etc/bequest/controller.key
    """
    from bequest_adapters import cipher

    key_id = cipher.make(file)
    if as_json:
        print_json({"key_id": key_id, "file": file})
        return
    print_facts({"key": key_id, "file": file})
    click.echo("Keep a copy apart from this machine and from the object: whoever loses the key")
    click.echo("has lost every backup made with it, and whoever finds it can read them.")
