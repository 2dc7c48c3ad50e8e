"""``bequest doctor``: will this store, and this database, work?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from bequest.errors import UsageError

from .options import config_option, database_option, json_option, store_option
from .output import number, print_json

if TYPE_CHECKING:
    from bequest_adapters.stores.findings import Finding

WIDTH = 100
INDENT = 9


@click.command("doctor")
@store_option(required=False)
@database_option(required=False, text="Also examine this database.")
@click.option(
    "--print-policy",
    is_flag=True,
    help="Only print the least rights that the store's cloud has to grant, ready to paste.",
)
@json_option
@config_option
def command(store: str | None, database: str | None, print_policy: bool, as_json: bool) -> None:
    """Prove before it matters that a store, and a database, will work.

    Tries on a scratch object beside the real one, which is never touched, that the endpoint refuses
    what a stale controller would send; looks at permissions, versioning, public access, clock and
    round-trip time. Everything found comes with what to do about it. The exit code is that of the
    first error found, 0 if there are only warnings.

    \b
    Examples:
      bequest doctor --store s3://acme-ha/ctl.bequest
      bequest doctor --store s3://acme-ha/ctl.bequest --print-policy
      bequest doctor --database postgresql+psycopg://bequest@db/ctl
    """
    from bequest_adapters import doctor

    if not store and not database:
        raise UsageError("There is nothing to examine. Nothing was done. Give --store, --database.")
    if print_policy:
        if not store:
            raise UsageError("A policy is for a store. Nothing was done. Give --store.")
        click.echo(doctor.policy(getattr(store, "name", store)))
        return
    findings: list[Finding] = []
    for found in _examine(store, database):
        findings.append(found)
        if not as_json:
            _print(found)
    errors = [found for found in findings if found.kind is not None]
    if as_json:
        print_json({"ok": not errors, "findings": [_plain(found) for found in findings]})
    if errors and errors[0].kind is not None:
        checks = ", ".join(found.check for found in errors)
        raise errors[0].kind(
            f"The examination found {number(len(errors), 'error')} ({checks}). The object was not "
            "touched. Do what the findings say, then examine again."
        )


def _examine(store: str | None, database: str | None) -> Iterator[Finding]:
    from bequest import registry
    from bequest_adapters import doctor

    if store:
        with closing(registry.open_store(store)) as opened:
            yield from doctor.examine_store(opened)
    if database:
        yield from doctor.examine_database(database)


def _plain(found: Finding) -> dict[str, Any]:
    return {
        "check": found.check,
        "level": found.level.value,
        "text": found.text,
        "remedy": found.remedy or None,
    }


def _print(found: Finding) -> None:
    text = f"{found.check}: {found.text}"
    click.echo(_wrapped(f"{found.level.value:<{INDENT}}", text))
    if found.remedy:
        click.echo(_wrapped(" " * INDENT, found.remedy))


def _wrapped(first: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
