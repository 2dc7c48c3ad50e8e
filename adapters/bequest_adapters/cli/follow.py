"""``bequest follow``: a warm copy, kept current from the object."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from typing import Any

import click

from .accounts import key_file_option
from .options import Seconds, config_option, database_option, json_option, store_argument
from .output import as_json as to_json
from .output import print_facts, print_json, seconds
from .run import told_to_stop


@click.command("follow")
@store_argument
@database_option(text="The warm copy.")
@click.option(
    "--poll",
    type=Seconds(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to ask for news: one small request each time.",
)
@click.option("--once", is_flag=True, help="Look once, apply what is new, and end.")
@key_file_option
@json_option
@config_option
def command(store: str, database: str, poll: float, once: bool, as_json: bool) -> None:
    """Keep a database equal to the object at STORE, until told to stop.

    The database must not exist yet, have no row in any table, or be one that follows this object
    already. At first it is loaded whole; then each publish is applied in one transaction. Programs
    may read it meanwhile; whoever writes to it is refused. `bequest promote` makes it the
    controller's.

    The exit code is 0 when told to stop, and 5 when the object becomes another controller's. A
    store that is away is tried again.

    \b
    Examples:
      bequest follow s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/warm.db
      bequest follow s3://acme-ha/ctl.bequest --database sqlite:///warm.db --once
    """
    import bequest

    if once:
        report = bequest.follow(store, database, once=True, on_event=_stderr)
        facts = {} if report is None else dict(report)
        if as_json:
            print_json(facts)
        else:
            print_facts(facts)
        return
    ended = threading.Event()
    hear = _json_line if as_json else _stderr
    with told_to_stop(ended.set):
        bequest.follow(store, database, poll=poll, stop=ended, on_event=hear)


def _json_line(name: str, facts: dict[str, Any]) -> None:
    print(to_json({"event": name, "at": _now(), **facts}), flush=True)


def _stderr(name: str, facts: dict[str, Any]) -> None:
    if "error" in facts:
        line = " ".join(str(facts["error"]).split())
    elif name in ("applied", "reloaded"):
        line = f"serial {facts['serial']}, {seconds(facts['behind_s'])} behind the controller"
    else:
        line = ", ".join(f"{key} {value}" for key, value in facts.items())
    print(f"{_now()}  {name:<10}  {line}".rstrip(), file=sys.stderr, flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
